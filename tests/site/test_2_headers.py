"""Each header once on what the real site answers, and with one value whoever answers: the site or nginx."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
import web
from machine import DOMAINS, Machine

SAME_EVERYWHERE = {
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "Server",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
}
CSP = "Content-Security-Policy"
UPLOAD = "headers.txt"
# What is asked, and the status that it gets; {static} is a stylesheet of the page.
KINDS: dict[str, tuple[dict, int]] = {
    "page": ({"path": "/"}, 200),
    "login": ({"path": "/login/"}, 200),
    "login without a token": ({"path": "/login/", "method": "POST", "body": b""}, 403),
    "page for who is signed in": ({"path": "/favourites/"}, 302),
    "path without its slash": ({"path": "/login"}, 301),
    "missing page": ({"path": "/missing"}, 404),
    "NUL in the query": ({"path": "/?q=%00"}, 400),
    "admin": ({"path": "/admin/"}, 302),
    "login of the admin": ({"path": "/admin/login/"}, 200),
    "API": ({"path": "/api/templates/"}, 200),
    "missing page of the API": ({"path": "/api/templates/none/"}, 404),
    "health": ({"path": "/readyz"}, 200),
    "static file": ({"path": "{static}"}, 200),
    "missing static file": ({"path": "/static/none.css"}, 404),
    "upload": ({"path": f"/media/{UPLOAD}"}, 200),
    "missing upload": ({"path": "/media/none"}, 404),
    "too large": ({"path": "/login/", "method": "POST", "body": b"x" * (11 << 20)}, 413),
}


@pytest.fixture
def upload(converged: Machine) -> Iterator[None]:
    """A file among the uploads."""
    file = f"/var/lib/forge/media/{UPLOAD}"
    converged.shell(f"install -m 0644 -o forge /dev/null {file} && echo text >{file}")
    yield
    converged.shell(f"rm {file}")


@pytest.mark.parametrize("version", web.VERSIONS)
def test_every_answer_has_each_header_once_and_with_the_same_value(converged, upload, version):
    ask = partial(web.ask, converged.address, DOMAINS["forge"], version=version)
    page = ask("/")
    static = re.search(rb'href="(/static/[^"]+\.css)"', page.body)[1].decode()
    expected = {name: page.one(name) for name in SAME_EVERYWHERE}
    assert expected["Strict-Transport-Security"] == "max-age=63072000"
    assert expected["Server"] == "nginx"
    for kind, (request, status) in KINDS.items():
        reply = ask(**{**request, "path": request["path"].format(static=static)})
        assert (reply.version, reply.status) == (version, status), kind
        assert {name: reply.one(name) for name in SAME_EVERYWHERE} == expected, kind
        assert "default-src" in reply.one(CSP), kind
        assert reply.all(f"{CSP}-Report-Only") == [], kind


def test_plain_http_says_nothing_of_https_but_where_it_is(converged):
    reply = web.ask(converged.address, DOMAINS["forge"], scheme="http")
    assert reply.status == 301
    assert reply.all("Strict-Transport-Security") == []
    for name in SAME_EVERYWHERE - {"Strict-Transport-Security"}:
        assert reply.one(name)
