import json
import logging
import sys

import pytest

from config.logs import JsonFormatter
from config.redaction import redact, scrub


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://forge:hunter2@db.example.org/forge",
        "redis://:hunter2@cache/0 and unix://forge:hunter2@/run/redis.sock",
        "Authorization: Bearer hunter2hunter2",
        "authorization=Basic hunter2hunter2",
        "{'Authorization': 'Token hunter2 x'}",
        "Cookie: csrftoken=hunter2; sessionid=hunter2",
        "Set-Cookie: a=hunter2; Path=/",
        '{"password": "hunter2"}',
        '{"password": "with \\"quote\\" hunter2"}',
        "{'new_password1': 'hunter2'}",
        "PASSWORD=hunter2 user=bob",
        "?token=hunter2&page=2",
        "FORGE_API_TOKEN: hunter2",
        "client_secret = hunter2",
        "api-key=hunter2",
        "sent bearer hunter2.hunter2",
    ],
)
def test_secret_is_taken_out(text):
    assert "hunter2" not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "GET /templates/name-a-thing/ 200",
        "https://forge.example.org/templates/?page=2",
        "10:30:01 the cache does not answer",
        "the password was wrong",
        "mail ann@example.org",
    ],
)
def test_all_else_stays(text):
    assert redact(text) == text


def test_keys_decide_in_mappings_however_deep():
    given = {"user": "bob", "Authorization": 1, "list": [{"csrf_token": "x"}, ("a", "password=x")], 5: None}
    assert scrub(given) == {
        "user": "bob",
        "Authorization": "***",
        "list": [{"csrf_token": "***"}, ("a", "password=***")],
        5: None,
    }


def line(message: str, *arguments, **more) -> str:
    record = logging.getLogger("forge").makeRecord(
        "forge", logging.ERROR, __file__, 1, message, arguments, more.get("exc_info"), extra=more.get("extra")
    )
    text = JsonFormatter().format(record)
    assert text.splitlines() == [text]
    return text


def test_line_holds_no_secret_wherever_it_was():
    try:
        raise ConnectionError("no answer from https://forge:hunter2@git.example.org")
    except ConnectionError as error:
        failure = error
        information = sys.exc_info()
    assert "hunter2" not in line("password=%s", "hunter2")
    assert "hunter2" not in line("%(password)s of %(user)s", {"password": "hunter2", "user": "bob"})
    assert "hunter2" not in line("asked with %s", {"headers": {"Authorization": "hunter2"}})
    assert "hunter2" not in line("failed: %s", failure)
    assert "hunter2" not in line("failed", exc_info=information)
    assert "hunter2" not in line("failed", extra={"token": "hunter2", "more": [{"secret": "hunter2"}], "why": failure})


def test_extras_are_in_the_line():
    entry = json.loads(line("done", extra={"count": 3, "where": {"a": "b"}}))
    assert (entry["count"], entry["where"]) == (3, {"a": "b"})
