"""What PostgreSQL is told: sizes from the host, and who may come in."""

import re

import pytest
from render import evaluate, render

START = "etc/postgresql/_version_/main/conf.d/00-groundwork-start.conf.j2"
LIVE = "etc/postgresql/_version_/main/conf.d/00-groundwork.conf.j2"
ACCESS = "etc/postgresql/_version_/main/pg_hba.d/_site_.conf.j2"
USERS = "etc/postgresql/_version_/main/pg_ident.d/_site_.conf.j2"
CARE = "etc/systemd/system/groundwork-database-_care_"
CLUSTER = {"__postgres_cluster": {"version": "17"}}


def settings(template: str, **values) -> dict[str, str]:
    text = render("postgres", template, **CLUSTER, **values)
    return dict(re.findall(r"^(\w+) = '?([^'\n]*)'?$", text, re.MULTILINE))


@pytest.mark.parametrize(("memory", "buffers"), [(1024, "256MB"), (4096, "1024MB"), (16384, "4096MB")])
def test_shared_buffers_are_a_quarter_of_the_memory(memory, buffers):
    assert settings(START, facts={"memtotal_mb": memory})["shared_buffers"] == buffers


def test_a_few_kilobytes_of_memory_more_or_less_restart_nothing():
    sizes = {settings(START, facts={"memtotal_mb": memory})["shared_buffers"] for memory in (3915, 3916, 3920)}
    assert len(sizes) == 1


def test_a_database_for_its_own_host_opens_no_port():
    assert settings(START)["listen_addresses"] == ""
    assert settings(LIVE)["ssl"] == "off"


def test_other_hosts_come_in_over_tls_with_scram_and_from_named_networks_only():
    remote = {"postgres_client_networks": ["192.0.2.7/32"], "postgres_local_access_enabled": False}
    assert settings(START, **remote)["listen_addresses"] == "*"
    assert settings(LIVE, **remote)["ssl"] == "on"
    lines = [
        line.split() for line in render("postgres", ACCESS, **CLUSTER, **remote).splitlines() if line[:1].isalpha()
    ]
    assert lines == [["hostssl", '"forge"', '"forge"', "192.0.2.7/32", "scram-sha-256"]]


def test_the_site_s_own_rule_lets_in_one_user_to_one_database():
    lines = [line.split() for line in render("postgres", ACCESS, **CLUSTER).splitlines() if line[:1].isalpha()]
    assert lines == [["local", '"forge"', '"forge"', "peer"]]


def test_a_reader_comes_in_as_one_user_of_the_system_to_one_database():
    readers = {"postgres_role_readers": [{"name": "forge_backup", "system_user": "root"}]}
    access = render("postgres", ACCESS, **CLUSTER, **readers)
    lines = [line.split() for line in access.splitlines() if line[:1].isalpha()]
    assert lines[1:] == [["local", '"forge"', '"forge_backup"', "peer", 'map="forge_backup"']]
    users = [line.split() for line in render("postgres", USERS, **readers).splitlines() if not line.startswith("#")]
    assert [line for line in users if line] == [['"forge_backup"', '"root"', '"forge_backup"']]


def test_further_settings_win():
    assert settings(LIVE, postgres_extra_settings={"work_mem": "64MB"})["work_mem"] == "64MB"


@pytest.mark.parametrize("command", ["vacuum", "reindex", "report"])
def test_the_care_has_a_timer_and_a_unit_of_its_own_for_each_command(command):
    item = {"name": command, "value": evaluate("postgres", "__postgres_care")[command]}
    timer, service = (render("postgres", f"{CARE}.{kind}.j2", template_item=item) for kind in ("timer", "service"))
    assert f"ExecStart=/usr/local/lib/groundwork/database_care.py {command}\n" in service
    assert "ReadWritePaths=/var/lib/prometheus/node-exporter\n" in service
    assert "OnFailure=groundwork-failure@%n.service\n" in service
    assert "OnFailure" not in render("postgres", f"{CARE}.service.j2", template_item=item, groundwork_failure_units=[])
    assert "Persistent=yes" in timer


def test_the_care_begins_after_the_nightly_backup_and_the_window_of_updates():
    begins = evaluate("postgres", "__postgres_care.values() | map(attribute='on_calendar')")
    times = sorted(calendar.split()[-1] for calendar in begins)
    backup = evaluate("backups", "backups_on_calendar").split()[-1]
    assert times[0] > evaluate("base", "base_maintenance_end_time") > backup


@pytest.mark.parametrize(("enabled", "state"), [(True, "started"), (False, "stopped")])
def test_the_timers_run_only_where_they_are_wanted(enabled, state):
    timers = evaluate("postgres", "__postgres_care_timers", postgres_care_enabled=enabled)
    assert [(timer["state"], timer["enabled"]) for timer in timers] == [(state, enabled)] * 3
