"""What roles/nginx/README.md promises."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterable

import pytest

SECURITY_HEADERS = {
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
}
HASHED = "/static/app.0123456789ab.js"


@pytest.fixture(autouse=True)
def _wait_for_limits():
    """Let the counters of the rate limits of the test before run down a little."""
    yield
    time.sleep(0.2)


def counts(answer) -> dict[str, int]:
    """How often an answer has each security header."""
    return {name: len(answer.headers.get_all(name) or []) for name in SECURITY_HEADERS}


def values(**extra) -> tuple[str, str]:
    """Arguments that give a run of the playbook other values."""
    return "--extra-vars", json.dumps(extra)


def sent(answer) -> dict[str, str]:
    """The headers that the site was sent."""
    return dict(json.loads(answer.body))


@pytest.fixture
def stopped_site(host):
    """Stop the site for one test."""
    host.run_expect([0], "systemctl stop stand-in && rm -f /run/forge/blue/gunicorn.sock")
    yield
    host.run_expect([0], "systemctl start stand-in && sleep 1")


@pytest.fixture
def maintenance(host):
    """Close the site for one test."""
    host.run_expect([0], "touch /etc/nginx/groundwork/forge/maintenance")
    yield
    host.run_expect([0], "rm /etc/nginx/groundwork/forge/maintenance")


def handshake(address: str, name: str, protocols: Iterable[str] = ("h2", "http/1.1"), **options) -> ssl.SSLSocket:
    """A TLS connection that accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    for key, value in options.items():
        setattr(context, key, value)
    return context.wrap_socket(socket.create_connection((address, 443), timeout=10), server_hostname=name)


def test_runs_and_starts_at_boot(host):
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled
    assert host.run("nginx -t").rc == 0


def test_starts_without_any_certificate_from_elsewhere(get):
    certificate = get("/").certificate
    assert certificate.issuer == certificate.subject


def test_private_key_is_for_root_only(host):
    key = host.file("/etc/nginx/tls/forge/selfsigned/privkey.pem")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o600)


@pytest.mark.parametrize("name", ["forge.test", "www.forge.test"])
def test_http_redirects_to_https(get, name):
    answer = get("/a/path?with=query", name=name, scheme="http")
    assert answer.status == 301
    assert answer.headers["Location"] == f"https://{name}/a/path?with=query"


def test_http_answers_acme_challenges(host, get):
    host.run_expect([0], "mkdir -p /var/lib/groundwork/acme/.well-known/acme-challenge")
    host.run_expect([0], "echo -n proof >/var/lib/groundwork/acme/.well-known/acme-challenge/token")
    answer = get("/.well-known/acme-challenge/token", scheme="http")
    assert (answer.status, answer.body) == (200, b"proof")


def test_unknown_names_get_no_answer(get):
    with pytest.raises(OSError):
        get("/", name="strange.test", scheme="http")
    with pytest.raises(OSError):
        get("/", name="strange.test")


@pytest.mark.parametrize("asked", ["Host: strange.test", "Host:", "X-None: 1"])
def test_who_names_a_site_only_in_the_handshake_gets_no_answer(address, asked):
    version = "1.0" if asked == "X-None: 1" else "1.1"
    with handshake(address, "forge.test", protocols=("http/1.1",)) as connection:
        connection.sendall(f"GET / HTTP/{version}\r\n{asked}\r\n\r\n".encode())
        said = connection.recv(100)
    assert said == b"" or b" 400 " in said, said


def test_http2_is_negotiated(address):
    with handshake(address, "forge.test") as connection:
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_speaks_tls_1_2_and_1_3(address, version):
    with handshake(address, "forge.test", minimum_version=version, maximum_version=version) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")


def test_refuses_older_tls(host):
    said = host.run(
        "openssl s_client -connect 127.0.0.1:443 -servername forge.test -tls1_1 -cipher ALL:@SECLEVEL=0 </dev/null"
    )
    assert "Cipher is (NONE)" in said.stdout


