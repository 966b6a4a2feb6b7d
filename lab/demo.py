"""Make the demo, a whole site on a throw-away host, or remove it.

Usage: demo.py up | down

A container stands for a freshly rented machine: systemd, sshd and a root key, nothing else. Ansible reaches it over
ssh as it would any machine. A second container is an ACME server (Pebble), so the certificate is issued for real.
Everything made at run time, secrets included, is in .demo/.
"""

from __future__ import annotations

import http.client
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import hosts
from hosts import HostError

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
LOGS = DEMO / "log"
HOST = "groundwork-demo"
ACME = "groundwork-demo-acme"
NETWORK = "groundwork-demo"
DOMAIN = "forge.demo.test"
LABEL = "groundwork.demo"
IMAGES = {HOST: "groundwork-host:debian-13", ACME: "groundwork-pebble"}
# Where a browser beside the engine, or at the other end of `ssh -L`, reaches the site without its address.
PUBLISHED = {8443: 443, 8080: 80}


class DemoError(Exception):
    """The demo cannot go on; the text says why in one sentence and names the log where there is one."""


# The steps of `up`, in their order. Each returns what the progress line says about it.


def prepare_engine() -> str:
    """Find, install or start a container engine; it may ask, so it talks to the terminal itself."""
    if subprocess.run([ROOT / "lab" / "engine.sh"], cwd=ROOT, check=False).returncode:
        raise DemoError("there is no container engine to work with; the reason stands above")
    return "container engine"


def build_images() -> str:
    """Build the images that are missing or out of date."""
    if subprocess.run([sys.executable, ROOT / "lab" / "images.py", "debian-13", "pebble"], check=False).returncode:
        raise DemoError("an image could not be built; the reason stands above")
    return "images"


def current(name: str) -> bool:
    """Tell whether a container of this checkout runs from the newest image."""
    container = hosts.inspect(name)
    if container is None:
        return False
    owner = container["Config"]["Labels"].get(LABEL, "an unknown place")
    if owner != str(ROOT):
        raise DemoError(f"the container {name} belongs to a demo of {owner}; remove it first with: make demo-down")
    newest = hosts.docker("image", "inspect", "--format", "{{.Id}}", IMAGES[name]).strip()
    return container["State"]["Running"] and container["Image"] == newest


def free(port: int) -> bool:
    """Tell whether a port of the loopback interface can be published."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start_machines() -> str:
    """Start the host and the ACME server unless both run; one that was stopped has forgotten all, so both are new."""
    if current(HOST) and current(ACME):
        return "host and ACME server are running"
    hosts.remove((HOST, ACME), NETWORK)
    mark = {LABEL: str(ROOT)}
    hosts.docker("network", "create", "--label", f"{LABEL}={ROOT}", NETWORK)
    hosts.start_acme(ACME, NETWORK, labels=mark)
    ports = [f"127.0.0.1:{outside}:{inside}" for outside, inside in PUBLISHED.items() if free(outside)]
    hosts.start_host(HOST, NETWORK, IMAGES[HOST], aliases=[DOMAIN], ports=ports, labels=mark)
    return f"started {HOST} and {ACME}"


def write(name: str, content: str) -> Path:
    """Write a file of .demo that only its owner may read."""
    path = DEMO / name
    path.touch(mode=0o600)
    path.write_text(content)
    return path


def make_secrets() -> str:
    """Make what an operator of a new machine has: a key that it knows, its host key, the CA's root, the secrets."""
    for name in ("secret_key", "backups_passphrase"):
        if not (DEMO / name).exists():
            write(name, secrets.token_urlsafe(50))
    hosts.reach(HOST, NETWORK, DEMO)
    hosts.wait_for_acme(ACME)
    write("acme-root.pem", hosts.docker("exec", ACME, "cat", "/acme/root.pem"))
    write("acme-ca.pem", hosts.docker("exec", ACME, "cat", "/acme/ca.pem"))
    return "keys, secrets and trust anchors in .demo"


def address() -> str:
    """Return the host's address."""
    return hosts.address(HOST, NETWORK)


