"""One bare host and an ACME server for all tests of this directory, which run in the order of their file names."""

from __future__ import annotations

import os
import shutil

import pytest
from machine import ACME, DOMAINS, HOST, IMAGE, LOGS, NETWORK, SETTINGS, Machine, hosts


@pytest.fixture(scope="session")
def machine(tmp_path_factory) -> Machine:
    """A bare host, reached over ssh, and an ACME server on its network."""
    folder = tmp_path_factory.mktemp("operator")
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    hosts.remove([HOST, ACME], NETWORK)
    hosts.docker("network", "create", NETWORK)
    try:
        hosts.start_acme(ACME, NETWORK)
        hosts.start_host(HOST, NETWORK, IMAGE, aliases=DOMAINS.values())
        address = hosts.reach(HOST, NETWORK, folder)
        hosts.wait_for_acme(ACME)
        for name in ("root", "ca"):
            (folder / f"acme-{name}.pem").write_text(hosts.docker("exec", ACME, "cat", f"/acme/{name}.pem"))
        yield Machine(HOST, folder, address, ACME, DOMAINS, SETTINGS, LOGS)
    finally:
        if not os.environ.get("KEEP_SITE"):
            hosts.remove([HOST, ACME], NETWORK)


@pytest.fixture(scope="session")
def converged(machine: Machine) -> Machine:
    """The machine with the site on it, whichever tests ran before."""
    if not machine.runs:
        machine.play("forge")
    return machine
