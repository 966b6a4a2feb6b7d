"""What Redis is told, and what the site is told of it."""

import hashlib
import re
from urllib.parse import unquote, urlsplit

import pytest
from render import evaluate, render

SETTINGS = "etc/groundwork/redis/_site_.conf.j2"
USERS = "etc/groundwork/redis/_site_-users.conf.j2"
UNIT = "etc/systemd/system/_site_-redis.service.j2"
PASSWORD = "p@ss/w:rd?#%+ 'of' a test"
ON = {"groundwork_redis_enabled": True, "groundwork_redis_password": PASSWORD}


def test_without_the_switch_there_is_neither_a_package_nor_a_url():
    assert evaluate("redis", "redis_packages") == []
    assert evaluate("redis", "groundwork_redis_url") == ""


def test_the_url_leads_to_the_socket_with_the_password_whatever_is_in_it():
    (url,) = evaluate("gunicorn_app", "gunicorn_app_role_secrets", **ON).values()
    parts = urlsplit(url)
    assert (parts.scheme, parts.path, parts.query) == ("unix", "/run/forge-redis/redis.sock", "db=0")
    assert (parts.username, unquote(parts.password)) == ("forge", PASSWORD)


def test_the_site_s_environment_has_the_url_and_no_message_has_it():
    url = evaluate("redis", "groundwork_redis_url", **ON)
    assert "REDIS_URL=" in evaluate("gunicorn_app", "__gunicorn_app_env", **ON)
    assert url in evaluate("gunicorn_app", "__gunicorn_app_hidden", **ON)


def test_a_secret_of_the_site_s_own_wins():
    given = {"gunicorn_app_role_secrets": {"REDIS_URL": "of a role"}, "gunicorn_app_secrets": {"REDIS_URL": "of mine"}}
    assert evaluate("gunicorn_app", "__gunicorn_app_secrets", **given) == {"REDIS_URL": "of mine"}


def test_redis_gets_the_digest_of_the_password_only():
    text = render("redis", USERS, redis_extra_commands=["+publish"], **ON)
    assert PASSWORD not in text
    default, site = [line.split() for line in text.splitlines() if line.startswith("user ")]
    assert default == ["user", "default", "off"]
    assert site[:4] == ["user", "forge", "on", "#" + hashlib.sha256(PASSWORD.encode()).hexdigest()]
    assert site[-1] == "+publish"


@pytest.mark.parametrize(("memory", "cap"), [(400, 32), (1966, 128), (3915, 256), (3920, 256), (65536, 512)])
def test_the_cap_follows_the_memory_of_the_host_in_steps(memory, cap):
    facts = {"memtotal_mb": memory}
    assert f"\nmaxmemory {cap}mb\n" in render("redis", SETTINGS, facts=facts, **ON)
    assert f"\nMemoryMax={cap * 2 + 64}M\n" in render("redis", UNIT, facts=facts, **ON)


def test_the_unit_makes_the_directory_of_the_socket():
    text = render("redis", UNIT, groundwork_redis_socket_file="/run/caches/forge/socket", **ON)
    assert re.findall(r"^RuntimeDirectory=(.*)$", text, re.MULTILINE) == ["caches/forge"]
