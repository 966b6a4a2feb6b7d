# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A site's releases and slots as they lie on the host; nothing about them is remembered elsewhere.

<directory>/releases/<id>/       source, venv, static, env, gunicorn.conf.py, unit.service, facts.json
<directory>/slots/blue, green    links to the release that a slot runs
<directory>/live                 link to the live slot: one rename makes a slot the live one
<directory>/history.json         which releases served; migrations.json beside it says what their migrations did
"""

from __future__ import annotations

import os
import secrets

from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged, sync_file_system
from ansible_collections.groundwork.django.plugins.module_utils.files import (
    Refusal,
    read_json,
    read_text,
    sync_directory,
    write_atomically,
    write_json,
)

SLOTS = ("blue", "green")
UNITS = "/etc/systemd/system"


def first_line(text: str) -> str:
    """The first line that is not empty, or an empty text."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def last_line(text: str) -> str:
    """The last line that is not empty, or an empty text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def link(target: str, path: str) -> None:
    """Make or replace a symbolic link in one step, which a power cut does not take back."""
    staged = f"{path}.{secrets.token_hex(4)}"
    os.symlink(target, staged)
    os.rename(staged, path)
    sync_directory(os.path.dirname(path))


def read_link(path: str) -> str:
    """Target of a link; empty where there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


