# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put back what decides who gets into the host, unless it has been confirmed: module_utils/confirm.py arms it.

Standard library only, and nothing of this collection: a timer of the host runs a copy of it as a program of its own.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import glob
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

DIRECTORY = "/var/lib/groundwork/revert"
LOCK = "/run/groundwork-revert.lock"
UNITS = "/etc/systemd/system"
NAME = "groundwork-revert"
UFW = "/lib/ufw/ufw-init"
FAIL2BAN = "/usr/bin/fail2ban-client"
SYSCTL = "/proc/sys"
SYSCTL_PARTS = ("fs", "kernel", "net", "vm")
ATTEMPTS = 5
RECORDS = "records"
PATHS = {
    "sshd": ["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d", f"{UNITS}/ssh.socket.d"],
    "ufw": ["/etc/ufw", "/etc/default/ufw"],
    "sysctl": ["/etc/sysctl.conf", "/etc/sysctl.d"],
    # What this collection has noted about the others; nothing has to read it anew.
    RECORDS: [
        "/run/groundwork/loaded/ssh.service.json",
        "/run/groundwork/loaded/ssh.socket.json",
        "/run/groundwork/loaded/systemd-sysctl.service.json",
        "/var/lib/groundwork/manifests/sshd.json",
        "/var/lib/groundwork/ufw-pending",
    ],
}
"""What is put back, by the part of the host that reads it."""


def state_path() -> str:
    return f"{DIRECTORY}/state.json"


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let nobody else arm, confirm or put back meanwhile."""
    with open(LOCK, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def read_state() -> dict | None:
    """What is to be put back; None where nothing is armed. It is written last and removed first."""
    try:
        with open(state_path(), encoding="ascii") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return None


def write_state(state: dict) -> None:
    """Replace the state by one rename."""
    _replace(state_path(), json.dumps(state).encode("ascii"), os.geteuid(), os.getegid(), 0o600)


def boot_id() -> str:
    """What tells this start of the machine from all others."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def now() -> float:
    """Seconds since the machine was started, also those asleep; no setting of the clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_early(state: dict) -> bool:
    """Whether somebody has armed anew since the timer was started that runs this."""
    return state["boot_id"] == boot_id() and now() < state["deadline"] - 1


def look(path: str) -> dict | None:
    """What a path is, as text and numbers; None where it is missing, or neither file nor directory nor link."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = {"mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid}
    if stat.S_ISLNK(info.st_mode):
        return {"link": os.readlink(path)}
    if stat.S_ISDIR(info.st_mode):
        return {"directory": True, **found}
    if not stat.S_ISREG(info.st_mode):
        return None
    with open(path, "rb") as stream:
        return {"content": base64.b64encode(stream.read()).decode("ascii"), **found}


def look_below(roots: list[str]) -> dict[str, dict]:
    """What there is at some paths and below them."""
    found = {}
    for root in roots:
        paths = [root]
        for folder, folders, names in os.walk(root):
            paths += [os.path.join(folder, name) for name in (*folders, *names)]
        found.update({path: entry for path in paths if (entry := look(path))})
    return found


def values_of_the_kernel() -> dict[str, str]:
    """What can be set below /proc/sys, by path."""
    found = {}
    for part in SYSCTL_PARTS:
        for folder, _folders, names in os.walk(os.path.join(SYSCTL, part)):
            for name in names:
                path = os.path.join(folder, name)
                # Some cannot be read until they have been set.
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    if os.lstat(path).st_mode & (stat.S_IRUSR | stat.S_IWUSR) == stat.S_IRUSR | stat.S_IWUSR:
                        with open(path, encoding="utf-8") as stream:
                            found[path] = stream.read()
    return found


def snapshot() -> dict:
    """All that is to be put back, as it is now."""
    parts = [{"name": name, "roots": roots, "entries": look_below(roots)} for name, roots in PATHS.items()]
    return {"parts": parts, "values": values_of_the_kernel(), "begun": [], "named": [], "attempts": 0}


def was_there(part: dict) -> bool:
    """Whether there was anything to a part; a package that came since is not taken away again."""
    return bool(part["entries"]) or part["name"] == RECORDS


def complete(state: dict) -> dict:
    """An older snapshot, with the parts that there were not when it was taken as they are now."""
    parts = [part if was_there(part) else {**part, "entries": look_below(part["roots"])} for part in state["parts"]]
    return {**state, "parts": parts}


def set_values(entries: dict[str, dict]) -> set[str]:
    """The paths below /proc/sys that files of sysctl set."""
    found = set()
    for entry in entries.values():
        text = base64.b64decode(entry.get("content", "")).decode("utf-8", "replace")
        for line in text.splitlines():
            name = line.partition("=")[0].strip().lstrip("-").strip()
            if not name or name[0] in "#;":
                continue
            # The separator that comes first is the one that is meant; the other stands for itself, swapped.
            if name.find(".") >= 0 and (name.find("/") < 0 or name.find(".") < name.find("/")):
                name = name.translate(str.maketrans("./", "/."))
            found |= set(glob.glob(os.path.join(SYSCTL, name)))
    return found


