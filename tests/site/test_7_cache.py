"""The site works with Redis and without it, and keeps serving when it dies."""

from __future__ import annotations

import http.client
import http.cookiejar
import json
import re
import secrets
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from machine import DOMAINS, HOST, Machine, hosts

PASSWORD = secrets.token_urlsafe(24)
USER = "cache-reader"
MAKE_USER = f"""
from django.contrib.auth import get_user_model
user, _made = get_user_model().objects.get_or_create(username="{USER}")
user.set_password("{PASSWORD}")
user.save()
"""
REDIS = {"groundwork_redis_enabled": True, "groundwork_redis_password": secrets.token_urlsafe(24)}


class Visitor:
    """Somebody with a browser's cookies, who trusts only the ACME server's root."""

    def __init__(self, machine: Machine) -> None:
        trust = ssl.create_default_context(cafile=machine.acme_root)

        class Connection(http.client.HTTPSConnection):
            """A connection to the machine, whatever the name of the site stands for elsewhere."""

            def connect(self) -> None:
                plain = socket.create_connection((machine.address, 443), self.timeout)
                self.sock = trust.wrap_socket(plain, server_hostname=self.host)

        class Handler(urllib.request.HTTPSHandler):
            def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Connection, request)

        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(Handler(), cookies)
        self._site = f"https://{DOMAINS['forge']}"

    def open(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and text of a page, after its redirects."""
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(self._site + path, data, {"Referer": self._site + path})
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sign_in(self) -> None:
        """Sign in by the site's form."""
        _status, page = self.open("/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
        self.open("/login/", {"username": USER, "password": PASSWORD, "csrfmiddlewaretoken": token})
        assert self.is_signed_in()

    def is_signed_in(self) -> bool:
        """Whether the site knows who asks."""
        status, page = self.open("/")
        assert status == 200
        return "Sign out" in page


@contextmanager
def asked_all_the_time(visitor: Visitor) -> Iterator[Counter]:
    """Ask for the first page ten times a second meanwhile, and count the statuses."""
    answers: Counter = Counter()
    end = threading.Event()

    def ask() -> None:
        while not end.wait(0.1):
            answers[visitor.open("/")[0]] += 1

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answers
    finally:
        end.set()
        asker.join()


@pytest.fixture(scope="module")
def visitor(converged: Machine) -> Visitor:
    """A user who signed in while there was no Redis."""
    hosts.docker("exec", "-i", HOST, "forge-manage", "shell", "--verbosity", "0", stdin=MAKE_USER)
    visitor = Visitor(converged)
    visitor.sign_in()
    return visitor


def health(machine: Machine) -> tuple[int, str]:
    """Status of /readyz, and what it says of the cache."""
    status, body, _certificate = machine.get("/readyz")
    return status, json.loads(body)["checks"]["cache"]["status"]


def test_one_switch_gives_the_site_a_cache(converged, visitor):
    converged.inventory("forge", **REDIS)
    converged.play("forge")
    assert converged.play("forge").changes == []
    assert visitor.is_signed_in()
    assert converged.shell("systemctl is-active forge-redis").strip() == "active"
    assert health(converged) == (200, "ok")


def test_the_site_does_not_notice_that_redis_crashes(converged, visitor):
    with asked_all_the_time(visitor) as answers:
        converged.shell("sleep 1; systemctl kill --signal=SIGKILL forge-redis; sleep 5")
    assert set(answers) == {200} and answers[200] > 10, answers
    assert visitor.is_signed_in()
    assert converged.shell("systemctl is-active forge-redis").strip() == "active"


def test_the_site_keeps_serving_without_its_redis(converged, visitor):
    with asked_all_the_time(visitor) as answers:
        converged.shell("sleep 1; systemctl stop forge-redis; sleep 5")
        assert visitor.is_signed_in()
    assert set(answers) == {200} and answers[200] > 10, answers
    assert health(converged) == (200, "degraded")
    Visitor(converged).sign_in()


def test_the_next_run_brings_redis_back(converged, visitor):
    assert converged.play("forge", "--tags", "cache").changes
    assert converged.shell("systemctl is-active forge-redis").strip() == "active"
    assert visitor.is_signed_in()


def test_the_site_does_without_it_again(converged, visitor):
    converged.inventory("forge", groundwork_redis_enabled=False)
    with asked_all_the_time(visitor) as answers:
        converged.play("forge")
    assert set(answers) == {200}, answers
    assert converged.shell("systemctl is-active forge-redis || true").strip() == "inactive"
    assert visitor.is_signed_in()
