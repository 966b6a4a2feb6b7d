"""What happens to somebody who hammers the site from outside, and that it never happens to the operators."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from machine import DOMAINS, NETWORK, Machine, hosts

DOMAIN = DOMAINS["forge"]
ATTACKER, OPERATOR = "groundwork-site-attacker", "groundwork-site-operator"

# Posts logins, each over a connection of its own, and says what became of them: a status, or "refused". One without a
# token of the form is turned away by the site, but was no login that failed.
HAMMER = """
import http.client, json, re, socket, ssl, sys, urllib.parse
address, domain, count, real = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "real"
trust = ssl.create_default_context()
trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE

def ask(method, body=None, **headers):
    connection = http.client.HTTPSConnection(domain, timeout=5)
    connection.sock = trust.wrap_socket(socket.create_connection((address, 443), 5), server_hostname=domain)
    connection.request(method, "/login/", body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers

form, headers = {"username": "nobody", "password": "wrong"}, {}
if real:
    _status, page, got = ask("GET")
    form["csrfmiddlewaretoken"] = re.search('csrfmiddlewaretoken" value="([^"]+)"', page).group(1)
    headers = {"Cookie": got["Set-Cookie"].split(";")[0], "Referer": f"https://{domain}/login/"}
headers["Content-Type"] = "application/x-www-form-urlencoded"
for _ in range(count):
    try:
        status, _page, got = ask("POST", urllib.parse.urlencode(form), **headers)
        print(json.dumps([status, got["Retry-After"]]))
    except OSError:
        print(json.dumps(["refused", None]))
"""


@dataclass
class Visitor:
    """Somebody with an address of their own."""

    name: str
    site: str

    @property
    def address(self) -> str:
        return hosts.address(self.name, NETWORK)

    def logins(self, count: int, kind: str = "real") -> list[tuple[int | str, str | None]]:
        """Status and Retry-After of so many tries to sign in, one after the other."""
        said = hosts.docker("exec", self.name, "python3", "-c", HAMMER, self.site, DOMAIN, str(count), kind)
        return [tuple(json.loads(line)) for line in said.splitlines()]

    def is_let_in(self) -> bool:
        """Whether a connection to the site is accepted."""
        knock = f"import socket; socket.create_connection(({self.site!r}, 443), 3)"
        return hosts.succeeds("docker", "exec", self.name, "python3", "-c", knock)


@pytest.fixture(scope="module")
def visitors(converged: Machine) -> Iterator[dict[str, Visitor]]:
    """An attacker, and an operator whose network the site knows."""
    hosts.remove([ATTACKER, OPERATOR])
    people = {name: Visitor(name, converged.address) for name in (ATTACKER, OPERATOR)}
    try:
        for name in people:
            hosts.docker("run", "--detach", "--name", name, "--network", NETWORK, "groundwork-pebble", "sleep", "600")
        converged.inventory("forge", groundwork_operator_networks=[people[OPERATOR].address])
        converged.play("forge", "--tags", "web,bans")
        yield people
    finally:
        hosts.remove([ATTACKER, OPERATOR])
        del converged.values["forge"]["groundwork_operator_networks"]
        converged.play("forge", "--tags", "web,bans")
        # The jail of those who are banned again and again may have come later; others get the address now.
        converged.shell("fail2ban-client unban --all")


@pytest.fixture
def attacker(converged: Machine, visitors: dict[str, Visitor]) -> Iterator[Visitor]:
    """An attacker whom nobody knows yet."""
    # nginx counts in memory that a reload keeps.
    converged.shell("fail2ban-client unban --all; systemctl restart nginx")
    yield visitors[ATTACKER]
    converged.shell("fail2ban-client unban --all")


@pytest.fixture
def operator(visitors: dict[str, Visitor]) -> Visitor:
    return visitors[OPERATOR]


def bans(machine: Machine, jail: str) -> dict[str, int]:
    """Who is banned by a jail, and for how many seconds."""
    said = machine.shell(f"fail2ban-client get {jail} banip --with-time")
    return {line.split()[0]: int(line.partition(" + ")[2].split()[0]) for line in said.splitlines() if line.strip()}


def wait_for_ban(machine: Machine, jail: str, address: str) -> int:
    """Wait until a jail has banned an address, and return for how many seconds."""
    hosts.wait(20, f"{jail} has not banned {address}", lambda: address in bans(machine, jail))
    return bans(machine, jail)[address]


def test_logins_beyond_the_limit_are_429_then_the_address_is_banned_for_ten_minutes(converged, attacker):
    """nginx_login_burst_count + 1 at once, then 429; after 20 of these nginx-limit-req bans."""
    answers = attacker.logins(40, "without a token")
    assert [status for status, _later in answers[:7]] == [403] * 6 + [429], answers
    assert answers[6] == (429, "60")
    assert wait_for_ban(converged, "nginx-limit-req-forge", attacker.address) == 600
    assert not attacker.is_let_in()
    assert converged.get("/")[0] == 200, "others are still served"


def test_five_failed_logins_are_a_ban_of_an_hour(converged, attacker):
    assert [status for status, _later in attacker.logins(5)][:4] == [200] * 4
    assert wait_for_ban(converged, "forge-login", attacker.address) == 3600
    assert not attacker.is_let_in()


def test_a_command_lets_somebody_in_again(converged, attacker):
    attacker.logins(5)
    wait_for_ban(converged, "forge-login", attacker.address)
    assert not attacker.is_let_in()
    converged.shell(f"fail2ban-client unban {attacker.address}")
    assert attacker.is_let_in()


def test_a_ban_ends_by_itself(converged, attacker):
    converged.shell("fail2ban-client set forge-login bantime 3")
    try:
        attacker.logins(5)
        seconds = wait_for_ban(converged, "forge-login", attacker.address)
        time.sleep(seconds)
        hosts.wait(10, "the attacker is still banned", attacker.is_let_in)
    finally:
        converged.shell("fail2ban-client set forge-login bantime 3600")


def test_an_operator_who_does_the_same_is_neither_limited_nor_banned(converged, attacker, operator):
    assert {status for status, _later in operator.logins(40, "without a token")} == {403}
    operator.logins(6)
    attacker.logins(6)
    wait_for_ban(converged, "forge-login", attacker.address)
    for jail in ("forge-login", "nginx-limit-req-forge", "recidive"):
        assert operator.address not in bans(converged, jail)
    assert operator.is_let_in()