def test_site_is_told_who_asks_and_clients_cannot_pretend(get):
    told = sent(
        get("/", headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "Forwarded": "for=1.2.3.4"})
    )
    assert told["host"] == "forge.test"
    assert told["x-forwarded-proto"] == "https"
    assert "192.0.2.1" not in told["x-forwarded-for"] and "," not in told["x-forwarded-for"]
    assert len(told["x-request-id"]) == 32
    assert "forwarded" not in told


def test_site_that_does_not_answer_is_a_page_with_the_headers(get, stopped_site):
    answer = get("/")
    assert answer.status == 502
    assert b"does not answer" in answer.body
    assert counts(answer) == dict.fromkeys(SECURITY_HEADERS, 1)


def test_maintenance_is_switched_by_a_file(get, maintenance):
    for method in ("GET", "POST"):
        answer = get("/", method=method)
        assert answer.status == 503
        assert b"Back soon" in answer.body
        assert int(answer.headers["Retry-After"]) > 0
        assert counts(answer) == dict.fromkeys(SECURITY_HEADERS, 1)
    assert get(HASHED).status == 200


def test_maintenance_ends_at_once(get):
    assert get("/").status == 200


def test_static_files_come_compressed_beforehand(get):
    assert get(HASHED, headers={"Accept-Encoding": "gzip"}).body == b"stands for the gzip form"
    answer = get(HASHED, headers={"Accept-Encoding": "gzip, br"})
    assert answer.body == b"stands for the brotli form"
    assert answer.headers["Content-Encoding"] == "br"
    assert get(HASHED).body == b"hashed"


def test_only_files_with_a_hash_are_kept_for_ever(get):
    assert get(HASHED).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert get("/static/app.js").headers["Cache-Control"] == "public, max-age=3600"


def test_uploads_never_run_scripts(get):
    answer = get("/media/page.html")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_denied_uploads_are_not_served(get):
    assert get("/media/note.secret").status == 404


def test_body_sizes_differ_by_location(get):
    body = b"x" * (2 << 20)
    assert get("/", method="POST", body=body).status == 413
    assert get("/upload/", method="POST", body=body).status == 200
    assert get("/upload/", method="POST", body=body + body).status == 413


def test_internal_pages_cannot_be_asked_for(get):
    assert get("/.groundwork/503.html").status == 404


def test_log_is_json_with_request_id_and_without_secrets(host, get):
    get(
        "/logged?token=sentinel-query",
        headers={
            "Authorization": "Basic sentinel-authorization",
            "Cookie": "sessionid=sentinel-cookie",
            "Referer": "https://forge.test/reset?key=sentinel-referer",
            "User-Agent": 'a "quoted" agent',
        },
    )
    lines = host.file("/var/log/nginx/forge.access.log").content_string.splitlines()
    entries = [json.loads(line) for line in lines]
    entry = [entry for entry in entries if entry["path"] == "/logged"][-1]
    assert len(entry["request_id"]) == 32
    assert entry["status"] == "200"
    assert entry["user_agent"] == 'a "quoted" agent'
    assert "sentinel" not in "".join(lines)


def test_host_notes_whose_domains_are_taken(host):
    fact = json.loads(host.file("/etc/ansible/facts.d/groundwork_forge.fact").content_string)
    assert fact == {"name": "forge", "domains": ["forge.test", "www.forge.test"], "user": "forge"}


def test_provided_certificate_is_served_and_a_wrong_one_is_refused(host, play, get, tmp_path):
    host.run_expect(
        [0],
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout /tmp/key.pem -out /tmp/cert.pem -subj /CN=forge "
        "-addext subjectAltName=DNS:forge.test,DNS:www.forge.test",
    )
    given = {
        "groundwork_tls_mode": "provided",
        "nginx_tls_certificate": host.file("/tmp/cert.pem").content_string,
        "nginx_tls_private_key_file": str(tmp_path / "key.pem"),
    }
    key = host.file("/tmp/key.pem").content_string
    (tmp_path / "key.pem").write_text(key)
    run = play("--diff", *values(**given))
    assert run.changed > 0
    assert "PRIVATE KEY" not in run.output
    assert play(*values(**given)).changed == 0
    served = get("/").certificate
    assert served.serial_number == int(host.check_output("openssl x509 -in /tmp/cert.pem -noout -serial")[7:], 16)
    with pytest.raises(AssertionError, match=r"not for other\.test, only for forge\.test, www\.forge\.test"):
        play(*values(**given, groundwork_site_domains=["forge.test", "other.test"]))
    assert get("/").certificate == served
    play()
    assert get("/").certificate.issuer != served.issuer


