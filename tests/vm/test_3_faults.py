"""Each fault that a machine meets: nothing is lost, and the site is back by itself or one sentence says what to do."""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import hosts
import pytest
from virtual import ACME, ACME_NAME, KEEPER, KEEPER_NAME, NETWORK, SITE, CommandFailed, VirtualMachine
from writer import Writer

BACKUP = "groundwork-backup-differential.service"
FILES = f"{SITE}-files-backup.service"
DEPLOY = "playbooks/deploy.yml"
RESTORE = "playbooks/restore.yml"
CERTS = f"{SITE}-certs.service"
RENEWAL = f"/etc/letsencrypt/renewal/{SITE}.conf"
DUE = "renew_before_expiry = 100 days"
FULL = "/var/tmp/full"
SIZES = f"find -L /srv/{SITE}/live /srv/{SITE}/static -type f -not -name '*.pyc' -printf '%s %p\\n' | sort | cksum"
HOG = """
import pathlib, sys
events = pathlib.Path(sys.argv[1])
before = events.read_text()
held = []
while events.read_text() == before:
    held.append(bytearray(b"x" * 2**24))
"""
TOOLS = ("gdb", "nmap")
"""What no vendor's image has."""
RESTORED = "/var/lib/postgresql/*/main/groundwork_restored.json"
"""Is there from the moment when a restored cluster takes its place until the swap has ended."""
KEPT = "pg_lsclusters --no-header | grep -c before_ || true"
ASKED = f"/srv/{SITE}/live.sock"
"""The link to the socket of the slot that requests go to."""
REPOSITORY = "/var/lib/pgbackrest"
RECENT = 5
"""Within so many seconds before a cut a row was confirmed, on a machine that is busy and perhaps emulated."""
HELD = (
    "systemd-timesyncd groundwork-backup-full.timer groundwork-restart-after-updates.timer apt-daily.timer "
    "apt-daily-upgrade.timer"
)
WAITING = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"


class Visitors:
    """People who look at the site all the time, and how many of them saw it."""

    def __init__(self, machine: VirtualMachine, count: int = 4):
        self.machine = machine
        self.seen = 0
        self.missed = 0
        self._going = True
        self._threads = [threading.Thread(target=self._look, daemon=True) for _ in range(count)]

    def _look(self) -> None:
        while self._going:
            if self.machine.site_answers("/"):
                self.seen += 1
            else:
                self.missed += 1
                time.sleep(0.2)

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()


def wait_on(machine: VirtualMachine, moment: str) -> bool:
    """Whether a command on the machine has come to end with 0 within half a minute; it is asked there, and often."""
    return machine.succeeds(f"timeout 30 sh -c {shlex.quote(f'until {moment}; do sleep 0.05; done')}")


def lose_power_during(
    machine: VirtualMachine, moment: str, *arguments: str, playbook: str, writer: Writer | None = None
) -> None:
    """Cut the power at the moment in a run when a command on the machine ends with 0, and switch on again.

    writer: somebody whose rows have to be confirmed until then.
    """
    play = machine.begin(SITE, *arguments, playbook=playbook)
    machine.until("the moment has not come", lambda: play.ended or wait_on(machine, moment), 900, 0)
    assert not play.ended, play.output[-3000:]
    assert not writer or writer.since_the_last() < RECENT, "no row was confirmed just before"
    machine.lose_power(meanwhile=play.kill)


def back_up(machine: VirtualMachine, *units: str) -> None:
    """Back up now."""
    machine.shell(f"systemctl start {' '.join(units)}", 900)


def serial(machine: VirtualMachine) -> str:
    """Serial number of the certificate that the site shows."""
    return machine.get("/", SITE)[2]["serialNumber"]


def said(machine: VirtualMachine, unit: str) -> str:
    """What the last run of a unit said, in one line."""
    command = f"journalctl -q -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID {unit})"
    return " ".join(machine.shell(command).split())


def audited(machine: VirtualMachine, words: str) -> bool:
    """Whether words that are given to the audit come to its log."""
    return machine.succeeds(f"auditctl -m {words} && sleep 2 && grep -q {words} /var/log/audit/audit.log")


