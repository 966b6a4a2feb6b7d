"""A change of sshd that shuts the operator out is put back, and one that is refused touches nothing."""

import re
import time

import pytest

OWN = "/etc/ssh/sshd_config.d/00-groundwork.conf"
OTHER = "/etc/ssh/sshd_config.d/60-other.conf"
WITHIN = 180


@pytest.fixture
def firewall(host):
    """What stands for a provider's firewall: nothing that the ports 2222 and 2223 answer gets out of the host."""
    host.check_output("ip rule add pref 10 ipproto tcp sport 2222-2223 blackhole")
    yield
    host.check_output("ip rule del pref 10")


def listening(host):
    """The ports that sshd listens on; none while it reads its configuration anew."""
    return set(re.findall(r":(\d+) .*sshd", host.check_output("ss -Hltnp")))


def times_armed(host):
    return host.run("journalctl -qu groundwork-revert.timer | grep -c Started").stdout


def test_a_run_that_changes_nothing_arms_nothing(host, operator, play):
    before = times_armed(host)
    assert play(**operator.values).changed == 0
    assert times_armed(host) == before
    assert operator.left() == ""


def test_check_mode_arms_nothing(host, operator, play):
    before = times_armed(host)
    assert play("--check", **operator.values, sshd_port=2222).changed == 1
    assert times_armed(host) == before
    assert operator.left() == ""


def test_a_port_that_a_firewall_drops_is_given_up(host, operator, firewall, play, refused):
    begin = time.monotonic()
    said = refused(**operator.values, sshd_port=2222)
    assert "lets no new connection in on port 2222" in said
    assert "sshd_port is 2222" in said
    assert "can be reached as before" in said
    assert operator.comes_in()
    assert time.monotonic() - begin < WITHIN
    assert listening(host) == {"22"}
    assert operator.left() == ""
    assert play(**operator.values).changed == 0, "everything is what it was"


def test_a_killed_run_is_put_back_in_the_documented_time(host, operator, firewall, wait_until):
    operator.killed(lambda: operator.armed() and listening(host) == {"2222"}, sshd_port=2222)
    assert not operator.comes_in()
    wait_until("the operator comes in again", operator.comes_in, WITHIN)
    assert listening(host) == {"22"}
    wait_until("nothing is left", lambda: not operator.left(), 10)
    assert "sshd was not confirmed" in host.check_output("journalctl -qt groundwork-revert")


def test_the_run_after_a_killed_one_goes_back_to_what_was_confirmed_last(host, operator, firewall, refused):
    operator.killed(lambda: operator.armed() and listening(host) == {"2222"}, sshd_port=2222)
    refused(**operator.values, sshd_port=2223)
    assert operator.comes_in()
    assert listening(host) == {"22"}
    assert operator.left() == ""


def test_the_run_after_a_killed_one_confirms_for_it(host, operator, play):
    moved = {"sshd_authentication_tries_count": 5}
    operator.killed(operator.armed, **moved)
    play(**operator.values, **moved)
    assert operator.left() == ""
    assert "maxauthtries 5" in host.check_output("sshd -T")
    play(**operator.values)


def test_a_machine_that_is_started_anew_meanwhile_puts_it_back(host, operator, firewall, wait_until):
    short = {"sshd_port": 2222, "sshd_confirm_seconds": 20}
    operator.killed(lambda: operator.armed() and listening(host) == {"2222"}, **short)
    host.check_output("systemctl stop groundwork-revert.timer")
    # What a start of the machine does.
    host.check_output("systemctl start timers.target")
    wait_until("the operator comes in again", operator.comes_in, 60)
    wait_until("nothing is left", lambda: not operator.left(), 10)


def test_a_moved_port_is_proven_and_the_play_goes_on_by_it(host, operator, play, tmp_path):
    playbook = tmp_path / "play.yml"
    shown = "- {ansible.builtin.debug: {var: ansible_port}}"
    playbook.write_text(f"- hosts: all\n  roles: [groundwork.django.sshd]\n  post_tasks:\n    {shown}\n    - ping:\n")
    moved = play(playbook=playbook, **operator.values, sshd_port=2222)
    assert "ansible_port: 2222" in moved.output
    assert listening(host) == {"2222"}
    assert operator.left() == ""
    assert play(**operator.values, sshd_port=2222, ansible_port=2222).changed == 0
    play(**operator.values, ansible_port=2222)
    assert operator.comes_in()


def test_what_keeps_sshd_from_starting_is_put_back_at_once(host, operator, play, refused):
    """192.0.2.1 is an address that the host does not have."""
    said = refused(sshd_extra_settings={"ListenAddress": "192.0.2.1:22"})
    assert "has been put back" in said
    assert operator.comes_in()
    assert operator.left() == ""


def test_a_setting_that_sshd_does_not_know_touches_nothing(host, operator, refused):
    before = host.check_output(f"stat -c %Z {OWN}")
    said = refused(**operator.values, sshd_extra_settings={"NoSuchThing": "yes"})
    assert "nothing was changed" in said
    assert "NoSuchThing" in said or "nosuchthing" in said
    assert host.check_output(f"stat -c %Z {OWN}") == before
    assert operator.left() == ""


def test_a_file_of_somebody_else_that_sshd_refuses_is_named_before_anything_is_touched(host, operator, refused):
    before = host.check_output(f"stat -c %Z {OWN}")
    host.check_output(f"echo 'NoSuchThing yes' > {OTHER}")
    said = refused(**operator.values, sshd_authentication_tries_count=5)
    host.check_output(f"rm {OTHER}")
    assert "sshd refuses its configuration as it is" in said
    assert OTHER in said
    assert host.check_output(f"stat -c %Z {OWN}") == before
    assert operator.left() == ""


def test_what_a_newer_sshd_refuses_is_told_although_nothing_changes(host, operator, refused):
    complaint = f"{OWN}: line 9: Bad configuration option: HostbasedAuthentication"
    newer = f'#!/bin/sh\\n[ "$*" = -t ] && echo "{complaint}" >&2 && exit 255\\nexec /usr/sbin/sshd.kept "$@"\\n'
    host.check_output(
        f"mv /usr/sbin/sshd /usr/sbin/sshd.kept; printf '{newer}' > /usr/sbin/sshd; chmod +x /usr/sbin/sshd"
    )
    said = refused(**operator.values)
    host.check_output("mv /usr/sbin/sshd.kept /usr/sbin/sshd")
    assert "ssh.service was left as it is" in said
    assert complaint in said


def test_the_directory_of_sshd_may_be_missing(host, operator, play):
    """It is where a socket starts sshd. Here sshd runs, so nobody comes in by ssh either until it is back."""
    host.check_output("rmdir /run/sshd")
    play("--check", sshd_authentication_tries_count=5)
    assert play(sshd_authentication_tries_count=5).changed == 1
    assert operator.comes_in()
    play()
