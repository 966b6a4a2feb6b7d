# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes a source a release: its directory, the commands run in it, its static files, and its end."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator

from ansible_collections.groundwork.django.plugins.module_utils import memory
from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import (
    Refusal,
    group_id,
    parse_mode,
    user_id,
    write_new,
)
from ansible_collections.groundwork.django.plugins.module_utils.slots import (
    SLOTS,
    Site,
    first_line,
    last_line,
    read_link,
)

EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|ImproperlyConfigured|Exit|Interrupt|NotFound|DoesNotExist)\b")
RUNNING_SECONDS = 300
LONGEST_SECONDS = 1800


def append(path: str, text: str) -> None:
    """Add a text to a log, with an end of line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    with os.fdopen(descriptor, "a", encoding="utf-8", errors="replace") as stream:
        stream.write(text.rstrip("\n") + "\n")


def telling_line(output: str) -> str:
    """The line of a failed command's output that says why: an exception, a failed check, or else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if line in ("ERRORS:", "CRITICALS:") and index + 1 < len(lines):
            return lines[index + 1]
    for index, line in reversed(list(enumerate(lines))):
        if EXCEPTION.match(line):
            # A syntax error has its place a few lines above.
            place = next((near for near in lines[max(0, index - 3) : index] if near.startswith('File "')), "")
            return f"{line} ({place})" if "SyntaxError" in line and place else line
    return last_line(output)


def installer_line(output: str) -> str:
    """What an installer said, as one line: its error marks and indents left out."""
    lines = [re.sub(r"^\W+", "", line) for line in output.splitlines()[:6]]
    return " ".join(line for line in lines if line)


def warnings(output: str) -> list[str]:
    """The warnings in the output of Django's check."""
    return [line.strip() for line in output.splitlines() if re.match(r"^\s*\S+: \([\w.]+\.W\d+\)", line)]


