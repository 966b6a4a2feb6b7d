"""What the suffix of a variable's name promises, value by value."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ansible_collections.groundwork.django.plugins.plugin_utils import kinds

GOOD = {
    kinds.port: [1, 22, 65535, "8080"],
    kinds.host_name: [
        "example.org",
        "a.b.example.org",
        "xn--mnchen-3ya.example",
        "localhost",
        "1.example.org",
        "EXAMPLE.org",
    ],
    kinds.email: ["admin@example.org", "first.last+tag@mail.example.org"],
    kinds.url: [
        "https://acme.example.org/directory",
        "http://127.0.0.1:8000",
        "https://[2001:db8::1]:14000/dir",
        "redis://cache:6379/0",
        "unix:///run/redis/redis.sock",
        "postgresql://%2Fvar%2Frun%2Fpostgresql/forge",
        "postgresql://forge:p%2Fq@db.example.org:5432/forge?sslmode=require",
        "ssh://git@example.org/forge.git",
        "git@example.org:team/forge.git",
        "file:///srv/forge.git",
    ],
    kinds.url_path: ["/static/", "/a/b-c/", "https://cdn.example.org/static/"],
    kinds.network: ["192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "::1", "0.0.0.0/0"],
    kinds.size: ["10m", "512k", "1g", "0", "1048576", "10M", 10],
    kinds.amount: [0, 5, "14"],
    kinds.confirmation: [0, "15", 120, 900],
    kinds.unit_settings: [{}, {"LimitNOFILE": 9000, "MemoryMax": "1G"}],
    kinds.duration: ["10m", "1h", "-1", "600", 600, "1d 12h", "1w"],
    kinds.clock: ["00:00", "04:30", "23:59"],
    kinds.calendar: [
        "daily",
        "weekly",
        "02:30",
        "*-*-* 02:30",
        "*-*-* 02:30:00",
        "Mon..Fri 02:30",
        "Mon,Thu 02:30",
        "Sat *-*-1..7 18:00:00",
        "*-*-01 04:00:00 UTC",
        "*-*-* 00/12:00:00",
        "*:0/15",
        "2026-12-24 18:00 Europe/Berlin",
        "*-02~01 03:00",
        "Sun",
    ],
    kinds.absolute_path: ["/srv", "/var/lib/forge", "/var/log/forge/*.log"],
    kinds.linux_name: ["forge", "_apt", "www-data", "forge_2"],
    kinds.package: [
        "nginx",
        "libnginx-mod-http-brotli-filter",
        "postgresql-17",
        "certbot==5.8.0",
        "g++",
        "nginx=1.26*",
    ],
}

BAD = {
    kinds.port: [0, -1, 65536, 99999, "http", True, "", "8080/tcp"],
    kinds.host_name: [
        "https://example.org",
        "example.org:443",
        "example.org/path",
        "*.example.org",
        "exa mple.org",
        "exa_mple.org",
        "-a.example.org",
        "a..example.org",
        "example.org.",
        "192.0.2.1",
        "2001:db8::1",
        "münchen.example",
        "1.2.3",
        "a" * 64 + ".example.org",
        ".".join(["a" * 60] * 5),
        "",
        "example.org\n",
    ],
    kinds.email: ["admin", "admin@", "@example.org", "Admin <admin@example.org>", "a b@example.org", "admin@localhost"],
    kinds.url: [
        "example.org",
        "//example.org",
        "https://",
        "https:///path",
        "https://a b",
        "https://a:99999",
        "/static/",
    ],
    kinds.url_path: ["static/", "/static", "/a b/", ""],
    kinds.network: ["192.0.2.5/24", "192.0.2.0/33", "example.org", "192.0.2", ""],
    kinds.size: ["10x", "10 m", "-1m", "1.5m", "m", "10mb", True],
    kinds.amount: [-1, "10d", 1.5, True, ""],
    kinds.confirmation: [14, 901, -1, "2m", ""],
    kinds.unit_settings: [{"limit": 1}, {"Limit NOFILE": 1}, {"User=root\nX": 1}, {"LimitNOFILE": "9000\nUser=root"}],
    kinds.duration: ["10x", "soon", "", True, "-2"],
    kinds.clock: ["24:00", "4:30", "0430", "04:60", 270],
    kinds.calendar: [
        "sometimes",
        "25:00",
        "02:60",
        "*-13-01",
        "*-*-32",
        "02:30 *-*-*",
        "",
        "Someday 02:30",
        "*-*-* 02:30 02:30",
        "5..2:00",
        "*:0/0",
    ],
    kinds.absolute_path: ["srv", "./srv", "~/srv", "/srv\n", "/", "//", "/etc/", "//etc", "/var/../usr"],
    kinds.linux_name: ["Forge", "1forge", "forge user", "a" * 32, "-forge", "forge:"],
    kinds.package: ["nginx curl", "--allow-downgrades", "", 5],
}


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in GOOD.items() for value in values])
def test_good_value_passes(check, value):
    assert check(value) is None


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in BAD.items() for value in values])
def test_bad_value_has_a_fault_that_fits_into_a_sentence(check, value):
    fault = check(value)
    assert fault is not None
    for part in fault:
        assert part and part == part.strip() and not part.endswith(".") and "\n" not in part


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("https://example.org", 'leave out "https://"'),
        ("example.org:443", "leave out the port"),
        ("example.org/x", "leave out the path"),
        ("*.example.org", "list each name instead of a wildcard"),
        ("münchen.example", 'write it in its ASCII form, "xn--mnchen-3ya.example"'),
    ],
)
def test_remedy_of_a_host_name_says_what_to_change(value, remedy):
    assert kinds.host_name(value).remedy == remedy


def test_remedy_of_a_network_names_the_network():
    assert '"192.0.2.0/24"' in kinds.network("192.0.2.5/24").remedy


@pytest.mark.parametrize(
    ("name", "type_name", "check"),
    [
        ("nginx_https_port", "int", kinds.port),
        ("port", "int", kinds.port),
        ("port", "str", None),
        ("groundwork_site_domains", "str", kinds.host_name),
        ("backups_on_calendar", "str", kinds.calendar),
        ("fail2ban_ban_time", "str", kinds.duration),
        ("base_reboot_time", "str", kinds.clock),
        ("groundwork_site_static_url", "str", kinds.url_path),
        ("certbot_directory_url", "str", kinds.url),
        ("nginx_client_max_body_size", "str", kinds.size),
        ("backups_keep_days", "int", kinds.amount),
        ("sshd_confirm_seconds", "int", kinds.confirmation),
        ("nginx_unit_settings", "dict", kinds.unit_settings),
        ("nginx_packages", "str", kinds.package),
        ("base_admin_users", "dict", None),
        ("nginx_passport", "int", None),
        ("groundwork_acme_webroot", "path", kinds.absolute_path),
        ("certbot_ca_bundle_file", "str", kinds.absolute_path),
        ("path", "path", kinds.absolute_path),
        ("path", "str", None),
        ("nginx_enabled", "bool", None),
    ],
)
def test_longest_suffix_and_the_type_choose_the_check(name, type_name, check):
    assert kinds.kind_of(name, type_name) is check


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("value", GOOD[kinds.calendar])
def test_systemd_agrees_with_a_good_calendar_event(value):
    subprocess.run(["systemd-analyze", "calendar", value], check=True, capture_output=True)
