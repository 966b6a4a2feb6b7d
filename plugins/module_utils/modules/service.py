# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module service does on the host."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shlex
import stat
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import (
    STAGE_PREFIX,
    Refusal,
    read_json,
    write_json,
)

STAMPS = "/run/groundwork/loaded"
UNIT_FILES = "/etc/systemd/system"
PROPERTIES = (
    "Accept",
    "ActiveEnterTimestampMonotonic",
    "ActiveState",
    "CanReload",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "DropInPaths",
    "ExecMainStartTimestampMonotonic",
    "InvocationID",
    "LoadError",
    "LoadState",
    "NRestarts",
    "NeedDaemonReload",
    "RemainAfterExit",
    "Result",
    "SubState",
    "Triggers",
    "Type",
    "UnitFileState",
)
ENDINGS = ("service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice", "scope", "device")
NAME = re.compile(r"^[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\@-]*$")
# A file time is rounded down to the tick of the kernel, the start of a process is not.
TICK = 0.02
SETTLE = 0.4

ARGUMENTS = {
    "units": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "enabled": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["started", "stopped", "kept"], "default": "started"},
            "unless_used": {"type": "bool", "default": False},
            "if_used": {"type": "bool", "default": False},
            "conditional": {"type": "bool", "default": False},
            "activated_by": {"type": "str"},
            "restart_on": {"type": "list", "elements": "str", "default": []},
            "reload_on": {"type": "list", "elements": "str", "default": []},
            "validate": {"type": "raw"},
            "validate_always": {"type": "bool", "default": False},
        },
    },
    "unlisted": {"type": "list", "elements": "str", "default": []},
    "listed": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 30},
}
"""Options of the module."""
DEFAULTS = {name: option.get("default") for name, option in ARGUMENTS["units"]["options"].items()}
"""What a unit is kept like where its options do not say otherwise."""


class Unusable(Refusal):
    """What is on disk was refused by the validator of a unit, before any unit was touched."""


def full_name(name: str) -> str:
    """Name of a unit with its ending. Raises Refusal where it is no unit name."""
    if not NAME.match(name):
        raise Refusal(f'"{name}" is not the name of a unit.')
    return name if name.rpartition(".")[2] in ENDINGS else f"{name}.service"


