# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a tree of files about: the part of template_tree that runs on the host."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import shlex
import shutil
import signal
import stat
import tempfile

from ansible_collections.groundwork.django.plugins.module_utils import files as fs
from ansible_collections.groundwork.django.plugins.module_utils.commands import SYSTEM_PATH, run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

MANIFESTS = "/var/lib/groundwork/manifests"
SECRET = "content is secret\n"


class Killed(BaseException):
    """The process was asked to end; raised so that temporary files are removed on the way out."""


def _killed(number: int, frame: object) -> None:
    raise Killed(number)


class Change:
    """One file or directory that is not as it shall be."""

    def __init__(self, item: dict, before: os.stat_result | None, uid: int | None, gid: int | None, mode: int) -> None:
        self.item = item
        self.path = item["path"]
        self.before = before
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.content: bytes | None = None
        self.old: bytes | None = None
        self.attributes = False
        self.staged = ""

    def describe(self) -> str:
        return f"{self.item['owner']}:{self.item['group']} {self.mode:04o}"


class Placed:
    """What was on the host before a plan was carried out, so that it can be put back."""

    def __init__(self) -> None:
        self._files: list[tuple[str, os.stat_result | None, bytes]] = []
        self.made: list[str] = []

    def keep(self, path: str) -> None:
        """Remember a file, or that there is none."""
        before = fs.lstat(path)
        content = b""
        if before is not None:
            with open(path, "rb") as stream:
                content = stream.read()
        self._files.append((path, before, content))

    def put_back(self) -> None:
        """Bring all files back to what they were, and remove the directories that were made for them."""
        for path, before, content in reversed(self._files):
            if before is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                continue
            stage = fs.make_stage(os.path.dirname(path))
            try:
                staged = os.path.join(stage, os.path.basename(path))
                fs.write_new(staged, content, before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode))
                fs.replace(staged, path)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
        for path in reversed(self.made):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _owner(item: dict, check: bool) -> tuple[int | None, int | None, int]:
    """Numbers of owner and group (None where they do not exist yet, in check mode only) and the mode."""
    uid, gid = fs.user_id(item["owner"]), fs.group_id(item["group"])
    if not check:
        if uid is None:
            raise Refusal(f"The user {item['owner']} that {item['path']} shall belong to does not exist on the host.")
        if gid is None:
            raise Refusal(f"The group {item['group']} that {item['path']} shall belong to does not exist on the host.")
    return uid, gid, fs.parse_mode(item["mode"])


def _differs(info: os.stat_result, uid: int | None, gid: int | None, mode: int) -> bool:
    return (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) != (uid, gid, mode)


def _look_at_directory(item: dict, check: bool) -> Change | None:
    item = {"owner": "root", "group": "root", "mode": "0755", **item}
    path = item["path"]
    fs.check_parents(path + "/")
    uid, gid, mode = _owner(item, check)
    try:
        info = os.stat(path)
    except FileNotFoundError:
        info = None
    if info is not None and not _differs(info, uid, gid, mode):
        return None
    change = Change(item, info, uid, gid, mode)
    change.attributes = True
    return change


def _look_at_file(item: dict, check: bool) -> Change | None:
    path = item["path"]
    fs.check_parents(path)
    info = fs.lstat(path)
    if info is not None and item["create_only"]:
        return None
    if info is not None and stat.S_ISLNK(info.st_mode):
        raise Refusal(
            f"{path} is a symbolic link to {os.readlink(path)}; remove the link first, only regular files are replaced."
        )
    if info is not None and not stat.S_ISREG(info.st_mode):
        raise Refusal(f"{path} is not a regular file; only regular files are replaced.")
    uid, gid, mode = _owner(item, check)
    change = Change(item, info, uid, gid, mode)
    content = item["content"].encode("utf-8", "surrogateescape")
    if info is None:
        change.content = content
        return change
    if info.st_size == len(content):
        with open(path, "rb") as stream:
            change.old = stream.read()
    if change.old != content:
        change.content = content
    change.attributes = _differs(info, uid, gid, mode)
    return change if change.attributes or change.content is not None else None


