"""What nginx_tls makes, keeps and refuses, with the real openssl."""

import os
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import x509
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import nginx_tls

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
DOMAINS = ["forge.example.org", "www.forge.example.org"]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A directory of a site, and the module with an nginx of a chosen version."""

    class Bench:
        directory = tmp_path / "tls" / "forge"
        default = tmp_path / "tls" / "default"

        def make(self, mode: str, check: bool = False, version: str = "1.26.3", **params) -> list[str]:
            monkeypatch.setattr(nginx_tls, "nginx_version", lambda: version)
            given = {
                "directory": str(self.directory),
                "mode": mode,
                "domains": DOMAINS,
                "certificate": "",
                "private_key": "",
                "selfsigned_days": 3650,
                "default_directory": str(self.default),
                **params,
            }
            changes, self.current, self.version = nginx_tls.bring_about(given, check)
            return [os.path.relpath(path, self.directory) for path in changes]

        def certificate(self) -> x509.Certificate | None:
            return x509.read_certificate((self.directory / "current" / "fullchain.pem").read_text())

    return Bench()


def test_selfsigned_pair_is_made_once(bench):
    assert bench.make("selfsigned") == ["selfsigned/privkey.pem", "selfsigned/fullchain.pem", "current", "mode"]
    assert bench.certificate().names == tuple(DOMAINS)
    assert stat.S_IMODE((bench.directory / "selfsigned" / "privkey.pem").stat().st_mode) == 0o600
    assert bench.make("selfsigned") == []
    assert bench.current == "selfsigned"


def test_check_mode_makes_nothing(bench):
    assert bench.make("selfsigned", check=True) == ["selfsigned/fullchain.pem", "current", "mode"]
    assert not bench.directory.exists()


def test_pair_of_a_killed_run_is_made_anew(bench):
    bench.make("acme")
    _certificate, key = x509.make_selfsigned(DOMAINS, 10)
    (bench.directory / "selfsigned" / "privkey.pem").write_text(key)
    assert "selfsigned/privkey.pem" in bench.make("acme")
    assert bench.make("acme") == []


def test_pair_for_other_names_is_made_anew(bench):
    bench.make("selfsigned")
    bench.make("selfsigned", domains=DOMAINS[:1])
    assert bench.certificate().names == (DOMAINS[0],)


def test_pair_that_expires_soon_is_made_anew(bench):
    bench.make("selfsigned", selfsigned_days=20)
    assert bench.certificate().days_left() < 20
    assert "selfsigned/fullchain.pem" in bench.make("selfsigned")


def test_acme_leaves_the_issued_pair_alone(bench, tmp_path):
    bench.make("acme")
    issued = tmp_path / "live"
    shutil.copytree(bench.directory / "selfsigned", issued)
    (bench.directory / "current").unlink()
    (bench.directory / "current").symlink_to(issued)
    assert bench.make("acme") == []
    assert bench.make("acme", domains=["other.example.org"]) == []
    assert bench.current == str(issued)


def test_acme_falls_back_when_the_issued_pair_is_gone(bench, tmp_path):
    bench.make("acme")
    (bench.directory / "current").unlink()
    (bench.directory / "current").symlink_to(tmp_path / "gone")
    assert bench.make("acme") == ["current"]
    assert bench.current == "selfsigned"


def test_provided_pair_is_placed(bench):
    bench.make("acme")
    certificate, key = x509.make_selfsigned(DOMAINS, 90)
    changes = bench.make("provided", certificate=certificate, private_key=key)
    assert changes == ["provided/privkey.pem", "provided/fullchain.pem", "current", "mode"]
    assert (bench.directory / "current" / "privkey.pem").read_text() == key
    assert bench.make("provided", certificate=certificate, private_key=key) == []


def test_provided_pair_is_refused_with_a_sentence(bench):
    certificate, key = x509.make_selfsigned(DOMAINS, 90)
    other_certificate, other_key = x509.make_selfsigned(["other.example.org"], 90)
    cases = [
        ({"certificate": "", "private_key": key}, "is empty"),
        ({"certificate": "nonsense", "private_key": key}, "not a certificate"),
        ({"certificate": certificate, "private_key": "nonsense"}, "not a private key"),
        ({"certificate": certificate, "private_key": other_key}, "does not belong"),
        ({"certificate": other_certificate, "private_key": other_key}, "not for forge.example.org, only for other"),
    ]
    for given, said in cases:
        with pytest.raises(Refusal, match=said):
            bench.make("provided", **given)
    assert not bench.directory.exists()


def test_expired_certificate_is_refused(monkeypatch):
    certificate, key = x509.make_selfsigned(DOMAINS, 1)
    yesterday = x509.read_certificate(certificate)._replace(ends=datetime.now(UTC) - timedelta(days=1))
    monkeypatch.setattr(x509, "read_certificate", lambda _text: yesterday)
    with pytest.raises(Refusal, match="expired on"):
        nginx_tls.refuse_bad_pair(certificate, key, DOMAINS)


def test_external_touches_nothing(bench):
    assert bench.make("external") == []
    assert not bench.directory.exists()
    assert bench.version == "1.26.3"


def test_old_nginx_gets_a_pair_for_its_default_server(bench):
    bench.make("acme", version="1.18.0")
    text = (bench.default / "fullchain.pem").read_text()
    assert x509.read_certificate(text).names == ("default.invalid",)
    assert bench.make("acme", version="1.18.0") == []


def test_new_nginx_needs_no_pair_for_its_default_server(bench):
    bench.make("acme", version="1.19.4")
    assert not Path(bench.default).exists()


def test_wildcards_cover_one_level():
    certificate, _key = x509.make_selfsigned(["*.example.org"], 10)
    found = x509.read_certificate(certificate)
    assert found.covers("WWW.example.org")
    assert not found.covers("example.org")
    assert not found.covers("a.b.example.org")
