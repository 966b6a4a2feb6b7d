"""When acme_certificate asks for a certificate and what it says, with a certbot that only pretends."""

import shutil
import socket
import sys
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import venv, x509
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import acme_certificate as module

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")

SETTINGS = """# renew_before_expiry = 30 days
version = 5.8.0
fullchain = {live}/fullchain.pem
[renewalparams]
key_type = ecdsa
server = {server}
webroot_path = {webroot},
renew_hook = {hook}
[[webroot_map]]
forge.example.org = {webroot}
"""
CERTBOT = """#!{python}
import os, pathlib, sys
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "|" + os.environ.get("REQUESTS_CA_BUNDLE", "") + "\\n")
if os.path.exists({log!r} + ".fail"):
    print(open({log!r} + ".fail").read())
    sys.exit(1)
import shutil
shutil.copytree({new!r}, {config!r}, dirs_exist_ok=True)
"""
REFUSED = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: forge.example.org
  Type:   dns
  Detail: DNS problem: NXDOMAIN looking up A for
  forge.example.org

Hint: The Certificate Authority failed to download the temporary challenge files.
Some challenges have failed.
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A host with a pretended certbot and a hook that notes its calls."""
    config = tmp_path / "letsencrypt"
    monkeypatch.setattr(module, "CONFIG", str(config))

    class Bench:
        log = tmp_path / "log"
        hook = tmp_path / "hook"
        served = tmp_path / "served"
        params = MappingProxyType(
            {
                "name": "forge",
                "domains": ["forge.example.org"],
                "email": "operations@example.org",
                "directory_url": "https://acme.example.org/dir",
                "webroot": str(tmp_path / "webroot"),
                "certbot": str(tmp_path / "certbot"),
                "key_type": "ecdsa",
                "ca_bundle": None,
                "deploy_command": str(hook),
                "preflight": False,
                "virtualenv": None,
            }
        )

        def lineage(self, root, days: int = 90, domains=("forge.example.org",), server=None) -> None:
            """Put what certbot keeps below a directory."""
            live = root / "live" / "forge"
            live.mkdir(parents=True, exist_ok=True)
            certificate, key = x509.make_selfsigned(list(domains), days)
            (live / "fullchain.pem").write_text(certificate)
            (live / "privkey.pem").write_text(key)
            (root / "renewal").mkdir(exist_ok=True)
            text = SETTINGS.format(
                live=config / "live" / "forge",
                server=server or self.params["directory_url"],
                webroot=self.params["webroot"],
                hook=self.hook,
            )
            (root / "renewal" / "forge.conf").write_text(text)

        def run(self, check: bool = False, **params) -> dict:
            return module.bring_about({**self.params, **params}, check)

        def calls(self) -> list[str]:
            return self.log.read_text().splitlines() if self.log.exists() else []

    bench = Bench()
    bench.config = config
    bench.served.write_text("")
    bench.hook.write_text(
        f'#!/bin/sh\n[ -e {bench.served} ] || {{ [ -n "$1" ] && exit 1; echo told >>{bench.served}; }}\n'
    )
    bench.hook.chmod(0o755)
    new = tmp_path / "new"
    bench.lineage(new)
    certbot = tmp_path / "certbot"
    certbot.write_text(CERTBOT.format(python=sys.executable, log=str(bench.log), new=str(new), config=str(config)))
    certbot.chmod(0o755)
    return bench


def test_first_certificate_is_asked_for_once(bench):
    result = bench.run()
    assert result["changed"]
    assert result["reason"] == "there is none yet"
    assert "--cert-name forge --server https://acme.example.org/dir" in bench.calls()[0]
    assert not bench.run()["changed"]
    assert len(bench.calls()) == 1


def test_check_mode_asks_nothing(bench):
    assert bench.run(check=True)["changed"]
    assert bench.calls() == []


def test_other_names_are_a_reason(bench):
    bench.lineage(bench.config, domains=("forge.example.org", "old.example.org"))
    assert bench.run()["reason"] == "it is for other names (forge.example.org, old.example.org)"


def test_other_server_is_a_reason_even_back_to_staging(bench):
    bench.lineage(bench.config, server="https://staging.example.org/dir")
    assert "staging.example.org" in bench.run()["reason"]
    assert "--break-my-certs" in bench.calls()[0]


def test_key_of_another_certificate_is_a_reason(bench):
    bench.lineage(bench.config)
    (bench.config / "live" / "forge" / "privkey.pem").write_text(x509.make_selfsigned(["a"], 1)[1])
    assert bench.run()["reason"] == "its private key is another one's"


def test_other_kind_of_key_is_a_reason(bench):
    bench.lineage(bench.config)
    assert bench.run(check=True, key_type="rsa")["reason"] == "its key is of another type (ecdsa)"


def test_ca_bundle_reaches_certbot_only(bench):
    bench.run(ca_bundle="/etc/groundwork/acme/forge-ca.pem")
    assert bench.calls()[0].endswith("|/etc/groundwork/acme/forge-ca.pem")


def test_leftovers_of_a_killed_first_issue_are_put_aside(bench):
    bench.lineage(bench.config)
    (bench.config / "renewal" / "forge.conf").write_text("")
    bench.run()
    assert sorted(path.name.partition(".incomplete-")[0] for path in (bench.config / "live").iterdir()) == ["forge"] * 2
    assert not bench.run()["changed"]


def test_certificate_that_is_not_served_is_deployed(bench):
    bench.lineage(bench.config)
    bench.served.unlink()
    assert bench.run() | {"serial": ""} == {
        "reason": "", "installed": False, "warnings": [], "deployed": True, "changed": True, "serial": ""
    }  # fmt: skip
    assert bench.served.read_text() == "told\n"
    assert bench.calls() == []


def test_hook_that_fails_is_told(bench):
    bench.lineage(bench.config)
    bench.hook.write_text("#!/bin/sh\necho nginx does not run >&2\nexit 1\n")
    with pytest.raises(Refusal, match="on disk, but it is not served: nginx does not run"):
        bench.run()


def test_refusal_names_the_domain_and_what_the_server_said(bench):
    bench.log.with_name("log.fail").write_text(REFUSED)
    with pytest.raises(Refusal, match=r"forge\.example\.org: dns: DNS problem: NXDOMAIN looking up A for forge"):
        bench.run()


def test_preflight_names_the_domain_that_does_not_resolve(bench, monkeypatch):
    def no_such_name(*_arguments, **_options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    with pytest.raises(Refusal, match=r"forge\.example\.org does not resolve .* create an A or AAAA record"):
        bench.run(preflight=True)
    assert bench.calls() == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [((404, b"not here"), "answered by something else"), ((200, b"a parking page"), "answered by something else")],
)
def test_preflight_names_the_domain_that_leads_elsewhere(bench, monkeypatch, answer, said):
    monkeypatch.setattr(module, "addresses", lambda _domain: ["192.0.2.1"])
    monkeypatch.setattr(module, "fetch", lambda *_arguments: answer)
    with pytest.raises(Refusal, match=rf"forge\.example\.org.* at 192\.0\.2\.1 is {said}"):
        bench.run(preflight=True)


def test_preflight_leaves_no_file(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "addresses", lambda _domain: ["192.0.2.1"])
    challenges = tmp_path / "webroot" / ".well-known" / "acme-challenge"
    monkeypatch.setattr(module, "fetch", lambda *_arguments: (200, next(challenges.iterdir()).read_bytes()))
    assert bench.run(preflight=True)["warnings"] == []
    assert list(challenges.iterdir()) == []


@pytest.mark.parametrize(
    ("life", "left", "interval", "due"),
    [
        (90, 29, "", True),
        (90, 31, "", False),
        (6, 2, "", True),
        (6, 4, "", False),
        (90, 80, "100 days", True),
        (90, 80, "11 weeks", False),
        (90, 11, "10 days", False),
        (90, 29, "nonsense", True),
    ],
)
def test_due_is_what_certbot_calls_due(life, left, interval, due):
    now = datetime.now(UTC)
    ends = now + timedelta(days=left)
    certificate = x509.Certificate(("a",), ends - timedelta(days=life), ends, "01", "key")
    assert module.is_due(certificate, interval, now) is due


def test_settings_are_read_without_comments_and_quotes():
    found = module.parse_settings("# a = b\nserver = 'https://x/dir?y=z'\n[renewalparams]\n key_type=rsa\n")
    assert found == {"server": "https://x/dir?y=z", "key_type": "rsa"}


def test_certbot_comes_from_a_virtualenv_that_is_made_once(bench, monkeypatch, tmp_path):
    made = []

    class PretendedUv:
        def __init__(self, *_arguments) -> None:
            pass

        def ensure(self, _requirements) -> None:
            made.append("uv")

    def build(self, _uv) -> None:
        made.append(self.path)
        (tmp_path / "venv" / "bin").mkdir(parents=True)
        shutil.copy(bench.params["certbot"], tmp_path / "venv" / "bin" / "certbot")
        (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
        venv.write_json(str(tmp_path / "venv" / venv.STAMP), self.stamp())

    monkeypatch.setattr(venv, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(module, "Uv", PretendedUv)
    monkeypatch.setattr(module.Virtualenv, "build", build)
    wanted = {"path": str(tmp_path / "venv"), "requirements": "certbot==1", "uv_requirements": "uv==1", "index_url": ""}
    wanted["python"] = sys.executable
    assert bench.run(check=True, virtualenv=wanted)["installed"]
    assert made == []
    assert bench.run(virtualenv=wanted, certbot="/nowhere")["installed"]
    assert made == ["uv", str(tmp_path / "venv")]
    assert not bench.run(virtualenv=wanted)["changed"]
