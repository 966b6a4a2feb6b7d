"""One bare host and an ACME server for all tests of this directory, which run in the order of their file names."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from machine import ACME, DOMAINS, HOST, IMAGE, LOGS, NETWORK, Machine, hosts


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
        hosts.wait(
            60,
            "the host has not started",
            lambda: hosts.succeeds("docker", "exec", HOST, "systemctl", "is-active", "ssh"),
        )
        hosts.wait(
            30,
            "the ACME server does not answer",
            lambda: hosts.succeeds("docker", "exec", ACME, "test", "-s", "/acme/root.pem"),
        )
        install = "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys"
        hosts.docker("exec", "-i", HOST, "sh", "-c", install, stdin=(folder / "key.pub").read_text())
        address = hosts.address(HOST, NETWORK)
        host_key = hosts.docker("exec", HOST, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
        (folder / "known_hosts").write_text(f"{HOST} {host_key}")
        for name in ("root", "ca"):
            (folder / f"acme-{name}.pem").write_text(hosts.docker("exec", ACME, "cat", f"/acme/{name}.pem"))
        (folder / "ssh_config").write_text(
            f"Host {HOST}\n  HostName {address}\n  HostKeyAlias {HOST}\n  User root\n  IdentityFile {folder}/key\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n"
        )
        yield Machine(folder, address, folder / "acme-root.pem")
    finally:
        if not os.environ.get("KEEP_SITE"):
            hosts.remove([HOST, ACME], NETWORK)


@pytest.fixture(scope="session")
def converged(machine: Machine) -> Machine:
    """The machine with the site on it, whichever tests ran before."""
    if not machine.runs:
        machine.play("forge")
    return machine
