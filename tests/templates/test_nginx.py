"""What nginx is told, on every supported system."""

import re

import pytest
from render import SYSTEMS, render

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
    blocks = re.findall(r"location [^{]+\{([^{}]*)\}", text)
    adding = [block for block in blocks if "add_header" in block]
    assert adding
    assert all("headers.conf" in block for block in adding)


def test_the_forwarded_address_is_set_and_not_appended():
    text = render("nginx", "etc/nginx/groundwork/_site_/proxy.conf.j2", **BARE)
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert "$proxy_add_x_forwarded_for" not in text


def test_stapling_is_gone_and_tokens_are_off_once():
    text = render("nginx", "etc/nginx/nginx.conf.j2", **BARE) + render("nginx", SITE, **BARE)
    assert "ssl_stapling" not in text
    assert text.count("server_tokens") == 1


def test_the_access_log_holds_no_credentials():
    text = render("nginx", "etc/nginx/nginx.conf.j2", **BARE)
    assert "log_format" in text and "escape=json" in text and "$request_id" in text
    for secret in ("$http_authorization", "$http_cookie", "$request_body", "$remote_user"):
        assert secret not in text
