"""The virtual machine that the tests of this directory share, and what can happen to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import IO

import hardening
import hosts
import keeper
import machines
import vm
import yaml

SYSTEM = os.environ.get("VM_SYSTEM", "debian-13")
IMAGE = os.environ.get("VM_IMAGE", "")
NETWORK = "groundwork-vm"
HOST = "groundwork-vm-machine"
ACME = "groundwork-vm-acme"
KEEPER = "groundwork-vm-keeper"
SITE = "forge"
DOMAINS = {SITE: "forge.vm.test"}
# Names for what looks them up by a real resolver, which takes none of a single word.
ACME_NAME = "acme.test"
KEEPER_NAME = "keeper.test"
PLACE = vm.CACHE / "run"
OPERATOR = PLACE / "operator"
LOGS = machines.ROOT / ".cache" / "test" / "vm"
BASE_DEFAULTS = machines.ROOT / "roles" / "base" / "defaults" / "main.yml"
# Their pgBackRest does not know sftp, so a bucket keeps their backups.
WITHOUT_SFTP = ("debian-12", "ubuntu-22.04")
VENDORS = ("apport", "apt-news", "esm-cache", "fwupd", "motd-news", "pollinate", "snap", "ua-", "ubuntu-advantage")
"""How the names of units begin that Ubuntu's images have, and that fail where their vendor cannot be asked."""
OWNER = "groundwork.checkout"
"""Label of the network: the checkout whose machine it is."""
SSH_SECONDS = 600
"""How long a machine may take to let in, emulated on a machine that does other things too."""
SITE_SECONDS = 300
PLAY_SECONDS = 3000


class CommandFailed(AssertionError):
    """A command on the machine ended with another status than 0; the text has what it said."""


