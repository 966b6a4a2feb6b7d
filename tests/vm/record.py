"""What a run has measured and seen, written to docs/tested.md and docs/reliability.md when all of it has passed."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from machines import ROOT

TESTED = ROOT / "docs" / "tested.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
TESTED_HEAD = """\
# Tested on a booted machine

Written by `make test-vm`, which booted a bare virtual machine, took it through all of `tests/vm`, and passed.
An emulated processor is several times slower than a real one: compare its figures with each other.
The inventory has what `docs/security.md` names for a few points more by Lynis.
Where the disk is made from packages the emulator starts the kernel itself, so no boot loader is tested.
"""
RELIABILITY_HEAD = """\
# What happens when

Written by `make test-vm` out of the drills in `tests/vm`, which passed. Rows are written to the site's database all the
time, one transaction each, and counted from outside once PostgreSQL has confirmed them; after each fault all that were
ever confirmed have to be there. During a restore that goes through nothing is written: what is confirmed while its
copy is made would be lost, as `docs/operations.md` says.
The power is cut by killing the emulator: what the machine's kernel had not handed to the disk is lost, and nothing
else, so a disk that forgets what it was handed is not covered.
"""


@dataclass
class Fault:
    """A fault: what was expected of it, and what happened."""

    name: str
    expected: str
    happened: str = ""
    confirmed: int = 0

    @property
    def verdict(self) -> str:
        """What became of the rows that had been confirmed; a fault that has lost one is a test that fails."""
        return f"nothing lost of {self.confirmed:,}"


@dataclass
class Record:
    """What a run has measured and seen so far."""

    start: float = field(default_factory=time.monotonic)
    figures: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    system: str = ""
    """What was booted, in a few words: the title of its sections."""
    machine: str = ""
    """What the machine is made of, in a sentence."""

    def seconds(self, what: str, seconds: float) -> None:
        """Note how long something took."""
        self.figures[what] = f"{seconds:.0f} s"

    def minutes(self, what: str) -> None:
        """Note how long this run has taken so far."""
        self.figures[what] = f"{self.so_far:.0f} min"

    @property
    def so_far(self) -> float:
        """Minutes since this run has begun."""
        return (time.monotonic() - self.start) / 60

    def write(self) -> None:
        """Put what was seen on a system in the place of what was seen there before."""
        describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
        when = f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip() or 'unknown'}"
        said = f"{when}. {self.machine} The whole run took {self.so_far:.0f} minutes on {os.cpu_count()} cores."
        figures = _table(("what", "figure"), self.figures.items())
        _put(TESTED, TESTED_HEAD, self.system, f"{said}\n\n{figures}")
        rows = [(fault.name, fault.expected, fault.happened, fault.verdict) for fault in self.faults]
        faults = _table(("fault", "expected", "what happened", "confirmed rows"), rows)
        _put(RELIABILITY, RELIABILITY_HEAD, self.system, f"{when}.\n\n{faults}")


def _table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _put(path: Path, head: str, system: str, text: str) -> None:
    """Write a document whose sections are systems: this one new, the others as they are."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=\n*^## |\Z)", old, re.MULTILINE | re.DOTALL))
    sections[system] = text
    parts = [head.rstrip(), *(f"## {name}\n\n{sections[name].rstrip()}" for name in sorted(sections, reverse=True))]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
