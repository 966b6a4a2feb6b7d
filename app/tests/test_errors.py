import gzip
import json

import brotli
import pytest

from .servers import Handler, serve

UNPACK = {"gzip": gzip.decompress, "br": brotli.decompress, None: bytes}
# The report holds the command line, so the address must not stand in it as it is.
BREAK = """
from django.test import Client
import sentry_sdk
from forge.views import TemplateListView
def broken(view):
    password = "hunter2"
    raise ConnectionError("no answer from postgresql://forge:hunter2@db/forge")
TemplateListView.get_queryset = broken
environ = Client()._base_environ(
    QUERY_STRING="token=hunter2", HTTP_HOST="forge.example.org", HTTP_X_FORWARDED_PROTO="https",
    HTTP_AUTHORIZATION="Bearer hunter2", HTTP_COOKIE="sessionid=hunter2",
    HTTP_X_FORWARDED_FOR=".".join(["203", "0", "113", "9"]),
)
from config.wsgi import application
application(environ, lambda status, headers: None).close()
sentry_sdk.flush()
"""


@pytest.fixture
def sentry():
    """A server that keeps the events that are sent to it."""
    bodies: list[bytes] = []

    class Sentry(Handler):
        def do_POST(self):
            bodies.append(UNPACK[self.headers["Content-Encoding"]](self.body()))
            self.answer(200, b"{}")

    with serve(Sentry) as address:
        yield f"http://key@{address}/1", bodies


def test_error_is_reported_without_secrets_and_without_the_client(manage, ready_production, sentry, tmp_path):
    dsn, bodies = sentry
    file = tmp_path / "dsn"
    file.write_text(dsn)
    extra = {"SENTRY_DSN_FILE": str(file), "SENTRY_ENVIRONMENT": "staging"}
    result = manage("shell", "--no-imports", "-c", BREAK, **extra, **ready_production)
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for body in bodies for line in body.splitlines() if b'"exception"' in line]
    (event,) = events
    assert (event["release"], event["environment"]) == ("forge@1.2.3", "staging")
    assert event["exception"]["values"][0]["value"] == "no answer from postgresql://forge:***@db/forge"
    assert event["request"] == {"method": "GET", "url": "http://forge.example.org/"}
    everything = b"".join(bodies)
    for secret in (b"hunter2", b"203.0.113.9"):
        assert secret not in everything
    assert "hunter2" not in result.stdout


def test_without_a_dsn_nothing_is_loaded(manage, production):
    result = manage("shell", "--no-imports", "-c", "import sys; print('sentry_sdk' in sys.modules)", **production)
    assert result.stdout == "False\n"


def test_wrong_dsn_is_one_sentence(manage, production):
    result = manage("check", SENTRY_DSN="sentry.example.org", **production)
    assert result.returncode == 1
    assert result.stderr == (
        "forge: SENTRY_DSN is not a DSN: copy it from the project's settings in Sentry, https://key@host/number.\n"
    )
