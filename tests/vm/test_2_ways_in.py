"""A change that shuts the operator out is put back, over a start of the machine as well."""

from __future__ import annotations

import time
from collections.abc import Iterator

import hosts
import pytest
import virtual
from virtual import SITE, VirtualMachine

SECONDS = 60
"""groundwork_confirm_seconds of these runs."""
USUAL_SECONDS = 120
"""groundwork_confirm_seconds, if nothing else is said."""
CLOSED_PORT = 2223
"""What nothing forwards to the machine, as a provider's firewall would not."""
WITHIN = 180
"""Seconds, of the README's promise."""
# Fewer tries than the firewall's limit of ssh: six in 30 seconds.
EVERY = 7
WRONG_PORT = ("--tags", "ssh", "-e", f"groundwork_ssh_port={CLOSED_PORT}")
SHUT_OUT = ("--tags", "firewall", "-e", '{"groundwork_operator_networks": []}')
ARMED = "test -e /var/lib/groundwork/revert/state.json"
CONFIRM = ("-e", f"groundwork_confirm_seconds={SECONDS}")


@pytest.fixture
def denied(converged: VirtualMachine) -> Iterator[None]:
    """The firewall is off, with a rule made by hand that denies whence the operator comes: it counts once it is on."""
    operator = hosts.gateway(virtual.NETWORK)
    converged.shell(f"ufw disable && ufw prepend deny from {operator}")
    yield
    converged.shell(f"ufw delete deny from {operator} && ufw --force enable")


def left(machine: VirtualMachine) -> str:
    """What is left of a change that has been confirmed or put back: nothing."""
    return machine.shell("ls -d /var/lib/groundwork/revert /etc/systemd/system/*revert* 2>/dev/null || true")


def put_back(machine: VirtualMachine, *arguments: str) -> str:
    """Run what shuts the operator out, which has to fail and leave the way in open. Return what it said."""
    run = machine.play(SITE, *arguments, *CONFIRM, ok=False)
    said = " ".join(run.output.split())
    assert run.status != 0, run.output
    assert "lets no new connection in" in said
    assert "can be reached as before" in said
    machine.until("the operator is shut out", machine.lets_in, WITHIN, EVERY)
    assert left(machine) == ""
    return said


def put_back_after_power_was_cut(machine: VirtualMachine, *arguments: str) -> float:
    """Cut the power once a run has shut the operator out. Return the seconds from switching on to the way in."""
    play = machine.begin(SITE, *arguments, *CONFIRM)
    machine.until("nothing is to be put back", lambda: play.ended or machine.succeeds(ARMED), 600, 0.3)
    assert not play.ended, play.output[-3000:]
    # Nobody but the machine itself can put it back now, and not before its time.
    play.kill()
    machine.until("the operator is not shut out", lambda: not machine.lets_in(), SECONDS - EVERY, EVERY)
    start = time.monotonic()
    machine.lose_power()
    seconds = time.monotonic() - start
    up = float(machine.shell("cut -d' ' -f1 /proc/uptime"))
    assert up - SECONDS + USUAL_SECONDS <= WITHIN
    machine.until("something is left", lambda: left(machine) == "", WITHIN, EVERY)
    # In this start's journal: what was put back before the power was cut does not count.
    assert "was not confirmed by a new connection, and is put back" in machine.shell(
        "journalctl -q -b -o cat -t groundwork-revert"
    )
    return seconds


def test_a_wrong_port_is_put_back(converged, fault):
    with fault("sshd moved to a port that a firewall drops", "the run says so, and sshd is where it was") as seen:
        assert f"on port {CLOSED_PORT}" in put_back(converged, *WRONG_PORT)
        seen.happened = "the run named the port and failed; the operator came in by the old one"


def test_rules_that_shut_the_operator_out_are_put_back(converged, denied, fault):
    with fault("firewall turned on that denies the operator", "the run says so, and the firewall is as it was") as seen:
        put_back(converged, *SHUT_OUT)
        assert "Status: inactive" in converged.shell("ufw status")
        seen.happened = "the run failed and said so; the operator came in"


def test_a_wrong_port_and_a_power_cut_are_put_back(converged, fault):
    with fault(
        "sshd moved to such a port, and power cut before that was put back",
        "when it has started, the machine puts it back itself",
    ) as seen:
        seconds = put_back_after_power_was_cut(converged, *WRONG_PORT)
        seen.happened = f"the operator came in again {seconds:.0f} s after it was switched on"


def test_rules_that_shut_the_operator_out_and_a_power_cut_are_put_back(converged, denied, fault):
    with fault(
        "such a firewall turned on, and power cut before that was put back",
        "when it has started, the machine puts it back itself",
    ) as seen:
        seconds = put_back_after_power_was_cut(converged, *SHUT_OUT)
        assert "Status: inactive" in converged.shell("ufw status")
        seen.happened = f"the operator came in again {seconds:.0f} s after it was switched on"
