"""Rules that shut the operator out are put back."""

import pytest


@pytest.fixture
def denied(host, address):
    """ufw is off, and has a rule made by hand that denies what the operator comes from: it counts once ufw is on."""
    operators = f"{address.rpartition('.')[0]}.0/24"
    host.check_output("ufw disable")
    host.check_output(f"ufw prepend deny from {operators}")
    yield
    host.check_output("ufw --force disable")
    host.check_output(f"ufw delete deny from {operators}")
    host.check_output("ufw --force enable")


def test_a_run_that_changes_nothing_arms_nothing(host, operator, play):
    armed = "journalctl -qu groundwork-revert.timer | grep -c Started"
    before = host.run(armed).stdout
    assert play(**operator.values).changed == 0
    assert host.run(armed).stdout == before
    assert operator.left() == ""


def test_rules_that_shut_the_operator_out_are_put_back(host, operator, denied, refused):
    rules = host.check_output("cat /etc/ufw/user.rules")
    said = refused(**operator.values)
    assert "lets no new connection in" in said
    assert "can be reached as before" in said
    assert "ufw_operator_networks" in said
    assert operator.comes_in()
    assert host.check_output("ufw status") == "Status: inactive"
    assert host.check_output("cat /etc/ufw/user.rules") == rules
    assert operator.left() == ""


def test_a_killed_run_that_shut_the_operator_out_is_put_back(host, operator, denied, wait_until):
    operator.killed(
        lambda: operator.armed() and "Status: active" in host.run("ufw status").stdout, ufw_confirm_seconds=20
    )
    wait_until("the operator is shut out", lambda: not operator.comes_in(), 10)
    wait_until("the operator comes in again", operator.comes_in, 60)
    wait_until("nothing is left", lambda: not operator.left(), 10)
    assert host.check_output("ufw status") == "Status: inactive"


def test_rules_that_let_the_operator_in_are_kept(host, operator, address, denied, play):
    play(**operator.values, ufw_operator_networks=[f"{address.rpartition('.')[0]}.0/24"])
    assert operator.comes_in()
    assert "Status: active" in host.check_output("ufw status")
    assert operator.left() == ""
    play()