def apply_site() -> str:
    """Run site.yml over ssh, as for any host. On a terminal, show the task that is being done."""
    log = LOGS / "site.log"
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/demo", "site.yml"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    recap = ""
    with log.open("w") as file:
        play = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in play.stdout:
            file.write(line)
            if line.startswith("TASK [") and sys.stdout.isatty():
                print(f"\r\033[K  ... {line[6:].rpartition(']')[0][:100]}", end="", flush=True)
            if match := re.match(rf"{HOST} +: (ok=\d+) +(changed=\d+)", line):
                recap = ", ".join(match.groups())
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if play.wait():
        print("".join(f"  | {line}" for line in log.read_text().splitlines(keepends=True)[-15:]))
        raise DemoError("ansible-playbook -i inventories/demo site.yml failed; the log is .demo/log/site.log")
    return f"ansible-playbook -i inventories/demo site.yml ({recap})"


def request(url_path: str, tls: bool) -> int:
    """Ask the site for a page as a client that trusts nothing but the ACME server's root. Return the status."""
    connection = http.client.HTTPConnection(DOMAIN, timeout=15)
    connection.sock = socket.create_connection((address(), 443 if tls else 80), timeout=15)
    if tls:
        trust = ssl.create_default_context(cafile=DEMO / "acme-root.pem")
        connection.sock = trust.wrap_socket(connection.sock, server_hostname=DOMAIN)
    try:
        connection.request("GET", url_path)
        return connection.getresponse().status
    finally:
        connection.close()


def visit_site() -> str:
    """Fetch pages with full verification, and prove that plain HTTP is redirected."""
    for path, tls, wanted in (("/", True, (200,)), ("/readyz", True, (200,)), ("/", False, (301, 308))):
        url = f"{'https' if tls else 'http'}://{DOMAIN}{path}"
        try:
            status = request(path, tls)
        except OSError as error:
            raise DemoError(f"{url} cannot be fetched: {error}") from error
        if status not in wanted:
            raise DemoError(f"{url} answered {status} instead of {wanted[0]}")
    return f"https://{DOMAIN}/ and /readyz answer 200 with a verified certificate, port 80 redirects"


STEPS = (prepare_engine, build_images, start_machines, make_secrets, apply_site, visit_site)


def up() -> None:
    """Make the demo, step by step, and say how to go on."""
    started = float(os.environ.get("DEMO_STARTED", time.time()))
    fresh = not shutil.which("docker") or hosts.inspect(HOST) is None
    LOGS.mkdir(parents=True, exist_ok=True)
    DEMO.chmod(0o700)
    for number, step in enumerate(STEPS, 1):
        start = time.monotonic()
        try:
            done = step()
        except (DemoError, HostError) as error:
            raise DemoError(f"step {number} of {len(STEPS)} ({step.__name__.replace('_', ' ')}): {error}") from error
        print(f"[{number}/{len(STEPS)}] {done}: {time.monotonic() - start:.1f} s", flush=True)
    published = bool(hosts.inspect(HOST)["NetworkSettings"]["Ports"].get("443/tcp"))
    tunnel = f"over ssh -L 8443      the same, with 127.0.0.1 and https://{DOMAIN}:8443/\n  " if published else ""
    outcome = (
        "A bare Debian 13 host became a hardened Django site"
        if fresh
        else "The site was checked and brought up to date"
    )
    print(
        f"""
{outcome} in {time.time() - started:.0f} s: https://{DOMAIN}/

  with curl             curl --cacert .demo/acme-root.pem --resolve {DOMAIN}:443:{address()} https://{DOMAIN}/
  in a browser          add "{address()} {DOMAIN}" to /etc/hosts, import .demo/acme-root.pem as an authority
  {tunnel}log in                ssh -F .demo/ssh_config {HOST}
  run it again          ansible-playbook -i inventories/demo site.yml                (nothing changes)
  certificates only     ansible-playbook -i inventories/demo site.yml --tags certs
  what would change     ansible-playbook -i inventories/demo site.yml --check --diff
  remove it             make demo-down

The commands are in .venv/bin: source .venv/bin/activate"""
    )


def down() -> None:
    """Remove every trace of the demo."""
    if shutil.which("docker") and hosts.succeeds("docker", "info"):
        hosts.remove((HOST, ACME), NETWORK)
    if DEMO.exists():
        shutil.rmtree(DEMO)
    print("The demo is gone: containers, network and .demo. Images stay for speed; make clean-images removes them.")


def main() -> int:
    """Do what the command line says."""
    verbs = {"up": up, "down": down}
    if sys.argv[1:] not in [[verb] for verb in verbs]:
        print(__doc__)
        return 2
    try:
        verbs[sys.argv[1]]()
    except (DemoError, HostError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; make demo goes on from here, make demo-down removes what there is", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
