# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module packages does on the host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import struct
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, write_atomically

NAME = re.compile(r"^[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?( \| [a-z0-9][a-z0-9+.-]+)*$")
POLICY = "/usr/sbin/policy-rc.d"
KEPT_POLICY = "/usr/sbin/policy-rc.d.kept-by-groundwork"
MARK = "# Placed by groundwork.django.packages"
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)
LISTS = "/var/lib/apt/lists"
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")
CLOUD_INIT = "/run/cloud-init"
PROC = "/proc"
UNFINISHED = {"half-installed", "half-configured", "unpacked", "triggers-awaited", "triggers-pending"}
UNKNOWN = re.compile(
    r"Unable to locate package|has no installation candidate|Unable to fetch|Failed to fetch"
    r"|Couldn't find any package|Version '.*' for '.*' was not found"
)
LOCKED = re.compile(r"Could not get lock|Unable to acquire the dpkg frontend lock|Unable to lock directory")
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
INSTALL = (
    "apt-get",
    "--yes",
    "--quiet",
    "--no-install-recommends",
    "--option=Acquire::Retries=3",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    "--option=Dpkg::Use-Pty=0",
)

ARGUMENTS = {
    "names": {"type": "list", "elements": "str", "required": True},
    "lists_hours": {"type": "int", "default": 6},
    "timeout": {"type": "int", "default": 600},
}
"""Options of the module."""


def reason(output: str) -> str:
    """The lines of apt or dpkg that say what is wrong, or the last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "dpkg: error", "Err:"))]
    return " ".join((errors or lines)[-3:]) or "it said nothing"


def installed_packages(output: str) -> tuple[dict[str, str], set[str]]:
    """Read dpkg-query's answer: versions of what is installed or provided, and names of unfinished packages."""
    versions: dict[str, str] = {}
    provided: set[str] = set()
    unfinished: set[str] = set()
    for line in output.splitlines():
        name, architecture, status, version, provides = (line.split("\t") + [""] * 5)[:5]
        if status in UNFINISHED:
            unfinished.add(name)
        if status != "installed":
            continue
        versions[name] = versions[f"{name}:{architecture}"] = version
        provided.update(part.split()[0].split(":")[0] for part in provides.split(",") if part.strip())
    for name in provided:
        versions.setdefault(name, "")
    return versions, unfinished


def missing_packages(names: list[str], versions: dict[str, str]) -> list[str]:
    """Those of `names` that are not installed, or not in the version asked for; none that another stands in for."""
    missing = []
    for name in names:
        first, *others = name.split(" | ")
        plain, _equals, version = first.partition("=")
        is_there = plain in versions and version in ("", versions[plain])
        if not is_there and versions.keys().isdisjoint(others):
            missing.append(first)
    return missing


def ask_dpkg() -> tuple[dict[str, str], set[str]]:
    """What is installed, and what is unfinished."""
    code, output = run_merged(
        [
            "dpkg-query",
            "--show",
            "--showformat=${Package}\t${Architecture}\t${db:Status-Status}\t${Version}\t${Provides}\n",
        ],
    )
    if code != 0:
        raise Refusal(f"dpkg-query cannot tell what is installed: {reason(output)}")
    versions, unfinished = installed_packages(output)
    with contextlib.suppress(FileNotFoundError):
        unfinished.update(f"update {name}" for name in os.listdir("/var/lib/dpkg/updates"))
    return versions, unfinished


def command_of(pid: int) -> str:
    """The command of a process, shortened to 80 characters, for a sentence."""
    try:
        with open(f"{PROC}/{pid}/cmdline", "rb") as stream:
            words = stream.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        words = ""
    return words[:80] or "a process that has just ended"


