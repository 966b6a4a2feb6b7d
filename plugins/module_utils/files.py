# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Small file helpers for the modules of groundwork.django: standard library only, Python 3.10 and newer."""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import re
import secrets
import shutil
import stat

STAGE_PREFIX = ".groundwork-"
"""Begin of the name of everything temporary; the number after it is the process that made it."""

MODE = re.compile(r"^[0-7]{3,4}$")


class Refusal(Exception):
    """A state or an input that cannot be worked with, said in one sentence."""


def parse_mode(text: str) -> int:
    """Turn an octal mode such as "0640" into a number. Raises Refusal for anything else."""
    if not MODE.match(str(text)):
        raise Refusal(f'"{text}" is not a mode; write it quoted and in octal, such as "0644".')
    return int(text, 8)


def user_id(name: str) -> int | None:
    """Number of a user given by name or number; None if there is no such user."""
    if str(name).isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name: str) -> int | None:
    """Number of a group given by name or number; None if there is no such group."""
    if str(name).isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def user_name(number: int) -> str:
    """Name of a user, or the number as text where it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """Name of a group, or the number as text where it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def describe(info: os.stat_result) -> str:
    """Owner, group and mode as one line: "root:adm 0640"."""
    return f"{user_name(info.st_uid)}:{group_name(info.st_gid)} {stat.S_IMODE(info.st_mode):04o}"


def lstat(path: str) -> os.stat_result | None:
    """lstat, with None for a path that does not exist."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_parents(path: str) -> None:
    """Refuse a path that leads through a link of an unprivileged user, or through what is no directory."""
    parent = os.path.dirname(path)
    while parent not in ("/", ""):
        info = lstat(parent)
        if info is not None:
            if stat.S_ISLNK(info.st_mode):
                if info.st_uid not in (0, os.geteuid()):
                    raise Refusal(
                        f"{path} leads through {parent}, a link made by {user_name(info.st_uid)}; it is not followed."
                    )
                if not os.path.isdir(parent):
                    raise Refusal(f"{path} leads through {parent}, a link that does not end at a directory.")
            elif not stat.S_ISDIR(info.st_mode):
                raise Refusal(f"{path} cannot be placed: {parent} is not a directory.")
        parent = os.path.dirname(parent)


def sync_directory(path: str) -> None:
    """Make renames and removals in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def make_stage(directory: str) -> str:
    """Make a staging directory in `directory`, so that a rename out of it is atomic, and return its path."""
    while True:
        path = os.path.join(directory, f"{STAGE_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        # Validators that drop privileges still have to reach the file; the file itself has its own mode.
        os.chmod(path, 0o755)
        return path


def remove_stale_stages(directory: str) -> None:
    """Remove the staging directories of processes that were killed."""
    try:
        names = [entry.name for entry in os.scandir(directory) if entry.name.startswith(STAGE_PREFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        owner = name[len(STAGE_PREFIX) :].split("-")[0]
        path = os.path.join(directory, name)
        if not owner.isdigit() or os.path.exists(f"/proc/{owner}"):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def write_new(path: str, content: bytes, uid: int, gid: int, mode: int) -> None:
    """Write a new file that is never readable by more than its final owner and mode allow."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        info = os.fstat(descriptor)
        if (info.st_uid, info.st_gid) != (uid, gid):
            os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)


def replace(staged: str, path: str) -> None:
    """Rename a staged file over its target; a target that is a mount point is written in place."""
    try:
        os.rename(staged, path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # /etc/hosts and the like are bind mounts in containers: no rename is possible there.
        with open(staged, "rb") as source, open(path, "r+b") as target:
            target.write(source.read())
            target.truncate()
            info = os.fstat(source.fileno())
            os.fchown(target.fileno(), info.st_uid, info.st_gid)
            os.fchmod(target.fileno(), stat.S_IMODE(info.st_mode))
            os.fsync(target.fileno())


def set_attributes(path: str, uid: int, gid: int, mode: int) -> None:
    """Set owner, group and mode of a file or directory, without following a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        info = os.fstat(descriptor)
        if (info.st_uid, info.st_gid) != (uid, gid):
            os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def write_atomically(path: str, content: bytes, mode: int = 0o644) -> None:
    """Write a file of the current user by way of a temporary one; parents are made as needed (mode 0755)."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    staged = os.path.join(directory, f"{STAGE_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        write_new(staged, content, os.geteuid(), os.getegid(), mode)
        os.rename(staged, path)
    except BaseException:
        if os.path.lexists(staged):
            os.unlink(staged)
        raise
    sync_directory(directory)


def read_text(path: str) -> str:
    """Content of a text file; empty where it is missing or may not be read. Bytes that are no text survive as such."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""


def read_json(path: str) -> dict:
    """Content of a JSON file; an empty dict if it is missing, empty or broken."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str, value: dict, mode: int = 0o600) -> None:
    """Write a dict as a JSON file, atomically."""
    write_atomically(path, (json.dumps(value, sort_keys=True, indent=1) + "\n").encode(), mode)


def as_text(content: bytes, limit: int = 200_000) -> str:
    """Content for a diff: text, or a remark where it is binary or longer than `limit` bytes."""
    if len(content) > limit:
        return f"content is {len(content)} bytes, too long to show\n"
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "content is binary\n"
