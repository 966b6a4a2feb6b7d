"""What PgBouncer is told, and what the site is told of it."""

import configparser
import re

import pytest
from render import SYSTEMS, evaluate, render

SETTINGS = "etc/groundwork/pgbouncer/_site_.ini.j2"
USERS = "etc/groundwork/pgbouncer/_site_-users.txt.j2"
UNIT = "etc/systemd/system/_site_-pgbouncer.service.j2"
PASSWORD = "p@ss/w:rd?#%+ 'of' a \"test\""
ON = {"groundwork_pgbouncer_enabled": True}
REMOTE = {**ON, "groundwork_database_host": "db.example.org", "groundwork_database_user": "owner"}
REMOTE["groundwork_database_password"] = PASSWORD


def settings(**values):
    """The configuration as names and values, by section."""
    parser = configparser.RawConfigParser()
    parser.read_string(render("pgbouncer", SETTINGS, **{**ON, **values}))
    return parser


def test_without_the_switch_nothing_is_different():
    assert evaluate("pgbouncer", "pgbouncer_packages") == []
    assert evaluate("pgbouncer", "groundwork_database_url") == "postgresql://%2Fvar%2Frun%2Fpostgresql/forge"
    assert "DATABASE_" not in evaluate("gunicorn_app", "__gunicorn_app_env")


def test_the_site_is_led_to_the_pool_and_knows_the_way_past_it():
    assert evaluate("gunicorn_app", "groundwork_database_url", **ON) == "postgresql://%2Frun%2Fforge-pgbouncer/forge"
    environment = evaluate("gunicorn_app", "__gunicorn_app_env", **ON)
    assert set(re.findall(r"^DATABASE_.*$", environment, re.MULTILINE)) == {
        'DATABASE_POOL_MODE="transaction"',
        'DATABASE_DIRECT_URL="postgresql://%2Fvar%2Frun%2Fpostgresql/forge"',
    }


def test_an_environment_of_the_site_s_own_wins():
    environment = evaluate(
        "gunicorn_app", "__gunicorn_app_env", **ON, gunicorn_app_environment={"DATABASE_POOL_MODE": "x"}
    )
    assert 'DATABASE_POOL_MODE="x"' in environment


def test_the_url_of_a_database_elsewhere_has_no_password_and_no_message_has_the_one_past_the_pool():
    assert evaluate("pgbouncer", "groundwork_database_url", **REMOTE) == "postgresql://%2Frun%2Fforge-pgbouncer/forge"
    direct = evaluate("pgbouncer", "groundwork_database_direct_url", **REMOTE)
    assert direct.endswith("@db.example.org:5432/forge?sslmode=require")
    assert direct in evaluate("gunicorn_app", "__gunicorn_app_hidden", **REMOTE)


def test_a_site_that_takes_its_database_in_parts_is_led_to_the_pool_too():
    environment = evaluate("gunicorn_app", "__gunicorn_app_env", **REMOTE, gunicorn_app_env_preset="db_parts")
    parts = dict(re.findall(r'^DB_(\w+)="(.*)"$', environment, re.MULTILINE))
    assert parts == {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "/run/forge-pgbouncer",
        "NAME": "forge",
        "PASSWORD": "",
        "PORT": "5432",
        "USER": "forge",
    }


def test_the_pool_and_the_cache_bring_their_secrets_together():
    secrets = evaluate("gunicorn_app", "gunicorn_app_role_secrets", **ON, groundwork_redis_enabled=True)
    assert set(secrets) == {"REDIS_URL", "DATABASE_DIRECT_URL"}


def test_the_database_on_this_host_is_reached_by_its_socket_as_the_site():
    found = settings(groundwork_database_port=5433)
    assert found["databases"]["forge"] == "host='/var/run/postgresql' port='5433' dbname='forge' user='forge'"
    assert "server_tls_sslmode" not in found["pgbouncer"]
    assert "\nPrivateNetwork=yes\n" in render("pgbouncer", UNIT, **ON)


def test_a_database_elsewhere_is_reached_by_tls_with_the_password():
    found = settings(**REMOTE)
    assert found["databases"]["forge"] == "host='db.example.org' port='5432' dbname='forge' user='owner'"
    assert found["pgbouncer"]["server_tls_sslmode"] == "require"
    assert "PrivateNetwork" not in render("pgbouncer", UNIT, **REMOTE)
    doubled = PASSWORD.replace('"', '""')
    assert render("pgbouncer", USERS, **REMOTE).splitlines() == ['"forge" ""', f'"owner" "{doubled}"']
    same = {**REMOTE, "groundwork_database_user": "forge"}
    assert render("pgbouncer", USERS, **same).splitlines() == [f'"forge" "{doubled}"']


def test_there_is_no_address_to_listen_on():
    assert "listen_addr" not in settings()["pgbouncer"]


def test_the_pool_never_opens_more_than_is_counted():
    found = settings(pgbouncer_pool_size=7, pgbouncer_reserve_pool_size=2)["pgbouncer"]
    assert (found["default_pool_size"], found["reserve_pool_size"], found["max_db_connections"]) == ("7", "2", "9")


def test_the_timeout_is_said_to_each_new_connection():
    assert "connect_query" not in settings()["databases"]["forge"]
    assert settings(pgbouncer_statement_timeout_seconds=30)["databases"]["forge"].endswith(
        " connect_query='SET statement_timeout = 30000'"
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_only_a_version_that_knows_prepared_statements_is_told_of_them(system):
    text = render("pgbouncer", SETTINGS, system=system, **ON)
    assert ("max_prepared_statements" in text) is (system not in ("debian-12", "ubuntu-22.04"))


def test_a_setting_of_the_operator_s_own_comes_last():
    given = {"server_lifetime": 60, "log_stats": True}
    lines = render("pgbouncer", SETTINGS, **ON, pgbouncer_extra_settings=given).splitlines()
    assert lines[-2:] == ["server_lifetime = 60", "log_stats = 1"]
