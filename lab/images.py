"""Build the images of the test bench without an image registry: bare Debian hosts, an ACME server, a browser, services.

Usage: images.py [--clean] [debian-13] [debian-12] [ubuntu-24.04] ... [pebble] [browser] [services]
                 [bucket] [grader] [vm]
Without a name it builds what the demo and the tests on hosts need: Debian 13, Debian 12, Pebble, "bucket", which is
a server of S3. "services" is PostgreSQL with Redis for the tests of the app, "grader" what `make grade` runs, "vm" what
makes and runs virtual machines.

An image carries a hash of its recipe as a label and is built again only when the recipe changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECIPES = HERE / "image"
LOGS = HERE.parent / ".cache" / "lab"
LABEL = "groundwork.recipe"
SUITES = {
    "debian-13": "trixie",
    "debian-12": "bookworm",
    "ubuntu-26.04": "resolute",
    "ubuntu-24.04": "noble",
    "ubuntu-22.04": "jammy",
}
USUAL = ("debian-13", "debian-12", "pebble", "bucket")
# What a minimal server installation has: an init system, a login, a package manager with TLS, Python for Ansible.
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,python3,python3-apt,sudo,iproute2,ca-certificates,openssh-server,openssl,cron"
)
SERVICES = "groundwork-services:latest"
BUCKET = "groundwork-bucket:latest"
GRADER = "groundwork-grader:latest"
VM = "groundwork-vm:latest"
CERTIFICATES = Path("/usr/local/share/ca-certificates")


class BuildError(Exception):
    """An image could not be built; the text says which and where the log is."""


def recipe_hash(*parts: str | bytes) -> str:
    """Return a short hash of everything that decides what an image contains."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def built_hash(image: str) -> str:
    """Return the recipe hash that an image was built from, "" when there is no such image."""
    answer = subprocess.run(
        ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


def extra_certificates() -> dict[str, bytes]:
    """Return the certificates this machine trusts beyond its distribution's, by file name."""
    return {path.name: path.read_bytes() for path in sorted(CERTIFICATES.glob("**/*.crt"))}


def import_base(image: str, system: str) -> None:
    """Make the bare root file system of an operating system and import it as an image."""
    components = "main,universe" if system.startswith("ubuntu") else "main"
    wanted = recipe_hash(SUITES[system], PACKAGES, components)
    if built_hash(image) == wanted:
        return
    include = [f"--include={PACKAGES}", f"--components={components}"]
    command = ["mmdebstrap", "--variant=minbase", *include, SUITES[system], "-"]
    if os.geteuid() != 0:
        command.insert(0, "sudo")
    log = LOGS / f"{image.replace(':', '-')}.log"
    with log.open("wb") as output:
        bootstrap = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output)
        load = subprocess.run(
            ["docker", "import", "--change", f"LABEL {LABEL}={wanted}", "-", image],
            stdin=bootstrap.stdout,
            stdout=output,
            stderr=output,
            check=False,
        )
        if bootstrap.wait() or load.returncode:
            subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)
            raise BuildError(f"the base of {image} could not be made, see {log}")


def build(image: str, base: str, dockerfile: str, files: list[str]) -> bool:
    """Build one image on top of another. Return false when the one that is there is current."""
    certificates = extra_certificates()
    sources = [(RECIPES / name).read_bytes() for name in (dockerfile, *files)]
    wanted = recipe_hash(built_hash(base), *sources, *certificates, *certificates.values())
    if built_hash(image) == wanted:
        return False
    log = LOGS / f"{image.replace(':', '-')}.log"
    with tempfile.TemporaryDirectory() as folder, log.open("ab") as output:
        context = Path(folder)
        (context / "certificates").mkdir()
        for name, content in certificates.items():
            (context / "certificates" / name).write_bytes(content)
        for name in files:
            shutil.copy(RECIPES / name, context / Path(name).name)
        shutil.copy(RECIPES / dockerfile, context / "Dockerfile")
        command = [
            "docker",
            "build",
            "--label",
            f"{LABEL}={wanted}",
            "--build-arg",
            f"BASE={base}",
            "--tag",
            image,
            ".",
        ]
        if subprocess.run(command, cwd=context, stdout=output, stderr=output, check=False).returncode:
            raise BuildError(f"{image} could not be built, see {log}")
    return True