def files_below(root: str) -> Iterator[str]:
    """Relative paths of all regular files below a directory."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, root)


class Builder:
    """The directory of one release."""

    def __init__(self, site: Site, release_id: str) -> None:
        self.site = site
        self.id = release_id
        self.path = site.release(release_id)
        self.source = os.path.join(self.path, "source")
        self.static = os.path.join(self.path, "static")
        self.group = group_id(site.user) or 0

    def make(self) -> None:
        """Make the directory, empty; what is there is removed, and what is left of releases that failed."""
        root = os.path.dirname(self.path)
        in_slots = {self.site.linked(slot) for slot in SLOTS}
        for name in set(os.listdir(root)) - in_slots:
            if not self.site.is_complete(name):
                shutil.rmtree(os.path.join(root, name))
        if os.path.lexists(self.path):
            shutil.rmtree(self.path)
        for path, mode in ((self.path, 0o750), (self.source, 0o755), (self.static, 0o755)):
            os.mkdir(path, mode)
        os.chown(self.path, 0, self.group)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.site.log(self.id))
        append(self.site.log(self.id), f"== release {self.id} of {self.site.name}")

    def unpack(self, archive: str) -> None:
        """Unpack the archive of a directory source. Raises Refusal."""
        options = ["--no-same-owner", "--no-same-permissions", "--directory", self.source]
        code, output = run_merged(["tar", "--extract", "--gzip", "--file", archive, *options])
        if code != 0:
            raise Refusal(f"the archive could not be unpacked: {first_line(output)}")

    def inside(self, path: str, named_by: str) -> str:
        """Full path of something in the source. Raises Refusal where it would lie outside, by a link for example."""
        full = os.path.join(self.source, path)
        root = os.path.realpath(self.source)
        if os.path.commonpath([root, os.path.realpath(os.path.dirname(full))]) != root:
            raise Refusal(f"{path}, which {named_by} names, lies outside of the source")
        os.makedirs(os.path.dirname(full), exist_ok=True)
        return full

    def place_files(self, files: list[dict]) -> None:
        """Write files of the values into the source: dest, content, mode. The site can read them. Raises Refusal."""
        for file in files:
            path = self.inside(file["dest"], "gunicorn_app_files")
            if os.path.isdir(path) and not os.path.islink(path):
                raise Refusal(f"{file['dest']}, which gunicorn_app_files names, is a directory of the source")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            write_new(path, file["content"].encode(), 0, self.group, parse_mode(file["mode"]))

    def share(self, paths: list[str], directory: str) -> None:
        """Have paths of the source lead to what all releases share in a directory. Raises Refusal.

        What is not there yet is copied from the source, or made as a directory. All that is written outside of the
        release is written by the site's user, in whose directory it is.
        """
        for path in paths:
            inner, outer = self.inside(path, "gunicorn_app_shared_paths"), os.path.join(directory, path)
            if not os.path.lexists(outer):
                self._seed(inner, outer)
            if os.path.isdir(inner) and not os.path.islink(inner):
                shutil.rmtree(inner)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(inner)
            os.symlink(outer, inner)

    def _seed(self, inner: str, outer: str) -> None:
        """Make a shared path, in one step."""
        staged = f"{outer}.{secrets.token_hex(4)}"
        copy = ["cp", "--recursive", "--no-target-directory", inner, staged]
        parents = ["mkdir", "--parents", os.path.dirname(outer)]
        move = ["mv", "--no-target-directory", staged, outer]
        for command in (parents, copy if os.path.exists(inner) else ["mkdir", staged], move):
            code, output = run_merged([*self.as_user, *command])
            if code != 0:
                raise Refusal(f"{outer} cannot be made as {self.site.user}: {last_line(output)}")

    @property
    def as_user(self) -> list[str]:
        """The begin of a command that runs as the site's user."""
        return ["setpriv", f"--reuid={self.site.user}", f"--regid={self.site.user}", "--init-groups"]

    def lay_out(self, subdir: str, env: str, gunicorn_conf: str) -> str:
        """Write what stands beside the source, and return the directory of manage.py. Raises Refusal."""
        project = os.path.normpath(os.path.join(self.source, subdir))
        if not os.path.isdir(project):
            raise Refusal(f"the source has no directory {subdir}, which gunicorn_app_project_subdir names")
        os.symlink(os.path.relpath(project, self.path), os.path.join(self.path, "project"))
        write_new(os.path.join(self.path, "env"), env.encode(), 0, 0, 0o600)
        settings = os.path.join(self.path, "gunicorn.conf.py")
        write_new(settings, gunicorn_conf.encode(), 0, self.group, 0o640)
        return project

    def use_virtualenv(self, place: str) -> None:
        """Link the virtualenv that the release runs with."""
        os.symlink(os.path.relpath(place, self.path), os.path.join(self.path, "venv"))

    def give(self, names: list[str], uid: int) -> None:
        """Make directories of the release, with all in them, belong to a user."""
        for name in names:
            root = os.path.join(self.path, name)
            for folder, folders, files in os.walk(root):
                for path in (folder, *(os.path.join(folder, entry) for entry in (*folders, *files))):
                    if os.lstat(path).st_uid != uid:
                        os.lchown(path, uid, self.group)

    def seal(self) -> None:
        """Take the release out of the site's hands: it belongs to root, and static files are readable for all."""
        self.give(["source", "static"], 0)
        for folder, folders, files in os.walk(self.static):
            for name in folders:
                os.chmod(os.path.join(folder, name), 0o755)
            for name in files:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o644)

    def publish_static(self) -> None:
        """Put the static files beside those of the other releases. A file that is the same keeps its time."""
        for name in files_below(self.static):
            path, target = os.path.join(self.static, name), os.path.join(self.site.static_directory, name)
            if os.path.isfile(target) and (os.path.samefile(path, target) or filecmp.cmp(path, target, shallow=False)):
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            staged = f"{target}.{secrets.token_hex(4)}"
            try:
                os.link(path, staged)
            except OSError:
                shutil.copy2(path, staged)
            os.rename(staged, target)


