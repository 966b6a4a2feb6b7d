"""A site that is closed, or read only, and open again, without a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machine import Machine

UNITS = "systemctl show --property=InvocationID --value nginx 'forge@*' postgresql@*"
WRITE = "CREATE TABLE written_in_maintenance (); DROP TABLE written_in_maintenance;"


@pytest.fixture(autouse=True)
def open_again(converged: Machine) -> Iterator[None]:
    """Open the site after each test."""
    yield
    bring_about(converged, "off")


def bring_about(machine: Machine, mode: str) -> int:
    """Bring a mode about and return the number of changes."""
    run = machine.play("forge", "-e", f"groundwork_maintenance={mode}", playbook="playbooks/maintenance.yml")
    return run.total("changed")


def statuses(machine: Machine) -> dict[str, int]:
    """Status of requests that read, of one that writes, and of one that asks for the site's health."""
    asked = {"GET": "/", "HEAD": "/login/", "POST": "/login/"}
    found = {method: machine.get(path, method=method)[0] for method, path in asked.items()}
    return {**found, "health": machine.get("/readyz")[0]}


def may_write(machine: Machine) -> bool:
    """Whether the site's role can write to its database."""
    command = (
        f'setpriv --reuid=forge --regid=forge --init-groups psql --dbname=forge --command="{WRITE}" && echo written'
    )
    return "written" in machine.shell(f"{command} || true")


def test_closed_is_closed_for_everybody_but_its_health(converged):
    before = converged.shell(UNITS)
    assert bring_about(converged, "on") > 0
    assert statuses(converged) == {"GET": 503, "HEAD": 503, "POST": 503, "health": 200}
    assert bring_about(converged, "on") == 0
    assert converged.play("forge").changes == []
    assert converged.get("/")[0] == 503
    assert bring_about(converged, "off") > 0
    assert converged.get("/")[0] == 200
    assert converged.shell(UNITS) == before


def test_read_only_serves_who_reads_and_turns_away_who_writes(converged):
    before = converged.shell(UNITS)
    assert may_write(converged)
    assert bring_about(converged, "read_only") > 0
    assert statuses(converged) == {"GET": 200, "HEAD": 200, "POST": 503, "health": 200}
    assert not may_write(converged)
    assert bring_about(converged, "read_only") == 0
    assert bring_about(converged, "off") > 0
    # A POST without a token is for the site to refuse.
    assert statuses(converged) == {"GET": 200, "HEAD": 200, "POST": 403, "health": 200}
    assert may_write(converged)
    assert converged.shell(UNITS) == before
