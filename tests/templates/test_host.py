"""What the host itself is told: ssh, updates, restarts."""

import pytest
from render import SYSTEMS, render


@pytest.mark.parametrize("system", SYSTEMS)
def test_keys_only_and_no_root_password(system):
    text = render("sshd", "etc/ssh/sshd_config.d/00-groundwork.conf.j2", system)
    assert "\nPasswordAuthentication no\n" in text
    assert "\nKbdInteractiveAuthentication no\n" in text
    assert "\nPermitRootLogin prohibit-password\n" in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_unattended_upgrades_take_security_updates_of_that_distribution_only(system):
    text = render("base", "etc/apt/apt.conf.d/52groundwork-unattended-upgrades.j2", system)
    origins = [line.strip() for line in text.splitlines() if '"origin=' in line]
    assert origins
    distribution = "Debian" if system.startswith("debian") else "Ubuntu"
    assert all(f'"origin={distribution}' in origin and "ecurity" in origin for origin in origins)


def test_an_update_restarts_nothing_by_itself():
    """Restarts happen once, in the window; the molecule scenario of base proves both sides of it."""
    text = render("base", "etc/needrestart/conf.d/90-groundwork.conf.j2")
    assert "$nrconf{restart} = 'l';" in text
