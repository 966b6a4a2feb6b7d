"""What nginx is told, on every supported system."""

import re

import pytest
from render import ROOT, SYSTEMS, render

SITE = "etc/nginx/sites-enabled/_site_.conf.j2"
DEFAULT = "etc/nginx/conf.d/00-default-server.conf.j2"
# Before the first run nothing is known of the host's nginx; then the distribution's version counts.
BARE = {"__nginx_tls": {}}


@pytest.mark.parametrize("system", SYSTEMS)
def test_http_2_takes_the_form_that_the_installed_version_knows(system):
    text = render("nginx", SITE, system, **BARE)
    directive = "http2 on;" in text
    word = re.search(r"listen .*443 ssl http2;", text) is not None
    assert directive != word
    assert directive == (system in ("debian-13", "ubuntu-26.04"))


def test_a_newer_nginx_than_the_distribution_has_decides():
    text = render("nginx", SITE, "ubuntu-22.04", __nginx_tls={"nginx_version": "1.28.0"})
    assert "http2 on;" in text
    assert "ssl http2" not in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_unknown_host_is_dropped(system):
    text = render("nginx", DEFAULT, system, **BARE)
    assert text.count("return 444;") + text.count("ssl_reject_handshake on;") >= 2
    assert ("ssl_reject_handshake" in text) == (system != "ubuntu-22.04")


@pytest.mark.parametrize("system", SYSTEMS)
def test_brotli_is_used_where_its_module_is_packaged(system):
    assert ("brotli_static on;" in render("nginx", SITE, system, **BARE)) == (system != "ubuntu-22.04")


def test_every_location_that_adds_a_header_includes_the_headers_again():
    text = render("nginx", SITE, **BARE)
    blocks = re.findall(r"location ([^{]+)\{([^{}]*)\}", text)
    # Only there are they added already.
    adding = [block for name, block in blocks if "add_header" in block and name != "= /.groundwork/416 "]
    assert adding
    assert all("headers.conf" in block for block in adding)


def test_the_forwarded_address_is_set_and_not_appended():
    text = render("nginx", "etc/nginx/groundwork/_site_/proxy.conf.j2", **BARE)
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert "$proxy_add_x_forwarded_for" not in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_stapling_is_gone_and_tokens_are_off_once(system):
    folder = ROOT / "roles" / "nginx" / "templates"
    names = [str(path.relative_to(folder)) for path in sorted((folder / "etc" / "nginx").rglob("*.j2"))]
    text = "".join(render("nginx", name, system, **BARE) for name in names)
    assert "ssl_stapling" not in text
    assert text.count("server_tokens") == 1


def test_what_tls_is_spoken_is_said_for_the_host_and_not_for_a_site():
    """The default server's word counts for all names on its address, and it is the one that rejects by name."""
    of_the_host = ("ssl_protocols", "ssl_ciphers", "ssl_ecdh_curve", "ssl_prefer_server_ciphers", "ssl_session_")
    servers = render("nginx", SITE, **BARE) + render("nginx", DEFAULT, **BARE)
    main = render("nginx", "etc/nginx/nginx.conf.j2", **BARE)
    for directive in of_the_host:
        assert directive not in servers
        assert directive in main.partition("    include /etc/nginx/conf.d")[0]


@pytest.mark.parametrize(
    ("version", "is_directive"),
    [("1.18.0", False), ("1.22.1", False), ("1.25.0", False), ("1.25.1", True), ("1.26.3", True)],
)
def test_http_2_by_the_version_that_is_installed(version, is_directive):
    for template in (SITE, DEFAULT):
        text = render("nginx", template, __nginx_tls={"nginx_version": version}, nginx_canonical_redirect_enabled=True)
        words = len(re.findall(r"listen .*443 ssl http2", text))
        tls = len(re.findall(r"listen .*443 ssl", text))
        assert words == (0 if is_directive else tls)
        if template == SITE:
            assert text.count("http2 on;") == (2 if is_directive else 0)


@pytest.mark.parametrize("line", ['add_header X-Extra "1" always;', "add_header X-Extra 1;"])
def test_a_location_with_a_header_of_its_own_gets_the_others_again(line):
    text = render("nginx", SITE, **BARE, nginx_locations=[{"path": "/extra/", "extra_settings": [line]}])
    block = re.search(r"location \^~ /extra/ \{([^{}]*)\}", text)[1]
    assert block.index("headers.conf") < block.index("add_header")


def test_a_location_without_one_inherits_them():
    text = render("nginx", SITE, **BARE, nginx_locations=[{"path": "/extra/", "extra_settings": ["expires off;"]}])
    assert "headers.conf" not in re.search(r"location \^~ /extra/ \{([^{}]*)\}", text)[1]


POLICY = re.compile(r'map \$uri \$groundwork_forge_(enforced|reported)_policy \{.*?default "(.*?)";', re.DOTALL)


@pytest.mark.parametrize(
    ("mode", "enforced", "reported"), [("enforce", True, False), ("report_only", False, True), ("off", False, False)]
)
def test_mode_of_the_policy_decides_which_header_has_it(mode, enforced, reported):
    found = dict(POLICY.findall(render("nginx", SITE, **BARE, groundwork_csp_mode=mode)))
    assert {name: bool(value) for name, value in found.items()} == {"enforced": enforced, "reported": reported}


@pytest.mark.parametrize(
    ("uri", "ending", "taken"),
    [
        ("/.groundwork/csp-report", "; report-uri /.groundwork/csp-report", True),
        ("https://reports.example.org/csp?key=1", "; report-uri https://reports.example.org/csp?key=1", False),
        ("", "frame-ancestors 'none'", False),
    ],
)
def test_reports_go_where_the_variable_says(uri, ending, taken):
    text = render("nginx", SITE, **BARE, groundwork_csp_report_uri=uri)
    assert dict(POLICY.findall(text))["enforced"].endswith(ending)
    assert ("groundwork_csp if=" in text) == taken


def test_a_policy_that_names_its_endpoint_gets_no_second_one():
    own = "default-src 'self'; report-uri /mine"
    text = render("nginx", SITE, **BARE, nginx_content_security_policy=own)
    assert dict(POLICY.findall(text))["enforced"] == own


def test_no_burst_is_none_and_not_a_value_that_nginx_refuses():
    text = render("nginx", SITE, nginx_requests_burst_count=0, nginx_login_burst_count=3, **BARE)
    assert "burst=0" not in text
    assert "limit_req zone=groundwork-forge;" in text
    assert "limit_req zone=groundwork-forge-login burst=3 nodelay;" in text


def test_the_logs_hold_no_credentials():
    text = render("nginx", "etc/nginx/nginx.conf.j2", **BARE)
    formats = "".join(re.findall(r"log_format .*?;\n", text, re.DOTALL))
    assert formats.count("escape=json") == formats.count("$request_id") == 2
    for secret in ("$http_authorization", "$http_cookie", "$request_body", "$remote_user", "$request_uri", "$args"):
        assert secret not in formats