def make_host(system: str) -> bool:
    """Build the host image of an operating system. Return false when the one that is there is current."""
    base = f"groundwork-base:{system}"
    import_base(base, system)
    return build(f"groundwork-host:{system}", base, "host.Dockerfile", ["lab-init"])


def make_pebble() -> bool:
    """Build the image of the ACME server. Return false when the one that is there is current."""
    make_host("debian-13")
    return build(
        "groundwork-pebble:latest", "groundwork-host:debian-13", "pebble.Dockerfile", ["pebble-start", "pebble.json"]
    )


def make_browser() -> bool:
    """Build the image of the browser. Return false when the one that is there is current."""
    make_host("debian-13")
    return build("groundwork-browser:latest", "groundwork-host:debian-13", "browser.Dockerfile", ["browser-start"])


def make_services() -> bool:
    """Build the image of the tests' servers. Return false when the one that is there is current."""
    make_host("debian-13")
    return build(SERVICES, "groundwork-host:debian-13", "services.Dockerfile", ["services-start"])


def make_bucket() -> bool:
    """Build the image of the S3 server. Return false when the one that is there is current."""
    make_host("debian-13")
    files = ["bucket-start", "bucket.conf", "../../requirements/s3.txt"]
    return build(BUCKET, "groundwork-host:debian-13", "bucket.Dockerfile", files)


def make_grader() -> bool:
    """Build the image of the graders. Return false when the one that is there is current."""
    make_host("debian-13")
    return build(GRADER, "groundwork-host:debian-13", "grader.Dockerfile", ["../../requirements/grade.txt"])


def make_vm() -> bool:
    """Build the image of virtual machines. Return false when the one that is there is current."""
    make_host("debian-13")
    return build(VM, "groundwork-host:debian-13", "vm.Dockerfile", ["vm-disk", "vm-seed", "vm-start"])


#: what is no host, by name
BESIDE = {
    "pebble": make_pebble,
    "browser": make_browser,
    "services": make_services,
    "bucket": make_bucket,
    "grader": make_grader,
    "vm": make_vm,
}


def make(target: str) -> None:
    """Build one target and what it stands on; print one line about it."""
    start = time.monotonic()
    fresh = BESIDE[target]() if target in BESIDE else make_host(target)
    image = f"groundwork-{target}" if target in BESIDE else f"groundwork-host:{target}"
    print(f"  {image} {f'built in {time.monotonic() - start:.0f} s' if fresh else 'is current'}", flush=True)


def clean() -> None:
    """Remove every image of the test bench."""
    command = ["docker", "image", "ls", "--filter", f"label={LABEL}", "--format", "{{.Repository}}:{{.Tag}}"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    for image in listing.stdout.split():
        if image.startswith("groundwork-"):
            subprocess.run(["docker", "image", "rm", "--force", image], stdout=subprocess.DEVNULL, check=True)
            print(f"  {image} removed")


def main() -> int:
    """Read the command line and build, or remove, what it names."""
    targets = [*SUITES, *BESIDE]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clean", action="store_true", help="remove all images of the test bench")
    parser.add_argument("target", nargs="*", help=f"what to build: {', '.join(targets)} (default: {', '.join(USUAL)})")
    arguments = parser.parse_args()
    if unknown := set(arguments.target) - set(targets):
        parser.error(f"unknown target: {', '.join(sorted(unknown))}")
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.clean:
            clean()
        else:
            for target in arguments.target or USUAL:
                make(target)
    except (BuildError, subprocess.CalledProcessError) as error:
        print(f"lab/images.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
