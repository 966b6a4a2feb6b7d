# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""By which SSH login a module runs: standard library only, Python 3.10 and newer."""

from __future__ import annotations

import os
import pwd
from typing import NamedTuple

PROC = "/proc"


class Login(NamedTuple):
    """User who logged in, the port of this host that the connection came to (0 if unknown), and where it came from."""

    user: str
    port: int
    client: str


def read(path: str) -> bytes:
    """Content of a file of the kernel; empty where the process is gone or may not be looked at."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def parent_of(pid: int) -> int:
    """Number of the parent of a process; 0 if there is none."""
    fields = read(f"{PROC}/{pid}/stat").decode("utf-8", "replace").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def owner_of(pid: int) -> str:
    """Name of the user that a process belongs to, or his number."""
    try:
        uid = os.stat(f"{PROC}/{pid}").st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def environment_of(pid: int) -> dict[str, str]:
    """Environment that a process was started with."""
    entries = read(f"{PROC}/{pid}/environ").decode("utf-8", "replace").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def ssh_login() -> Login | None:
    """The SSH login that this process descends from, through sudo or su; None where there is none.

    The process of sshd that serves a session belongs to the user who logged in, whatever he became since.
    """
    pid, port, client = os.getpid(), 0, ""
    while pid > 1:
        name = read(f"{PROC}/{pid}/comm").decode("utf-8", "replace").strip()
        if name.startswith("sshd"):
            return Login(owner_of(pid), port, client)
        words = environment_of(pid).get("SSH_CONNECTION", "").split()
        if len(words) == 4 and words[3].isdigit():
            client, port = words[0], int(words[3])
        pid = parent_of(pid)
    return None