class Site:
    """Where things of a site are, and what its slots hold.

    name: name of the site and begin of its units. user: system user and group. directory: see above.
    run_directory: where the sockets of the slots are. static_directory: static files of all kept releases.
    log_directory: one log for each release.
    """

    def __init__(self, options: dict) -> None:
        self.name: str = options["name"]
        self.user: str = options["user"]
        self.directory: str = options["directory"]
        self.run_directory: str = options["run_directory"]
        self.static_directory: str = options["static_directory"]
        self.log_directory: str = options["log_directory"]
        # Texts that no log of a release may hold.
        self.hidden: set[str] = set()

    def unit(self, slot: str) -> str:
        """Name of the unit of a slot."""
        return f"{self.name}@{slot}.service"

    def socket(self, slot: str) -> str:
        """Path of the socket of a slot."""
        return os.path.join(self.run_directory, slot, "gunicorn.sock")

    def release(self, release_id: str, *parts: str) -> str:
        """Path of a release, or of something in it."""
        return os.path.join(self.directory, "releases", release_id, *parts)

    def log(self, release_id: str) -> str:
        """Path of the log of a release."""
        return os.path.join(self.log_directory, f"{release_id}.log")

    def masked(self, text: str) -> str:
        """A text without what is to be hidden."""
        for value in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(value, "********")
        return text

    def facts(self, release_id: str) -> dict:
        """What is known about a release; empty if it is not there."""
        return read_json(self.release(release_id, "facts.json")) if release_id else {}

    def note(self, release_id: str, **facts: object) -> None:
        """Add facts about a release."""
        write_json(self.release(release_id, "facts.json"), {**self.facts(release_id), **facts}, 0o640)

    def is_complete(self, release_id: str) -> bool:
        """Whether a release was built to its end, has answered once, and still has what it runs with."""
        needed = ("env", "source", os.path.join("venv", "bin", "python"))
        return self.facts(release_id).get("complete") is True and all(
            os.path.exists(self.release(release_id, path)) for path in needed
        )

    def linked(self, slot: str) -> str:
        """Name of the release that a slot's link leads to, whether it exists or not."""
        return os.path.basename(read_link(os.path.join(self.directory, "slots", slot)))

    @property
    def live(self) -> str:
        """The live slot; empty before the first switch."""
        slot = os.path.basename(read_link(os.path.join(self.directory, "live")))
        return slot if slot in SLOTS else ""

    @property
    def live_release(self) -> str:
        """The release in the live slot, if it is whole."""
        release_id = self.linked(self.live) if self.live else ""
        return release_id if release_id and self.is_complete(release_id) else ""

    @staticmethod
    def other(slot: str) -> str:
        """The other one of the two slots."""
        return SLOTS[1 - SLOTS.index(slot)]

    def slot_for(self, release_id: str) -> str:
        """The slot that a release would start in."""
        if self.live:
            return self.other(self.live)
        return next((slot for slot in SLOTS if self.linked(slot) == release_id), SLOTS[0])

    def put_into(self, slot: str, release_id: str) -> None:
        """Have a slot's link lead to a release."""
        link(f"../releases/{release_id}", os.path.join(self.directory, "slots", slot))

    def make_live(self, slot: str) -> None:
        """Make a slot the live one."""
        link(f"slots/{slot}", os.path.join(self.directory, "live"))

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, empty where systemd does not answer."""
        _code, output = run_merged(["systemctl", "show", f"--property={','.join(names)}", "--", unit])
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    def is_active(self, slot: str) -> bool:
        """Whether the unit of a slot runs."""
        return self.properties(self.unit(slot), "ActiveState").get("ActiveState") in ("active", "reloading")

    def enable(self, slot: str) -> None:
        """Have the unit of a slot start with the host. Raises Refusal."""
        code, output = run_merged(["systemctl", "enable", "--quiet", "--", self.unit(slot)])
        if code != 0:
            raise Refusal(f"{self.unit(slot)} cannot be enabled: {last_line(output)}")
        sync_file_system(UNITS)

    def disable(self, slot: str) -> None:
        """Have the unit of a slot no longer start with the host."""
        run_merged(["systemctl", "disable", "--quiet", "--", self.unit(slot)])

    def stop(self, slot: str) -> None:
        """Stop the unit of a slot and forget its failure."""
        run_merged(["systemctl", "stop", "--", self.unit(slot)])
        run_merged(["systemctl", "reset-failed", "--", self.unit(slot)])

    def keep_unit(self, release_id: str) -> None:
        """Have a release keep the unit of the slots as it is when the release is first started."""
        kept = self.release(release_id, "unit.service")
        if not os.path.exists(kept):
            write_atomically(kept, read_text(os.path.join(UNITS, f"{self.name}@.service")).encode(), 0o640)

    def place_unit(self, slot: str) -> None:
        """Give a slot the unit of its release: what a later release that fails has placed is not for this one."""
        path, kept = os.path.join(UNITS, self.unit(slot)), read_text(self.release(self.linked(slot), "unit.service"))
        if kept and kept != read_text(path):
            write_atomically(path, kept.encode())

    def start(self, slot: str) -> tuple[int, str]:
        """Start the unit of a slot with what is on disk. Returns exit code and output."""
        unit = self.unit(slot)
        self.place_unit(slot)
        found = self.properties(unit, "LoadState", "NeedDaemonReload")
        if found.get("LoadState") != "loaded" or found.get("NeedDaemonReload") == "yes":
            run_merged(["systemctl", "daemon-reload"])
        run_merged(["systemctl", "reset-failed", "--", unit])
        return run_merged(["systemctl", "start", "--", unit])

    def journal(self, slot: str, lines: int = 200) -> str:
        """The last lines that the newest run of a slot's unit has left in the journal."""
        invocation = self.properties(self.unit(slot), "InvocationID").get("InvocationID", "")
        match = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else [f"--unit={self.unit(slot)}"]
        _code, output = run_merged(["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={lines}", *match])
        return output

    def still_serves(self) -> str:
        """What goes on serving after a failure, as the end of a sentence."""
        if self.live and self.is_active(self.live):
            return f"release {self.linked(self.live)} in slot {self.live} still serves"
        return "no release serves"

    def refuse(self, release_id: str, step: str, reason: str, state: str = "") -> Refusal:
        """The one sentence about a step that failed; state: how the site is now, unless it serves as before."""
        return Refusal(
            f"Release {release_id} of {self.name} stopped at {step}: {reason.strip().rstrip('.')}; "
            f"{state or self.still_serves()}, and the log on the host is {self.log(release_id)}."
        )
