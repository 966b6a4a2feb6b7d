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


def test_what_the_web_server_sends_is_left_to_it(manage, ready_production):
    """Django's own defaults stay: they are the web server's values too, and cost nothing where there is none."""
    sent = headers_of_production(manage, ready_production)
    assert not {"Strict-Transport-Security", "Permissions-Policy", "Cross-Origin-Resource-Policy"} & set(sent)
    assert {name: sent[name] for name in ("Referrer-Policy", "Cross-Origin-Opener-Policy", "X-Frame-Options")} == {
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }


def test_hsts_is_sent_where_the_environment_asks_for_it(manage, ready_production):
    asked = {"SECURE_HSTS_SECONDS": "300", "SECURE_HSTS_INCLUDE_SUBDOMAINS": "true"}
    sent = headers_of_production(manage, ready_production, **asked)
    assert sent["Strict-Transport-Security"] == "max-age=300; includeSubDomains"


HEADERS = (
    "from django.test import Client;"
    "r = Client().get('/missing', headers={'host': 'forge.example.org', 'x-forwarded-proto': 'https'});"
    "import json; print(json.dumps(dict(r.headers)))"
)


def headers_of_production(manage, environment, **extra):
    """The headers of an answer of a site whose environment has more."""
    result = manage("shell", "--no-imports", "-c", HEADERS, **environment, **extra)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("enforce", {"Content-Security-Policy"}),
        ("report_only", {"Content-Security-Policy-Report-Only"}),
        ("off", set()),
    ],
)
def test_policy_has_the_mode_and_the_endpoint_of_the_environment(manage, ready_production, mode, expected):
    extra = {"CSP_REPORT_URI": "https://reports.example.org/csp", "CSP_MODE": mode}
    sent = headers_of_production(manage, ready_production, **extra)
    policies = {name: value for name, value in sent.items() if name.startswith("Content-Security-Policy")}
    assert set(policies) == expected
    for policy in policies.values():
        assert directives(policy)["report-uri"] == "https://reports.example.org/csp"


def test_cookies_of_production_travel_by_tls_only(manage, production):
    script = (
        "from django.conf import settings as s;"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY, s.SESSION_COOKIE_SAMESITE)"
    )
    assert manage("shell", "--no-imports", "-c", script, **production).stdout == "True True True Lax\n"
