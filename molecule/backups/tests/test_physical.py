"""The promises of the role's README about the cluster and its log, with a real server and a real repository."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = "/var/lib/pgbackrest"
PGBACKREST = "/etc/pgbackrest/pgbackrest.conf"
PROGRAM = "/usr/local/lib/groundwork/physical_backup.py"
METRICS = "/var/lib/prometheus/node-exporter/groundwork_backups.prom"
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups"
FULL, DIFFERENTIAL = "groundwork-backup-full.service", "groundwork-backup-differential.service"
UNITS = ("groundwork-archive", "groundwork-archive-status", "groundwork-backup-full", "groundwork-backup-differential")
SENTINEL = "sentinel-of-a-row-that-nobody-else-shall-read"


@pytest.fixture(scope="module")
def passphrase() -> str:
    return (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "backups_passphrase").read_text().split()[0]


@pytest.fixture
def pgbackrest(host):
    """Function that runs pgBackRest as postgres and returns the finished command."""
    return lambda words: host.run(f"cd / && {AS_POSTGRES} pgbackrest --stanza=main {words}")


@pytest.fixture
def labels(pgbackrest):
    """Function that names the finished backups of a repository, oldest first."""

    def names(repository=1):
        [stanza] = json.loads(pgbackrest(f"info --output=json --repo={repository}").stdout)
        return [item["label"] for item in stanza["backup"]]

    return names


@pytest.fixture
def complaint(host):
    """Function that returns the newest message of a failure."""

    def last():
        host.run("journalctl --sync")
        return host.check_output("journalctl --identifier=physical_backup.py --output=cat --priority=3 --lines=1")

    return last


@pytest.fixture
def has_sftp(host) -> bool:
    """Whether this pgBackRest can speak to an sftp server."""
    version = host.check_output("pgbackrest version").split()[1]
    return tuple(map(int, version.split(".")[:2])) >= (2, 46)


def idle(host):
    """Whether no backup of the cluster is at work."""
    return host.run(f"systemctl is-active {FULL} {DIFFERENTIAL}").stdout.split().count("activating") == 0


def test_the_first_full_backup_follows_the_first_run(host, labels, wait_until):
    wait_until("the first backup ends", lambda: labels() and idle(host))
    assert [label[-1] for label in labels()] == ["F"]
    assert host.check_output(f"systemctl show -P Result {FULL}") == "success"


def test_the_log_reaches_the_archive_and_the_run_says_so(host):
    unit = host.service("groundwork-archive.service")
    assert unit.is_enabled and unit.is_running
    journal = host.check_output("journalctl --unit=groundwork-archive --output=cat")
    assert f"PostgreSQL's log reaches {REPOSITORY}; the first full backup has been started." in journal


def test_a_change_is_in_the_archive_within_a_minute(sql, wait_until):
    # The wait is longest right after a change of segment.
    sql("SELECT pg_switch_wal()")
    sql(f"CREATE TABLE notes AS SELECT '{SENTINEL}'::text AS note")
    segment = sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    archived = "SELECT coalesce(max(last_archived_wal), '') FROM pg_stat_archiver"
    took = wait_until("the change is archived", lambda: sql(archived)[:24] >= segment, 60)
    print(f"a change was in the archive after {took:.0f} s")


def test_a_differential_backup_holds_what_has_changed(host, start, labels, sql):
    before = labels()
    sql("CREATE TABLE IF NOT EXISTS more AS SELECT generate_series(1, 1000) AS n")
    assert start(DIFFERENTIAL).rc == 0
    [new] = [label for label in labels() if label not in before]
    assert new.startswith(before[0]) and new.endswith("D")
    assert re.search(
        rf"{new} in {REPOSITORY}: differential, [\d.]+ MB in \d+ s\.",
        host.check_output("journalctl --identifier=physical_backup.py --output=cat --lines=5"),
    )


def test_every_file_of_a_repository_is_encrypted(host, pgbackrest):
    begins = f'find {REPOSITORY} -type f -exec sh -c \'for path; do head -c 8 "$path"; echo " $path"; done\' sh {{}} +'
    listing = host.check_output(begins).splitlines()
    assert len(listing) > 100
    assert [line for line in listing if not line.startswith("Salted__ ")] == []
    assert host.run(f"grep -rqF {SENTINEL} {REPOSITORY}").rc == 1
    assert pgbackrest("repo-get backup/main/backup.info").stdout.startswith("[")


def test_the_passphrase_is_in_one_file_and_nowhere_else(host, passphrase, play, sql):
    settings = host.file(PGBACKREST)
    assert (settings.user, settings.group, settings.mode) == ("root", "postgres", 0o640)
    assert passphrase in settings.content_string
    # What anybody could see while a backup is at work.
    host.check_output(f"systemctl start --no-block {FULL}")
    seen = []
    while len(seen) < 5 or not idle(host):
        seen.append(host.check_output("ps -eo args e"))
    assert any("pgbackrest" in listing for listing in seen)
    assert not any(passphrase in listing for listing in seen)
    host.run("journalctl --sync")
    places = "/var/log /run/groundwork /etc/groundwork /var/lib/prometheus /var/lib/groundwork /etc/systemd"
    assert host.run(f"grep -rlF {passphrase} {places}").stdout == ""
    assert passphrase not in host.check_output("journalctl --no-pager --output=export")
    # Not even where the file is written anew.
    host.check_output(f"echo '# changed by hand' >> {PGBACKREST}")
    run = play("--diff")
    assert run.changed > 0 and "pgbackrest.conf" in run.output and passphrase not in run.output


def test_a_full_backup_reads_the_repository_back(host, start, labels, pgbackrest):
    before = labels()
    assert start(FULL).rc == 0
    assert len(labels()) == len(before) + 1
    told = host.check_output("journalctl --identifier=physical_backup.py --output=cat --lines=3")
    assert "the repository read back" in told
    assert "status: error" not in pgbackrest("verify --output=text").stdout


def test_the_metrics_tell_when_what_and_how_far_behind(host, start):
    assert start("groundwork-archive-status.service").rc == 0
    text = host.file(METRICS).content_string
    assert host.file(METRICS).mode == 0o644 and not host.file(METRICS.replace(".prom", ".new")).exists
    now = int(host.check_output("date +%s"))
    for kind in ("full", "differential"):
        labels = re.escape(f'{{kind="{kind}",repository="{REPOSITORY}"}}')
        success = int(re.search(rf"^groundwork_backup_last_success_timestamp_seconds{labels} (\d+)$", text, re.M)[1])
        assert now - 600 < success <= now
        assert int(re.search(rf"^groundwork_backup_size_bytes{labels} (\d+)$", text, re.M)[1]) > 0
    assert float(re.search(r"^groundwork_backup_archive_lag_seconds ([\d.]+)$", text, re.M)[1]) < 60


def test_a_row_written_after_the_last_backup_is_restored_as_the_documentation_says(host, sql, wait_until):
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    commands = page.split("## The cluster as it was at a moment")[1].split("```sh\n")[1].split("```")[0]
    sql("CREATE TABLE late AS SELECT 'written late' AS note")
    moment = sql("SELECT pg_sleep(1)", "SELECT now()", "SELECT pg_sleep(1)").split("\n")[1]
    sql("DROP TABLE late", "SELECT pg_switch_wal()")
    version = host.check_output("ls /etc/postgresql").strip()
    commands = re.sub(r"(?m)^version=.*$", f"version={version}", commands)
    commands = re.sub(r"(?m)^moment=.*$", f"moment='{moment}'", commands)
    try:
        done = host.run(f"bash -c {shlex.quote('set -e; cd /; ' + commands)}")
        assert done.rc == 0, done.stdout + done.stderr
        recovered = "SELECT pg_is_in_recovery()"
        wait_until("the copy is as it was", lambda: sql(recovered, port=5433) == "f")
        assert sql("SELECT note FROM late", port=5433) == "written late"
        assert sql("SELECT count(*) FROM parts", port=5433) == sql("SELECT count(*) FROM parts")
    finally:
        host.run(f"pg_dropcluster --stop {version} restored")


@pytest.fixture
def begin(host):
    """Function that starts a full backup and returns when it copies files."""

    def run():
        copying = f"find {REPOSITORY}/backup/main -path '*F/pg_data/*' -newer /root/begin | grep -q ."
        host.check_output(f"touch /root/begin && systemctl start --no-block {FULL}")
        host.check_output(f'timeout 30 sh -c "until {copying}; do sleep 0.1; done"')

    return run


def test_two_runs_at_once_do_not_disturb_each_other(host, begin, labels, wait_until):
    before = labels()
    begin()
    done = host.run(f"{PROGRAM} run differential")
    assert done.rc == 75 and "Another backup of the cluster is at work" in done.stderr
    wait_until("the first one ends", lambda: idle(host))
    assert len(labels()) == len(before) + 1


def test_a_killed_backup_does_not_count_and_the_next_one_succeeds(host, begin, start, labels, wait_until):
    before = labels()
    begin()
    host.check_output(f"systemctl kill --signal=KILL {FULL}")
    wait_until("the run has ended", lambda: idle(host), 20)
    assert labels() == before
    assert start(FULL).rc == 0
    assert labels()[: len(before)] == before and len(labels()) == len(before) + 1


def test_a_server_that_is_killed_while_it_is_backed_up_loses_nothing_and_the_backup_does_not_count(
    host, begin, start, labels, sql, complaint, wait_until
):
    before = labels()
    sql("CREATE TABLE survivor AS SELECT 'committed' AS note")
    begin()
    host.check_output("kill -KILL $(systemctl show -P MainPID 'postgresql@*-main.service')")
    wait_until("the run has ended", lambda: idle(host))
    assert host.check_output(f"systemctl show -P Result {FULL}") == "exit-code"
    told = rf"The full backup to {REPOSITORY} failed: PostgreSQL was stopped or killed meanwhile \(.+\)\. "
    assert re.search(rf"{told}The last good one is {before[-1]}\.", complaint())
    assert labels() == before
    wait_until("the server is back", lambda: host.run("pg_isready -q").rc == 0)
    assert sql("SELECT note FROM survivor") == "committed"
    sql("DROP TABLE survivor")
    assert start(FULL).rc == 0


def test_a_damaged_repository_is_told_and_nothing_is_removed_from_it(host, start, labels, complaint, edited):
    before = labels()
    path = host.check_output(f"find {REPOSITORY}/backup/main/{before[0]}/pg_data -type f -size +8k | head -1")
    # With these settings one full backup is enough, and the next one would remove the others.
    with edited(PGBACKREST, retention_full_type="count", retention_full="1"):
        host.check_output(f"cp -p {path} /root/whole")
        host.check_output(f"printf '\\377\\000\\377' | dd of={path} bs=1 seek=3000 conv=notrunc status=none")
        assert start(FULL).rc != 0
        assert f"The repository {REPOSITORY} is damaged" in complaint() and before[0] in complaint()
        assert labels()[: len(before)] == before

        host.check_output(f"cat /root/whole > {path}")
        assert start(FULL).rc == 0
        assert len(labels()) == 1


def test_a_full_repository_is_foreseen_and_the_last_good_backup_stays(host, start, labels, complaint, edited):
    host.check_output(
        "mkdir -p /mnt/small && mount -t tmpfs -o size=64m tmpfs /mnt/small && chown postgres: /mnt/small"
    )
    host.check_output(f"cp -a {REPOSITORY}/. /mnt/small && mount --bind /mnt/small {REPOSITORY}")
    free = "$(($(df --output=avail -BM /mnt/small | tr -dc 0-9) - {0}))"
    fill = "dd if=/dev/zero of=/mnt/small/filler{0} bs=1M count=" + free
    host.check_output(fill.format(9))
    try:
        before = labels()
        assert start(FULL).rc != 0
        assert f"there is too little space in {REPOSITORY}" in complaint()
        assert f"The last good one is {before[-1]}." in complaint()
        # Without the reserve it fills while the backup is written.
        host.check_output(fill.format(2))
        with edited("/etc/groundwork/physical_backup.conf", reserve_megabytes="-1000"):
            assert start(FULL).rc != 0
        assert f"there is no space left in {REPOSITORY}" in complaint()
        assert labels() == before
    finally:
        host.check_output(f"umount {REPOSITORY} && umount /mnt/small")


def test_a_log_that_could_not_be_kept_is_told_by_the_next_backup(host, start, sql, complaint, wait_until, edited):
    # Nobody can write there, so the server's log waits, until more waits than may.
    with edited(PGBACKREST, archive_push_queue_max="64MB"):
        host.check_output(f"chown -R root {REPOSITORY}/archive/main/*-1")
        try:
            for _ in range(8):
                sql("INSERT INTO more VALUES (1)", "SELECT pg_switch_wal()")
            waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
            wait_until("the log is given up", lambda: int(sql(waiting)) <= 4, 90)
        finally:
            host.check_output(f"chown -R postgres {REPOSITORY}/archive/main/*-1")
    assert start(DIFFERENTIAL).rc != 0
    assert "of the log before it a part is missing" in complaint() and "is good" in complaint()
    # It is told once: the log is whole from this backup on.
    assert start(DIFFERENTIAL).rc == 0


def test_a_clock_that_was_ahead_is_told_and_what_was_written_meanwhile_is_kept(host, start, labels, sql, complaint):
    # Backups have the time of the server, and this one believes that it is tomorrow.
    host.check_output("apt-get -qq install -y libfaketime")
    [library] = host.check_output("find /usr/lib -name libfaketime.so.1").split()
    [settings] = host.check_output("ls /etc/postgresql/*/main/environment").split()
    host.check_output(f"cp -p {settings} /root/kept")
    host.check_output(f"printf \"%s = '%s'\\n\" LD_PRELOAD {library} FAKETIME +1d > {settings}")
    try:
        host.check_output("systemctl restart 'postgresql@*-main.service'")
        assert start(DIFFERENTIAL).rc == 0
    finally:
        host.check_output(f"cat /root/kept > {settings}; systemctl restart 'postgresql@*-main.service'")
    ahead = labels()[-1]
    sql("INSERT INTO more VALUES (3)", "SELECT pg_switch_wal()")
    assert start(DIFFERENTIAL).rc != 0
    assert f"the clock of this host is behind the newest backup in {REPOSITORY}" in complaint()
    assert f"The last good one is {ahead}." in complaint() and labels()[-1] == ahead
    assert start("groundwork-archive-status.service").rc == 0
    # As the sentence says.
    assert start(FULL).rc == 0
    assert start(DIFFERENTIAL).rc == 0


def test_another_passphrase_is_one_sentence_and_changes_nothing(host, sql, refused):
    before = host.check_output(f"sha256sum {PGBACKREST}")
    said = refused(backups_passphrase="another passphrase than before".replace(" ", "-"))
    assert f"The repository {REPOSITORY} is encrypted with another passphrase than backups_passphrase" in said
    assert "What was placed before it has been put back." in said
    assert host.check_output(f"sha256sum {PGBACKREST}") == before
    assert host.run(f"{PROGRAM} validate").rc == 0


def test_the_log_that_waits_for_long_is_a_failure(host, start, sql, complaint, wait_until, edited):
    host.check_output(f"chown -R root {REPOSITORY}/archive/main/*-1")
    try:
        with edited("/etc/groundwork/physical_backup.conf", late_seconds="1"):
            sql("INSERT INTO more VALUES (1)", "SELECT pg_switch_wal()", "SELECT pg_sleep(2)")
            assert start("groundwork-archive-status.service").rc != 0
        assert "PostgreSQL's log does not reach its archive: 1 parts of it wait" in complaint()
    finally:
        host.check_output(f"chown -R postgres {REPOSITORY}/archive/main/*-1")
    late = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    wait_until("what waited has been archived", lambda: sql(late) == "0", 90)


@pytest.fixture
def sftp(has_sftp, request):
    """What the repository of an sftp server takes, where this pgBackRest knows sftp."""
    if not has_sftp:
        pytest.skip("this pgBackRest does not know sftp")
    return request.getfixturevalue("sftp_server")


def test_a_second_repository_beyond_the_host_gets_everything(
    host, sftp, play, start, labels, sql, complaint, refused, wait_until, edited
):
    local = {"type": "directory", "path": REPOSITORY}
    play("--diff", backups_repositories=[local, sftp])
    wait_until("its first backup ends", lambda: labels(2) and idle(host))
    key = host.file("/etc/pgbackrest/repo2.key")
    assert (key.user, key.group, key.mode) == ("root", "postgres", 0o640)
    assert start(DIFFERENTIAL).rc == 0
    assert [name[-1] for name in labels(2)] == ["F", "D"]

    # While it is away the other one goes on, and the log waits for it.
    before = labels(1)
    with edited(PGBACKREST, io_timeout="3"):
        host.check_output("kill $(cat /run/sshd-sftp.pid)")
        sql("INSERT INTO more VALUES (2)", "SELECT pg_switch_wal()")
        assert start(DIFFERENTIAL).rc != 0
        assert "sftp://localhost/keep cannot be listed: [HostConnectError] unable to connect" in complaint()
        assert len(labels(1)) == len(before) + 1
    host.check_output("/usr/sbin/sshd -f /root/sftp/config")
    waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    wait_until("what waited has arrived", lambda: sql(waiting) == "0", 120)
    assert start(DIFFERENTIAL).rc == 0

    # A server that shows another key is not believed.
    other = {
        **sftp,
        "host_public_keys": [" ".join(host.file("/etc/ssh/ssh_host_rsa_key.pub").content_string.split()[:2])],
    }
    assert "sftp://localhost/keep cannot be read" in refused(backups_repositories=[local, other])
    play("--diff")
    assert not host.file("/etc/pgbackrest/repo2.key").exists


def test_it_is_sandboxed_and_gives_way_to_the_site(host):
    for unit in UNITS:
        exposure = host.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -1")
        assert float(re.search(r"([0-9.]+) \w+", exposure)[1]) < 3.0, f"{unit}: {exposure}"
        assert "Nice=10" in host.check_output(f"systemctl show -p Nice {unit}.service")


def test_the_cluster_is_backed_up_while_any_site_of_the_host_wants_it(host, play, sql, wait_until):
    annex = {"groundwork_site_name": "annex", "groundwork_site_domains": ["annex.test"], "backups_file_directories": []}
    state = f"sha256sum {PGBACKREST} /etc/systemd/system/groundwork-*; systemctl show groundwork-* -p Id -p ActiveState"
    host.run("systemctl reset-failed")
    before, started = host.check_output(state), sql("SELECT pg_postmaster_start_time()")
    play("--diff", **annex, backups_physical_enabled=False)
    play("--diff", **annex)
    play("--diff", backups_physical_enabled=False)
    assert host.check_output(state) == before

    play("--diff", **annex, backups_physical_enabled=False)
    own = "groundwork-archive* groundwork-backup-* groundwork-drill*"
    assert host.run(f"cd /etc/systemd/system && ls {own} {PGBACKREST}").stdout == ""
    assert host.check_output(f"set -f; systemctl list-units --all --plain --no-legend {own}") == ""
    wait_until("the server knows", lambda: sql("SHOW archive_command") == "/bin/true", 10)

    play("--diff")
    assert host.service("groundwork-backup-full.timer").is_running
    assert sql("SHOW archive_command").startswith("pgbackrest ")
    assert play("--diff").changed == 0
    # The server has gone on all the time.
    assert sql("SELECT pg_postmaster_start_time()") == started
    host.check_output("systemctl disable --now annex-backup.timer; rm -f /etc/systemd/system/annex-*")
