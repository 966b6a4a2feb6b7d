"""The host that the tests of this directory share: a container."""

from __future__ import annotations

import os

import hosts
import machines
from machines import ROOT, Run

__all__ = ["ACME", "DOMAINS", "HOST", "IMAGE", "LOGS", "NETWORK", "ROOT", "SETTINGS", "Machine", "Run", "hosts"]

NETWORK = "groundwork-site"
HOST = "groundwork-site-host"
ACME = "groundwork-site-acme"
IMAGE = os.environ.get("LAB_IMAGE", "groundwork-host:debian-13")
DOMAINS = {"forge": "forge.site.test", "annex": "annex.site.test"}
LOGS = ROOT / ".cache" / "test" / "site"
# A container has neither swap nor a clock of its own, the audit is the machine's, and it sees all of its memory.
SETTINGS = {
    "base_swap_enabled": False,
    "base_time_sync_enabled": False,
    "base_audit_enabled": False,
    "postgres_memory_megabytes": 2048,
}


class Machine(machines.Machine):
    """A container, and what an operator has of it."""

    def shell(self, command: str) -> str:
        """Output of a shell command on the host, as root."""
        return hosts.docker("exec", self.name, "bash", "-c", command)
