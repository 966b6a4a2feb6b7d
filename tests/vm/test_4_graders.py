"""What graders say that need a kernel of the machine's own."""

from __future__ import annotations

import re

import pytest
from virtual import SITE, VirtualMachine


@pytest.mark.usefixtures("lynis")
def test_a_run_has_nothing_left_to_do_after_all_that(converged: VirtualMachine):
    again = converged.play(SITE)
    assert again.changes == [], again.output


def test_the_sandboxes_are_as_tight_as_in_a_container(converged: VirtualMachine, record):
    shipped = converged.shell("cd /etc/systemd/system && grep -l groundwork.django *.service").split()
    units = [unit.replace("@.", "@x.") for unit in shipped]
    levels = converged.shell(f"for unit in {' '.join(units)}; do systemd-analyze security --no-pager $unit; done | cat")
    exposures = {name: float(level) for name, level in re.findall(r"exposure level for (\S+): ([0-9.]+)", levels)}
    assert len(exposures) == len(units)
    worst = max(exposures, key=exposures.get)
    slots = [level for name, level in exposures.items() if name.startswith(f"{SITE}@")]
    site = max(slots)
    record.figures["`systemd-analyze security`, gunicorn"] = f"{site}"
    others = f"`systemd-analyze security`, the other {len(units) - len(slots)}"
    record.figures[others] = f"at most {exposures[worst]} ({worst})"
    assert site <= 1.5
    assert exposures[worst] <= 3.0


def test_lynis_gives_85(lynis, record):
    index = int(re.search(r"Hardening index : (\d+)", lynis())[1])
    record.figures["Lynis"] = str(index)
    assert index >= 85
