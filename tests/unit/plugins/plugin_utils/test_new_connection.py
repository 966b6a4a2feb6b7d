"""A change is confirmed over a new connection, or the host is as before."""

import time

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.groundwork.django.plugins.plugin_utils import new_connection

REFUSED = "Failed to connect to the host via ssh: ssh: connect to host web1 port 2222: Connection refused"


class Connection:
    """As much of a connection as is needed to make another one of it."""

    transport = "ssh"

    def __init__(self):
        self._options = {"ssh_args": "-o ControlMaster=auto -o ControlPersist=120s", "timeout": 60, "port": 22}

    def get_option(self, name):
        return self._options.get(name)

    def set_option(self, name, value):
        self._options[name] = value


class Host:
    """Whoever answers on some ports; `asked` notes port and state, None for the connection that is open."""

    def __init__(self, ports, open_one=True):
        self.ports, self.open_one = ports, open_one
        self.asked = []

    def ask(self, connection, state):
        new = "ControlPath=none" in connection.get_option("ssh_args")
        port = connection.get_option("port") if new else None
        self.asked.append((port, state))
        if port not in self.ports and not (port is None and self.open_one):
            raise AnsibleConnectionFailure(REFUSED)
        return {"changed": True}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Nobody waits."""
    passed = [0.0]
    monkeypatch.setattr(time, "sleep", lambda seconds: passed.__setitem__(0, passed[0] + seconds))
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    return passed


def test_the_new_connection_shares_nothing_and_keeps_the_rest():
    connection = Connection()
    new = new_connection.renewed(connection, 2222)
    assert new.get_option("ssh_args").startswith("-o ControlMaster=no -o ControlPath=none ")
    assert new.get_option("ssh_args").endswith(connection.get_option("ssh_args"))
    assert (new.get_option("port"), connection.get_option("port")) == (2222, 22)
    assert new.get_option("timeout") == 10
    assert new_connection.renewed(connection, None).get_option("port") == 22


def test_a_new_connection_confirms():
    host = Host({2222})
    assert new_connection.Proof(Connection(), host.ask, 120, 2222).confirm() == ""
    assert host.asked == [(2222, "confirmed")]


def test_it_is_tried_a_few_times_and_then_put_back_by_the_connection_that_is_open():
    host = Host({22})
    proof = new_connection.Proof(Connection(), host.ask, 120, 2222)
    assert proof.confirm() == "ssh: connect to host web1 port 2222: Connection refused"
    assert proof.put_back()
    assert host.asked == [(2222, "confirmed")] * 3 + [(None, "put_back"), (22, "put_back")]


def test_who_is_refused_by_sshd_does_not_try_again_and_again_until_he_is_banned():
    tries = []

    def ask(_connection, state):
        tries.append(state)
        raise AnsibleConnectionFailure(
            "Failed to connect to the host via ssh: root@web1: Permission denied (publickey)."
        )

    assert "Permission denied" in new_connection.Proof(Connection(), ask, 120, None).confirm()
    assert tries == ["confirmed"]


def test_little_time_makes_few_attempts():
    host = Host({22})
    assert new_connection.Proof(Connection(), host.ask, 3, 2222).confirm()
    assert len(host.asked) == 1


def test_without_any_connection_it_waits_until_the_host_has_done_it_by_itself(clock):
    host = Host(set(), open_one=False)
    proof = new_connection.Proof(Connection(), host.ask, 120, None)
    assert proof.confirm()
    ask = host.ask

    def later(connection, state):
        if clock[0] > 130:
            host.ports = {22}
        return ask(connection, state)

    proof.ask = later
    assert proof.put_back()
    assert 120 < clock[0] < 180


def test_a_host_that_never_comes_back_is_told(clock):
    proof = new_connection.Proof(Connection(), Host(set(), open_one=False).ask, 120, None)
    assert not proof.put_back()
    assert 180 <= clock[0] < 210


def test_who_comes_in_too_late_has_not_confirmed():
    proof = new_connection.Proof(Connection(), lambda *_given: {"changed": False}, 120, None)
    assert "after the time" in proof.confirm()


@pytest.mark.parametrize(
    "result", [{"failed": True, "module_stderr": "a\nsudo: no.\n"}, {"failed": True, "msg": "sudo: no"}]
)
def test_a_login_that_cannot_become_root_proves_nothing(result):
    proof = new_connection.Proof(Connection(), lambda *_given: result, 2, None)
    assert proof.confirm() == "sudo: no"


def test_a_connection_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(AnsibleError, match=r"no answer within 0\.05 s"), new_connection.limited(0.05):
        time.sleep(5)