def lock_holder(paths: tuple[str, ...] = LOCKS) -> tuple[int, str] | None:
    """Process that holds one of the locks of apt and dpkg, and the lock; None if they are free."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _whence, _start, _length, pid = struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        finally:
            os.close(descriptor)
        if kind != fcntl.F_UNLCK:
            return pid, path
    return None


def wait_for_lock(end: float, timeout: int) -> None:
    """Wait until the locks are free and nobody else holds daemons back. Raises Refusal with the holder's name."""
    while True:
        holder = lock_holder()
        pid = policy_holder(read_policy())
        if holder is None and (pid is None or pid == os.getpid()):
            return
        if time.monotonic() > end:
            who, what = holder or (pid, POLICY)
            raise Refusal(
                f"{what} is still held by process {who} ({command_of(who)}) after {timeout} seconds; "
                "wait for it to end, or see what it hangs on, and run this again."
            )
        time.sleep(1)


def wait_for_cloud_init(timeout: int) -> None:
    """Wait until cloud-init has finished this boot, where there is one. Raises Refusal."""
    end = time.monotonic() + timeout
    while os.path.exists(f"{CLOUD_INIT}/enabled") and not os.path.exists(f"{CLOUD_INIT}/result.json"):
        if time.monotonic() > end:
            raise Refusal(
                f"cloud-init has not finished after {timeout} seconds; "
                "`cloud-init status --long` on the host says what it is doing."
            )
        time.sleep(1)