def show(names: list[str]) -> list[dict[str, str]]:
    """Properties of units, in the order asked for, by one call of systemctl."""
    code, output, errors = run(["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *names])
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in output.strip().split("\n\n")
    ]
    if code != 0 or len(blocks) != len(names):
        raise Refusal(f"systemctl cannot show {', '.join(names)}: {errors.strip() or output.strip()}")
    return blocks


def look(patterns: list[str]) -> tuple[str, float]:
    """Digest of the files that patterns lead to, and the newest of their times in seconds since 1970."""
    digest = hashlib.sha256()
    newest = 0.0
    seen: set[str] = set()
    entered: set[tuple[int, int]] = set()

    def take(path: str) -> None:
        nonlocal newest
        if path in seen:
            return
        seen.add(path)
        try:
            info = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            digest.update(f"{path}\0missing\0".encode("utf-8", "surrogateescape"))
            return
        if os.path.islink(path):
            newest = max(newest, os.lstat(path).st_ctime)
        if stat.S_ISDIR(info.st_mode):
            # A link to a directory is followed, once: certificates are often reached through one.
            if (info.st_dev, info.st_ino) in entered:
                return
            entered.add((info.st_dev, info.st_ino))
            # The time of a directory tells of files that are gone.
            newest = max(newest, info.st_mtime)
            for name in sorted(os.listdir(path)):
                if not name.startswith(STAGE_PREFIX):
                    take(os.path.join(path, name))
        elif stat.S_ISREG(info.st_mode):
            newest = max(newest, info.st_ctime)
            with open(path, "rb") as stream:
                content = hashlib.sha256(stream.read()).hexdigest()
            digest.update(f"{path}\0{content}\0".encode("utf-8", "surrogateescape"))

    for pattern in patterns:
        if glob.has_magic(pattern):
            for path in sorted(glob.glob(pattern)):
                take(path)
        else:
            take(pattern.rstrip("/") or "/")
    return digest.hexdigest(), newest


def is_active(properties: dict[str, str]) -> bool:
    """Whether a unit with these properties runs, or listens."""
    return properties["ActiveState"] in ("active", "reloading", "refreshing")


class Unit:
    """A unit as it shall be, as it is, and what has to be done about it."""

    def __init__(self, wanted: dict) -> None:
        wanted = {**DEFAULTS, **wanted}
        self.name = full_name(wanted["name"])
        self.enabled: bool = wanted["enabled"]
        self.started: bool = wanted["state"] == "started"
        self.kept: bool = wanted["state"] == "kept"
        self.unless_used: bool = wanted["unless_used"]
        self.if_used: bool = wanted["if_used"]
        self.conditional: bool = wanted["conditional"]
        self.activator = full_name(wanted["activated_by"]) if wanted["activated_by"] else ""
        self.restart_on: list[str] = wanted["restart_on"]
        self.reload_on: list[str] = wanted["reload_on"]
        self.validate = wanted["validate"]
        self.validate_always: bool = wanted["validate_always"]
        self.on_demand = False
        self.is_: dict[str, str] = {}
        self.verbs: list[str] = []
        self.restart_digest = self.reload_digest = ""
        self.found: dict = {}
        self.reloaded_at = 0.0

    @property
    def stamp_path(self) -> str:
        return os.path.join(STAMPS, f"{self.name}.json")

    @property
    def active(self) -> bool:
        return is_active(self.is_)

    @property
    def on_the_way(self) -> bool:
        return self.is_["ActiveState"] == "activating"

    @property
    def ruled_out(self) -> bool:
        """Whether systemd has looked at the unit's own conditions, and has not started it because of them."""
        looked = self.is_.get("ConditionTimestampMonotonic", "0") not in ("", "0")
        return self.conditional and looked and self.is_.get("ConditionResult") == "no"

    @property
    def runs_once(self) -> bool:
        """A unit that does its work and is inactive again."""
        return self.is_.get("Type") == "oneshot" and self.is_.get("RemainAfterExit") != "yes"

    def stamp(self) -> dict:
        return {
            "invocation_id": self.is_.get("InvocationID", ""),
            "restart": self.restart_digest,
            "reload": self.reload_digest,
            "restart_on": self.restart_on,
            "reload_on": self.reload_on,
            "reloaded_at": self.reloaded_at,
        }

    @property
    def needs_daemon_reload(self) -> bool:
        """Whether systemd knows an older unit file or fewer drop-ins than there are.

        systemd 252 and older says no where a drop-in is the first one of its directory, so that is looked at here.
        """
        if self.is_["NeedDaemonReload"] == "yes":
            return True
        template = re.sub(r"@[^.]+\.", "@.", self.name)
        known = self.is_.get("DropInPaths", "").split()
        found = [
            path for name in {self.name, template} for path in glob.glob(f"{UNIT_FILES}/{glob.escape(name)}.d/*.conf")
        ]
        placed = {path for path in found if os.path.realpath(path) != os.devnull}
        return self.is_["LoadState"] == "loaded" and not placed <= set(known)

    def started_at(self) -> float:
        """When the unit has read its configuration, in seconds since 1970."""
        ticks = int(self.is_.get("ExecMainStartTimestampMonotonic") or 0) or int(
            self.is_.get("ActiveEnterTimestampMonotonic") or 0
        )
        # systemd leaves out the time a machine sleeps. This clock does not: the result is early rather than late.
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / 1_000_000

    def plan(self, check: bool) -> None:
        """Fill `verbs` from what the unit is. Raises Refusal for one that cannot be as it shall be."""
        self.verbs = []
        load = self.is_["LoadState"]
        if not self.started:
            if self.unless_used and self.is_["ActiveState"] != "inactive":
                return
            if self.active or self.on_the_way:
                self.verbs.append("stop")
            if not self.enabled and self.is_["UnitFileState"] in ("enabled", "enabled-runtime"):
                self.verbs.append("disable")
            if self.enabled and load == "loaded":
                self._plan_enable()
            return
        if load == "masked":
            raise Refusal(f"{self.name} is masked; unmask it first (systemctl unmask {self.name}).")
        if load == "not-found":
            if not check:
                raise Refusal(f"There is no unit {self.name} on the host.")
            self.verbs = ["enable", "start"] if self.enabled else ["start"]
            return
        if load != "loaded":
            raise Refusal(f"{self.name} cannot be loaded ({load}): {self.is_.get('LoadError', '')}")
        self._plan_enable()
        self._plan_start()

    def _plan_enable(self) -> None:
        state = self.is_["UnitFileState"]
        instance = "@" in self.name and not self.name.partition("@")[2].startswith(".")
        absent = ("disabled", "enabled-runtime", "linked", "linked-runtime", *(("indirect",) if instance else ()))
        enabled = self.enabled and not self.on_demand
        if enabled and state in absent:
            self.verbs.append("enable")
        elif not enabled and state in ("enabled", "enabled-runtime"):
            self.verbs.append("disable")

    def _plan_start(self) -> None:
        now = time.time()
        self.restart_digest, newest_restart = look(self.restart_on)
        self.reload_digest, newest_reload = look(self.reload_on)
        self.found = read_json(self.stamp_path)
        if not self.active and not self.on_the_way:
            found = (self.found.get("restart"), self.found.get("reload"))
            loaded = found == (self.restart_digest, self.reload_digest)
            has_run = self.runs_once and loaded and self.is_["ActiveState"] != "failed"
            if not has_run and not self.on_demand and not self.ruled_out:
                self.verbs.append("start")
            return
        known = self.found if self.found.get("invocation_id") == self.is_["InvocationID"] else {}
        started = self.started_at()
        self.reloaded_at = known.get("reloaded_at", 0.0)
        # Other patterns than last time (of another site on this host, or of a newer role) make another digest of the
        # same files: then the times decide.
        if known.get("restart_on") == self.restart_on:
            restart = known["restart"] != self.restart_digest
        else:
            restart = newest_restart > started - TICK
        if known.get("reload_on") == self.reload_on:
            reload = known["reload"] != self.reload_digest
        else:
            reload = newest_reload > max(started, self.reloaded_at) - TICK
        # A program that executes itself anew, as sshd does, would lose the socket that systemd has handed to it.
        can_reload = self.is_.get("CanReload") == "yes" and not self.on_demand
        if restart or (reload and not can_reload):
            self.verbs.append("restart")
            self.reloaded_at = 0.0
        elif reload:
            self.verbs.append("reload")
            self.reloaded_at = now

    def check_validator(self) -> None:
        """Run the validator. Raises Unusable with what it said."""
        command = self.validate if isinstance(self.validate, list) else shlex.split(str(self.validate))
        command = [str(word) for word in command]
        code, output, errors = run(command)
        if code != 0:
            said = errors.strip() or output.strip()
            raise Unusable(
                f"{self.name} was left as it is, because `{shlex.join(command)}` failed (exit {code}): {said}"
            )

    def act(self, verb: str, timeout: int) -> None:
        """Have systemctl start, stop, restart or reload the unit. Raises Refusal."""
        if verb in ("start", "restart") and self.is_["ActiveState"] == "failed":
            run(["systemctl", "reset-failed", "--", self.name])
        if verb == "stop":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.stamp_path)
        paused = self.pause_triggered() if verb == "restart" else []
        complaint = systemctl(verb, [self.name], timeout)
        if paused:
            run(["systemctl", "start", "--", *paused], timeout)
        if complaint:
            raise Refusal(complaint + (self.journal() if verb != "stop" else ""))

    def pause_triggered(self) -> list[str]:
        """Stop the services that a socket hands its connections to, and return them.

        systemd does not open a socket while its service runs; sshd's sessions go on without it.
        """
        services = self.is_.get("Triggers", "").split() if self.is_.get("Accept") == "no" else []
        found = zip(services, show(services) if services else [], strict=True)
        active = [name for name, properties in found if is_active(properties)]
        if active:
            run(["systemctl", "stop", "--", *active])
        return active

    def journal(self) -> str:
        """The last 20 lines of the unit in the journal, to be put behind a sentence."""
        _code, output, _errors = run(["journalctl", "--no-pager", "--quiet", "--lines=20", f"--unit={self.name}"])
        return f"\nThe last lines of its journal:\n{output.rstrip()}" if output.strip() else ""


