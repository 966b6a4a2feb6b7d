"""Rows that the site's role writes all the time, and that only count once PostgreSQL has confirmed them."""

from __future__ import annotations

import contextlib
import select
import subprocess
import threading
import time

from virtual import SITE, VirtualMachine

PAUSE = 0.25
PATIENCE = 20
PSQL = f"cd / && exec runuser -u {SITE} -- psql -XAtq -v ON_ERROR_STOP=0 {SITE}"


class Writer:
    """Writes numbers into a table from outside, over ssh, one transaction each, through every fault.

    psql prints a number when the server has reported the command's end, which it does after the commit.
    """

    def __init__(self, machine: VirtualMachine):
        self.machine = machine
        self.confirmed: set[int] = set()
        self._last = time.monotonic()
        self._number = time.time_ns()
        self._going = threading.Event()
        self._thread: threading.Thread | None = None
        self._psql: subprocess.Popen | None = None
        machine.shell(f"{PSQL} -c 'CREATE TABLE IF NOT EXISTS confirmed_rows (number bigint PRIMARY KEY)'")

    def start(self) -> None:
        """Begin to write, or go on."""
        self._going.set()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop writing. What was sent last may be in the table or not: it was not confirmed."""
        self._going.clear()
        if self._thread:
            self._thread.join()
            self._thread = None

    def lost(self) -> set[int]:
        """Numbers that were confirmed and are not in the table."""
        confirmed = set(self.confirmed)  # before one looks: more are on their way
        there = self.machine.sql("SELECT number FROM confirmed_rows").split()
        return confirmed - {int(number) for number in there}

    def since_the_last(self) -> float:
        """Seconds since a row was confirmed."""
        return time.monotonic() - self._last

    def until_it_writes(self) -> None:
        """Wait until another row is confirmed."""
        before = len(self.confirmed)
        self.machine.until("no row is confirmed", lambda: len(self.confirmed) > before + 1)

    def _work(self) -> None:
        while self._going.is_set():
            self._number += 1
            try:
                if self._write(self._number):
                    self.confirmed.add(self._number)
                    self._last = time.monotonic()
            except OSError:
                self._end()
                time.sleep(1)
            time.sleep(PAUSE)
        self._end()

    def _write(self, number: int) -> bool:
        """Send a row and tell whether it was confirmed. Raise OSError when the connection is gone."""
        if self._psql is None:
            command = [*self.machine.ssh(), "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"]
            self._psql = subprocess.Popen(
                [*command, self.machine.name, PSQL],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        statement = f"INSERT INTO confirmed_rows VALUES ({number}) RETURNING number;\n\\echo end\n"
        self._psql.stdin.write(statement.encode())
        self._psql.stdin.flush()
        said = b""
        end = time.monotonic() + PATIENCE
        while not said.endswith(b"end\n"):
            readable, _, _ = select.select([self._psql.stdout], [], [], max(end - time.monotonic(), 0))
            more = self._psql.stdout.read1(4096) if readable else b""
            if not more:
                raise OSError("psql is gone")
            said += more
        return str(number).encode() in said.split()

    def _end(self) -> None:
        if self._psql:
            self._psql.kill()
            self._psql.wait()
            for pipe in (self._psql.stdin, self._psql.stdout):
                with contextlib.suppress(OSError):  # what it had not been told yet cannot be told any more
                    pipe.close()
            self._psql = None
