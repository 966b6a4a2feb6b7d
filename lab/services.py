#!/usr/bin/env python3
"""Run a command with a PostgreSQL and a Redis of its own: services.py COMMAND [ARGUMENT ...]

The command finds them by TEST_DATABASE_URL and TEST_REDIS_URL, and the client programs of just that PostgreSQL first
in PATH. Both servers run in one container with a password made for this run, and are gone when the command ends.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import hosts
import images

NETWORK = "bridge"
# An older pg_dump refuses a newer server, and a newer one writes what an older server refuses.
PROGRAMS = ("pg_dump", "pg_restore", "psql")
HANDED_ON = ("PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSSLMODE", "PGCONNECT_TIMEOUT", "PGOPTIONS")


def program(container: str, name: str) -> str:
    """Return a script that runs a program in the container as the caller, with the caller's folder and variables."""
    variables = " ".join(f"--env {variable}" for variable in HANDED_ON)
    user = f"{os.getuid()}:{os.getgid()}"
    return f'#!/bin/sh\nexec docker exec --interactive --user {user} {variables} {container} {name} "$@"\n'


def start(container: str, password: str, folder: Path) -> str:
    """Start the container, with the folder at the same place as outside, and return its address when it is ready."""
    environment = {**os.environ, "PASSWORD": password}
    mount = f"type=bind,source={folder},target={folder}"
    options = ["--detach", "--name", container, "--network", NETWORK, "--env", "PASSWORD", "--mount", mount]
    command = ["docker", "run", *options, images.SERVICES]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if started.returncode:
        raise hosts.HostError(f"the container could not be started: {started.stderr.strip()}")
    ready = ("docker", "exec", container, "test", "-e", "/run/services-ready")
    hosts.wait(60, f"{container} does not answer", lambda: hosts.succeeds(*ready))
    return hosts.address(container, NETWORK)


def run(command: list[str], folder: Path) -> int:
    """Run the command with the two servers and return its exit code."""
    container = f"groundwork-services-{secrets.token_hex(4)}"
    password = secrets.token_urlsafe(24)
    programs = folder / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        script = programs / name
        script.write_text(program(shlex.quote(container), name))
        script.chmod(0o755)
    try:
        address = start(container, password, folder)
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TMPDIR": str(folder),
            "TEST_DATABASE_URL": f"postgresql://tests:{password}@{address}:5432/tests",
            "TEST_REDIS_URL": f"redis://tests:{password}@{address}:6379/0",
        }
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        if hosts.inspect(container):
            hosts.docker("rm", "--force", "--volumes", container)


def main() -> int:
    """Read the command line and run what it names."""
    if not sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    # Asked to end, it still removes the container.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        images.LOGS.mkdir(parents=True, exist_ok=True)
        images.make_services()
        with tempfile.TemporaryDirectory(prefix="services-") as folder:
            return run(sys.argv[1:], Path(folder))
    except FileNotFoundError as error:
        print(f"lab/services.py: {error.filename} is missing on this machine", file=sys.stderr)
    except (images.BuildError, hosts.HostError) as error:
        print(f"lab/services.py: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
