"""One bare host and an ACME server for all tests of this directory, which run in the order of their file names."""

from __future__ import annotations

import os
import shutil
import subprocess

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
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
        hosts.wait_until_started(HOST, ACME)
        (folder / "known_hosts").write_text(hosts.let_in(HOST, (folder / "key.pub").read_text()))
        for name in ("root", "ca"):
            (folder / f"acme-{name}.pem").write_text(hosts.docker("exec", ACME, "cat", f"/acme/{name}.pem"))
        address = hosts.address(HOST, NETWORK)
        (folder / "ssh_config").write_text(hosts.ssh_config(HOST, address, folder))
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