def systemctl(verb: str, names: list[str], timeout: int) -> str:
    """Have systemctl do one thing to units. Returns what is wrong, in a sentence; nothing if it is done."""
    code, _output, errors = run(["systemctl", verb, "--", *names], timeout)
    if code == 0:
        return ""
    detail = errors.strip().splitlines()[0] if errors.strip() else f"exit {code}"
    return f"systemctl could not {verb} {', '.join(names)}: {detail}"


def steps_of(units: list[Unit]) -> list[tuple[str, list[Unit]]]:
    """What is to be done, in order: each a verb, and the units that it is done to by one command.

    All that are enabled or disabled have one command, because systemd reads its unit files anew after each.
    """
    enabled, disabled = ([unit for unit in units if verb in unit.verbs] for verb in ("enable", "disable"))
    others = [(verb, [unit]) for unit in units for verb in unit.verbs if verb not in ("enable", "disable")]
    return [("enable", enabled), *others, ("disable", disabled)]


def wait(units: list[Unit], timeout: int) -> None:
    """Wait until every unit is active and stays so. Raises Refusal for the first that does not become active."""
    end = time.monotonic() + timeout
    pending = units
    while pending:
        before = {unit.name: unit.is_.get("NRestarts", "0") for unit in pending}
        time.sleep(SETTLE)
        for unit, properties in zip(pending, show([unit.name for unit in pending]), strict=True):
            unit.is_ = properties
        late = time.monotonic() > end
        still = []
        for unit in pending:
            if unit.runs_once and unit.is_["ActiveState"] == "inactive" and unit.is_.get("Result") == "success":
                continue
            stable = unit.is_.get("NRestarts", "0") == before[unit.name]
            if (unit.active and stable) or unit.ruled_out:
                continue
            if not (unit.active or unit.on_the_way) or late:
                state = f"{unit.is_['ActiveState']} ({unit.is_['SubState']}, {unit.is_.get('Result', 'unknown')})"
                raise Refusal(f"{unit.name} did not become active, it is {state}.{unit.journal()}")
            still.append(unit)
        pending = still


