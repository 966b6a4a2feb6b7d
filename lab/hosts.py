"""Containers that stand for machines: a freshly rented host, an ACME server, a browser. Standard library only.

Usage: hosts.py HOST NETWORK FOLDER      lets in whoever has the folder, by `ssh -F FOLDER/ssh_config HOST`
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

CAPABILITIES = (Path(__file__).resolve().parent / "image" / "capabilities").read_text().split()


class HostError(Exception):
    """The engine refused something, or a machine did not start; the text says what in one sentence."""


def docker(*arguments: str, stdin: str | None = None) -> str:
    """Run a docker command and return its output. Raise HostError with its last words when it fails."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        reasons = [line for line in lines if line and not line.startswith(("exit status", "Run 'docker"))]
        reasons = reasons or [f"exit {done.returncode}"]
        raise HostError(f"`docker {' '.join(arguments[:2])}` failed: {reasons[-1]}")
    return done.stdout


def succeeds(*command: str) -> bool:
    """Tell whether a command ends with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wait(seconds: float, complaint: str, ready: Callable[[], bool]) -> None:
    """Wait until something is ready. Raise HostError with the complaint when it is not after so many seconds."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise HostError(f"{complaint} after {seconds:.0f} s")
        time.sleep(0.2)


def inspect(name: str) -> dict | None:
    """Return what the engine knows of a container, None when there is none."""
    done = subprocess.run(["docker", "container", "inspect", name], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def address(name: str, network: str) -> str:
    """Return the address of a container on a network."""
    template = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker("container", "inspect", "--format", template, name).strip()


def gateway(network: str) -> str:
    """Return the address from which this machine comes to the containers of a network."""
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network).strip()


def start(name: str, network: str, image: str, labels: Mapping[str, str], options: Iterable[str]) -> None:
    """Start a container; `options` are those of `docker run`. Returns at once."""
    marks = (option for key, value in labels.items() for option in ("--label", f"{key}={value}"))
    docker("run", "--detach", "--name", name, "--hostname", name, "--network", network, *marks, *options, image)


def start_host(
    name: str,
    network: str,
    image: str = "groundwork-host:debian-13",
    aliases: Iterable[str] = (),
    ports: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
) -> None:
    """Start a bare machine: systemd, sshd, nothing else.

    `aliases` are names that resolve to it on the network, `ports` are published as docker's --publish writes them.
    Returns at once; the machine needs a few seconds to start.
    """
    options = [
        *("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
        *(option for capability in CAPABILITIES for option in ("--cap-add", capability)),
        *(option for alias in aliases for option in ("--network-alias", alias)),
        *(option for port in ports for option in ("--publish", port)),
    ]
    start(name, network, image, labels or {}, options)


def start_acme(name: str, network: str, labels: Mapping[str, str] | None = None) -> None:
    """Start an ACME server: https://<name>:14000/dir, also acme.test, its trust anchors in /acme once it is ready."""
    start(name, network, "groundwork-pebble", labels or {}, ("--network-alias", "acme.test"))


def start_bucket(name: str, network: str, alias: str, labels: Mapping[str, str] | None = None) -> None:
    """Start a server of S3 with a bucket `vault`: https://<alias>, also on port 9443; /bucket/ready once it answers."""
    options = ("--network-alias", alias, "--env", f"NAME={alias}")
    start(name, network, "groundwork-bucket", labels or {}, options)


def start_browser(name: str, network: str, authorities: Iterable[Path]) -> str:
    """Start a browser that trusts some authorities beside the public ones, and return the URL of its driver."""
    docker("create", "--name", name, "--network", network, "--shm-size", "256m", "groundwork-browser")
    with tempfile.TemporaryDirectory() as folder:
        trust = Path(folder) / "trust"
        trust.mkdir(mode=0o755)
        for number, authority in enumerate(authorities):
            (trust / f"{number}.pem").write_bytes(authority.read_bytes())
        docker("cp", str(trust), f"{name}:/home/browser/trust")
    docker("start", name)
    url = f"http://{address(name, network)}:9515"
    wait(30, f"{name} does not answer", lambda: _answers(f"{url}/status"))
    return url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for_host(name: str) -> None:
    """Wait until sshd runs on a host. Raise HostError when it does not."""
    wait(60, f"{name} has not started", lambda: succeeds("docker", "exec", name, "systemctl", "is-active", "ssh"))


def wait_for_acme(name: str) -> None:
    """Wait until an ACME server answers. Raise HostError when it does not."""
    wait(60, f"{name} does not answer", lambda: succeeds("docker", "exec", name, "test", "-s", "/acme/root.pem"))


def wait_for_bucket(name: str) -> None:
    """Wait until a server of S3 answers. Raise HostError when it does not."""
    wait(60, f"{name} does not answer", lambda: succeeds("docker", "exec", name, "test", "-e", "/bucket/ready"))


def let_in(host: str, public_key: str) -> str:
    """Put a key on a host for root, as a provider does, and return the host's line for a known_hosts file."""
    install = "umask 077; mkdir -p ~root/.ssh; cat >~root/.ssh/authorized_keys"
    docker("exec", "--interactive", host, "sh", "-c", install, stdin=public_key)
    return f"{host} {docker('exec', host, 'cat', '/etc/ssh/ssh_host_ed25519_key.pub')}"


def ssh_config(host: str, address: str, folder: Path) -> str:
    """What `ssh -F` needs to reach a host with the files key and known_hosts of a folder."""
    return f"""\
Host {host}
  HostName {address}
  HostKeyAlias {host}
  User root
  IdentityFile "{folder}/key"
  IdentitiesOnly yes
  UserKnownHostsFile "{folder}/known_hosts"
  StrictHostKeyChecking yes
"""


def reach(host: str, network: str, folder: Path) -> str:
    """Let in whoever has a folder, once the host has started: its key, made where missing, known_hosts, ssh_config.

    Returns the host's address. Raises HostError when there is no key or no host.
    """
    key = folder / "key"
    if not key.exists():
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", str(key)]
        if subprocess.run(make, check=False).returncode:
            raise HostError("ssh-keygen could not make a key; the reason stands above")
    wait_for_host(host)
    (folder / "known_hosts").write_text(let_in(host, key.with_suffix(".pub").read_text()))
    place = address(host, network)
    (folder / "ssh_config").write_text(ssh_config(host, place, folder))
    return place


def remove(names: Iterable[str], network: str | None = None) -> None:
    """Remove containers, and their network where one is named, as far as they are there."""
    for name in names:
        if inspect(name):
            docker("rm", "--force", "--volumes", name)
    if network and succeeds("docker", "network", "inspect", network):
        docker("network", "rm", network)


if __name__ == "__main__":
    reach(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
