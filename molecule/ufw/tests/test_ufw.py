"""The promises of the role ufw, seen from the controller and from the host."""

import json
import socket
import time

import pytest

BASE = {
    "owner": "forge",
    "ssh_port": 22,
    "ssh_networks": ["192.0.2.0/24", "2001:db8::/32"],
    "rules": [
        {"port": 8080, "comment": "open"},
        {"port": 8081, "limit": True, "comment": "limited"},
        {"port": 5432, "from": ["198.51.100.7/32"], "comment": "PostgreSQL of app hosts"},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def listeners(host):
    """Something listens on open and on closed ports."""
    for port in (8080, 8081, 8082, 5432):
        host.run(f"systemd-run --unit=listen-{port} --collect python3 -m http.server {port}")
    time.sleep(2)
    yield
    for port in (8080, 8081, 8082, 5432):
        host.run(f"systemctl stop listen-{port}")


def answers(address, port):
    """Whether a connection from outside comes about."""
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def rules(host, check=False, **changes):
    """Run the module with the scenario's values and some changes."""
    return host.ansible("groundwork.django.ufw_rules", json.dumps({**BASE, **changes}), check=check)


def added(host):
    """The rules that ufw has."""
    return host.check_output("ufw show added").splitlines()[1:]


def test_declared_ports_are_open_and_others_closed(address):
    assert answers(address, 8080)
    assert not answers(address, 8082)
    assert not answers(address, 5432), "only one network may connect"


def test_default_deny(host):
    status = host.check_output("ufw status verbose")
    assert "Status: active" in status
    assert "Default: deny (incoming), allow (outgoing)" in status
    assert "Logging: on (low)" in status


def test_it_is_enabled_at_boot(host):
    assert host.service("ufw").is_enabled


@pytest.mark.parametrize(("name", "operators"), [("user.rules", "192.0.2.0/24"), ("user6.rules", "2001:db8::/32")])
def test_the_ssh_port_comes_first_and_is_limited(host, name, operators):
    tuples = host.check_output(f"grep tuple /etc/ufw/{name}").splitlines()
    assert tuples[0].startswith("### tuple ### allow tcp 22 ")
    assert operators in tuples[0]
    assert tuples[1].startswith("### tuple ### limit tcp 22 ")


def test_ipv6_is_filtered_too(host):
    tuples = host.check_output("grep tuple /etc/ufw/user6.rules")
    assert "limit tcp 22 ::/0" in tuples
    assert "allow tcp 8080 ::/0" in tuples


def test_a_limited_port_refuses_the_seventh_connection(address):
    assert [answers(address, 8081) for _ in range(8)][-1] is False


def test_what_is_no_longer_declared_is_removed(host, address):
    assert rules(host, rules=BASE["rules"][1:])["changed"]
    assert not answers(address, 8080)
    assert rules(host)["changed"]
    assert not rules(host)["changed"]
    assert answers(address, 8080)


def test_two_sites_do_not_disturb_each_other(host, address):
    shop = {"owner": "shop", "ssh_networks": [], "rules": [{"port": 8080, "comment": "shop"}]}
    assert rules(host, **shop)["changed"]
    assert not rules(host, **shop)["changed"]
    assert not rules(host)["changed"], "the first owner finds everything as it was"
    assert rules(host, rules=[])["changed"]
    assert answers(address, 8080), "the other site still declares it"
    assert rules(host)["changed"]
    assert rules(host, **{**shop, "rules": []})["changed"]
    assert answers(address, 8080)
    assert not rules(host)["changed"]


def test_rules_made_by_hand_stay(host):
    host.check_output("ufw deny from 203.0.113.9")
    host.check_output("ufw allow 9000/tcp")
    assert not rules(host)["changed"]
    extra = [*BASE["rules"], {"port": 9000, "comment": "by hand too"}]
    assert not rules(host, rules=extra)["changed"]
    listed = "\n".join(added(host))
    assert "ufw deny from 203.0.113.9" in listed
    assert "ufw allow 9000/tcp" in listed
    host.check_output("ufw delete allow 9000/tcp")
    host.check_output("ufw deny 9000/tcp")
    assert "closes a port that is declared" in rules(host, rules=extra)["msg"]
    host.check_output("ufw delete deny 9000/tcp")
    host.check_output("ufw delete deny from 203.0.113.9")


def test_a_port_that_sshd_moves_to_is_open_before_and_closed_once_it_is_not_declared(host):
    access = {"passwords": True, "root_login": "yes", "port": 2299, "owner": BASE["owner"]}
    assert host.ansible("groundwork.django.sshd_access", json.dumps(access), check=False)["changed"]
    assert "ufw allow 2299/tcp comment 'groundwork:forge SSH'" in added(host)
    assert rules(host)["changed"]
    assert "2299" not in "\n".join(added(host))


def test_a_killed_run_is_repaired(host, address):
    host.check_output("mkdir -p /var/lib/groundwork && touch /var/lib/groundwork/ufw-pending")
    host.check_output("iptables -F ufw-user-input")
    assert not answers(address, 8080)
    assert rules(host)["actions"] == ["ufw reload"]
    assert answers(address, 8080)
    assert not rules(host)["changed"]


def test_check_mode_changes_nothing(host, address):
    assert rules(host, check=True, rules=[])["changed"]
    assert answers(address, 8080)
