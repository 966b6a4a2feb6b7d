"""Fixtures that the tests of all scenarios share."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))


@dataclass(frozen=True)
class Answer:
    """What the web server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    certificate: x509.Certificate | None


@pytest.fixture
def address(host) -> str:
    """Return the host's IPv4 address, reachable from the controller."""
    return host.check_output("hostname -I").split()[0]


@pytest.fixture
def get(address: str) -> Callable[..., Answer]:
    """Return `get(path, name=..., scheme=..., trust=..., headers=...)`: one request from outside, no redirects.

    `trust` is a PEM file; without it any certificate is accepted. Raises OSError when the server gives no answer.
    """

    def request(
        path: str = "/",
        name: str = "forge.test",
        scheme: str = "https",
        trust: Path | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(name, timeout=15)
        connection.sock = socket.create_connection((address, 443 if scheme == "https" else 80), timeout=15)
        certificate = None
        if scheme == "https":
            context = ssl.create_default_context(cafile=trust)
            if trust is None:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
            certificate = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True))
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read(), certificate)
        finally:
            connection.close()

    return request


@dataclass(frozen=True)
class Run:
    """How a run of the scenario's playbook ended: `ok` and `changed` count tasks."""

    output: str
    ok: int
    changed: int


def run_playbook(arguments: tuple[str, ...], playbook: Path | None, values: dict) -> subprocess.CompletedProcess:
    """Run a playbook for the scenario's hosts, the scenario's own one if none is given."""
    own = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "converge.yml"
    playbook = playbook or (own if own.exists() else Path(__file__).parent / "shared" / "converge.yml")
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    command = ["ansible-playbook", "--inventory", str(inventory), *arguments, str(playbook)]
    if values:
        command += ["--extra-vars", json.dumps(values)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def play() -> Callable[..., Run]:
    """Return `play(*arguments, **values)`: the scenario's own playbook once more, with these arguments and variables.

    `playbook=` is another one to run. Fails when the run does.
    """

    def run(*arguments: str, playbook: Path | None = None, **values: object) -> Run:
        done = run_playbook(arguments, playbook, values)
        assert done.returncode == 0, done.stdout + done.stderr
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        return Run(done.stdout, *(sum(map(int, re.findall(rf"{word}=(\d+)", recap))) for word in ("ok", "changed")))

    return run


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """Return `refused(*arguments, **values)`, which takes what `play` takes: a run that has to fail.

    It returns what was said, as one line.
    """

    def run(*arguments: str, playbook: Path | None = None, **values: object) -> str:
        done = run_playbook(arguments, playbook, values)
        assert done.returncode != 0, done.stdout
        return " ".join((done.stdout + done.stderr).split())

    return run


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., float]:
    """Return `wait_until(what, true)`: wait until `true()` is true; it returns how long that took, in seconds."""

    def wait(what: str, true: Callable[[], object], seconds: float = 60) -> float:
        begin = time.monotonic()
        while not true():
            assert time.monotonic() - begin < seconds, f"{what}: not within {seconds} s"
            time.sleep(0.2)
        return time.monotonic() - begin

    return wait


@pytest.fixture
def start(host) -> Callable[..., object]:
    """Return `start(unit)`: run a unit as its timer does; it returns the finished command."""

    def run(unit: str) -> object:
        host.run(f"systemctl reset-failed {unit}")
        return host.run(f"systemctl start {unit}")

    return run


@pytest.fixture
def edited(host) -> Callable[..., contextlib.AbstractContextManager]:
    """Return `edited(path, **changes)`: other values in a file of settings for a while.

    `_` stands for a hyphen, too, and what stands before a name is left as it is.
    """

    @contextlib.contextmanager
    def edit(path: str, **changes: str) -> Iterator[None]:
        host.check_output(f"cp -p {path} /root/kept")
        for name, value in changes.items():
            pattern = name.replace("_", "[-_]")
            host.check_output(f"sed -i -E 's|^([a-z0-9-]*{pattern} ?= ?).*$|\\1{value}|' {path}")
        try:
            yield
        finally:
            host.check_output(f"cat /root/kept > {path}")

    return edit


@pytest.fixture
def acme_root() -> Path:
    """Return the file with the root of the certificates that the scenario's ACME server issues."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "acme-root.pem"


@pytest.fixture
def sftp_server(host) -> Iterator[dict]:
    """Run an OpenSSH server on another port, with a user who sees nothing but his directories.

    It is what backups_repositories takes. /run/sshd-sftp.pid is the server's, /root/sftp/config its configuration.
    """
    host.check_output(
        "set -e; mkdir -p /run/sshd /root/sftp /srv/vault/keep /srv/vault/keep-files; cd /root/sftp; rm -f *; "
        "id keeper 2>/dev/null || useradd --home-dir / --password '*' keeper; chown keeper /srv/vault/*; "
        "ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t rsa -b 3072 -m PEM -N '' -f user; "
        "cp user.pub /etc/ssh/keeper_keys; chmod 644 /etc/ssh/keeper_keys; "
        "printf '%s\\n' 'Port 2222' 'HostKey /root/sftp/host' 'PidFile /run/sshd-sftp.pid' 'UsePAM no' "
        "'AuthorizedKeysFile /etc/ssh/keeper_keys' 'PasswordAuthentication no' 'ChrootDirectory /srv/vault' "
        "'Subsystem sftp internal-sftp' 'ForceCommand internal-sftp' > config; "
        "/usr/sbin/sshd -f config"
    )
    yield {
        "type": "sftp",
        "path": "/keep",
        "host": "localhost",
        "port": 2222,
        "user": "keeper",
        "private_key": host.file("/root/sftp/user").content_string,
        "host_public_keys": [" ".join(host.file("/root/sftp/host.pub").content_string.split()[:2])],
    }
    host.run("kill $(cat /run/sshd-sftp.pid)")


@pytest.fixture
def sql(host) -> Callable[..., str]:
    """Function that runs statements as the superuser and returns what they print."""

    def run(*statements, port=5432):
        words = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
        as_postgres = "setpriv --reuid=postgres --regid=postgres --init-groups"
        return host.check_output(f"{as_postgres} psql -XAtq -p {port} -d forge {words}")

    return run