def unlisted(patterns: list[str], listed: list[str]) -> list[dict]:
    """The units that match patterns and are not listed, as units to be stopped and disabled."""
    if not patterns:
        return []
    found = set()
    for listing in ("list-units", "list-unit-files"):
        _code, output, _errors = run(["systemctl", listing, "--all", "--plain", "--no-legend", "--", *patterns])
        found |= {line.split()[0] for line in output.splitlines() if line.strip()}
    # A template is no unit.
    others = sorted(name for name in found - {full_name(name) for name in listed} if "@." not in name)
    return [{"name": name, "state": "stopped", "enabled": False} for name in others]


def keep(wanted: list[dict], timeout: int, check: bool) -> list[str]:
    """Make units as they shall be and return the actions, in order. Raises Refusal.

    wanted: as the option `units` has them; timeout: seconds that each one has to become active.
    """
    units = [Unit(item) for item in wanted]
    names = [unit.name for unit in units]
    if not units:
        return []
    actions: list[str] = []

    def refresh() -> bool:
        for unit, properties in zip(units, show(names), strict=True):
            unit.is_ = properties
        return any(unit.needs_daemon_reload for unit in units)

    if refresh():
        actions.append("daemon-reload")
        if not check:
            code, _output, errors = run(["systemctl", "daemon-reload"])
            if code != 0:
                raise Refusal(f"systemctl could not reload the unit files: {errors.strip()}")
            refresh()
    for unit in units:
        if unit.activator:
            [activator] = show([unit.activator])
            unit.on_demand = is_active(activator)
    units = [unit for unit in units if not unit.kept and (unit.active or not unit.if_used)]
    for unit in units:
        unit.plan(check)
    steps = steps_of(units)
    actions += [f"{unit.name}: {verb}" for verb, concerned in steps for unit in concerned]
    if check:
        return actions

    loading = [unit for unit in units if {"start", "restart", "reload"} & set(unit.verbs)]
    for unit in units:
        if unit.validate and (unit in loading or unit.validate_always):
            unit.check_validator()
    for verb, concerned in steps:
        if verb not in ("enable", "disable"):
            concerned[0].act(verb, timeout)
        elif concerned and (complaint := systemctl(verb, [unit.name for unit in concerned], timeout)):
            raise Refusal(complaint)
    wait([unit for unit in units if unit in loading or (unit.started and unit.on_the_way)], timeout)
    for unit in units:
        if unit.started and unit.found != unit.stamp():
            write_json(unit.stamp_path, unit.stamp())
    return actions


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    try:
        params = module.params
        others = unlisted(params["unlisted"], [*params["listed"], *(unit["name"] for unit in params["units"])])
        actions = keep([*others, *params["units"]], params["timeout"], module.check_mode)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), unusable=isinstance(refusal, Unusable))
    result = {"changed": bool(actions), "actions": actions}
    if module._diff:
        listed = "".join(f"{action}\n" for action in actions)
        result["diff"] = {"before_header": "units", "after_header": "units", "before": "", "after": listed}
    module.exit_json(**result)
