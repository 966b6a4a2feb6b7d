# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that a new connection to a host comes about, by confirming over it what was changed there."""

from __future__ import annotations

import contextlib
import copy
import signal
import time
from collections.abc import Callable, Iterator

from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase

ATTEMPTS = (0, 2, 5)
"""Seconds before each attempt. There are few: ufw refuses who comes six times in half a minute."""
PATIENCE_SECONDS = 20
CONNECT_SECONDS = 10
ANSWER_SECONDS = 30
# What the host takes to put everything back once the time is over.
SLACK = 5
RETURN_SECONDS = 60
# Often enough to notice, and too seldom for ufw's limit, which begins anew with each try that it refuses.
PAUSE_SECONDS = 15
# What sshd refuses once it refuses again, and fail2ban counts it.
FINAL = "Permission denied"
UNSHARED = "-o ControlMaster=no -o ControlPath=none "

Ask = Callable[[ConnectionBase, str], dict]
"""Carries out the module confirm by a connection with a state, and returns its result. May raise AnsibleError."""


def is_ssh(connection: ConnectionBase) -> bool:
    """Whether a play comes by OpenSSH."""
    return connection.transport == "ssh"


def renewed(connection: ConnectionBase, port: int | None) -> ConnectionBase:
    """A connection with the options of another one that is not shared with it; `port` is another port."""
    new = copy.copy(connection)
    new._options = dict(connection._options)
    # The first value that ssh reads counts.
    new.set_option("ssh_args", UNSHARED + (connection.get_option("ssh_args") or ""))
    new.set_option("timeout", min(int(connection.get_option("timeout")), CONNECT_SECONDS))
    new.set_option("reconnection_retries", 0)
    if port:
        new.set_option("port", port)
    return new


def short(error: object) -> str:
    """What ssh or a module said last, as part of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else "it does not answer"
    return text.removeprefix("Failed to connect to the host via ssh: ").rstrip(".")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise AnsibleError where something takes longer: a connection that a firewall has cut says nothing at all."""

    def over(_number: int, _frame: object) -> None:
        raise AnsibleError(f"no answer within {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, over)
    left, _interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    begin = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            # The timeout of the task itself.
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begin), 0.01))


class Proof:
    """A change that waits to be confirmed, on a host that a play has come to by `connection`."""

    def __init__(self, connection: ConnectionBase, ask: Ask, seconds: int, port: int | None) -> None:
        """seconds: time that the host gives for it, from now on. port: where sshd is from now on, if it has moved."""
        self.connection = connection
        self.ask = ask
        self.end = time.monotonic() + seconds
        self.patience = time.monotonic() + min(seconds / 2, PATIENCE_SECONDS)
        self.port = port

    def _try(self, connection: ConnectionBase, state: str) -> tuple[dict, str]:
        """The result of the module, or an empty one and why there is none."""
        try:
            with limited(ANSWER_SECONDS):
                result = self.ask(connection, state)
        except AnsibleError as error:
            return {}, short(error)
        if result.get("failed") or result.get("unreachable"):
            return {}, short(result.get("module_stderr") or result.get("msg"))
        return result, ""

    def confirm(self) -> str:
        """Come in anew and confirm. Returns an empty text, or why that was not possible."""
        said = ""
        for pause in ATTEMPTS:
            if said and time.monotonic() + pause > self.patience:
                break
            time.sleep(pause)
            result, said = self._try(renewed(self.connection, self.port), "confirmed")
            if result:
                return "" if result["changed"] else "one came about only after the time to confirm"
            if FINAL in said:
                break
        return said

    def put_back(self) -> bool:
        """Have the host put back what was changed, and wait until it can be reached as before. False if it cannot."""
        result, _said = self._try(self.connection, "put_back")
        if not result:
            # Nobody gets through to it, so it will do so by itself.
            time.sleep(max(self.end + SLACK - time.monotonic(), 0))
        last = time.monotonic() + RETURN_SECONDS
        while True:
            result, _said = self._try(renewed(self.connection, None), "put_back")
            if result or time.monotonic() > last:
                return bool(result)
            time.sleep(PAUSE_SECONDS)
