"""Fixtures that the tests of all scenarios share."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
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


def playbook_command(arguments: tuple[str, ...], playbook: Path | None, values: dict) -> list[str]:
    """The command that runs a playbook for the scenario's hosts, the scenario's own one if none is given."""
    own = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "converge.yml"
    playbook = playbook or (own if own.exists() else Path(__file__).parent / "shared" / "converge.yml")
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    command = ["ansible-playbook", "--inventory", str(inventory), *arguments, str(playbook)]
    if values:
        command += ["--extra-vars", json.dumps(values)]
    return command


def run_playbook(arguments: tuple[str, ...], playbook: Path | None, values: dict) -> subprocess.CompletedProcess:
    """Run it to its end."""
    return subprocess.run(playbook_command(arguments, playbook, values), capture_output=True, text=True, check=False)


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


def descendants(pid: int) -> list[int]:
    """The processes that a process has begun, and those that these have begun."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    children = [int(word) for word in listed.split()]
    return children + [found for child in children for found in descendants(child)]


class Operator:
    """Who comes to the host over ssh with a key of his own, as a play in real life does."""

    def __init__(self, host, address: str, folder: Path) -> None:
        self.host = host
        self.address = address
        self.key = folder / "key"
        options = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        self.values = {
            "ansible_connection": "ssh",
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            # A path of its own: what is open for one test is of no use to another.
            "ansible_ssh_common_args": f"{options} -o ControlPath={folder}/%C",
        }
        """What has a play of the scenario come over ssh: `play(**operator.values)`."""
        self.options = options.split()

    def comes_in(self, port: int = 22) -> bool:
        """Whether a new connection comes about, and a command runs on the host."""
        command = [
            "ssh",
            *self.options,
            "-i",
            self.key,
            "-p",
            str(port),
            "-o",
            "ConnectTimeout=3",
            "-o",
            "BatchMode=yes",
        ]
        return (
            subprocess.run([*command, f"root@{self.address}", "true"], capture_output=True, check=False).returncode == 0
        )

    def armed(self) -> bool:
        """Whether the host is about to put something back."""
        return self.host.file("/var/lib/groundwork/revert/state.json").exists

    def left(self) -> str:
        """What is left of a change that has been confirmed or put back: nothing."""
        return self.host.run(
            "ls -d /var/lib/groundwork/revert /etc/systemd/system/*/*revert* /etc/systemd/system/*revert*"
        ).stdout

    def killed(self, ready: Callable[[], object], **values: object) -> None:
        """Run the scenario's playbook over ssh, and kill it once `ready()` is true."""
        command = playbook_command((), None, {**self.values, **values})
        play = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 60
            while not ready():
                assert play.poll() is None, "the run was over before it could be killed"
                assert time.monotonic() < end
                time.sleep(0.1)
        finally:
            # Its workers lead sessions of their own, and would go on.
            for pid in [*descendants(play.pid), play.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            play.wait()


@pytest.fixture
def operator(host, address: str, tmp_path_factory) -> Iterator[Operator]:
    """An operator who has a key on the host."""
    folder = tmp_path_factory.mktemp("o")  # the path of a socket is short
    someone = Operator(host, address, folder)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", someone.key], check=True)
    public = someone.key.with_suffix(".pub").read_text().strip()
    host.check_output("mkdir -p -m 0700 ~root/.ssh && echo %s >> ~root/.ssh/authorized_keys", public)
    yield someone
    host.check_output("sed -i %s ~root/.ssh/authorized_keys", f"\\|{public.split()[1]}|d")


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