def fails(machine: VirtualMachine, unit: str) -> str:
    """Start a unit, which has to fail, and return what it said."""
    with pytest.raises(CommandFailed):
        machine.shell(f"systemctl start {unit}", 900)
    return said(machine, unit)


@pytest.fixture
def due(converged: VirtualMachine) -> Iterator[None]:
    """The certificate is to be renewed."""
    converged.shell(f"sed -i '1i {DUE}' {RENEWAL}")
    yield
    converged.shell(f"sed -i '/^{DUE}$/d' {RENEWAL}")


@contextmanager
def hung(container: str) -> Iterator[None]:
    """Have a server take connections and answer none, and go on after that. Its name stays."""
    hosts.docker("pause", container)
    try:
        yield
    finally:
        hosts.docker("unpause", container)


@contextmanager
def refusing(machine: VirtualMachine, container: str) -> Iterator[None]:
    """Have a server refuse connections, as one whose process is gone does. Its name stays."""
    rule = f"OUTPUT -p tcp -d {hosts.address(container, NETWORK)} -j REJECT --reject-with tcp-reset"
    machine.shell(f"iptables -I {rule}")
    try:
        yield
    finally:
        machine.shell(f"iptables -D {rule}")


def test_power_is_cut_while_packages_are_installed(converged, fault, writer):
    with fault(
        "power cut while `site.yml` installs packages",
        "the site is back by itself; the next run repairs the packages and ends what the first one began",
    ) as seen:
        tools = " ".join(TOOLS)
        # A machine that was kept has them.
        converged.shell(f"! dpkg-query -W {tools} 2>/dev/null || apt-get purge -qq -y --autoremove {tools}", 900)
        converged.keep(base_packages=list(dict.fromkeys([*converged.settings["base_packages"], *TOOLS])))
        lose_power_during(converged, '[ -n "$(dpkg --audit)" ]', playbook="site.yml", writer=writer)
        seconds = converged.until_the_site_is_back()
        broken = len(re.findall(r"^ \S", converged.shell("dpkg --audit"), re.MULTILINE))
        assert broken
        converged.play(SITE)
        assert converged.shell("dpkg --audit") == ""
        converged.shell(f"dpkg-query -W {tools}")
        converged.until_calm()
        seen.happened = (
            f"it answered {seconds:.0f} s after sshd listened; {broken} packages were half installed, and the next run "
            "repaired and completed them"
        )


def test_power_is_cut_during_a_release(converged, fault, writer):
    with (
        fault(
            "power cut while a release is built, soon after a backup",
            "the site is back by itself with the release from before, the backup counts; the next run releases",
        ) as building,
        fault(
            "power cut when a release has just got the requests",
            "the site is back by itself with the release that had them; the next run ends what was begun",
        ) as switching,
    ):
        before, count = converged.live_release(), converged.backups()
        releases = f"ls /srv/{SITE}/releases | wc -l"
        begun = f'[ "$({releases})" -gt {int(converged.shell(releases))} ]'
        converged.change_code()
        back_up(converged, BACKUP)
        lose_power_during(converged, begun, playbook=DEPLOY, writer=writer)
        seconds = converged.until_the_site_is_back()
        assert converged.backups() == count + 1
        assert converged.live_release() == before
        building.happened = (
            f"it answered {seconds:.0f} s after sshd listened, with the one from before, and the backup was there"
        )

        asked = converged.shell(f"readlink {ASKED}").strip()
        lose_power_during(converged, f'[ "$(readlink {ASKED})" != {asked} ]', playbook=DEPLOY, writer=writer)
        seconds = converged.until_the_site_is_back()
        served = "the new one" if converged.shell(f"readlink {ASKED}").strip() != asked else "the one from before"
        enabled = f"systemctl list-unit-files --no-legend --state=enabled '{SITE}@*' | awk '{{print $1}}'"
        assert len(converged.shell(enabled).split()) == 2, "the switch was over"
        converged.play(SITE, playbook=DEPLOY)
        assert converged.live_release() != before
        assert converged.shell(enabled).split() == [converged.site_unit]
        switching.happened = f"it answered {seconds:.0f} s after sshd listened, with {served}; the next run ended it"


