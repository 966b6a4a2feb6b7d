# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One run at a time may change what a site serves."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

DIRECTORY = "/run/groundwork/releases"
LEASE_SECONDS = 120
"""How long a run keeps its turn after a step: longer than a controller takes to the next one."""
NOTE_BYTES = 2048
WAIT_SECONDS = 300
"""How long the last step of a run that has died may go on."""


class Held(Refusal):
    """Another run has its turn. `run` says which one."""

    def __init__(self, message: str, run: dict) -> None:
        super().__init__(message)
        self.run = run


class ReleaseLock:
    """The turn of one run of Ansible, from the first step of a release to its last; a context for each step.

    A step holds a lock of the kernel, which ends with its process however that ends. From one step to the next a note
    in the file keeps the turn, for LEASE_SECONDS. The file is below /run: a reboot ends every turn.

    site: name of the site. run: what tells this run from others (`machine`, `pid`, `start`) and `operator`, who began
    it. gone: a run that the controller knows to have ended; its turn counts for nothing.
    """

    def __init__(self, site: str, run: dict, gone: dict | None = None) -> None:
        self.site = site
        self.run = run
        self.gone = gone or None
        self.path = os.path.join(DIRECTORY, f"{site}.json")
        self.over = False
        self.seconds = 0.0
        """How long the turn has taken so far."""
        self._descriptor = -1
        self._note: dict = {}

    def __enter__(self) -> ReleaseLock:
        """Take the turn, or go on with it. Raises Held."""
        self._lock()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        note = self._read()
        own = note.get("run") == self.run
        if note and not own and note["run"] != self.gone and now - note["seen"] < LEASE_SECONDS:
            os.close(self._descriptor)
            raise self._held(note)
        self._note = note if own else {"run": self.run, "since": time.time(), "began": now}
        self.seconds = now - self._note["began"]
        self._write()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        """End the step; the turn ends with it where it is over, or where the step has failed."""
        if self.over or kind is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        else:
            self._write()
        os.close(self._descriptor)

    def _lock(self) -> None:
        """Open the file and lock it; one that was removed meanwhile is not the file any more. Raises Held."""
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        end = time.monotonic() + (WAIT_SECONDS if self.gone else 0)
        while True:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(self.path).st_ino == os.fstat(self._descriptor).st_ino:
                    return
            except BlockingIOError:
                note = self._read()
                if note.get("run") != self.gone or time.monotonic() > end:
                    os.close(self._descriptor)
                    raise self._held(note) from None
                time.sleep(0.2)
            except FileNotFoundError:
                pass
            os.close(self._descriptor)

    def _read(self) -> dict:
        """The note in the file; empty where there is none, or half a one."""
        try:
            note = json.loads(os.pread(self._descriptor, NOTE_BYTES, 0))
        except ValueError:
            return {}
        return note if isinstance(note, dict) and {"run", "since", "seen", "began"} <= set(note) else {}

    def _write(self) -> None:
        """Write the note, seen now. It is read under the lock, or for a sentence only."""
        self._note["seen"] = time.clock_gettime(time.CLOCK_BOOTTIME)
        # In one piece, as long as any: whoever reads it without the lock must not find half a note.
        os.pwrite(self._descriptor, json.dumps(self._note).encode().ljust(NOTE_BYTES), 0)

    def _held(self, note: dict) -> Held:
        """The sentence about a turn of another run."""
        run = note.get("run") or {}
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["since"])) if note else "just now"
        return Held(
            f"{self.site} is being released by {run.get('operator') or 'somebody'} since {since} (time of the host): "
            f"wait for that run to end; the turn of a run that died ends {LEASE_SECONDS} s after its last step.",
            run,
        )