def _diff(change: Change) -> list[dict]:
    """What changes, in the form Ansible shows."""
    result = []
    path = change.path
    if change.content is not None:
        before, after = "", fs.as_text(change.content)
        if change.before is not None:
            if change.old is None:
                with open(path, "rb") as stream:
                    change.old = stream.read()
            before = fs.as_text(change.old)
        if change.item["secret"]:
            before, after = ("" if change.before is None else "old " + SECRET), SECRET
        header = path if change.before is not None else f"{path} ({change.describe()})"
        result.append({"before_header": path, "after_header": header, "before": before, "after": after})
    if change.attributes:
        header = f"{path} (owner and mode)"
        before = "" if change.before is None else fs.describe(change.before) + "\n"
        after = change.describe() + "\n"
        result.append({"before_header": header, "after_header": header, "before": before, "after": after})
    return result


def _removal_diff(path: str) -> dict:
    info = os.lstat(path)
    before = SECRET
    if info.st_mode & stat.S_IROTH:
        with open(path, "rb") as stream:
            before = fs.as_text(stream.read())
    return {"before_header": path, "after_header": f"{path} (removed)", "before": before, "after": ""}


def _validate(change: Change, check: bool, warnings: list[str]) -> None:
    """Run the validator of one staged file. Raises Refusal with one sentence and what the validator said."""
    template = change.item["validate"]
    command = [word.replace("%s", change.staged) for word in shlex.split(template)]
    if shutil.which(command[0], path=SYSTEM_PATH) is None:
        if check:
            return
        raise Refusal(
            f"{change.path} cannot be checked by `{template}`: {command[0]} is not installed; nothing was changed."
        )
    code, output, errors = run(command)
    if code == 0:
        return
    said = errors.strip() or output.strip()
    if change.item["secret"]:
        said = "what it said is not shown, the content is secret"
    sentence = f"{change.path} was refused by `{template}` (exit {code}) and nothing was changed: {said}"
    if not check:
        raise Refusal(sentence)
    warnings.append(sentence)