def test_power_is_cut_during_a_backup(converged, fault, writer):
    with fault(
        "power cut during a backup, soon after a release",
        "the site is back by itself with that release, whole; the unfinished backup does not count, the ones "
        "before it do; the next one is made",
    ) as seen:
        converged.change_code()
        converged.play(SITE, playbook=DEPLOY)
        release, sizes, count = converged.live_release(), converged.shell(SIZES), converged.backups()
        # Something to be backed up, so that it lasts.
        converged.sql("DROP TABLE IF EXISTS large")
        converged.sql("CREATE TABLE large AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 100000) AS s (i)")
        converged.shell(f"touch /run/begun && systemctl start --no-block {BACKUP}")
        copied = f"find {REPOSITORY}/backup -path '*/pg_data/*' -type f -newer /run/begun"
        assert wait_on(converged, f"pgrep -f '[p]gbackrest.* backup$' && {copied} | grep -q ."), "nothing is copied"
        assert writer.since_the_last() < RECENT
        converged.lose_power()
        seconds = converged.until_the_site_is_back()
        assert (converged.live_release(), converged.shell(SIZES)) == (release, sizes)
        assert converged.backups() == count
        back_up(converged, BACKUP)
        assert converged.backups() == count + 1
        converged.sql("DROP TABLE large")
        seen.happened = (
            f"it answered {seconds:.0f} s after sshd listened, with that release; the {count} backups were there, and "
            "the next one was made"
        )


def test_power_is_cut_during_a_restore(converged, fault, writer):
    restore = {"playbook": RESTORE}
    latest = ("-e", "restore_to=latest")

    def until_all_is_in_the_archive() -> None:
        """Stop writing: what is written while a copy is made is not in it, as docs/operations.md says."""
        writer.stop()
        converged.sql("SELECT pg_switch_wal()")
        converged.until("the log has not left", lambda: converged.sql(WAITING) == "0")

    with (
        fault(
            "power cut while a restore to `latest` makes its copy",
            "the live cluster is as it was and takes rows; the next run restores",
        ) as copying,
        fault(
            "power cut when a restored copy has just taken the cluster's place",
            "the machine ends the restore itself, the cluster from before is kept; the site is back and takes rows",
        ) as placing,
    ):
        lose_power_during(converged, "pgrep -f '[p]gbackrest.* restore$'", *latest, **restore, writer=writer)
        seconds = converged.until_the_site_is_back()
        writer.until_it_writes()
        assert not writer.lost()
        copying.happened = (
            f"it answered {seconds:.0f} s after sshd listened and took rows; the next run made another copy"
        )

        until_all_is_in_the_archive()
        kept = int(converged.shell(KEPT))
        # The program stops there, so that it is not through before the power is gone. It is past the exchange: on the
        # disk that is, since the server is started only then.
        begins = f"systemctl show -P ActiveState {converged.database_unit} | grep -qx 'activating\\|active'"
        stopped = f"ls {RESTORED} && {begins} && pkill -STOP -f '[r]estore.py swap'"
        lose_power_during(converged, stopped, *latest, **restore)
        seconds = converged.until_the_site_is_back()
        converged.until("the restore has not ended", lambda: not converged.succeeds(f"ls {RESTORED}"))
        assert converged.shell("systemctl show -P ConditionResult groundwork-restore-end").strip() == "yes"
        assert int(converged.shell(KEPT)) == kept + 1
        # What the site refuses for want of a token it would not have got to see while it was closed.
        assert converged.get("/login/", SITE, method="POST")[0] == 403
        writer.start()
        writer.until_it_writes()
        assert not writer.lost()
        until_all_is_in_the_archive()
        converged.play(SITE, *latest, **restore)
        assert not writer.lost()
        writer.start()
        placing.happened = (
            f"it answered {seconds:.0f} s after sshd listened, open, with every row, and took rows; the cluster from "
            "before was kept; another restore went through"
        )


