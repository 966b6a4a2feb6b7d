"""The firewall module: what it reads from ufw's own files, and which commands it derives."""

import shlex

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import ufw_rules

SSH = "limit tcp 22 0.0.0.0/0 any 0.0.0.0/0 in"
WEB = "allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in"
HTTPS = {"port": 443, "protocol": "tcp", "from": [], "limit": False, "comment": "HTTPS"}


@pytest.fixture
def ufw(tmp_path, monkeypatch):
    """Function that tells the commands for the rules (line, comment) that ufw has and the values that are changed."""
    paths = {name: tmp_path / name for name in ("ufw.conf", "default", "user.rules", "user6.rules", "pending", "ufw")}
    monkeypatch.setattr(ufw_rules, "CONFIG", str(paths["ufw.conf"]))
    monkeypatch.setattr(ufw_rules, "DEFAULTS", str(paths["default"]))
    monkeypatch.setattr(ufw_rules, "RULES", (str(paths["user.rules"]), str(paths["user6.rules"])))
    monkeypatch.setattr(ufw_rules, "PENDING", str(paths["pending"]))
    monkeypatch.setattr(ufw_rules, "is_loaded", lambda: True)
    paths["default"].write_text('IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\n')

    def plan(*rules, state="yes", connection=22, six=True, **changed):
        paths["ufw.conf"].write_text(f"ENABLED={state}\nLOGLEVEL=low\n")
        lines = [f"### tuple ### {line}{f' comment={note.encode().hex()}' if note else ''}\n" for line, note in rules]
        paths["user.rules"].write_text("".join(line for line in lines if "::" not in line))
        both = [line.replace("0.0.0.0/0", "::/0") for line in lines if line.count("0.0.0.0/0") == 2 or "::" in line]
        paths["user6.rules"].write_text("".join(both) if six else "")
        params = {"enabled": True, "owner": "forge", "ssh_port": 22, "ssh_networks": [], "rules": [], "logging": "low"}
        firewall = ufw_rules.Firewall({**params, **changed}, connection)
        return [shlex.join(command) for command in firewall.plan()]

    plan.paths = paths
    return plan


def test_a_bare_firewall_gets_ssh_first_and_is_enabled_last(ufw):
    commands = ufw(state="no", rules=[HTTPS], ssh_networks=["192.0.2.1/32"])
    assert commands == [
        "prepend allow proto tcp from 192.0.2.1 to any port 22 comment 'groundwork:forge SSH of the operators'",
        "limit proto tcp from any to any port 22 comment 'groundwork:forge SSH'",
        "allow proto tcp from any to any port 443 comment 'groundwork:forge HTTPS'",
        "--force enable",
    ]


def test_the_port_of_the_connection_stays_open(ufw):
    commands = ufw(state="no", connection=2222)
    assert [command.split()[8] for command in commands[:2]] == ["2222", "22"]


def test_nothing_to_do(ufw):
    assert ufw((SSH, "groundwork:forge SSH"), (WEB, "groundwork:forge HTTPS"), rules=[HTTPS]) == []


def test_what_is_not_declared_is_deleted_after_the_rest(ufw):
    commands = ufw((SSH, "groundwork:forge SSH"), (WEB, "groundwork:forge HTTPS"), rules=[{**HTTPS, "port": 444}])
    assert commands == [
        "allow proto tcp from any to any port 444 comment 'groundwork:forge HTTPS'",
        "delete allow proto tcp from any to any port 443",
    ]


def test_a_second_owner_is_added_and_taken_away(ufw):
    both = "groundwork:shop,forge HTTPS"
    ssh = (SSH, "groundwork:shop,forge SSH")
    assert ufw(ssh, (WEB, "groundwork:shop HTTPS"), rules=[{**HTTPS, "comment": "web"}]) == [
        f"allow proto tcp from any to any port 443 comment '{both}'"
    ]
    assert ufw(ssh, (WEB, both), rules=[{**HTTPS, "comment": "web"}]) == []
    assert ufw(ssh, (WEB, both)) == ["allow proto tcp from any to any port 443 comment 'groundwork:shop HTTPS'"]


def test_rules_by_hand_count_and_stay(ufw):
    ssh = (SSH, "groundwork:forge SSH")
    assert ufw(ssh, (WEB, ""), ("deny any any 0.0.0.0/0 any 203.0.113.9 in", ""), rules=[HTTPS]) == []
    assert ufw(ssh, (WEB, "mine")) == []
    with pytest.raises(
        Refusal, match=r"made by hand \(deny 443/tcp from any\) closes a port that is declared as HTTPS"
    ):
        ufw(ssh, (WEB.replace("allow", "deny"), ""), rules=[HTTPS])


def test_an_ssh_rule_by_hand_becomes_a_limit(ufw):
    commands = ufw((SSH.replace("limit", "allow"), ""))
    assert commands == ["limit proto tcp from any to any port 22 comment 'groundwork:forge SSH'"]


def test_a_rule_for_ipv4_only_is_completed(ufw):
    assert len(ufw((SSH, "groundwork:forge SSH"), six=False)) == 1


def test_a_killed_run_is_completed(ufw):
    ufw.paths["pending"].touch()
    assert ufw((SSH, "groundwork:forge SSH")) == ["reload"]


def test_a_firewall_that_is_not_wanted_is_disabled(ufw):
    assert ufw((SSH, ""), enabled=False) == ["--force disable"]
    assert ufw((SSH, ""), enabled=False, state="no") == []


def test_comments_that_ufw_cannot_take(ufw):
    with pytest.raises(Refusal, match="cannot be the comment"):
        ufw(rules=[{**HTTPS, "comment": "it's"}])


@pytest.mark.parametrize(
    "line",
    [
        "allow any any 0.0.0.0/0 any 203.0.113.9 in",
        "allow tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 Nginx%20Full - in",
        "allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in_eth0",
        "allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 out",
        "route:allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in",
    ],
)
def test_rules_about_something_else(line):
    assert not [rule for rule in ufw_rules.parse_rules(f"### tuple ### {line}\n") if rule.match.port == "80"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("192.0.2.1/32", "192.0.2.1"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "any"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_networks_as_ufw_writes_them(given, written):
    assert ufw_rules.network(given) == written