def start_of(pid: int) -> str | None:
    """When a process was started, in ticks of the kernel since boot; None if there is none of that number."""
    try:
        with open(f"{PROC}/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def read_policy() -> str:
    """Content of the policy file; empty if there is none or it cannot be read as text."""
    try:
        with open(POLICY, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def policy_text(pid: int, start: str) -> str:
    """The policy that lets no unit be started which is not running, as long as process `pid` lives."""
    return f"""#!/bin/sh
{MARK} for process {pid} started {start}
# It holds daemons back only as long as that process lives.
if [ "$(cut -d' ' -f22 /proc/{pid}/stat 2>/dev/null)" = {start} ]; then
    case "$1" in
        *.timer) ;;
        *) systemctl is-active --quiet "$1" || exit 101 ;;
    esac
fi
[ ! -x {KEPT_POLICY} ] || exec {KEPT_POLICY} "$@"
exit 0
"""


def policy_holder(text: str) -> int | None:
    """Living process that a policy of ours was placed for; None for one left behind or not ours."""
    found = re.search(rf"^{re.escape(MARK)} for process (\d+) started (\d+)$", text, re.MULTILINE)
    if not found or start_of(int(found[1])) != found[2]:
        return None
    return int(found[1])


def policy_is_stale() -> bool:
    """Whether a killed run has left its policy, or the copy it keeps of the operator's."""
    text = read_policy()
    if policy_holder(text) is not None:
        return False
    return MARK in text or os.path.lexists(KEPT_POLICY)


def hold_daemons() -> None:
    """Put our policy in place; one of the operator is kept beside it."""
    release_daemons()
    if os.path.islink(POLICY):
        os.symlink(os.readlink(POLICY), KEPT_POLICY)
    elif os.path.exists(POLICY):
        shutil.copy2(POLICY, KEPT_POLICY)
    write_atomically(POLICY, policy_text(os.getpid(), start_of(os.getpid()) or "0").encode(), 0o755)


def release_daemons() -> None:
    """Take our policy away and put the operator's back; right from every point at which a run can be killed."""
    if MARK in read_policy():
        if os.path.lexists(KEPT_POLICY):
            os.rename(KEPT_POLICY, POLICY)
        else:
            os.unlink(POLICY)
    elif os.path.lexists(KEPT_POLICY):
        # Killed after the copy was made and before ours was placed.
        os.unlink(KEPT_POLICY)


def lists_are_old(hours: int) -> bool:
    """Whether the package lists are missing, older than `hours`, or older than a source."""
    try:
        names = os.listdir(LISTS)
    except FileNotFoundError:
        return True
    if not any("_Packages" in name for name in names):
        return True
    # apt gives the lists the times of the server; this directory has the time of the update.
    updated = max(os.stat(path).st_mtime for path in (LISTS, f"{LISTS}/partial") if os.path.exists(path))
    if time.time() - updated > hours * 3600:
        return True
    newest = 0.0
    for source in SOURCES:
        with contextlib.suppress(OSError):
            newest = max(newest, os.stat(source).st_mtime)
            newest = max([newest, *(entry.stat().st_mtime for entry in os.scandir(source))])
    return newest > updated


def apt(end: float, timeout: int, *command: str) -> tuple[int, str]:
    """Run an apt-get command, again if another process was faster at taking the lock."""
    while True:
        wait_for_lock(end, timeout)
        code, output = run_merged([*INSTALL, *command], **ENVIRONMENT)
        if code == 0 or not LOCKED.search(output) or time.monotonic() > end:
            return code, output
        time.sleep(1)


def update_lists(end: float, timeout: int) -> None:
    """Fetch the package lists. Raises Refusal."""
    code, output = apt(end, timeout, "update")
    if code != 0:
        raise Refusal(f"The package lists cannot be updated: {reason(output)}")


def install(names: list[str], hours: int, timeout: int) -> list[str]:
    """Finish what is unfinished, install what is missing of `names`, and return what was put right. Raises Refusal."""
    end = time.monotonic() + timeout
    wait_for_lock(end, timeout)
    repaired = ["policy-rc.d of a killed run"] if policy_is_stale() else []
    hold_daemons()
    try:
        # The process waited for may have installed it all.
        versions, unfinished = ask_dpkg()
        fresh = False
        if unfinished:
            repaired.append("dpkg was interrupted")
            run_merged(["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"], **ENVIRONMENT)
            versions, unfinished = ask_dpkg()
        if unfinished:
            # A package that was cut off while it was unpacked has to be fetched again.
            fresh = lists_are_old(hours)
            if fresh:
                update_lists(end, timeout)
            code, output = apt(end, timeout, "install", "--fix-broken")
            versions, unfinished = ask_dpkg()
            if code != 0 or unfinished:
                raise Refusal(f"An interrupted installation cannot be finished: {reason(output)}")
        missing = missing_packages(names, versions)
        if not missing:
            return repaired
        if not fresh and lists_are_old(hours):
            fresh = True
            update_lists(end, timeout)
        while True:
            code, output = apt(end, timeout, "install", "--", *missing)
            if code == 0:
                break
            if fresh or not UNKNOWN.search(output):
                raise Refusal(f"{', '.join(missing)} cannot be installed: {reason(output)}")
            fresh = True
            update_lists(end, timeout)
        left = missing_packages(missing, ask_dpkg()[0])
        if left:
            raise Refusal(f"apt has ended without an error, but {', '.join(left)} is not installed.")
    finally:
        release_daemons()
    return repaired


def stop(number: int, _frame: object) -> None:
    """Let `finally` run when the process is told to end."""
    raise SystemExit(128 + number)


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    names = list(dict.fromkeys(module.params["names"]))
    wrong = [name for name in names if not NAME.match(name)]
    if wrong:
        module.fail_json(msg=f'"{wrong[0]}" is not the name of a package; write name or name=version.')
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        wait_for_cloud_init(module.params["timeout"])
        versions, unfinished = ask_dpkg()
        missing = missing_packages(names, versions)
        stale = policy_is_stale()
        repaired = ["policy-rc.d of a killed run"] * stale + ["dpkg was interrupted"] * bool(unfinished)
        changed = bool(missing or repaired)
        if changed and not module.check_mode:
            repaired = install(names, module.params["lists_hours"], module.params["timeout"])
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    result = {"changed": changed, "installed": missing, "repaired": repaired}
    if module._diff:
        listed = "".join(f"{name}\n" for name in missing)
        result["diff"] = {"before_header": "packages", "after_header": "packages", "before": "", "after": listed}
    module.exit_json(**result)
