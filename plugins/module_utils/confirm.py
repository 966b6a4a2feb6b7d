# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Arm what puts the way into the host back, and disarm it once somebody has come in: docs/decisions/0006."""

from __future__ import annotations

import os
import socket
import sys
import time

from ansible_collections.groundwork.django.plugins.module_utils import revert
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, write_atomically
from ansible_collections.groundwork.django.plugins.module_utils.ssh_login import ssh_login

SERVICE = """\
[Unit]
Description=Put back who gets in, because nobody has confirmed the change

[Service]
Type=oneshot
ExecStart={python} {program}
SyslogIdentifier=groundwork-revert
TimeoutStartSec=180
Restart=on-failure
RestartSec=10
"""
# A machine that is started anew meanwhile starts the timer anew.
TIMER = """\
[Unit]
Description=Time to confirm a change of who gets in

[Timer]
OnActiveSec={seconds}
AccuracySec=1s
Unit={name}.service

[Install]
WantedBy=timers.target
"""
PATIENCE = 10


def is_armed() -> bool:
    """Whether a change waits to be confirmed."""
    with revert.lock():
        return revert.read_state() is not None


def arm(seconds: int) -> None:
    """Have the host put back what it is now unless that is confirmed in time. Raises Refusal.

    Where a change waits to be confirmed already, the state before that one is kept, and the time begins anew.
    """
    program = f"{revert.DIRECTORY}/revert.py"
    timer = f"{revert.UNITS}/{revert.NAME}.timer"
    wanted = f"{revert.UNITS}/timers.target.wants/{revert.NAME}.timer"
    with revert.lock():
        state = revert.read_state()
        kept = state is not None
        state = revert.complete(state) if state else revert.snapshot()
        os.makedirs(revert.DIRECTORY, mode=0o700, exist_ok=True)
        os.chmod(revert.DIRECTORY, 0o700)
        source = revert.__spec__.loader.get_source(revert.__name__)
        write_atomically(program, source.encode(), 0o600)
        service = SERVICE.format(python=sys.executable, program=program)
        write_atomically(f"{revert.UNITS}/{revert.NAME}.service", service.encode())
        write_atomically(timer, TIMER.format(seconds=seconds, name=revert.NAME).encode())
        os.makedirs(os.path.dirname(wanted), exist_ok=True)
        if not os.path.lexists(wanted):
            os.symlink(timer, wanted)
        for command in (["daemon-reload"], ["restart", f"{revert.NAME}.timer"]):
            code, _output, errors = run(["systemctl", *command])
            if code != 0:
                if not kept:
                    revert.tidy()
                raise Refusal(
                    f"Nothing was changed, because the timer that puts it back cannot be started: {errors.strip()}"
                )
        # Last: without it there is nothing to put back.
        login = ssh_login()
        clients = sorted({*state.get("clients", []), *([login.client] if login and login.client else [])})
        waiting = {"boot_id": revert.boot_id(), "deadline": revert.now() + seconds, "clients": clients}
        revert.write_state({**state, **waiting})


def disarm() -> bool:
    """Keep what was changed. False where nothing was armed (any more)."""
    with revert.lock():
        if revert.read_state() is None:
            return False
        revert.tidy()
        return True


def addresses() -> list[str]:
    """The addresses of this host, its own one first."""
    _code, output, _errors = run(["hostname", "--all-ip-addresses"])
    return ["127.0.0.1", "::1", *output.split()]


def answers(port: int, patience: float = PATIENCE) -> bool:
    """Whether sshd answers on a port of this host, as far as the host can tell."""
    end = time.monotonic() + patience
    while True:
        for address in addresses():
            try:
                with socket.create_connection((address, port), timeout=2) as stream:
                    stream.settimeout(2)
                    if stream.recv(4) == b"SSH-":
                        return True
            except OSError:
                continue
        if time.monotonic() > end:
            return False
        time.sleep(0.5)


class Guard:
    """What watches over the tasks of one batch."""

    def __init__(self, options: dict) -> None:
        """options: seconds, port (0 if none is meant), remedy, and by: "connection" or "host", which is to confirm."""
        self.options = options
        self.armed = False
        if is_armed():
            # The run before this one was lost on its way.
            self.arm()

    def arm(self) -> None:
        """Raises Refusal."""
        if not self.armed:
            arm(self.options["seconds"])
            self.armed = True

    def put_back(self) -> None:
        """Put back what was changed, at once."""
        revert.put_back(at_once=True)

    def end(self) -> dict:
        """After the last task: what the controller has to know in order to confirm. Raises Refusal."""
        if not self.armed:
            return {}
        if self.options["by"] == "connection":
            login = ssh_login()
            return {"port": login.port if login else 0}
        port = self.options["port"]
        if not answers(port):
            self.put_back()
            raise Refusal(
                f"sshd does not answer on port {port} of the host, so what was changed has been put back: "
                f"{self.options['remedy']}."
            )
        disarm()
        return {}
