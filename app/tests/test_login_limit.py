import logging

import pytest
from django.contrib.auth import authenticate
from django.test import Client

ADDRESS, OTHER = "203.0.113.9", "198.51.100.7"


@pytest.fixture(autouse=True)
def limit(settings):
    settings.AXES_FAILURE_LIMIT = 3


@pytest.fixture
def ann(django_user_model, db):
    return django_user_model.objects.create_user("ann", password="right")


def sign_in(user: str, password: str, address: str = ADDRESS, path: str = "/login/"):
    return Client().post(path, {"username": user, "password": password}, HTTP_X_FORWARDED_FOR=address)


def fail(count: int, user: str = "bob", address: str = ADDRESS) -> None:
    for _ in range(count):
        sign_in(user, "wrong", address)


def test_attempts_below_the_limit_are_answered_as_ever(ann):
    fail(2)
    assert sign_in("ann", "right").status_code == 302


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_too_many_failures_from_an_address_block_it_for_every_name(ann, path):
    for number in range(3):
        fail(1, f"user-{number}")
    response = sign_in("ann", "right", path=path)
    assert response.status_code == 429
    assert response["Retry-After"] == "900"
    assert "Too many attempts" in response.text
    assert "Try again in 15 minutes" in response.text
    assert sign_in("ann", "right", OTHER).status_code == 302


def test_too_many_failures_with_a_name_block_it_from_every_address(ann):
    for number in range(3):
        fail(1, "ann", f"192.0.2.{number}")
    assert sign_in("ann", "right").status_code == 429
    assert sign_in("bob", "wrong").status_code == 200


def test_address_typed_as_a_name_blocks_nobody(ann):
    for number in range(3):
        fail(1, ADDRESS, f"192.0.2.{number}")
    assert sign_in("ann", "right", ADDRESS).status_code == 302


def test_clients_without_an_address_are_not_one_client(ann):
    for number in range(5):
        Client().post("/login/", {"username": f"user-{number}", "password": "wrong"}, REMOTE_ADDR="")
    assert Client().post("/login/", {"username": "ann", "password": "right"}, REMOTE_ADDR="").status_code == 302


def test_addresses_of_one_ipv6_network_are_one_client(ann):
    for number in range(3):
        fail(1, f"user-{number}", f"2001:db8::{number}:1")
    assert sign_in("ann", "right", "2001:db8::ffff:1").status_code == 429
    assert sign_in("ann", "right", "2001:db8:0:1::1").status_code == 302


def test_visitors_of_the_api_do_not_make_a_block_forgotten(ann):
    fail(3, "ann")
    for number in range(400):
        Client().get("/api/templates/", HTTP_X_FORWARDED_FOR=f"10.0.{number // 250}.{number % 250}")
    assert sign_in("ann", "right", OTHER).status_code == 429


def test_pages_are_not_blocked(ann):
    fail(5)
    assert Client().get("/login/", HTTP_X_FORWARDED_FOR=ADDRESS).status_code == 200


def test_commands_sign_in_without_a_client(ann):
    assert authenticate(username="ann", password="right") == ann


def test_blocked_attempt_is_a_security_event(ann, caplog):
    fail(2)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        fail(2, 'bob"\nforged')
    lines = [record.getMessage() for record in caplog.records if record.name == "forge.security"]
    user = r'user="bob\"\nforged"'
    assert lines == [
        f"security event=login_failed ip={ADDRESS} {user}",
        f"security event=login_blocked ip={ADDRESS} {user}",
        f"security event=login_failed ip={ADDRESS} {user}",
        f"security event=login_blocked ip={ADDRESS} {user}",
    ]


def test_counts_are_shared_by_redis(ann, with_redis):
    fail(3)
    assert sign_in("ann", "right").status_code == 429


def test_dead_cache_blocks_nobody(ann, with_redis):
    fail(3)
    with_redis.die()
    fail(5)
    assert sign_in("ann", "right").status_code == 302


def test_limits_come_from_the_environment(manage, production):
    script = "from django.conf import settings as s; print(s.AXES_FAILURE_LIMIT, s.AXES_COOLOFF_TIME)"
    result = manage(
        "shell", "--no-imports", "-c", script, LOGIN_FAILURE_LIMIT="7", LOGIN_BLOCK_SECONDS="60", **production
    )
    assert result.stdout == "7 0:01:00\n"