class Command:
    """A command that runs in a release, in the sandbox of the site; its output goes to the release's log."""

    def __init__(self, site: Site, runner: str, release_id: str, name: str) -> None:
        self.site = site
        self.runner = runner
        self.id = release_id
        self.name = name
        self.unit = f"{site.name}-release.service"
        self.began = 0.0

    def wait_for_another(self) -> None:
        """Let a command end that a killed run has left behind: two must not migrate at once. Raises Refusal."""
        end = time.monotonic() + RUNNING_SECONDS
        while True:
            state = self.site.properties(self.unit, "ActiveState").get("ActiveState", "inactive")
            if state in ("inactive", "failed"):
                run_merged(["systemctl", "reset-failed", "--", self.unit])
                return
            if time.monotonic() > end:
                raise self.site.refuse(self.id, self.name, f"{self.unit} still runs a command of an earlier run")
            time.sleep(0.5)

    def run(self, options: dict, shown: str = "") -> tuple[int, str]:
        """Run it. Returns its exit status and its output. Raises Refusal.

        options: `command`, its words, or one line for a shell; and where wanted `chdir`, `environment`, `writable`,
        `properties`, `timeout_seconds`. shown: what stands in the log for the command.
        """
        self.wait_for_another()
        project = self.site.release(self.id, "project")
        log = self.site.log(self.id)
        command = options["command"]
        if isinstance(command, str):
            shown = shown or command.strip()
            command = ["/bin/sh", "-e", "-c", command]
        append(log, self.site.masked(f"== {self.name}: {shown or ' '.join(command)}"))
        begin = os.path.getsize(log)
        writable = options.get("writable") or []
        if writable:
            Builder(self.site, self.id).give(writable, user_id(self.site.user) or 0)
        directory = os.path.normpath(os.path.join(project, options.get("chdir") or ""))
        arguments = [
            f"--unit={self.unit}",
            f"--property=WorkingDirectory={directory}",
            f"--property=StandardOutput=append:{log}",
            f"--property=StandardError=append:{log}",
            f"--property=RuntimeMaxSec={options.get('timeout_seconds') or LONGEST_SECONDS}",
            *(f"--property=ReadWritePaths={self.site.release(self.id, name)}" for name in writable),
            *(f"--property={text}" for text in options.get("properties") or []),
            *(f"--setenv={name}={value}" for name, value in (options.get("environment") or {}).items()),
        ]
        # env finds the command on the PATH of the release.
        self.began = time.time()
        code, said = run_merged([self.runner, self.id, *arguments, "--", "/usr/bin/env", *command])
        with open(log, "r+", encoding="utf-8", errors="replace") as stream:
            stream.seek(begin)
            said_there = stream.read()
            output = self.site.masked(said_there)
            if output != said_there:
                stream.seek(begin)
                stream.truncate()
                stream.write(output)
        return code, output if output.strip() else said

    def is_done(self, options: dict) -> bool:
        """Whether it need not run: what it creates is there, or it is for a first release and this is a later one."""
        if options.get("first_deploy_only") and not self.site.facts(self.id).get("first"):
            return True
        created = options.get("creates")
        return bool(created) and os.path.exists(os.path.join(self.site.release(self.id, "project"), created))

    def reason(self, code: int, output: str) -> str:
        """Why it failed, with that exit status and that output."""
        killed = memory.lack_of_command(self.site, self.unit, self.began)
        return killed or telling_line(output) or f"exit status {code}"


def prune(site: Site, keep: int) -> list[str]:
    """Remove all but the newest whole releases and those in a slot, with their logs and files. Returns the ids."""
    root = os.path.join(site.directory, "releases")
    # One that was never complete is of no use to anybody: it must not take the place of one to go back to.
    found = sorted(
        os.listdir(root),
        key=lambda name: (site.is_complete(name), os.path.getmtime(os.path.join(root, name))),
        reverse=True,
    )
    kept = {site.linked(slot) for slot in SLOTS} - {""}
    for name in found:
        if len(kept) >= keep:
            break
        kept.add(name)
    removed = [name for name in found if name not in kept]
    for name in removed:
        shutil.rmtree(os.path.join(root, name))
    venvs = os.path.join(site.directory, "venvs")
    used = {os.path.basename(read_link(os.path.join(root, name, "venv"))) for name in kept}
    for name in os.listdir(venvs):
        if name not in used:
            shutil.rmtree(os.path.join(venvs, name))
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(site.log_directory):
            if name.endswith(".log") and name[: -len(".log")] not in kept:
                os.unlink(os.path.join(site.log_directory, name))
    published = {name for release in kept for name in files_below(os.path.join(root, release, "static"))}
    if published:
        remove_others(site.static_directory, published)
    return removed


def remove_others(root: str, names: set[str]) -> None:
    """Remove the files below a directory that are not in a set of relative paths, and directories left empty."""
    for folder, _folders, files in os.walk(root, topdown=False):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.relpath(path, root) not in names:
                os.unlink(path)
        if folder != root and not os.listdir(folder):
            os.rmdir(folder)
