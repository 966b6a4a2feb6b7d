"""Each header once and with its value, on every kind of answer that nginx gives, over both versions of HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import web

PAGES = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'; report-uri /.groundwork/csp-report"
)
UPLOADS = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
OWN_PAGES = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
    "magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "Server": "nginx",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HSTS = {"Strict-Transport-Security": "max-age=63072000"}
CSP = "Content-Security-Policy"
REPORT_ONLY = "Content-Security-Policy-Report-Only"
WATCHED = [*HEADERS, *HSTS, CSP, REPORT_ONLY]
HASHED = "/static/app.0123456789ab.js"
LARGE = b"x" * (2 << 20)
LONG = "x" * 20_000
SWITCHES = "/etc/nginx/groundwork/forge"

#: what is asked, the status it gets, and the policy of the answer
KINDS: dict[str, tuple[dict, int, str]] = {
    "page": ({"path": "/"}, 200, PAGES),
    "head of a page": ({"path": "/", "method": "HEAD"}, 200, PAGES),
    "missing page": ({"path": "/missing"}, 404, PAGES),
    "broken page": ({"path": "/broken"}, 500, PAGES),
    "page elsewhere": ({"path": "/elsewhere"}, 302, PAGES),
    "page with a header of its location": ({"path": "/extra/"}, 200, PAGES),
    "health": ({"path": "/readyz"}, 200, PAGES),
    "static file": ({"path": HASHED}, 200, PAGES),
    "compressed static file": ({"path": HASHED, "headers": {"Accept-Encoding": "br, gzip"}}, 200, PAGES),
    "part of a static file": ({"path": HASHED, "headers": {"Range": "bytes=0-2"}}, 206, PAGES),
    "part that a static file has not": ({"path": HASHED, "headers": {"Range": "bytes=900-"}}, 416, PAGES),
    "part that an upload has not": ({"path": "/media/page.html", "headers": {"Range": "bytes=900-"}}, 416, UPLOADS),
    "changed static file": ({"path": HASHED, "headers": {"If-Match": '"another"'}}, 412, PAGES),
    "unchanged static file": ({"path": HASHED, "headers": {"If-Modified-Since": "{changed}"}}, 304, PAGES),
    "missing static file": ({"path": "/static/none.css"}, 404, PAGES),
    "folder of static files": ({"path": "/static/"}, 403, PAGES),
    "write to a static file": ({"path": HASHED, "method": "POST", "body": b"x"}, 405, PAGES),
    "upload": ({"path": "/media/page.html"}, 200, UPLOADS),
    "missing upload": ({"path": "/media/none"}, 404, UPLOADS),
    "denied upload": ({"path": "/media/note.secret"}, 404, UPLOADS),
    "forbidden": ({"path": "/inside/"}, 403, PAGES),
    "page of nginx asked for": ({"path": "/.groundwork/503.html"}, 404, OWN_PAGES),
    "report of a violation": ({"path": "/.groundwork/csp-report", "method": "POST", "body": b"{}"}, 204, OWN_PAGES),
    "reading the reports": ({"path": "/.groundwork/csp-report"}, 403, OWN_PAGES),
    "strange method": ({"path": "/", "method": "TRACE"}, 405, PAGES),
    "bad request": ({"path": "/%00"}, 400, PAGES),
    "too large": ({"path": "/", "method": "POST", "body": LARGE}, 413, OWN_PAGES),
    "too slow": ({"path": "/slow/"}, 504, OWN_PAGES),
}
#: the same over plain HTTP, where nothing but a challenge is answered
PLAIN: dict[str, tuple[dict, int, str]] = {
    "redirect": ({"path": "/a?b"}, 301, PAGES),
    "challenge": ({"path": "/.well-known/acme-challenge/walk"}, 200, PAGES),
    "missing challenge": ({"path": "/.well-known/acme-challenge/none"}, 404, PAGES),
    "bad request": ({"path": "/", "headers": {"Content-Length": "x"}}, 400, PAGES),
    "long header": ({"path": "/", "headers": {"X-Long": LONG}}, 400, PAGES),
}
Ask = Callable[..., web.Reply]


@pytest.fixture
def ask(address: str) -> Ask:
    """Return `ask(path=..., ...)`: one request to the site."""
    return partial(web.ask, address, "forge.test")


@pytest.fixture
def switched(host) -> Iterator[Callable[[str], None]]:
    """Return `switched(name)`: close the site for one test by a file of that name."""
    made = []

    def switch(name: str) -> None:
        made.append(name)
        host.run_expect([0], f"touch {SWITCHES}/{name}")

    yield switch
    for name in made:
        host.run_expect([0], f"rm {SWITCHES}/{name}")


def check(kind: str, reply: web.Reply, status: int, policy: str, tls: bool = True, **others: str) -> None:
    """An answer has the status, each header once and with its value, and none that it must not have."""
    assert reply.status == status, kind
    expected = HEADERS | (HSTS if tls else {}) | ({CSP: policy} if policy else {}) | others
    assert {name: reply.all(name) for name in WATCHED} == {
        name: [expected[name]] if name in expected else [] for name in WATCHED
    }, kind


@pytest.mark.parametrize("version", web.VERSIONS)
def test_each_kind_of_answer_has_each_header_once(ask, host, version):
    host.run_expect([0], "mkdir -p /var/lib/groundwork/acme/.well-known/acme-challenge")
    host.run_expect([0], "echo walk >/var/lib/groundwork/acme/.well-known/acme-challenge/walk")
    changed = ask(path=HASHED).one("Last-Modified")
    for kind, (request, status, policy) in KINDS.items():
        headers = {key: value.format(changed=changed) for key, value in request.get("headers", {}).items()}
        reply = ask(**{**request, "headers": headers}, version=version)
        assert reply.version == version
        check(kind, reply, status, policy)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_http_has_the_same_headers_without_hsts(ask, host, kind):
    request, status, policy = PLAIN[kind]
    check(kind, ask(**request, scheme="http"), status, policy, tls=False)


def test_what_does_not_fit_in_the_buffers_is_refused_with_the_headers(ask):
    """Over HTTP/2 nginx ends the connection instead."""
    check("header", ask(headers={"X-Long": LONG}), 400, PAGES)
    check("address", ask(path=f"/{LONG}"), 414, PAGES)


@pytest.mark.parametrize("version", web.VERSIONS)
def test_limited_answers_have_them(ask, version):
    for kind, request in {
        "pages": {"path": "/rare/"},
        "logins": {"path": "/accounts/login/", "method": "POST", "body": b""},
    }.items():
        replies = [ask(**request, version=version) for _number in range(5)]
        check(kind, replies[-1], 429, OWN_PAGES)


@pytest.mark.parametrize("version", web.VERSIONS)
def test_answers_of_a_closed_site_have_them(ask, switched, version):
    switched("read_only")
    check("writing while read only", ask(method="POST", body=b"", version=version), 503, OWN_PAGES)
    check("reading while read only", ask(version=version), 200, PAGES)
    switched("maintenance")
    check("closed", ask(version=version), 503, OWN_PAGES)
    check("static file of a closed site", ask(path=HASHED, version=version), 200, PAGES)


@pytest.mark.parametrize("version", web.VERSIONS)
def test_answers_without_a_site_have_them(ask, host, version):
    host.run_expect([0], "systemctl stop stand-in && rm -f /run/forge/blue/gunicorn.sock")
    try:
        check("stopped", ask(version=version), 502, OWN_PAGES)
    finally:
        host.run_expect([0], "systemctl start stand-in && sleep 1")


@pytest.mark.parametrize("version", web.VERSIONS)
def test_a_header_that_the_site_sends_is_its_own_and_has_no_second_copy(ask, version):
    own = {"X-Frame-Options": "SAMEORIGIN", "Strict-Transport-Security": "max-age=60"}
    check("own", ask(path="/own", version=version), 200, "default-src 'none'", **own)
    reply = ask(path="/own-reported", version=version)
    check("own, to be reported only", reply, 200, "", **{REPORT_ONLY: "default-src 'none'"})


@pytest.mark.parametrize("version", web.VERSIONS)
def test_a_header_of_a_location_takes_away_none_of_the_others(ask, version):
    assert ask(path="/extra/", version=version).one("X-Extra") == "here"


def test_where_reports_end_is_for_nginx_itself_only(address):
    with pytest.raises(ConnectionError):
        web.ask(address, "csp-reports.groundwork.invalid", scheme="http")


@pytest.mark.parametrize(("mode", "pages"), [("report_only", {REPORT_ONLY: PAGES}), ("off", {})])
def test_mode_of_the_policy_is_for_pages_only(ask, play, switched, mode, pages):
    play(groundwork_csp_mode=mode)
    try:
        for version in web.VERSIONS:
            check("page", ask(version=version), 200, "", **pages)
            check("static file", ask(path=HASHED, version=version), 200, "", **pages)
            check("upload", ask(path="/media/page.html", version=version), 200, UPLOADS)
        switched("maintenance")
        check("closed", ask(), 503, OWN_PAGES)
    finally:
        play()


def test_a_site_in_the_list_of_browsers_says_so_on_every_answer(ask, play):
    play(groundwork_hsts_stage="preload")
    try:
        for path in ("/", HASHED, "/media/page.html", "/missing"):
            value = ask(path=path).one("Strict-Transport-Security")
            assert value == "max-age=63072000; includeSubDomains; preload"
    finally:
        play()


def test_without_tls_the_site_cannot_send_hsts_either(ask, play, address):
    gateway = address.rpartition(".")[0] + ".1"
    play(groundwork_tls_mode="external", groundwork_proxy_networks=[gateway])
    try:
        asked = partial(ask, path="/own", scheme="http")
        assert asked(headers={"X-Forwarded-Proto": "http"}).all("Strict-Transport-Security") == []
        assert asked(headers={"X-Forwarded-Proto": "https"}).one("Strict-Transport-Security") == "max-age=60"
    finally:
        play()


def reports(host) -> list[dict]:
    """Lines of the log of violations."""
    return [json.loads(line) for line in host.file("/var/log/nginx/forge.csp.log").content_string.splitlines()]


REPORT = {
    "document-uri": "https://forge.test/reset?token=sentinel-query#sentinel-fragment",
    "referrer": "https://forge.test/login?next=sentinel-referrer",
    "violated-directive": "script-src-elem",
    "effective-directive": "script-src-elem",
    "original-policy": "default-src 'self'; report-uri /.groundwork/csp-report",
    "disposition": "enforce",
    "blocked-uri": "https://elsewhere.example/a.js?key=sentinel-blocked",
    "line-number": 7,
    "source-file": "https://forge.test/reset?token=sentinel-source",
    "script-sample": 'sentinel-sample "document-uri":"https://forged.example/"',
}
API_REPORT = {
    "age": 1,
    "type": "csp-violation",
    "url": "https://forge.test/reset?token=sentinel-query",
    "user_agent": "sentinel-agent",
    "body": {
        "documentURL": "https://forge.test/reset?token=sentinel-query",
        "referrer": "https://forge.test/login?next=sentinel-referrer",
        "blockedURL": "https://elsewhere.example/a.js?key=sentinel-blocked",
        "effectiveDirective": "script-src-elem",
        "sourceFile": "https://forge.test/reset?token=sentinel-source",
        "lineNumber": 7,
        "disposition": "enforce",
        "sample": "sentinel-sample",
    },
}


@pytest.mark.parametrize("version", web.VERSIONS)
@pytest.mark.parametrize(
    ("kind", "report"),
    [("application/csp-report", {"csp-report": REPORT}), ("application/reports+json", [API_REPORT])],
)
def test_a_violation_is_logged_in_either_form_and_without_its_secrets(ask, host, version, kind, report):
    before = len(reports(host))
    reply = ask(
        path="/.groundwork/csp-report",
        method="POST",
        body=json.dumps(report).encode(),
        headers={"Content-Type": kind, "Cookie": "sessionid=sentinel-cookie"},
        version=version,
    )
    assert (reply.status, reply.body) == (204, b"")
    (entry,) = reports(host)[before:]
    told = {name: entry[name] for name in ("page", "directive", "blocked", "source", "line", "disposition")}
    assert told == {
        "page": "https://forge.test/reset",
        "directive": "script-src-elem",
        "blocked": "https://elsewhere.example/a.js",
        "source": "https://forge.test/reset",
        "line": "7",
        "disposition": "enforce",
    }
    assert len(entry["request_id"]) == 32
    assert "sentinel" not in json.dumps(entry)


def test_reports_are_small_few_and_nothing_else(ask, host):
    before = len(reports(host))
    post = partial(ask, path="/.groundwork/csp-report", method="POST")
    assert post(body=b"x" * 9000).status == 413
    assert post(body=b"what is no report").status == 204
    assert len(reports(host)) == before
    body = json.dumps({"csp-report": REPORT | {"document-uri": f"https://forge.test/{'y' * 7000}"}}).encode()
    assert post(body=body).status == 204
    assert len(reports(host)[-1]["page"]) == 500
    assert 429 in {post(body=body).status for _number in range(40)}
    # fail2ban reads that log: a page that breaks its policy often must not have its reader banned.
    assert "-csp" not in host.file("/var/log/nginx/forge.error.log").content_string


def test_log_of_the_reports_is_kept_from_others_and_rotated_with_the_rest(host):
    log = host.file("/var/log/nginx/forge.csp.log")
    assert (log.user, log.group, log.mode) == ("www-data", "adm", 0o640)


def test_reports_go_to_the_site_where_it_takes_them_itself(ask, play):
    play(groundwork_csp_report_uri="/reports", nginx_csp_reports_logged_enabled=False)
    try:
        assert ask().one(CSP).endswith("; report-uri /reports")
        assert dict(json.loads(ask(path="/reports", method="POST", body=b"{}").body))["host"] == "forge.test"
        assert ask(path="/.groundwork/csp-report", method="POST", body=b"{}").status == 404
    finally:
        play()


def curve_is_taken(host, curve: str) -> bool:
    """Whether a client that knows one curve only can speak to the site."""
    client = f"openssl s_client -connect 127.0.0.1:443 -servername forge.test -tls1_3 -groups {curve}"
    return "Cipher is (NONE)" not in host.run(f"{client} </dev/null").stdout


def test_curves_of_a_site_are_the_chosen_ones_although_the_default_server_rejects_by_name(host):
    assert "ssl_reject_handshake on;" in host.file("/etc/nginx/conf.d/00-default-server.conf").content_string
    taken = {curve: curve_is_taken(host, curve) for curve in ("X25519", "P-256", "P-384", "P-521", "X448")}
    assert taken == {"X25519": True, "P-256": True, "P-384": True, "P-521": False, "X448": False}


def test_stapling_is_nowhere_and_a_reload_warns_of_nothing(host):
    everything = host.check_output("nginx -T 2>&1")
    assert "ssl_stapling" not in everything
    assert "[warn]" not in everything
    assert everything.count("server_tokens") == 1
    host.run_expect([0], "truncate -s 0 /var/log/nginx/error.log && systemctl reload nginx && sleep 1")
    assert "[warn]" not in host.file("/var/log/nginx/error.log").content_string


def test_server_tokens_in_somebody_elses_file_are_refused_and_nginx_goes_on(host, refused, ask, play):
    host.run_expect([0], "echo 'server_tokens on;' >/etc/nginx/conf.d/somebody.conf")
    try:
        said = refused()
    finally:
        host.run_expect([0], "rm /etc/nginx/conf.d/somebody.conf")
    assert '"server_tokens" directive is duplicate in /etc/nginx/conf.d/somebody.conf' in said
    assert ask().one("Server") == "nginx"
    play()
