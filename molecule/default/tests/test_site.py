"""What the whole site promises, seen from outside and on the host."""

import http.client
import json
import re

import pytest


@pytest.mark.parametrize("path", ["/", "/readyz", "/livez"])
def test_pages_are_served_to_a_client_that_trusts_the_ca_alone(get, acme_root, path):
    assert get(path, trust=acme_root).status == 200


def test_plain_http_is_redirected(get):
    answer = get("/", scheme="http")
    assert answer.status in (301, 308)
    assert answer.headers["Location"] == "https://forge.test/"


def test_a_strange_host_gets_no_answer(get):
    for scheme in ("http", "https"):
        with pytest.raises((OSError, http.client.HTTPException)):
            get("/", name="stranger.test", scheme=scheme)


def test_every_unit_is_well(host):
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


def test_a_second_run_is_short_and_changes_nothing(play):
    run = play()
    assert run.changed == 0, run.output
    assert run.ok <= 40


def test_certificates_that_are_not_due_stay(play):
    run = play("--tags", "certs")
    assert run.changed == 0, run.output


def test_a_restore_point_is_made_before_migrations_and_none_where_there_are_none(host, play):
    def points() -> list[str]:
        logged = host.check_output("cat /var/log/postgresql/*.log")
        return re.findall(r'restore point "deploy-(\S+)" created', logged)

    def released() -> list[str]:
        lines = host.check_output("cat /var/log/forge-releases/audit.jsonl").splitlines()
        return [event["release"] for event in map(json.loads, lines) if event["event"] == "released"]

    assert host.check_output("su postgres -c \"psql -Atc 'SHOW wal_level'\"") in ("replica", "logical")
    first = released()[:1]
    assert points() == first
    try:
        play("--tags", "deploy", "--extra-vars=gunicorn_app_threads=5")
        assert len(released()) == 2
        assert points() == first
    finally:
        play("--tags", "deploy")