@pytest.mark.parametrize("service", ["PostgreSQL", "gunicorn", "nginx", "Redis"])
def test_a_service_is_killed_under_load(converged, fault, service):
    unit = {
        "PostgreSQL": converged.database_unit,
        "gunicorn": converged.site_unit,
        "nginx": "nginx.service",
        "Redis": f"{SITE}-redis.service",
    }[service]
    with (
        fault(f"{service} killed by SIGKILL under load", "it is started again, and the site is back by itself") as seen,
        Visitors(converged) as visitors,
    ):
        converged.until("no visitor sees the site", lambda: visitors.seen > 0)
        start = time.monotonic()
        # Both in one breath, so that the new process is not taken for the old one.
        converged.shell(
            f"old=$(systemctl show -P MainPID {unit}) && kill -KILL $old && timeout 120 sh -c '"
            f'until [ "$(systemctl show -P MainPID {unit})" != '
            "$0 ] && systemctl is-active -q " + f"{unit}; do sleep 0.2; done' $old",
            200,
        )
        converged.until_the_site_answers()
        seconds = time.monotonic() - start
        time.sleep(2)
        seen.happened = (
            f"started again, and the site answered after {seconds:.0f} s; "
            f"of {visitors.seen + visitors.missed} requests {visitors.missed} failed"
        )


def test_the_disk_is_full(converged, fault):
    with fault(
        "disk full for half a minute, then freed",
        "what cannot be written is refused, nothing that was confirmed is lost; freed, the site is back by itself",
    ) as seen:
        database = converged.shell("systemctl show -P MainPID 'postgresql@*'").split()
        try:
            converged.shell(f"fallocate -l $(stat -f -c '%f * %S' / | xargs expr) {FULL} || true")
            converged.shell(f"dd if=/dev/urandom bs=4096 count=100000 >> {FULL} 2>/dev/null || true")
            # The blocks that only root gets are gone too; these 4096 ext4 keeps for itself.
            assert int(converged.shell("stat -f -c %f /")) <= 4096
            with pytest.raises(CommandFailed) as refused:
                converged.sql("CREATE TABLE large AS SELECT repeat('x', 900) FROM generate_series(1, 200000)")
            assert "No space left on device" in str(refused.value)
            # Its log's last block has room for a few lines yet.
            fill = f"-{'x' * 900}"
            converged.until("the audit goes on", lambda: not audited(converged, f"{time.time_ns()}{fill}"), 60)
            time.sleep(30)
            meanwhile = "answered" if converged.site_answers("/") else "did not answer"
        finally:
            converged.shell(f"rm {FULL}")
        seconds = converged.until_the_site_answers()
        stayed = converged.shell("systemctl show -P MainPID 'postgresql@*'").split() == database
        converged.until("the audit does not go on", lambda: audited(converged, f"freed-{time.time_ns()}"), 60)
        seen.happened = (
            f"the site {meanwhile} while it was full, PostgreSQL {'stayed' if stayed else 'was started again'}; "
            f"freed, it answered after {seconds:.0f} s, and the audit went on"
        )
        converged.sql("DROP TABLE IF EXISTS large")


def test_memory_runs_out(converged, fault):
    with fault(
        "memory runs out",
        "with swap off, a process of the site dies; PostgreSQL, sshd and the other services do not; the site is back "
        "by itself",
    ) as seen:
        spared = "systemctl show -P MainPID ssh 'postgresql@*'"
        before = converged.shell(spared)
        since = converged.shell("date '+%F %T'").strip()
        group = converged.shell(f"systemctl show -P ControlGroup {converged.site_unit}").strip()
        # What takes all there is cannot be killed itself, and stops once the site has lost a process.
        # With swap that is minutes on an emulated machine.
        converged.shell(
            "swapoff -a && systemd-run --quiet --wait --unit=hog --property=OOMScoreAdjust=-1000 "
            "--property=RuntimeMaxSec=300 "
            f"/usr/bin/python3 -c {shlex.quote(HOG)} /sys/fs/cgroup{group}/memory.events; "
            "status=$?; swapon /swapfile && exit $status",
            400,
        )
        seconds = converged.until_the_site_answers()
        assert converged.shell(spared) == before
        kernel = converged.shell(f"journalctl -q -k -o cat --since '{since}'")
        killed = re.findall(r"oom-kill:.*task_memcg=([^,]+),task=([^,]+),", kernel)
        # The manager of a login's own services goes first; the login does without it.
        assert {place for place, _name in killed if not place.endswith("/user@0.service/init.scope")} == {group}
        names = ", ".join(name if place == group else f"{name} (of a login)" for place, name in killed)
        seen.happened = f"the kernel ended {names}; the site answered after {seconds:.0f} s"


