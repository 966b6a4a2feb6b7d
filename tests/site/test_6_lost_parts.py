"""What was lost on the host comes back with the next run, and the run after that has nothing to do."""

from __future__ import annotations

import pytest

LOSSES = {
    "the live release": "rm -rf $(readlink -f /srv/forge/live)",
    "every release": "rm -rf /srv/forge/releases/*",
    "the virtualenvs": "rm -rf /srv/forge/venvs/*; systemctl restart forge@blue forge@green || true",
    "the environment of the live release": "rm $(readlink -f /srv/forge/live)/env",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_it_comes_back(converged, loss):
    converged.play("forge")
    converged.shell(LOSSES[loss])
    assert converged.play("forge").changes
    assert converged.get("/readyz")[0] == 200
    again = converged.play("forge")
    assert again.changes == [], again.output
