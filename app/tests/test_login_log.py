import json
import re

import pytest
from django.contrib.auth import authenticate
from django.test import Client

# What a filter of fail2ban would look for, with an address in place of <HOST>.
FAIL2BAN = re.compile(r'^security event=login_failed ip=(?P<ip>[0-9a-f.:]+) user="')


@pytest.fixture
def lines(monkeypatch):
    """The lines that the logger of security events hands to its handlers."""
    caught: list[str] = []

    class Catch:
        level = 0

        def handle(self, record):
            caught.append(record.getMessage())

    monkeypatch.setattr("forge.security.logger.handlers", [Catch()])
    return caught


def fail(user: str, **extra: str) -> None:
    Client().post("/login/", {"username": user, "password": "wrong"}, **extra)


@pytest.mark.django_db
def test_line_is_exactly_what_fail2ban_reads(lines):
    fail("bob", REMOTE_ADDR="203.0.113.9")
    assert lines == ['security event=login_failed ip=203.0.113.9 user="bob"']


@pytest.mark.django_db
def test_login_of_the_admin_is_logged_too(lines):
    Client().post("/admin/login/", {"username": "bob", "password": "wrong"}, REMOTE_ADDR="203.0.113.9")
    assert lines == ['security event=login_failed ip=203.0.113.9 user="bob"']


@pytest.mark.django_db
def test_good_login_is_not_logged(lines, django_user_model):
    django_user_model.objects.create_user("ann", password="right")
    assert Client().post("/login/", {"username": "ann", "password": "right"}).status_code == 302
    assert lines == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        ("", "203.0.113.9", "203.0.113.9"),
        ("", "203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::1", "2001:DB8::0001", "2001:db8::1"),
        ("::ffff:127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("127.0.0.1", "not-an-address", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "", "-"),
        ("", "fe80::1%eth0 ip=203.0.113.9", "-"),
        ("", '203.0.113.9" user="x', "-"),
        ("", "203.0.113.9\nsecurity event=login_failed ip=192.0.2.1", "-"),
    ],
)
def test_address(lines, peer, forwarded, ip):
    extra = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    fail("bob", REMOTE_ADDR=peer, **extra)
    assert lines == [f'security event=login_failed ip={ip} user="bob"']


@pytest.mark.django_db
@pytest.mark.parametrize(
    "user",
    [
        'bob"\nsecurity event=login_failed ip=192.0.2.1 user="x',
        "bob\r\nsecurity event=login_failed ip=192.0.2.1",
        'x" ip=192.0.2.1 user="y',
        "ip=192.0.2.1",
        "security event=login_failed ip=192.0.2.1 user=",
        "a\u2028b\u2029c\x85d\x0be\x1b[2Jf\u202e",
        "back\\slash\\n",
        "%s %(x)s {0}",
    ],
)
def test_name_forges_nothing(lines, user):
    authenticate(request=None, username=user, password="wrong")
    fail(user, REMOTE_ADDR="203.0.113.9")
    assert len(lines) == 2
    line = lines[1]
    assert line.splitlines() == [line]
    assert line.isascii()
    assert line.isprintable()
    assert FAIL2BAN.match(line)["ip"] == "203.0.113.9"
    # Nothing but the name follows, and it is the name that was typed (the form strips the ends).
    assert json.loads(line.split(" user=", 1)[1]) in (user, user.strip())


@pytest.mark.django_db
def test_name_without_end_is_cut(lines):
    authenticate(request=None, username='"' * 100_000, password="wrong")
    assert len(lines[0]) < 400
    assert json.loads(lines[0].split(" user=", 1)[1]) == '"' * 150


@pytest.mark.django_db
def test_without_a_request_there_is_no_address(lines):
    authenticate(username="bob", password="wrong")
    assert lines == ['security event=login_failed ip=- user="bob"']
    assert not FAIL2BAN.match(lines[0])
