"""One booted virtual machine for all tests of this directory, which run in the order of their file names.

VM_SYSTEM is debian-13 or debian-12, whose disk is made from packages; VM_IMAGE is the path or the URL of a vendor's
cloud image instead. With KEEP_VM=1 the machine is left running, and the next run with KEEP_VM=1 goes on with it until
`make test-vm-down`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import virtual
import vm
from record import Fault, Record
from virtual import VirtualMachine
from writer import Writer

RECORD = pytest.StashKey[Record]()
KEPT = os.environ.get("KEEP_VM", "") not in ("", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have `--record`."""
    parser.addoption("--record", action="store_true", help="write docs/tested.md and docs/reliability.md if all pass")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a system that cannot be booted, before a test begins."""
    if complaint := vm.complaint(virtual.SYSTEM, virtual.IMAGE):
        raise pytest.UsageError(complaint)
    config.stash[RECORD] = Record()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write what was seen, if all has passed on a machine that was bare."""
    record = session.config.stash[RECORD]
    if session.config.getoption("--record") and exitstatus == pytest.ExitCode.OK and record.system:
        record.write()


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """What this run has measured and seen."""
    return request.config.stash[RECORD]


@pytest.fixture(scope="session")
def machine(record: Record) -> Iterator[VirtualMachine]:
    """The machine: bare and booted for the first time, unless an earlier run has left one."""
    if KEPT and (machine := virtual.kept()):
        yield machine
        return
    try:
        machine, seconds = virtual.start()
        record.seconds("first boot until ssh lets in", seconds)
        record.system, record.machine = machine.title(), virtual.description()
        yield machine
    finally:
        if not KEPT:
            virtual.remove()


@pytest.fixture(scope="session")
def converged(machine: VirtualMachine) -> VirtualMachine:
    """The machine with the site on it, whichever tests ran before."""
    if not machine.site_answers():
        machine.play(virtual.SITE)
        machine.until_calm()
    return machine


@pytest.fixture(scope="session")
def writer(converged: VirtualMachine) -> Iterator[Writer]:
    """Somebody who writes to the site's database all the time."""
    writer = Writer(converged)
    writer.start()
    yield writer
    writer.stop()


@pytest.fixture(scope="session")
def lynis(converged: VirtualMachine) -> Callable[[], str]:
    """Lynis, which needs minutes and begins here; and a function that returns what it has said in the end."""
    converged.begin_lynis()
    return converged.lynis_said


@pytest.fixture
def fault(
    converged: VirtualMachine, writer: Writer, record: Record
) -> Callable[[str, str], AbstractContextManager[Fault]]:
    """Function that begins a fault: its name, and what is expected of it.

    The test says in `happened` what did happen. At the end the site has to answer, its database to take rows, and every
    row that was ever confirmed to be there.
    """

    @contextmanager
    def begin(name: str, expected: str) -> Iterator[Fault]:
        seen = Fault(name, expected)
        record.faults.append(seen)
        writer.until_it_writes()
        yield seen
        converged.until_the_site_answers()
        writer.until_it_writes()
        lost = writer.lost()
        seen.confirmed = len(writer.confirmed)
        assert not lost, f"{len(lost)} of {seen.confirmed} confirmed rows are gone, such as {min(lost)}"
        assert seen.happened, "the test has to say what happened"

    return begin