def _replace(path: str, content: bytes, uid: int, gid: int, mode: int) -> None:
    staged = f"{os.path.dirname(path)}/.groundwork-{os.getpid()}-revert"
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)
    os.rename(staged, path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _place(path: str, entry: dict, found: dict | None) -> None:
    """Make a path what it was."""
    if found and ({"link", "directory"} & set(found)) != ({"link", "directory"} & set(entry)):
        _remove(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if "link" in entry:
        _remove(path)
        os.symlink(entry["link"], path)
    elif "directory" in entry:
        os.makedirs(path, exist_ok=True)
        os.chown(path, entry["uid"], entry["gid"])
        os.chmod(path, entry["mode"])
    else:
        _replace(path, base64.b64decode(entry["content"]), entry["uid"], entry["gid"], entry["mode"])


def restore(part: dict) -> None:
    """Make everything of a part what it was. Raises OSError."""
    found, kept = look_below(part["roots"]), part["entries"]
    for path in sorted(set(found) - set(kept), reverse=True):
        _remove(path)
    # What a directory holds comes after it.
    for path in sorted(kept):
        if found.get(path) != kept[path]:
            _place(path, kept[path], found.get(path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise OSError(f"{' '.join(command)}: {said[-1]}")


def _reread_sshd() -> None:
    _run("systemctl", "daemon-reload")
    with contextlib.suppress(OSError):
        _run("systemctl", "reset-failed", "ssh.service", "ssh.socket")
    try:
        _run("systemctl", "is-active", "ssh.socket")
    except OSError:
        _run("systemctl", "reload-or-restart", "ssh.service")
        return
    # The socket is not opened while its service runs; sessions go on without it.
    _run("systemctl", "stop", "ssh.service")
    _run("systemctl", "restart", "ssh.socket")


def _reread_ufw() -> None:
    if os.path.exists(UFW):
        _run(UFW, "force-stop")
        # Where it was not enabled, this leaves it at that.
        _run(UFW, "start", "quiet")


REREAD: dict[str, Callable[[], None]] = {"sshd": _reread_sshd, "ufw": _reread_ufw}
"""How a part of the host gets to know its files."""


def _let_in_again(clients: list[str]) -> None:
    """Lift bans of who had come in before: their tries since have looked like those of a stranger."""
    if clients and os.path.exists(FAIL2BAN):
        # It says nothing of who is not banned; a service that does not run has banned nobody.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            _run(FAIL2BAN, "unban", *clients)


def _put_values_back(values: dict[str, str], named: list[str]) -> None:
    for path in named:
        if path in values:
            with open(path, "r+", encoding="utf-8") as stream:
                if stream.read() != values[path]:
                    stream.seek(0)
                    stream.write(values[path])


def tidy() -> None:
    """Leave nothing behind, neither of what was armed nor of what was about to be."""
    for path in (state_path(), f"{UNITS}/timers.target.wants/{NAME}.timer", f"{UNITS}/{NAME}.timer"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    with contextlib.suppress(OSError):
        _run("systemctl", "stop", f"{NAME}.timer")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{UNITS}/{NAME}.service")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    with contextlib.suppress(OSError):
        _run("systemctl", "daemon-reload")


def put_back(at_once: bool) -> tuple[bool, list[str]]:
    """Put back what has not been confirmed. Returns whether that is done, and sentences about it.

    at_once: do not wait for the time that somebody has to confirm.
    """
    with lock():
        state = read_state()
        if state is None:
            tidy()
            return True, []
        if is_early(state) and not at_once:
            return True, []
        differing = [
            part for part in state["parts"] if was_there(part) and look_below(part["roots"]) != part["entries"]
        ]
        # A part whose files are back already may not have been read anew when an earlier attempt ended.
        state["begun"] = sorted({*state["begun"], *(part["name"] for part in differing)})
        for part in differing:
            if part["name"] == "sysctl":
                state["named"] = sorted({*state["named"], *set_values(look_below(part["roots"]))})
        state["attempts"] += 1
        write_state(state)
        errors = []

        def attempt(what: Callable[..., None], *arguments: object) -> None:
            try:
                what(*arguments)
            except (OSError, subprocess.SubprocessError) as error:
                errors.append(str(error))

        for part in differing:
            attempt(restore, part)
        for name in state["begun"]:
            if name in REREAD:
                attempt(REREAD[name])
        attempt(_put_values_back, state["values"], state["named"])
        _let_in_again(state.get("clients", []))
        parts = ", ".join(name for name in state["begun"] if name != RECORDS)
        if errors and state["attempts"] < ATTEMPTS:
            return False, [f"{parts} cannot be put back yet: {error}" for error in errors]
        tidy()
        told = [f"{parts} was not confirmed by a new connection, and is put back."] if parts else []
        return True, told + [f"Given up after {ATTEMPTS} attempts: {error}" for error in errors]


def main() -> None:
    done, sentences = put_back(at_once=False)
    print("\n".join(sentences), flush=True)
    sys.exit(not done)


if __name__ == "__main__":
    main()