def _make_directory(path: str, mode: int, made: list[str]) -> None:
    """Make a directory and its parents, for the current user, and remember what was made."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for path in reversed(missing):
        os.mkdir(path, 0o700)
        made.append(path)
        os.chmod(path, mode)


def _stage(changes: list[Change], stages: dict[str, str], parent: str | None) -> None:
    """Write every new content into a staging directory: of its own directory, or below `parent`."""
    for change in changes:
        if change.content is None:
            continue
        directory = os.path.dirname(change.path)
        if directory not in stages:
            stages[directory] = fs.make_stage(parent or directory)
        change.staged = os.path.join(stages[directory], os.path.basename(change.path))
        if change.uid is None or change.gid is None:
            fs.write_new(change.staged, change.content, os.geteuid(), os.getegid(), 0o600)
        else:
            fs.write_new(change.staged, change.content, change.uid, change.gid, change.mode)


def _assembled(entry: dict, plan: dict, removals: list[str]) -> dict:
    """A file that is made of parts: those on disk, as they will be when the rest of the plan has been carried out."""
    planned = {
        item["path"]: item["content"].encode("utf-8", "surrogateescape")
        for item in plan["files"]
        if not (item["create_only"] and os.path.lexists(item["path"]))
    }
    directory, pattern = os.path.split(entry["parts"])
    parts = {
        path
        for path in planned
        if os.path.dirname(path) == directory and fnmatch.fnmatch(os.path.basename(path), pattern)
    }
    parts |= set(glob.glob(entry["parts"])) - set(removals)
    content = b""
    for path in sorted(parts):
        part = planned.get(path)
        if part is None:
            with open(path, "rb") as stream:
                part = stream.read()
        content += part if part.endswith(b"\n") or not part else part + b"\n"
    return {**entry, "content": content.decode("utf-8", "surrogateescape")}


def _manifest_path(name: str) -> str:
    return os.path.join(MANIFESTS, f"{name}.json")


def place(plan: dict, check: bool = False, diff: bool = False, placed: Placed | None = None) -> dict:
    """Bring about what a plan says.

    plan: files, directories, directory_mode, assemble and manifest, as the action plugin makes it.
    check: only say what would change. diff: also say how. placed: gets to know what was there before.
    Returns changed, changed_paths, removed_paths, warnings and, on request, diff. Raises Refusal.
    """
    directory_changes = [c for c in (_look_at_directory(item, check) for item in plan["directories"]) if c]
    name = plan["manifest"]
    recorded = set(fs.read_json(_manifest_path(name)).get("paths", [])) if name else set()
    rendered = {item["path"] for item in plan["files"]}
    removals = sorted(path for path in recorded - rendered if os.path.isfile(path) and not os.path.islink(path))
    assembled = [_assembled(entry, plan, removals) for entry in plan.get("assemble", [])]
    file_changes = [c for c in (_look_at_file(item, check) for item in [*plan["files"], *assembled]) if c]
    created = {c.path for c in file_changes if c.before is None and not c.item["create_only"]} & rendered
    final = (recorded & rendered) | created

    warnings: list[str] = []
    result = {
        "changed": bool(directory_changes or file_changes or removals),
        "changed_paths": sorted({c.path for c in directory_changes + file_changes}),
        "removed_paths": removals,
        "warnings": warnings,
    }
    if diff:
        result["diff"] = [entry for c in directory_changes + file_changes for entry in _diff(c)]
        result["diff"] += [_removal_diff(path) for path in removals]
    if check:
        _check_only(file_changes, warnings)
        return result

    handlers = {number: signal.signal(number, _killed) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    stages: dict[str, str] = {}
    placed = placed or Placed()
    done = False
    try:
        for directory in {os.path.dirname(path) for path in [*rendered, *(item["path"] for item in assembled)]}:
            fs.remove_stale_stages(directory)
        mode = fs.parse_mode(plan["directory_mode"])
        for change in directory_changes:
            _make_directory(os.path.dirname(change.path), mode, placed.made)
            if change.before is None and not os.path.isdir(change.path):
                _make_directory(change.path, 0o700, placed.made)
        for change in file_changes:
            if change.content is not None:
                _make_directory(os.path.dirname(change.path), mode, placed.made)
        _stage(file_changes, stages, None)
        for change in file_changes:
            if change.staged and change.item["validate"]:
                _validate(change, False, warnings)
        manifest = [_manifest_path(name)] if name and final != recorded else []
        for path in [*manifest, *(change.path for change in file_changes), *removals]:
            placed.keep(path)
        if name and final - recorded:
            fs.write_json(_manifest_path(name), {"paths": sorted(recorded | final)}, 0o644)
        done = True
        for change in directory_changes:
            fs.set_attributes(os.path.realpath(change.path), change.uid, change.gid, change.mode)
        for change in file_changes:
            if change.staged:
                fs.replace(change.staged, change.path)
            else:
                fs.set_attributes(change.path, change.uid, change.gid, change.mode)
        # Placed first, removed last: a file that tells of the others is there as long as one of them is.
        for path in reversed(removals):
            os.unlink(path)
        touched = set(stages) | {os.path.dirname(path) for path in [*removals, *placed.made]}
        for directory in touched:
            if os.path.isdir(directory):
                fs.sync_directory(directory)
        if name and final != recorded:
            fs.write_json(_manifest_path(name), {"paths": sorted(final)}, 0o644)
    finally:
        for stage in stages.values():
            shutil.rmtree(stage, ignore_errors=True)
        if not done:
            for path in reversed(placed.made):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return result


def _check_only(changes: list[Change], warnings: list[str]) -> None:
    """Run the validators in check mode, on copies outside the target directories."""
    changes = [c for c in changes if c.content is not None and c.item["validate"]]
    if not changes:
        return
    stages: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="groundwork-check-") as parent:
        os.chmod(parent, 0o755)
        _stage(changes, stages, parent)
        for change in changes:
            _validate(change, True, warnings)
