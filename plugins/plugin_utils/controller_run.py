# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run of Ansible this is, as the lock of a release and its audit log know it."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket
from pathlib import Path


def _start(pid: int) -> int:
    """When a process began, in ticks since the machine's start; 0 where it is gone, or that cannot be told."""
    try:
        # The name of the program stands in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        # What has ended and was not waited for yet has an entry too.
        return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def _machine() -> str:
    """What tells this machine, and on it this namespace of processes, from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def this_run() -> dict[str, str | int]:
    """`machine`, `pid` and `start` of the running ansible-playbook, and `operator`, who began it.

    An action runs in a process that ansible-playbook has forked. Such a process outlives an ansible-playbook that is
    killed, and has another parent then; `start` is 0 in it.
    """
    parent = multiprocessing.parent_process()
    pid = (parent.pid if parent else None) or os.getppid()
    operator = f"{getpass.getuser()}@{socket.gethostname()}"
    return {"machine": _machine(), "pid": pid, "start": _start(pid), "operator": operator}


def is_orphaned(run: dict) -> bool:
    """Whether the ansible-playbook of this very run is gone. False also where that cannot be told."""
    return bool(run["machine"]) and not run["start"]


def has_ended(run: dict) -> bool:
    """Whether a run of this machine is over. False also where that cannot be told."""
    if not run.get("start") or run.get("machine") != _machine():
        return False
    return _start(int(run.get("pid") or 0)) != run["start"]
