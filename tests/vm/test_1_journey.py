"""From a bare machine to a site, over a reboot, a release and back, to a backup that restores."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from record import Record
from virtual import SITE, VirtualMachine

STRANGER = "203.0.113.9"
RULES = "{ iptables-save; nft list ruleset; } 2>/dev/null"
BACK_WITHIN = 60
"""Seconds from sshd's start until the site answers after a reboot, even on an emulated processor."""
DRILLED = (
    "awk '/^groundwork_drill_last_success_timestamp_seconds/ {print $2}' "
    "/var/lib/prometheus/node-exporter/groundwork_drill.prom"
)
DEFAULTS = "/etc/sysctl.d/90-groundwork.conf"


@pytest.fixture
def timed(record: Record):
    """Function that notes how long something took."""

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        record.seconds(what, time.monotonic() - start)

    return measure


def test_one_command_takes_a_bare_machine_to_the_site(machine: VirtualMachine, timed):
    with timed("`site.yml` on the bare machine"):
        machine.play(SITE)
    assert machine.get("/", SITE)[0] == 200
    assert machine.get("/readyz", SITE)[0] == 200
    assert machine.get("/", SITE, tls=False)[0] in (301, 308)
    machine.until_calm()
    assert machine.failed_units() == []


def test_the_second_run_changes_nothing(converged: VirtualMachine, timed):
    with timed("`site.yml` again, nothing to do"):
        again = converged.play(SITE)
    assert again.changes == [], again.output


def test_check_mode_has_nothing_to_say(converged: VirtualMachine, timed):
    with timed("`site.yml --check --diff`"):
        checked = converged.play(SITE, "--check", "--diff")
    assert checked.changes == [], checked.output


def comes_through(machine: VirtualMachine) -> bool:
    """Whether port 2222 of the machine, where something answers, can be reached from outside."""
    with socket.create_connection((machine.address, 2222), timeout=5) as connection:
        connection.settimeout(5)
        try:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(1))
        except OSError:
            return False


def test_everything_is_back_after_a_reboot(converged: VirtualMachine, record: Record):
    converged.shell(f"fail2ban-client set sshd banip {STRANGER}")
    # Only those that wait for their next time are listed.
    timers = f"systemctl list-timers --no-legend --plain | grep -oE '({SITE}|groundwork)-[a-z0-9-]+\\.timer' | sort"
    before = converged.shell(timers)
    record.seconds("reboot until ssh lets in", converged.reboot())
    seconds = converged.until_the_site_is_back()
    record.seconds("from there until the site answers 200 over HTTPS", seconds)
    assert seconds <= BACK_WITHIN
    converged.until_calm()
    assert converged.failed_units() == []
    assert converged.shell(timers) == before
    assert f"{SITE}-backup.timer" in before and f"{SITE}-certs.timer" in before
    # The server answers, and bans again, a while after its unit has started.
    banned = f"fail2ban-client get sshd banip | grep -qF {STRANGER} && {RULES} | grep -qF {STRANGER}"
    converged.until("the ban is not back", lambda: converged.succeeds(banned), 60)
    converged.shell(f"fail2ban-client set sshd unbanip {STRANGER}")


def test_the_settings_of_the_kernel_are_in_force_after_the_reboot(converged: VirtualMachine):
    wanted = re.findall(r"^(-?)(\S+) = (.*)$", converged.shell(f"cat {DEFAULTS}"), re.MULTILINE)
    assert len(wanted) > 20
    names = " ".join(name for _optional, name, _value in wanted)
    found = dict(re.findall(r"^(\S+) = (.*)$", converged.shell(f"sysctl -e {names}"), re.MULTILINE))
    other = {name: found.get(name) for optional, name, value in wanted if found.get(name) != value.strip()}
    # A kernel without one of those that begin with a hyphen goes without it.
    missing = {name for optional, name, _value in wanted if optional and name not in found}
    assert {name: value for name, value in other.items() if name not in missing} == {}


def test_what_needs_a_kernel_of_its_own_is_in_force_after_the_reboot(converged: VirtualMachine):
    assert converged.shell("systemctl is-active auditd").strip() == "active"
    assert "-w /etc/ssh" in converged.shell("auditctl -l") or "dir=/etc/ssh" in converged.shell("auditctl -l")
    assert converged.shell("cat /sys/module/apparmor/parameters/enabled").strip() == "Y"
    assert "noexec" in converged.shell("findmnt -no OPTIONS /dev/shm")
    assert "/swapfile" in converged.shell("swapon --show --noheadings")
    score = "cat /proc/$(systemctl show -P MainPID {})/oom_score_adj"
    assert int(converged.shell(score.format(converged.database_unit))) < 0
    assert int(converged.shell(score.format("ssh"))) < 0
    assert int(converged.shell(score.format(converged.site_unit))) > 0
    limits = converged.shell(f"cat /proc/$(systemctl show -P MainPID {converged.site_unit})/limits")
    assert re.search(r"Max core file size +0 ", limits)


def test_the_firewall_is_in_force_after_the_reboot(converged: VirtualMachine):
    start = "systemd-run --quiet --unit=answers python3 -m http.server 2222"
    converged.shell(f"{start}; until ss -Hltn | grep -q :2222; do sleep 0.5; done")
    try:
        assert not comes_through(converged)
        converged.shell("iptables -I INPUT -p tcp --dport 2222 -j ACCEPT")
        assert comes_through(converged), "it was the firewall that kept it away"
    finally:
        converged.shell("iptables -D INPUT -p tcp --dport 2222 -j ACCEPT; systemctl stop answers")


def test_a_release_and_the_way_back(converged: VirtualMachine, timed):
    first = converged.live_release()
    converged.change_code()
    with timed("a release (`playbooks/deploy.yml`)"):
        converged.play(SITE, playbook="playbooks/deploy.yml")
    assert converged.live_release() != first
    assert converged.site_answers()
    with timed("a rollback (`playbooks/rollback.yml`)"):
        converged.play(SITE, playbook="playbooks/rollback.yml")
    assert converged.live_release() == first
    assert converged.site_answers()


def test_a_backup_and_a_drill(converged: VirtualMachine, timed):
    before = [converged.backups(repository) for repository in (1, 2)]
    with timed("a backup (`playbooks/backup.yml`)"):
        converged.play(SITE, playbook="playbooks/backup.yml")
    assert [converged.backups(repository) for repository in (1, 2)] == [count + 1 for count in before]
    since = time.time()
    with timed("a drill (`playbooks/drill.yml`)"):
        converged.play(SITE, playbook="playbooks/drill.yml")
    assert float(converged.shell(DRILLED)) >= int(since)


def test_the_database_goes_back_to_a_point_in_time(converged: VirtualMachine, timed, record: Record):
    converged.sql("DROP TABLE IF EXISTS kept")
    converged.sql("CREATE TABLE kept AS SELECT 42 AS answer")
    moment = converged.shell("sleep 2; date -u +%Y-%m-%dT%H:%M:%S+00:00; sleep 2").strip()
    converged.sql("DROP TABLE kept")
    with timed("the database back as it was at a time (`playbooks/restore.yml`)"):
        converged.play(SITE, "-e", f"restore_to={moment}", playbook="playbooks/restore.yml")
    assert converged.sql("SELECT answer FROM kept") == "42"
    assert converged.is_open()
    converged.until_calm()
    record.minutes("this far, which is the short form")
