# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes a source a release: its directory, the commands run in it, its static files, and its end."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator

from ansible_collections.groundwork.django.plugins.module_utils.commands import SYSTEM_PATH, run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import (
    Refusal,
    group_id,
    user_id,
    write_new,
)
from ansible_collections.groundwork.django.plugins.module_utils.slots import (
    SLOTS,
    Site,
    last_line,
    read_link,
)
from ansible_collections.groundwork.django.plugins.module_utils.venv import STAMP

REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
INCLUDED = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)")
LOCAL = re.compile(r"^\s*(?:-e|--editable|\.|/|file:|-f|--find-links)|@\s*(?:file:|\.)")
EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|ImproperlyConfigured|Exit|Interrupt|NotFound|DoesNotExist)\b")
RUNNING_SECONDS = 300


def python_of(name: str) -> str:
    """Path of the interpreter behind a name; the name itself where there is none yet."""
    found = shutil.which(name, path=SYSTEM_PATH) or shutil.which(f"python{name}", path=SYSTEM_PATH)
    return os.path.realpath(found) if found else name


def normal_name(requirement: str) -> str:
    """Name of a package as the index compares it."""
    match = REQUIREMENT.match(requirement)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""


class Requirements:
    """Requirements files of a release, with those that they include. Raises Refusal where one is missing."""

    def __init__(self, paths: list[str]) -> None:
        self.lines: list[str] = []
        self._seen: set[str] = set()
        for path in paths:
            self._read(path)

    def _read(self, path: str) -> None:
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        try:
            with open(path, encoding="utf-8") as stream:
                lines = stream.read().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            name = path.partition("/source/")[2]
            raise Refusal(f"the source has no {name}, which gunicorn_app_requirements names") from None
        for line in lines:
            self.lines.append(line)
            included = INCLUDED.match(line)
            if included:
                self._read(os.path.join(os.path.dirname(path), included.group(1)))

    def names(self) -> set[str]:
        """Names of the packages."""
        return {normal_name(line) for line in self.lines if REQUIREMENT.match(line)}

    def is_local(self) -> bool:
        """Whether something is installed from the source itself, so that no other release can use it."""
        return any(LOCAL.search(line) for line in self.lines)


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
        """Make the directory, empty; what is there is removed."""
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
            raise Refusal(f"the archive could not be unpacked: {last_line(output)}")

    def lay_out(self, options: dict) -> dict:
        """Write what stands beside the source, and link the virtualenv that the requirements stand for.

        Virtualenvs are shared by the releases with the same requirements. Returns its path, whether it is yet to be
        made, and the extra packages that no requirements file names. Raises Refusal.
        """
        subdir = options["project_subdir"]
        project = os.path.join(self.source, subdir) if subdir else self.source
        if not os.path.isdir(project):
            raise Refusal(f"the source has no directory {subdir}, which gunicorn_app_project_subdir names")
        os.symlink(os.path.join("source", subdir) if subdir else "source", os.path.join(self.path, "project"))
        write_new(os.path.join(self.path, "env"), options["env"].encode(), 0, 0, 0o600)
        settings = os.path.join(self.path, "gunicorn.conf.py")
        write_new(settings, options["gunicorn_conf"].encode(), 0, self.group, 0o640)
        paths = [os.path.join(self.source, name) for name in options["requirements"]]
        requirements = Requirements(paths)
        included = "".join(f"-r {path}\n" for path in paths)
        write_new(os.path.join(self.path, "requirements.txt"), included.encode(), 0, self.group, 0o640)
        named = requirements.names()
        packages = [package for package in options["extra_packages"] if normal_name(package) not in named]
        installer = [options["index_url"], options["install_args"], options["require_hashes"]]
        parts = [requirements.lines, packages, installer, python_of(options["python"])]
        digest = hashlib.sha256(repr([*parts, self.id if requirements.is_local() else ""]).encode()).hexdigest()
        place = os.path.join(self.site.directory, "venvs", digest[:16])
        os.symlink(os.path.relpath(place, self.path), os.path.join(self.path, "venv"))
        return {"packages": packages, "venv": place, "venv_needed": not os.path.isfile(os.path.join(place, STAMP))}

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

        shown: what stands in the log for the command.
        """
        self.wait_for_another()
        project = self.site.release(self.id, "project")
        log = self.site.log(self.id)
        command = options["command"]
        shown = shown or " ".join(command)
        if len(command) == 1 and command[0].startswith("sh:"):
            shown = command[0][3:].strip()
            command = ["/bin/sh", "-e", "-c", shown]
        append(log, f"== {self.name}: {shown}")
        begin = os.path.getsize(log)
        if options["writable"]:
            Builder(self.site, self.id).give(options["writable"], user_id(self.site.user) or 0)
        arguments = [
            f"--unit={self.unit}",
            f"--property=WorkingDirectory={os.path.normpath(os.path.join(project, options['chdir']))}",
            f"--property=StandardOutput=append:{log}",
            f"--property=StandardError=append:{log}",
            f"--property=RuntimeMaxSec={options['timeout_seconds']}",
            *(f"--property=ReadWritePaths={self.site.release(self.id, name)}" for name in options["writable"]),
            *(f"--property={text}" for text in options["properties"]),
            *(f"--setenv={name}={value}" for name, value in options["environment"].items()),
        ]
        # env finds the command on the PATH of the release.
        code, said = run_merged([self.runner, self.id, *arguments, "--", "/usr/bin/env", *command])
        with open(log, encoding="utf-8", errors="replace") as stream:
            stream.seek(begin)
            output = stream.read()
        return code, output if output.strip() else said


def prune(site: Site, keep: int) -> list[str]:
    """Remove all but the newest releases and those in a slot, with their logs and static files. Returns the ids."""
    root = os.path.join(site.directory, "releases")
    found = sorted(os.listdir(root), key=lambda name: os.path.getmtime(os.path.join(root, name)), reverse=True)
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