class VirtualMachine(machines.Machine):
    """A machine that boots, and what an operator has of it."""

    @cached_property
    def sockets(self) -> tempfile.TemporaryDirectory:
        """A directory with a short path, since that of a socket may have 107 bytes."""
        return tempfile.TemporaryDirectory()

    def ssh(self, *options: str) -> list[str]:
        """The begin of a command that logs in as root, by a connection of its own."""
        config = str(self.folder / "ssh_config")
        return ["ssh", "-F", config, "-o", "ConnectTimeout=10", "-o", "BatchMode=yes", *options]

    def shared(self) -> list[str]:
        """The begin of a command that uses the connection of the one before: to log in takes seconds if emulated."""
        share = ("ControlMaster=auto", "ControlPersist=60", f"ControlPath={self.sockets.name}/ssh")
        alive = ("ServerAliveInterval=5", "ServerAliveCountMax=6")
        return self.ssh(*(word for option in (*share, *alive) for word in ("-o", option)))

    def hang_up(self) -> None:
        """End the shared connection, whether the machine is still there or not."""
        subprocess.run([*self.shared(), "-O", "exit", self.name], capture_output=True, check=False)

    def shell(self, command: str, seconds: float = 300) -> str:
        """Output of a shell command on the machine, as root. Raise CommandFailed when it ends with another status."""
        line = [*self.shared(), self.name, f"bash -c {shlex.quote(command)}"]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=seconds)
        if done.returncode:
            raise CommandFailed(f"{command!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}"[-6000:])
        return done.stdout

    def receive(self, source: IO[bytes], command: str) -> None:
        """Run a shell command on the machine, as root, that reads from a file of this one."""
        subprocess.run([*self.shared(), self.name, f"bash -c {shlex.quote(command)}"], stdin=source, check=True)

    def succeeds(self, command: str) -> bool:
        """Whether a shell command on the machine ends with 0; also false when the machine does not answer."""
        try:
            self.shell(command, 60)
        except (CommandFailed, subprocess.TimeoutExpired):
            return False
        return True

    def lets_in(self) -> bool:
        """Whether the operator can log in."""
        line = [*self.ssh(), self.name, "true"]
        try:
            return subprocess.run(line, capture_output=True, check=False, timeout=30).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def until(self, complaint: str, ready: Callable[[], bool], seconds: float = 300, every: float = 1) -> float:
        """Wait until something is ready and return the seconds. Raise TimeoutError with the complaint if it is not."""
        start = time.monotonic()
        while not ready():
            if time.monotonic() - start > seconds:
                raise TimeoutError(f"{complaint} after {seconds:.0f} s; the console's last words:\n{self.last_words()}")
            time.sleep(every)
        return time.monotonic() - start

    def last_words(self) -> str:
        """The end of what is on the console."""
        return vm.console(self.name)[-2000:]

    def find(self) -> None:
        """Note where the machine is; a machine that was off may have another address."""
        self.address = hosts.address(self.name, NETWORK)
        (self.folder / "ssh_config").write_text(hosts.ssh_config(self.name, self.address, self.folder))

    def until_it_lets_in(self) -> float:
        """Wait until the operator can log in, and return the seconds."""
        return self.until("ssh does not let in", self.lets_in, SSH_SECONDS, 0.5)

    def until_the_site_answers(self) -> float:
        """Wait until the site answers 200, its database and all, and takes changes. Return the seconds."""
        return self.until("the site does not answer, or is closed", self.is_open, SITE_SECONDS, 0.5)

    def since_ssh(self) -> float:
        """Seconds since sshd listens, as the machine's own clock counts them."""
        listening = "systemctl show -P ActiveEnterTimestampMonotonic ssh.socket ssh.service"
        up, *moments = self.shell(f"cut -d' ' -f1 /proc/uptime; {listening}").split()
        return float(up) - min(int(moment) for moment in moments if moment != "0") / 1e6

    def until_the_site_is_back(self) -> float:
        """Wait until the site answers after a start of the machine, and return the seconds since sshd listens."""
        self.until_the_site_answers()
        return self.since_ssh()

    def site_answers(self, path: str = "/readyz") -> bool:
        """Whether a page is answered with 200."""
        try:
            return self.get(path, SITE)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def is_open(self) -> bool:
        """Whether the site answers and takes changes: one that is read only says 503 to a POST, not what it lacks."""
        try:
            return self.site_answers() and self.get("/", SITE, method="POST")[0] != 503
        except (OSError, http.client.HTTPException):
            return False

    def boot_id(self) -> str:
        """What is another one after each start."""
        return self.shell("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> float:
        """Start the machine anew by its own command, and return the seconds until it lets in again."""
        before = self.boot_id()
        start = time.monotonic()
        self.succeeds("systemctl reboot")
        self.hang_up()

        def has_restarted() -> bool:
            try:
                return self.boot_id() != before
            except (CommandFailed, subprocess.TimeoutExpired):
                return False

        self.until("the machine has not restarted", has_restarted, SSH_SECONDS, 0.5)
        return time.monotonic() - start

    def lose_power(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Cut the power, do something, and switch the machine on again. Returns when it lets in."""
        vm.cut_power(self.name)
        meanwhile()
        self.hang_up()
        vm.switch_on(self.name)
        self.find()
        self.until_it_lets_in()

    def until_calm(self) -> None:
        """Wait until nothing is being started or stopped on the machine, backups and renewals included."""
        busy = "{ systemctl list-jobs --no-legend; systemctl list-units --no-legend --state=activating; } | grep -q ."
        self.until("units are still being started", lambda: self.succeeds(f"! {busy}"), 900, 2)

    def sql(self, statement: str) -> str:
        """Answer of a statement in the site's database, as the superuser."""
        return self.shell(f"cd / && runuser -u postgres -- psql -XAtqd {SITE} -c {shlex.quote(statement)}").strip()

    def failed_units(self) -> list[str]:
        """Units that have failed and not run well since; not those of a vendor's image that ask their vendor."""
        failed = self.shell("systemctl list-units --failed --no-legend --plain | awk '{print $1}'").split()
        return [unit for unit in failed if not unit.startswith(VENDORS)]

    def backups(self, repository: int = 1) -> int:
        """How many backups of the cluster there are that count, in a repository."""
        listed = f"cd / && runuser -u postgres -- pgbackrest --stanza=main --repo={repository} info"
        return len(re.findall(r"(?:full|diff) backup: ", self.shell(listed)))

    @property
    def database_unit(self) -> str:
        """The unit of PostgreSQL's cluster."""
        return self.shell("systemctl list-units --plain --no-legend 'postgresql@*' | awk '{print $1}'").strip()

    @property
    def site_unit(self) -> str:
        """The unit of the slot that serves."""
        return f"{SITE}@{self.live_slot()}.service"

    def live_release(self) -> str:
        """Id of the release that serves."""
        return Path(self.shell(f"readlink -f /srv/{SITE}/live").strip()).name

    def live_slot(self) -> str:
        """The slot that serves, blue or green."""
        return Path(self.shell(f"readlink /srv/{SITE}/live").strip()).name

    def change_code(self) -> None:
        """Change something in the site's code, so that there is something to release."""
        code = self.folder / "code"
        (code / "CHANGED").write_text(f"{time.time_ns()}\n")

    def begin_lynis(self) -> None:
        """Have Lynis look at the machine. It is in the container that runs the machine, and copied there for this."""
        take = ["docker", "exec", self.name, "tar", "-C", "/", "-cf", "-", *hardening.FOLDERS]
        place = hardening.PLACE
        with subprocess.Popen(take, stdout=subprocess.PIPE) as packed:
            self.receive(packed.stdout, f"rm -rf {place} && mkdir {place} && tar -C {place} -xf -")
        output = f"--property=StandardOutput=file:{place}/said"
        self.shell(f"systemd-run --quiet --unit=lynis {output} /bin/sh -c {shlex.quote(hardening.AUDIT)}")

    def lynis_said(self) -> str:
        """What Lynis has said, when it has ended; nothing of it stays on the machine."""
        self.until("Lynis is at work", lambda: not self.succeeds("systemctl is-active -q lynis"), 900, 2)
        said = self.shell(f"cat {hardening.PLACE}/said")
        (LOGS / "lynis.txt").write_text(said + self.shell("cat /var/log/lynis.log"), encoding="utf-8")
        self.shell(hardening.REMOVE)
        return said

    def keep(self, **settings) -> None:
        """Have the inventory say more from now on."""
        self.settings.update(settings)
        (self.folder / "settings.json").write_text(json.dumps(self.settings))

    @property
    def system(self) -> str:
        """Name and version of its system, such as debian-13."""
        return self.shell('. /etc/os-release && echo "$ID-$VERSION_ID"').strip()

    def title(self) -> str:
        """Its system in a few words, and where its disk is from."""
        name = self.shell('. /etc/os-release && echo "$PRETTY_NAME"').strip()
        return f"{name}, {'cloud image' if IMAGE else 'from packages'}, {'emulated' if is_emulated() else 'KVM'}"


def machine_of(settings: dict) -> VirtualMachine:
    """The machine that runs, with what its inventory says."""
    machine = VirtualMachine(HOST, OPERATOR, "", ACME_NAME, DOMAINS, settings, LOGS, PLAY_SECONDS)
    machine.runs = len(list(LOGS.glob("*.log")))
    machine.find()
    return machine


def kept() -> VirtualMachine | None:
    """The machine that an earlier run has left, None if there is none. Raise HostError where it is another one."""
    settings = OPERATOR / "settings.json"
    containers = [hosts.inspect(name) for name in (HOST, ACME, KEEPER)]
    if not settings.exists() or not all(containers):
        return None
    check_owner()
    if not all(container["State"]["Running"] for container in containers):
        raise hosts.HostError("The machine that was kept does not run any more: make test-vm-down removes it.")
    there = (OPERATOR / "choice").read_text() if (OPERATOR / "choice").exists() else "an unknown system"
    if there != choice():
        raise hosts.HostError(
            f"The machine that was kept is of {there}, not of {choice()}: make test-vm-down removes it."
        )
    return machine_of(json.loads(settings.read_text()))


def choice() -> str:
    """What was asked for, as `make test-vm` takes it."""
    return f"VM_IMAGE={IMAGE}" if IMAGE else f"SYSTEM={SYSTEM}"


def check_owner() -> None:
    """Raise HostError where the machine that is there is another checkout's."""
    label = f'{{{{index .Labels "{OWNER}"}}}}'
    done = subprocess.run(
        ["docker", "network", "inspect", "--format", label, NETWORK], capture_output=True, text=True, check=False
    )
    owner = done.stdout.strip()
    if owner not in ("", str(machines.ROOT)):
        raise hosts.HostError(f"The machine that runs is of {owner}; remove it there with: make test-vm-down")


def is_emulated() -> bool:
    """Whether the machine's processor is emulated."""
    return hosts.docker("exec", HOST, "printenv", "ACCELERATOR").strip() == "tcg"


def description() -> str:
    """What the machine is made of, in a sentence."""
    kind = "emulated" if is_emulated() else "KVM"
    return f"{vm.CORES} cores ({kind}), {vm.MEGABYTES} MB of memory{f', {IMAGE}' if IMAGE else ''}."


def remove() -> None:
    """Remove the machine and all that belongs to it. Raise HostError where it is another checkout's."""
    check_owner()
    hosts.remove([HOST, ACME, KEEPER], NETWORK)
    shutil.rmtree(PLACE, ignore_errors=True)


def start() -> tuple[VirtualMachine, float]:
    """Boot a bare machine beside an ACME server and a keeper of backups; also the seconds until it has let in."""
    disk = vm.disk_from(IMAGE) if IMAGE else vm.disk_of(SYSTEM)
    remove()
    shutil.rmtree(LOGS, ignore_errors=True)
    for path in (OPERATOR, LOGS):
        path.mkdir(parents=True, mode=0o700)
    hosts.docker("network", "create", "--label", f"{OWNER}={machines.ROOT}", NETWORK)
    hosts.start_acme(ACME, NETWORK)
    hosts.wait_for_acme(ACME)
    for name in ("root", "ca"):
        (OPERATOR / f"acme-{name}.pem").write_text(hosts.docker("exec", ACME, "cat", f"/acme/{name}.pem"))
    shutil.copy(disk.key, OPERATOR / "key")
    (OPERATOR / "known_hosts").write_text(disk.host_key(HOST))
    code = OPERATOR / "code"
    shutil.copytree(machines.ROOT / "app", code, ignore=shutil.ignore_patterns("__pycache__", ".*cache", "db.sqlite3"))

    vm.start(HOST, NETWORK, disk, PLACE / "machine", aliases=tuple(DOMAINS.values()))
    machine = machine_of({})
    seconds = machine.until_it_lets_in()
    local = {"type": "directory", "path": "/var/lib/pgbackrest"}
    if machine.system in WITHOUT_SFTP:
        beyond = keeper.start_s3(KEEPER, NETWORK, KEEPER_NAME)
    else:
        beyond = keeper.start_ssh(KEEPER, NETWORK, OPERATOR, "groundwork-host:debian-13", aliases=(KEEPER_NAME,))
    settings = {
        # Where this test comes from; it asks more often than the firewall's limit of ssh allows.
        "groundwork_operator_networks": [hosts.gateway(NETWORK)],
        "groundwork_redis_enabled": True,
        "groundwork_redis_password": secrets.token_urlsafe(40),
        "base_swap_megabytes": 512,
        # What docs/security.md names for a few points more by Lynis.
        "base_packages": [*yaml.safe_load(BASE_DEFAULTS.read_text())["base_packages"], "debsums"],
        "base_process_accounting_enabled": True,
        "base_login_settings": {"PASS_MIN_DAYS": 1, "PASS_MAX_DAYS": 365, "SHA_CRYPT_MIN_ROUNDS": 65536},
        "sshd_allow_users": ["root"],
        "sshd_authentication_tries_count": 3,
        "sshd_sessions_count": 2,
        "sshd_tcp_forwarding": "no",
        "backups_physical_enabled": True,
        "backups_files_enabled": True,
        "backups_passphrase": secrets.token_urlsafe(40),
        "backups_repositories": [local, beyond],
        "gunicorn_app_source": {"type": "directory", "path": str(code)},
        "gunicorn_app_secrets": {"SECRET_KEY": secrets.token_urlsafe(50)},
    }
    machine.keep(**settings)
    (OPERATOR / "choice").write_text(choice())
    return machine, seconds


if __name__ == "__main__":
    try:
        remove()
    except hosts.HostError as error:
        sys.exit(str(error))
