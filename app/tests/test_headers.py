import json
import re

import pytest
from django.http import HttpResponse
from django.test import RequestFactory


def directives(text: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in text.split(";"))


def test_policy_allows_nothing_from_elsewhere(client, db):
    for path in ("/", "/login/", "/missing", "/admin/login/"):
        response = client.get(path)
        policy = directives(response["Content-Security-Policy"])
        assert policy["default-src"] == "'self'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["object-src"] == policy["frame-ancestors"] == "'none'"
        assert "report-uri" not in policy
        assert "Content-Security-Policy-Report-Only" not in response


def test_page_that_asks_for_a_nonce_gets_one():
    from csp.middleware import CSPMiddleware

    def view(request):
        return HttpResponse(f'<script nonce="{request.csp_nonce}"></script>')

    answers = [CSPMiddleware(view)(RequestFactory().get("/")) for _ in range(2)]
    nonces = [re.search('nonce="(.+)"', answer.text)[1] for answer in answers]
    assert nonces[0] != nonces[1]
    for nonce, answer in zip(nonces, answers, strict=True):
        policy = directives(answer["Content-Security-Policy"])
        assert policy["script-src"] == policy["style-src"] == f"'self' 'nonce-{nonce}'"


def test_browser_features_are_off(client, db):
    policy = client.get("/")["Permissions-Policy"]
    for feature in ("camera", "geolocation", "microphone", "payment", "usb"):
        assert f"{feature}=()" in policy


def test_address_of_a_page_stays_on_the_site(client, db):
    assert client.get("/")["Referrer-Policy"] == "same-origin"


HEADERS = (
    "from django.test import Client;"
    "r = Client().get('/missing', headers={'host': 'forge.example.org', 'x-forwarded-proto': 'https'});"
    "import json; print(json.dumps(dict(r.headers)))"
)


@pytest.mark.parametrize(
    ("only", "sent", "absent"),
    [
        ("false", "Content-Security-Policy", "Content-Security-Policy-Report-Only"),
        ("true", "Content-Security-Policy-Report-Only", "Content-Security-Policy"),
    ],
)
def test_violations_are_reported_where_the_environment_says(manage, ready_production, only, sent, absent):
    extra = {"CSP_REPORT_URI": "https://reports.example.org/csp", "CSP_REPORT_ONLY": only}
    result = manage("shell", "--no-imports", "-c", HEADERS, **extra, **ready_production)
    headers = json.loads(result.stdout.splitlines()[-1])
    assert directives(headers[sent])["report-uri"] == "https://reports.example.org/csp"
    assert absent not in headers


def test_cookies_of_production_travel_by_tls_only(manage, production):
    script = (
        "from django.conf import settings as s;"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY, s.SESSION_COOKIE_SAMESITE)"
    )
    assert manage("shell", "--no-imports", "-c", script, **production).stdout == "True True True Lax\n"
