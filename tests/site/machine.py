"""The host that the tests of this directory share, and what an operator has of it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab"))

import hosts  # noqa: E402  (lab/ is beside tests/, not a package)

NETWORK = "groundwork-site"
HOST = "groundwork-site-host"
ACME = "groundwork-site-acme"
IMAGE = os.environ.get("LAB_IMAGE", "groundwork-host:debian-13")
DOMAINS = {"forge": "forge.site.test", "annex": "annex.site.test"}
BIN = Path(sys.executable).parent
LOGS = ROOT / ".cache" / "test" / "site"


@dataclass
class Run:
    """One ansible-playbook run: its exit status, and its output as text."""

    status: int
    output: str

    def total(self, word: str) -> int:
        """Sum of `word=N` over the hosts of the recap."""
        return sum(int(number) for number in re.findall(rf"\b{word}=(\d+)", self.output))

    @property
    def changes(self) -> list[str]:
        """Names of the tasks that reported a change."""
        named = re.findall(r"^TASK \[(.*?)\] \*+$|^(changed): ", self.output, re.MULTILINE)
        return [named[index - 1][0] for index, (_task, word) in enumerate(named) if word]


@dataclass
class Machine:
    """The host, and what an operator has of it: inventories, keys, trust."""

    folder: Path
    address: str
    acme_root: Path
    runs: int = 0
    values: dict[str, dict] = field(default_factory=dict)

    def shell(self, command: str) -> str:
        """Output of a shell command on the host, as root."""
        return hosts.docker("exec", HOST, "bash", "-c", command)

    def inventory(self, site: str, **values) -> Path:
        """An inventory of its own for a site; more values are kept for later calls."""
        folder = self.folder / site
        folder.mkdir(exist_ok=True)
        kept = self.values.setdefault(site, {})
        kept.update(values)
        everything = {
            "ansible_ssh_common_args": f"-F {self.folder}/ssh_config",
            "groundwork_site_name": site,
            "groundwork_site_domains": [DOMAINS[site]],
            "certbot_email": f"operations@{DOMAINS[site]}",
            "certbot_directory_url": f"https://{ACME}:14000/dir",
            "certbot_ca_bundle_file": str(self.folder / "acme-ca.pem"),
            "base_swap_enabled": False,
            "base_time_sync_enabled": False,
            "base_audit_enabled": False,
            "postgres_memory_megabytes": 2048,
            "gunicorn_app_source": {"type": "directory", "path": str(ROOT / "app")},
            "gunicorn_app_settings_module": "config.settings",
            "gunicorn_app_wsgi": "config.wsgi:application",
            "gunicorn_app_health": {"path": "/readyz"},
            "gunicorn_app_environment": {
                "DJANGO_ENV": "production",
                "ALLOWED_HOSTS": DOMAINS[site],
                "CSRF_TRUSTED_ORIGINS": f"https://{DOMAINS[site]}",
                "DATABASE_URL": "{{ groundwork_database_url }}",
                "CSP_MODE": "{{ groundwork_csp_mode }}",
                "CSP_REPORT_URI": "{{ groundwork_csp_report_uri }}",
            },
            "gunicorn_app_secrets": {"SECRET_KEY": f"{site}-{'k' * 60}"},
            **kept,
        }
        groups = {group: {"hosts": {HOST: None}} for group in ("app", "db", "cache")}
        inventory = folder / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"vars": everything, "children": groups}}), encoding="utf-8")
        return inventory

    def command(self, site: str, *arguments: str, playbook: str = "site.yml") -> list[str]:
        """The command line of a run of a playbook for a site."""
        return [str(BIN / "ansible-playbook"), "-i", str(self.inventory(site)), playbook, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a run: the repository's own settings, nothing of the tester's."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        return {**kept, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

    def log(self, text: str) -> None:
        """Keep the output of a run in .cache/test/site/."""
        self.runs += 1
        (LOGS / f"{self.runs:02}.log").write_text(text, encoding="utf-8")

    def play(self, site: str, *arguments: str, ok: bool = True, playbook: str = "site.yml") -> Run:
        """Run a playbook for a site; `ok` says that it has to end well."""
        done = subprocess.run(
            self.command(site, *arguments, playbook=playbook),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        run = Run(done.returncode, done.stdout + done.stderr)
        self.log(run.output)
        assert not ok or run.status == 0, run.output[-6000:]
        return run

    def killed(self, site: str, at: int, after: float) -> str | None:
        """Kill a run `after` seconds into its task number `at`; return the task, None if it never came."""
        play = subprocess.Popen(
            self.command(site),
            cwd=ROOT,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines, seen, task = [], 0, None
        for line in play.stdout:
            lines.append(line)
            if line.startswith("TASK ["):
                seen += 1
                if seen == at:
                    task = line[6:].rpartition("]")[0]
                    time.sleep(after)
                    os.killpg(play.pid, signal.SIGKILL)
                    break
        play.stdout.close()
        play.wait()
        self.log("".join(lines))
        return task

    def get(self, path: str, site: str = "forge", tls: bool = True, method: str = "GET") -> tuple[int, bytes, dict]:
        """Status, body and peer certificate of a page, as a client that trusts only the ACME server's root."""
        connection = http.client.HTTPConnection(DOMAINS[site], timeout=15)
        connection.sock = socket.create_connection((self.address, 443 if tls else 80), timeout=15)
        certificate = {}
        if tls:
            trust = ssl.create_default_context(cafile=self.acme_root)
            connection.sock = trust.wrap_socket(connection.sock, server_hostname=DOMAINS[site])
            certificate = connection.sock.getpeercert()
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read(), certificate
        finally:
            connection.close()
