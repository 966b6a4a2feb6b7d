"""A host and what an operator has of it: an inventory, keys, trust, runs of playbooks. For tests."""

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
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
GROUPS = ("app", "db", "cache")


@dataclass
class Run:
    """One ansible-playbook run that has ended: its exit status, and its output as text."""

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
class RunningPlay:
    """An ansible-playbook run that has begun; what it says is in a log from line to line."""

    process: subprocess.Popen
    log: Path

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """End it and all it has started, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self, seconds: float) -> Run:
        """Wait for its end. Raise TimeoutError, with its last words, when it takes longer."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"the run has not ended after {seconds} s:\n{self.output[-6000:]}") from None
        return Run(self.process.returncode, self.output)


@dataclass
class Machine(ABC):
    """A host, and what an operator has of it.

    `folder` holds ssh_config, key, known_hosts, acme-root.pem and acme-ca.pem; `acme` is the name of the ACME server,
    `domains` has the domain of each site, `settings` what the inventories of all sites have in common, `logs` gets
    what each run said, `patience` is how many seconds a run may take.
    """

    name: str
    folder: Path
    address: str
    acme: str
    domains: dict[str, str]
    settings: dict = field(repr=False)
    logs: Path
    patience: float = 900
    runs: int = 0
    values: dict[str, dict] = field(default_factory=dict, repr=False)

    @property
    def acme_root(self) -> Path:
        """The root of the certificates that the ACME server issues."""
        return self.folder / "acme-root.pem"

    @abstractmethod
    def shell(self, command: str) -> str:
        """Output of a shell command on the host, as root."""

    def inventory(self, site: str, **values) -> Path:
        """An inventory of its own for a site; more values are kept for later calls."""
        folder = self.folder / site
        folder.mkdir(exist_ok=True)
        kept = self.values.setdefault(site, {})
        kept.update(values)
        domain = self.domains[site]
        everything = {
            "ansible_ssh_common_args": f"-F {self.folder}/ssh_config",
            "groundwork_site_name": site,
            "groundwork_site_domains": [domain],
            "certbot_email": f"operations@{domain}",
            "certbot_directory_url": f"https://{self.acme}:14000/dir",
            "certbot_ca_bundle_file": str(self.folder / "acme-ca.pem"),
            "gunicorn_app_source": {"type": "directory", "path": str(ROOT / "app")},
            "gunicorn_app_settings_module": "config.settings",
            "gunicorn_app_wsgi": "config.wsgi:application",
            "gunicorn_app_health": {"path": "/readyz"},
            "gunicorn_app_environment": {
                "DJANGO_ENV": "production",
                "ALLOWED_HOSTS": domain,
                "CSRF_TRUSTED_ORIGINS": f"https://{domain}",
                "DATABASE_URL": "{{ groundwork_database_url }}",
                "CSP_MODE": "{{ groundwork_csp_mode }}",
                "CSP_REPORT_URI": "{{ groundwork_csp_report_uri }}",
            },
            "gunicorn_app_secrets": {"SECRET_KEY": f"{site}-{'k' * 60}"},
            **self.settings,
            **kept,
        }
        groups = {group: {"hosts": {self.name: None}} for group in GROUPS}
        inventory = folder / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"vars": everything, "children": groups}}), encoding="utf-8")
        return inventory

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a run: the repository's own settings, nothing of the tester's."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        own = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
        return {**kept, **own}

    def begin(self, site: str, *arguments: str, playbook: str = "site.yml") -> RunningPlay:
        """Begin a run of a playbook for a site."""
        self.runs += 1
        log = self.logs / f"{self.runs:02}.log"
        command = [str(BIN / "ansible-playbook"), "-i", str(self.inventory(site)), playbook, *arguments]
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return RunningPlay(process, log)

    def play(self, site: str, *arguments: str, ok: bool = True, playbook: str = "site.yml") -> Run:
        """Run a playbook for a site; `ok` says that it has to end well."""
        run = self.begin(site, *arguments, playbook=playbook).finish(self.patience)
        assert not ok or run.status == 0, run.output[-6000:]
        return run

    def killed(self, site: str, at: int, after: float) -> str | None:
        """Kill a run `after` seconds into its task number `at`; return the task, None if it never came."""
        play = self.begin(site)
        tasks: list[str] = []
        while len(tasks) < at and not play.ended:
            time.sleep(0.02)
            tasks = re.findall(r"^TASK \[(.*)\]", play.output, re.MULTILINE)
        if len(tasks) < at:
            return None
        time.sleep(after)
        play.kill()
        return tasks[at - 1]

    def get(self, path: str, site: str = "forge", tls: bool = True, method: str = "GET") -> tuple[int, bytes, dict]:
        """Status, body and peer certificate of a page, as a client that trusts only the ACME server's root."""
        domain = self.domains[site]
        connection = http.client.HTTPConnection(domain, timeout=15)
        connection.sock = socket.create_connection((self.address, 443 if tls else 80), timeout=15)
        certificate = {}
        try:
            if tls:
                trust = ssl.create_default_context(cafile=self.acme_root)
                connection.sock = trust.wrap_socket(connection.sock, server_hostname=domain)
                certificate = connection.sock.getpeercert()
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read(), certificate
        finally:
            connection.close()