def test_names_are_not_resolved_during_a_renewal_and_a_release(converged, fault, due):
    with fault(
        "no DNS during a renewal and a release",
        "the renewal fails and the certificate from before is served; a release without new packages needs no DNS",
    ) as seen:
        before, release = serial(converged), converged.live_release()
        chain = "OUTPUT ! -o lo -p {} --dport 53 -j DROP"
        rules = [chain.format(protocol) for protocol in ("udp", "tcp")]
        converged.shell(" && ".join(f"iptables -I {rule}" for rule in rules) + " && resolvectl flush-caches")
        try:
            failed = fails(converged, CERTS)
            assert serial(converged) == before
            converged.change_code()
            converged.play(SITE, playbook=DEPLOY)
            assert converged.live_release() != release
        finally:
            converged.shell(" && ".join(f"iptables -D {rule}" for rule in rules) + " && resolvectl flush-caches")
        converged.shell(f"systemctl start {CERTS}", 300)
        assert serial(converged) != before
        assert ACME_NAME in failed
        seen.happened = "the renewal named the server it could not find, the release went through; with DNS it renewed"


def test_the_clock_jumps(converged, fault):
    with fault(
        "the clock goes two days ahead, and back",
        "the site answers all the while; a backup from the future is named, with what to do",
    ) as seen:
        # On a Friday the backup of Sunday would begin and be the one from the future; updates restart what gets them.
        converged.shell(f"systemctl stop {HELD}")
        with Visitors(converged, 1) as visitors:
            converged.shell("date -s '+2 days'")
            back_up(converged, BACKUP)
            # Timers that are due now have begun.
            converged.until_calm()
            converged.shell("date -s '-2 days'")
            converged.until_calm()
        assert visitors.seen > 5
        assert visitors.missed == 0
        assert "the clock of this host is behind the newest backup" in fails(converged, BACKUP)
        back_up(converged, "groundwork-backup-full")
        back_up(converged, BACKUP)
        converged.shell(f"systemctl start {HELD}")
        seen.happened = (
            f"each of {visitors.seen} requests was answered; the next backup said so and what to do, a full one was "
            "made, and the ones after it are"
        )


# Lynis begins here: it needs minutes, and neither of the servers that are away now is one that it looks for.
@pytest.mark.usefixtures("lynis")
def test_the_acme_server_is_away_for_several_renewals(converged, fault, due):
    with fault(
        "ACME server away for three renewals: it refuses connections, then it hangs",
        "each fails and names the server, the certificate from before is served; the next one renews",
    ) as seen:
        before = serial(converged)
        with refusing(converged, ACME):
            for _attempt in range(2):
                assert ACME_NAME in fails(converged, CERTS)
        with hung(ACME):
            assert ACME_NAME in fails(converged, CERTS)
        assert serial(converged) == before
        converged.shell(f"systemctl start {CERTS}", 300)
        assert serial(converged) != before
        seen.happened = "three attempts failed and named it; when it answered again, the next one renewed"


def test_the_keeper_of_the_backups_is_away(converged, fault):
    with fault(
        "off-host repository away during a backup: it hangs, and refuses connections during that of the files",
        "each names it and is made in the other one; what it has missed follows when it is back",
    ) as seen:
        here, beyond = (converged.backups(repository) for repository in (1, 2))
        named = rf"{KEEPER_NAME}\S* (?:failed|cannot be (?:read|listed)): "
        with hung(KEEPER):
            converged.sql("SELECT pg_switch_wal()")
            assert re.search(named, fails(converged, BACKUP))
            with refusing(converged, KEEPER):
                assert re.search(named, fails(converged, FILES))
            assert converged.backups(1) == here + 1
            assert converged.sql(WAITING) != "0"
        converged.sql("SELECT pg_switch_wal()")
        converged.until("the log has not left", lambda: converged.sql(WAITING) == "0", 600)
        back_up(converged, BACKUP, FILES)
        assert converged.backups(2) == beyond + 1
        seen.happened = "both backups failed and named it; when it was back, the log followed and both were made there"


def test_nothing_has_failed_in_the_end(converged):
    converged.until_calm()
    assert converged.failed_units() == []
