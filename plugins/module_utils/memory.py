# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a unit has lost a process for memory: what is killed for that has no last word, so others are asked."""

from __future__ import annotations

import contextlib
import re

from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.slots import SLOTS, Site

COUNTERS = ("/sys/fs/cgroup{}/memory.events", "/sys/fs/cgroup/memory{}/memory.oom_control")
"""Where the kernel counts for a control group, in the unified hierarchy and in the one before it."""
KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
NOTED = re.compile(r"killed by the OOM killer|with result 'oom-kill'")
"""What systemd says, in the unified hierarchy, also of a unit that has ended."""
SIGKILL = re.compile(r"Main process exited, code=(killed, status=9/KILL|exited, status=137)")


def kills(site: Site, slot: str) -> int:
    """How many processes of a slot's unit have been killed for memory, while the unit runs."""
    group = site.properties(site.unit(slot), "ControlGroup").get("ControlGroup")
    for path in COUNTERS if group else ():
        with contextlib.suppress(OSError), open(path.format(group), encoding="ascii") as stream:
            match = KILLS.search(stream.read())
            return int(match.group(1)) if match else 0
    return 0


def lack(site: Site, slot: str) -> str:
    """That the newest run of a slot's unit lost a process for memory, as part of a sentence; an empty text if not."""
    run = site.properties(site.unit(slot), "InvocationID").get("InvocationID")
    if kills(site, slot) or (run and NOTED.search(journal(f"INVOCATION_ID={run}"))):
        return f"a process of it was killed for memory ({allowance(site, slot)})"
    return ""


def lack_of_command(site: Site, unit: str, since: float) -> str:
    """The same for the unit of a command that has ended. since: when it was started, in seconds of the epoch."""
    said = journal(f"UNIT={unit}", f"--since=@{since:.6f}")
    # The slot that runs keeps the limit that it was started with.
    slot = Site.other(site.live) if site.live else SLOTS[0]
    if NOTED.search(said):
        return f"it was killed for memory ({allowance(site, slot)})"
    if SIGKILL.search(said) and "with result 'timeout'" not in said:
        return f"it was killed, most likely for memory ({allowance(site, slot)})"
    return ""


def journal(*arguments: str) -> str:
    """What systemd has said, up to now."""
    run_merged(["journalctl", "--sync"])
    _code, output = run_merged(["journalctl", "--no-pager", "--quiet", "--output=cat", "_PID=1", *arguments])
    return output


def allowance(site: Site, slot: str) -> str:
    """How much memory a slot's unit may take, in words that name the variable."""
    limit = site.properties(site.unit(slot), "MemoryMax").get("MemoryMax", "")
    if limit.isdigit():
        return f"gunicorn_app_memory_megabytes allows {int(limit) >> 20}"
    return "gunicorn_app_memory_megabytes sets no limit: the host itself had none left"
