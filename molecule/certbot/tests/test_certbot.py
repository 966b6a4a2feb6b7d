"""What roles/certbot/README.md promises."""

from __future__ import annotations

import json
import re

import pytest
from cryptography import x509

SETTINGS = "/etc/letsencrypt/renewal/forge.conf"
LIVE = "/etc/letsencrypt/live/forge"
HOOK = "/usr/local/lib/groundwork/forge-certs-deploy"
NAMES = ["forge.test", "www.forge.test"]


def serial_on_disk(host) -> int:
    """Serial number of the certificate that certbot keeps."""
    return int(host.check_output(f"openssl x509 -in {LIVE}/fullchain.pem -noout -serial").partition("=")[2], 16)


def names_of(certificate: x509.Certificate) -> list[str]:
    """Host names that a certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(names.get_values_for_type(x509.DNSName))


def values(**extra) -> tuple[str, str]:
    """Arguments that give a run of the playbook other values."""
    return "--extra-vars", json.dumps(extra)


@pytest.fixture
def due(host):
    """Make the certificate due for one test."""
    host.run_expect([0], f"sed -i '1i renew_before_expiry = 3650 days' {SETTINGS}")
    yield
    host.run_expect([0], f"sed -i /renew_before_expiry/d {SETTINGS}")


@pytest.mark.parametrize("name", NAMES)
def test_issued_certificate_is_served_for_every_name(get, acme_root, name):
    answer = get("/", name=name, trust=acme_root)
    assert names_of(answer.certificate) == NAMES


def test_key_is_ecdsa_and_for_root_only(host):
    key = host.file(host.check_output(f"readlink -f {LIVE}/privkey.pem"))
    assert (key.user, key.mode) == ("root", 0o600)
    assert "id-ecPublicKey" in host.check_output(f"openssl x509 -in {LIVE}/cert.pem -noout -text")


def test_certbot_has_a_virtualenv_of_its_own(host):
    assert host.check_output("/opt/groundwork/certbot/bin/certbot --version").startswith("certbot 5.")
    assert not host.package("certbot").is_installed


def test_timer_looks_for_due_certificates_and_cron_does_not(host):
    assert host.service("forge-certs.timer").is_enabled
    assert host.service("forge-certs.timer").is_running
    assert not host.file("/etc/cron.d/forge-certs").exists


def test_sandboxed_service_renews_what_is_due_and_nginx_serves_it(host, get, acme_root, due):
    before = serial_on_disk(host)
    host.run_expect([0], "systemctl start forge-certs.service")
    assert serial_on_disk(host) != before
    assert get("/", trust=acme_root).certificate.serial_number == serial_on_disk(host)


def test_service_leaves_alone_what_is_not_due(host):
    before = serial_on_disk(host)
    host.run_expect([0], "systemctl start forge-certs.service")
    assert serial_on_disk(host) == before


def test_service_is_confined(host):
    exposure = host.check_output("systemd-analyze security --no-pager forge-certs.service | tail -1")
    assert float(re.search(r"([0-9]+\.[0-9])", exposure).group(1)) <= 3.0


def test_run_renews_what_is_due_and_changes_nothing_else(host, play, get, acme_root, due):
    before = serial_on_disk(host)
    assert play().changed == 1
    assert serial_on_disk(host) != before
    assert get("/", trust=acme_root).certificate.serial_number == serial_on_disk(host)


def test_run_mends_what_a_killed_one_has_left_unserved(host, play, get, acme_root):
    host.run_expect([0], "ln -sfn selfsigned /etc/nginx/tls/forge/current && systemctl reload nginx && sleep 1")
    assert get("/").certificate.serial_number != serial_on_disk(host)
    before = serial_on_disk(host)
    assert play().changed == 1
    assert get("/", trust=acme_root).certificate.serial_number == serial_on_disk(host) == before


def test_run_mends_a_first_issue_that_was_killed(host, play, get, acme_root):
    host.run_expect([0], f": >{SETTINGS}")
    assert play().changed == 1
    assert play().changed == 0
    assert get("/", trust=acme_root).certificate.serial_number == serial_on_disk(host)


def test_other_server_replaces_the_certificate_both_ways(host, play, get, acme_root):
    for url in ("https://acme.test:14000/dir?staging", "https://acme.test:14000/dir"):
        before = serial_on_disk(host)
        assert play(*values(certbot_directory_url=url)).changed == 1
        assert serial_on_disk(host) != before
        assert f"server = {url}\n" in host.file(SETTINGS).content_string
        assert get("/", trust=acme_root).certificate.serial_number == serial_on_disk(host)


def test_other_names_replace_the_certificate(host, play, get, acme_root):
    for names in (NAMES[:1], NAMES):
        play(*values(groundwork_site_domains=names))
        assert names_of(get("/", trust=acme_root).certificate) == names


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.forge.test", "does not resolve"), ("acme.test", "does not answer")],
)
def test_wrong_dns_record_is_told_by_name_before_the_server_is_asked(host, play, name, said):
    before = serial_on_disk(host)
    with pytest.raises(AssertionError) as failure:
        play(*values(groundwork_site_domains=[*NAMES, name]))
    assert re.search(rf"{re.escape(name)}[^\n]*\s+{said}", str(failure.value).replace("\\n", "\n"))
    assert serial_on_disk(host) == before


def test_refusal_of_the_server_is_told_by_name(play):
    with pytest.raises(AssertionError) as failure:
        play(*values(groundwork_site_domains=[*NAMES, "nowhere.forge.test"], certbot_preflight_enabled=False))
    assert re.search(r"There is no certificate for .*nowhere\.forge\.test", str(failure.value))


def test_hook_fails_when_nginx_does_not_serve_what_is_on_disk(host):
    host.run_expect([0], "systemctl stop nginx")
    assert host.run(HOOK).rc != 0
    host.run_expect([0], "systemctl start nginx")
    host.run_expect([0], HOOK)


def test_broken_configuration_of_nginx_is_never_loaded(host):
    host.run_expect([0], "echo 'nonsense on;' >/etc/nginx/conf.d/broken.conf")
    host.run_expect([0], "ln -sfn selfsigned /etc/nginx/tls/forge/current")
    assert "nonsense" in host.run(HOOK).stderr
    host.run_expect([0], "rm /etc/nginx/conf.d/broken.conf")
    host.run_expect([0], HOOK)


def test_cron_in_place_of_the_timer(host, play):
    assert play(*values(certbot_scheduler="cron")).changed > 0
    assert play(*values(certbot_scheduler="cron")).changed == 0
    assert not host.service("forge-certs.timer").is_running
    assert not host.file("/etc/systemd/system/forge-certs.timer").exists
    line = host.check_output("grep certbot /etc/cron.d/forge-certs | grep -v ^#").split(" root ")[1]
    host.run_expect([0], f"REQUESTS_CA_BUNDLE=/etc/groundwork/acme/forge-ca.pem sh -c '{line}'")
    play()
    assert host.service("forge-certs.timer").is_running
    assert not host.file("/etc/cron.d/forge-certs").exists


def test_certbot_of_the_distribution_on_request(host, play, due):
    before = serial_on_disk(host)
    assert play(*values(certbot_installer="apt")).changed > 0
    assert serial_on_disk(host) != before
    assert not host.service("certbot.timer").is_running
    host.run_expect([0], "systemctl start forge-certs.service")
    play()


def test_other_modes_have_no_schedule_and_keep_the_certificate(host, play):
    before = serial_on_disk(host)
    assert play(*values(groundwork_tls_mode="selfsigned")).changed > 0
    assert play(*values(groundwork_tls_mode="selfsigned")).changed == 0
    assert not host.file("/etc/systemd/system/forge-certs.timer").exists
    play()
    assert serial_on_disk(host) == before
    assert play().changed == 0