def test_behind_a_proxy_only_the_proxy_is_served(host, play, get, address):
    gateway = address.rpartition(".")[0] + ".1"
    external = {"groundwork_tls_mode": "external", "groundwork_proxy_networks": [gateway]}
    forwarded = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https"}
    play(*values(**external))
    answer = get("/", scheme="http", headers=forwarded)
    assert answer.status == 200
    assert sent(answer)["x-forwarded-for"] == "192.0.2.9"
    assert sent(answer)["x-forwarded-proto"] == "https"
    assert counts(answer) == dict.fromkeys(SECURITY_HEADERS, 1)
    play(*values(**(external | {"groundwork_proxy_networks": ["192.0.2.1"]})))
    with pytest.raises(OSError):
        get("/", scheme="http", headers=forwarded)
    play()
    assert get("/", scheme="http").status == 301
    assert sent(get("/", headers=forwarded))["x-forwarded-for"] != "192.0.2.9"


def test_other_domains_redirect_to_the_first_one_on_request(play, get):
    play(*values(nginx_canonical_redirect_enabled=True))
    answer = get("/path?q", name="www.forge.test")
    assert (answer.status, answer.headers["Location"]) == (301, "https://forge.test/path?q")
    assert counts(answer) == dict.fromkeys(SECURITY_HEADERS, 1)
    assert get("/").status == 200
    play()


def test_second_site_changes_nothing_of_the_first_one(host, play, get):
    other = {
        "groundwork_site_name": "second_site_of_31_characters_xx",
        "groundwork_site_domains": ["second.test"],
        "nginx_locations": [],
        "nginx_client_max_body_size": "2m",
        "nginx_socket_file": "/srv/second/live.sock",
    }
    files = "find /etc/nginx -type f -path '*forge*' -exec sha256sum {} + | sort"
    before = host.check_output(files)
    assert play(*values(**other)).changed > 0
    assert play().changed == 0
    assert play(*values(**other)).changed == 0
    assert host.check_output(files) == before
    assert get("/", name="second.test").status == 502
    assert get("/").status == 200
    host.run_expect(
        [0], "rm -r /etc/nginx/*/second* /etc/ansible/facts.d/groundwork_second*.fact && systemctl reload nginx"
    )


def test_broken_configuration_is_refused_and_the_old_one_put_back(host, play, get):
    play()
    with pytest.raises(AssertionError, match="nonsense"):
        play(*values(nginx_extra_server_settings=["nonsense on;"]))
    assert get("/").status == 200
    assert host.run("nginx -t").rc == 0
    assert play().changed == 0


def test_nginx_comes_back_after_a_crash(host):
    host.run_expect([0], "systemctl kill --signal=SIGKILL nginx && sleep 4")
    assert host.service("nginx").is_running


def test_limits_of_logins_are_tight_for_posts_only(get):
    assert {get("/accounts/login/").status for _number in range(5)} == {200}
    statuses = [get("/accounts/login/", method="POST", body=b"").status for _number in range(6)]
    assert statuses == [200, 200, 200, 429, 429, 429]


def test_limited_requests_are_told_when_to_come_back(get):
    for _number in range(4):
        answer = get("/admin/login/", method="POST", body=b"")
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert counts(answer) == dict.fromkeys(SECURITY_HEADERS, 1)


def test_limited_requests_are_in_the_error_log_for_fail2ban(host):
    assert "limiting requests" in host.file("/var/log/nginx/forge.error.log").content_string
