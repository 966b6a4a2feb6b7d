"""What graders say that need a kernel of the machine's own."""

from __future__ import annotations

import hardening
import pytest
from virtual import SITE, VirtualMachine


@pytest.mark.usefixtures("lynis")
def test_a_run_has_nothing_left_to_do_after_all_that(converged: VirtualMachine):
    again = converged.play(SITE)
    assert again.changes == [], again.output


def test_the_sandboxes_are_as_tight_as_in_a_container(converged: VirtualMachine, record):
    exposures = hardening.exposures(converged.shell)
    worst = max(exposures, key=exposures.get)
    slots = [level for name, level in exposures.items() if name.startswith(f"{SITE}@")]
    record.figures["`systemd-analyze security`, gunicorn"] = f"{max(slots)}"
    others = f"`systemd-analyze security`, the other {len(exposures) - len(slots)} units of the collection"
    record.figures[others] = f"at most {exposures[worst]} ({worst})"
    assert max(slots) <= 1.5
    assert exposures[worst] <= 3.0


def test_lynis_gives_85(lynis, record):
    index = hardening.index(lynis())
    record.figures["Lynis"] = str(index)
    assert index >= 85
