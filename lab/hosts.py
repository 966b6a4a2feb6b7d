"""Throw-away machines: containers that behave like freshly rented hosts, and the ACME server beside them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

CAPABILITIES = Path(__file__).resolve().parent / "image" / "capabilities"
#: what systemd in a container needs: its cgroups, fresh run-time directories, no filter in between
RUN = (
    *("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
)


class LabError(Exception):
    """A machine could not be had; the text says why in one sentence."""


def docker(*arguments: str, stdin: str | None = None) -> str:
    """Run a docker command and return its output. Raise LabError with what it said when it fails."""
    answer = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if answer.returncode:
        said = (answer.stderr or answer.stdout).strip().splitlines()[-1:] or [f"exit {answer.returncode}"]
        raise LabError(f"`docker {' '.join(arguments[:2])}` failed: {said[0]}")
    return answer.stdout


def start_host(
    name: str,
    network: str,
    image: str,
    aliases: Iterable[str] = (),
    publish: Mapping[int, int] | None = None,
    label: str = "",
) -> None:
    """Start a bare host. `aliases` are its names in the network, `publish` maps loopback ports to its own."""
    capabilities = CAPABILITIES.read_text(encoding="utf-8").split()
    docker(
        *("run", "--detach", "--name", name, "--hostname", name, "--network", network),
        *(option for alias in aliases for option in ("--network-alias", alias)),
        *(
            option
            for outside, inside in (publish or {}).items()
            for option in ("--publish", f"127.0.0.1:{outside}:{inside}")
        ),
        *(("--label", label) if label else ()),
        *RUN,
        *(option for capability in capabilities for option in ("--cap-add", capability)),
        image,
    )


def start_acme(name: str, network: str, label: str = "") -> None:
    """Start an ACME server; its API is https://<name>:14000/dir."""
    docker(
        *("run", "--detach", "--name", name, "--hostname", name, "--network", network),
        *(("--label", label) if label else ()),
        "groundwork-pebble",
    )


def address(name: str, network: str) -> str:
    """Return the IPv4 address of a machine in a network."""
    return docker(
        "inspect", "--format", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', name
    ).strip()


def wait(seconds: float, what: str, ready: Callable[[], bool]) -> None:
    """Wait until something is ready. Raise LabError with `what` when it is not after so many seconds."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise LabError(f"{what} after {seconds:.0f} s")
        time.sleep(0.2)


def succeeds(*command: str) -> bool:
    """Tell whether a command ends with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def remove(names: Iterable[str], network: str) -> None:
    """Remove machines and their network, if they are there."""
    for name in names:
        if succeeds("docker", "container", "inspect", name):
            docker("rm", "--force", "--volumes", name)
    if succeeds("docker", "network", "inspect", network):
        docker("network", "rm", network)
