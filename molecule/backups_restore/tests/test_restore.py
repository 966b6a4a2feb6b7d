"""The promises about putting the cluster back and about drills, with the whole site on a real host."""

import json
import re
import shlex
import shutil
import time
from pathlib import Path

import pytest

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
RESTORE_PLAYBOOK, DRILL_PLAYBOOK = PLAYBOOKS / "restore.yml", PLAYBOOKS / "drill.yml"
MAINTENANCE_PLAYBOOK = PLAYBOOKS / "maintenance.yml"
LIBRARY = "/usr/local/lib/groundwork"
RESTORE, DRILL = f"{LIBRARY}/restore.py", f"{LIBRARY}/drill.py"
REPOSITORY = "/var/lib/pgbackrest"
METRICS = "/var/lib/prometheus/node-exporter/groundwork_drill.prom"
COUNTS = "/var/lib/groundwork/row_counts"
# The role of the backups reads only in any case, and in all databases.
READ_ONLY = (
    "SELECT count(*) FROM pg_db_role_setting"
    " WHERE setdatabase <> 0 AND 'default_transaction_read_only=on' = ANY (setconfig)"
)


@pytest.fixture
def restore(host):
    """Function that runs the program and returns the finished command."""
    return lambda words: host.run(f"cd / && {RESTORE} {words}")


@pytest.fixture
def data(host) -> str:
    """The directory of the clusters."""
    return "/var/lib/postgresql/" + host.check_output("ls /etc/postgresql").strip()


@pytest.fixture(scope="module", autouse=True)
def first_backup(host):
    """Wait for the backup that the first run has begun, and make one that drills can compare with."""
    host.check_output('timeout 60 sh -c "while systemctl is-active -q groundwork-backup-full; do sleep 0.2; done"')
    host.check_output("systemctl start groundwork-backup-differential")


def state(host, data):
    """What must be the same where nothing was changed: the clusters, and since when the server runs."""
    since = host.check_output("systemctl show -P ExecMainStartTimestamp 'postgresql@*-main.service'")
    return host.check_output(f"ls {data}; pg_lsclusters; ls /run/postgresql"), since


def test_a_drill_restores_the_newest_backup_and_leaves_nothing(host, play, data):
    before = state(host, data)
    run = play(playbook=DRILL_PLAYBOOK)
    said = " ".join(run.output.split())
    assert re.search(
        r"restores: \d+ tables have the rows they had, every table and index is whole, the code of forge", said
    )
    assert state(host, data) == before
    now = float(host.check_output("date +%s.%N"))
    values = dict(line.split() for line in host.file(METRICS).content_string.splitlines() if line[0] != "#")
    assert now - 60 < float(values["groundwork_drill_last_success_timestamp_seconds"]) <= now
    assert 0 < float(values["groundwork_drill_duration_seconds"]) < 300
    assert float(values["groundwork_drill_data_age_seconds"]) < 60


def test_a_drill_needs_no_live_cluster(host, sql):
    # What the site's code looks at is the copy: there is nothing else.
    host.check_output("systemctl stop 'postgresql@*-main.service'")
    try:
        done = host.run(f"cd / && {DRILL}")
        assert done.rc == 0, done.stderr
        assert "the code of forge finds nothing wrong with it" in done.stdout
    finally:
        host.check_output("systemctl start postgresql")


def test_a_drill_says_how_old_the_oldest_change_is_that_would_be_lost(host, sql):
    sql("SELECT pg_switch_wal()", "CREATE TABLE IF NOT EXISTS lately (n int)", "INSERT INTO lately VALUES (1)")
    time.sleep(5)
    done = host.run(f"cd / && {DRILL}")
    assert done.rc == 0, done.stderr
    lost = int(re.search(r"would have lost (\d+) s of changes", done.stdout)[1])
    assert 5 <= lost < 60


def test_a_drill_fails_by_name_and_is_no_success(host, sql, refused):
    success = host.file(METRICS).content_string
    # Rows that are gone.
    newest = host.check_output(f"ls -t {COUNTS}/*.json | head -1")
    name, _rows = next(iter(json.loads(host.file(newest).content_string)["rows"].items()))
    host.check_output(f"cp -p {newest} /root/counts")
    noted = json.loads(host.file(newest).content_string)
    noted["rows"][name] = [123456, 123456]
    host.check_output(f"printf %s {shlex.quote(json.dumps(noted))} > {newest}")
    assert f"The drill failed. The table {name} has" in refused(playbook=DRILL_PLAYBOOK)
    host.check_output(f"cat /root/counts > {newest}")
    # The project's own code finds something.
    sql("CREATE TABLE kept AS SELECT * FROM django_migrations WHERE name = '0001_initial' AND app = 'forge'")
    sql("DELETE FROM django_migrations WHERE name = '0001_initial' AND app = 'forge'", "SELECT pg_switch_wal()")
    time.sleep(2)
    assert "manage.py migrate --check of forge with the copy failed" in refused(playbook=DRILL_PLAYBOOK)
    sql("INSERT INTO django_migrations SELECT * FROM kept", "DROP TABLE kept")
    assert host.file(METRICS).content_string == success


def test_a_damaged_backup_and_a_gap_in_the_log_are_told_by_a_drill(host, sql, refused):
    label = host.check_output(f"ls {REPOSITORY}/backup/main | grep 'F$' | tail -1")
    path = host.check_output(f"find {REPOSITORY}/backup/main/{label}/pg_data/base/1 -type f -size +8k | head -1")
    host.check_output(f"cp -p {path} /root/whole")
    host.check_output(f"printf '\\377\\000\\377' | dd of={path} bs=1 seek=3000 conv=notrunc status=none")
    said = refused(playbook=DRILL_PLAYBOOK)
    host.check_output(f"cat /root/whole > {path}")
    assert f"of {REPOSITORY} cannot be restored" in said, said

    host.check_output("systemctl start groundwork-backup-differential")
    sql("CREATE TABLE gap AS SELECT 1 AS n", "SELECT pg_switch_wal()")
    sql("CREATE TABLE more_gap AS SELECT 1 AS n", "SELECT pg_switch_wal()")
    time.sleep(3)
    segments = host.check_output(
        f"find {REPOSITORY}/archive/main -regextype posix-extended -regex '.*/[0-9A-F]{{24}}-.*' | sort"
    )
    gone = segments.split()[-2]
    host.check_output(f"mv {gone} /root/segment")
    try:
        said = refused(playbook=DRILL_PLAYBOOK)
    finally:
        host.check_output(f"mv /root/segment {gone}")
    assert f"The log in {REPOSITORY} has a gap: it goes on to" in said, said
    host.check_output(f"cd / && {DRILL}")


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(host, play, data):
    before = state(host, data)
    said = " ".join(play(restore_to="latest", restore_dry_run=True, playbook=RESTORE_PLAYBOOK).output.split())
    assert re.search(
        rf"The backup \S+ of {REPOSITORY}, which ended at .* is restored to {data}/groundwork_restored", said
    )
    assert state(host, data) == before


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("", "restore_to is not set: name what to bring back"),
        ("deploy-unknown", "The log cannot be replayed to the restore point deploy-unknown"),
    ],
)
def test_what_cannot_be_brought_back_is_one_sentence_and_changes_nothing(host, data, refused, target, sentence):
    before = state(host, data)
    said = refused(restore_to=target, playbook=RESTORE_PLAYBOOK)
    assert sentence in said, said
    assert state(host, data) == before


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("next week", '"next week" is not a moment to go back to: write "latest"'),
        ("2031-01-01 00:00:00+00:00", "is in the future"),
        ("2001-01-01T00:00:00+00:00", "is not after the first backup"),
        ("lsn:FF/0", "The live cluster has not come to the position FF/0 yet."),
        ("xid:4000000000", "The live cluster has not come to the end of transaction 4000000000 yet."),
    ],
)
def test_a_moment_that_there_is_no_way_to_is_told_at_once(restore, target, sentence):
    done = restore(f"plan {shlex.quote(target)}")
    assert done.rc == 1
    assert sentence in done.stderr


DESTRUCTIVE = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("forge", "{newest}")]
    operations = [migrations.RunSQL("DROP TABLE parts")]
"""


@pytest.fixture
def destructive(tmp_path) -> dict:
    """The source of a release of the site that removes a table with all its rows."""
    source = shutil.copytree(PLAYBOOKS.parent / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    folder = source / "forge" / "migrations"
    newest = max(path.stem for path in folder.glob("0*.py"))
    (folder / "9999_destructive.py").write_text(DESTRUCTIVE.format(newest=newest), encoding="utf-8")
    return {"type": "directory", "path": str(source)}


def test_a_restore_to_the_point_before_a_destructive_migration_brings_the_rows_back(
    host, play, sql, get, data, destructive
):
    # Written after the last backup, so it is in the log only.
    sql("CREATE TABLE parts AS SELECT n, md5(n::text) AS name FROM generate_series(1, 5000) n")
    sql("ALTER TABLE parts OWNER TO forge")
    before = sql("SELECT md5(string_agg(name, '' ORDER BY n)) FROM parts")
    play(playbook=PLAYBOOKS / "deploy.yml", gunicorn_app_source=destructive)
    assert sql("SELECT to_regclass('parts') IS NULL") == "t"
    release = host.check_output("basename $(readlink /srv/forge/$(readlink /srv/forge/live))")

    run = play(restore_to=f"deploy-{release}", playbook=RESTORE_PLAYBOOK)
    assert sql("SELECT md5(string_agg(name, '' ORDER BY n)) FROM parts") == before
    # The site is open again, and can write.
    assert sql(READ_ONLY) == "0"
    assert sql("SHOW default_transaction_read_only") == "off"
    assert not host.file("/etc/nginx/groundwork/forge/read_only").exists
    # What was there before is kept, and can be looked at.
    version = data.rpartition("/")[2]
    kept = re.search(r"The one from before is (before_\w+)", " ".join(run.output.split()))[1]
    host.check_output(f"pg_ctlcluster {version} {kept} start")
    port = host.check_output(f"pg_lsclusters -h {version} {kept}").split()[2]
    assert sql("SELECT count(*) FROM pg_class WHERE relname = 'parts'", port=port) == "0"
    host.check_output(f"pg_dropcluster --stop {version} {kept}")
    # The release that has done it is taken back, as nothing in the database stands against that any more.
    play(playbook=PLAYBOOKS / "rollback.yml")
    assert get("/readyz").status == 200
    assert sql("SELECT count(*) FROM parts") == "5000"


def test_after_a_restore_every_change_is_kept_again(host, sql, play):
    sql("INSERT INTO parts VALUES (5001, 'after the restore')", "SELECT pg_switch_wal()")
    host.check_output(
        'timeout 60 sh -c "while systemctl is-active -q groundwork-backup-differential; do sleep 0.2; done"'
    )
    assert host.check_output("systemctl show -P Result groundwork-backup-differential") == "success"
    run = play("--check", "--diff")
    assert run.changed == 0, run.output
    done = host.run(f"cd / && {DRILL}")
    assert done.rc == 0, done.stderr


def drop_kept(host, data):
    """Remove the clusters that restores have kept."""
    version = data.rpartition("/")[2]
    host.check_output(f"for name in $(cd {data}; ls -d before_* 2>/dev/null); do pg_dropcluster {version} $name; done")


@pytest.mark.parametrize("kind", ["time", "xid", "lsn"])
def test_it_goes_back_to_a_time_a_transaction_and_a_position(host, sql, restore, data, kind):
    sql("CREATE TABLE wanted AS SELECT 'wanted' AS note", "SELECT pg_sleep(1.1)")
    target = {
        "time": lambda: sql("SELECT to_char(now(), 'YYYY-MM-DD HH24:MI:SSOF')"),
        "xid": lambda: "xid:" + sql("BEGIN", "UPDATE wanted SET note = 'wanted'", "SELECT txid_current()", "COMMIT"),
        "lsn": lambda: "lsn:" + sql("SELECT pg_current_wal_lsn()"),
    }[kind]()
    sql("SELECT pg_sleep(1.1)", "DROP TABLE wanted")
    done = restore(f"make {shlex.quote(target)}")
    assert done.rc == 0, done.stderr
    done = restore("swap")
    assert done.rc == 0, done.stderr
    assert sql("SELECT note FROM wanted") == "wanted"
    sql("DROP TABLE wanted")
    drop_kept(host, data)


def test_a_time_that_an_earlier_restore_has_left_behind_is_found_again(host, sql, restore, data):
    clock = "SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')"
    sql("CREATE TABLE twice AS SELECT 1 AS n", "SELECT pg_sleep(0.1)")
    before = sql(clock)
    sql("SELECT pg_sleep(0.1)", "INSERT INTO twice VALUES (2)", "SELECT pg_sleep(0.1)")
    left = sql(clock)
    sql("SELECT pg_sleep(0.1)", "DROP TABLE twice")
    for moment, rows in ((before, "1"), (left, "2")):
        done = restore(f"make {moment}")
        assert done.rc == 0, done.stdout + done.stderr
        assert restore("swap").rc == 0
        assert sql("SELECT count(*) FROM twice") == rows
        # Without it, whoever goes back to a time after this restore is not led there.
        timeline = sql("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")
        assert host.check_output(f"find {REPOSITORY}/archive/main -name '{timeline}.history*'")
    sql("DROP TABLE twice")
    drop_kept(host, data)


def test_a_tablespace_comes_back_beside_the_live_one(host, sql, restore, data):
    # One that follows a restore may still be at work.
    host.check_output("systemctl start groundwork-backup-differential")
    host.check_output("install -d -o postgres -g postgres -m 700 /var/lib/postgresql/space")
    sql("CREATE TABLESPACE space LOCATION '/var/lib/postgresql/space'")
    sql("CREATE TABLE far TABLESPACE space AS SELECT generate_series(1, 1000) AS n")
    sql("ALTER TABLE far SET (autovacuum_enabled = off)", "SELECT pg_switch_wal()", "SELECT pg_sleep(2)")
    # The log says where it was made, and that is where the live one is.
    for words in ("plan latest", "make latest"):
        assert "The tablespace in /var/lib/postgresql/space was made after the backup" in restore(words).stderr

    host.check_output("systemctl start groundwork-backup-differential")
    # Nothing is left that the server would write by itself.
    sql("UPDATE far SET n = -1", "VACUUM FREEZE far", "CHECKPOINT")
    where = "find /var/lib/postgresql/space -type f | xargs sha256sum"
    before = host.check_output(where)
    point = sql("SELECT pg_current_wal_lsn()")
    sql("SELECT pg_switch_wal()")
    assert host.run(f"cd / && {DRILL}").rc == 0
    assert host.check_output(where) == before
    assert restore(f"make lsn:{point}").rc == 0 and host.check_output(where) == before
    assert restore("swap").rc == 0
    assert sql("SELECT sum(n) FROM far") == "-1000"
    # The next copy takes nothing away from what is live now.
    assert restore("make latest").rc == 0 and restore("discard").rc == 0
    assert sql("SELECT sum(n) FROM far") == "-1000"
    drop_kept(host, data)
    sql("DROP TABLE far")
    sql("DROP TABLESPACE space")
    # What is left of its place goes with the next copy.
    assert restore("discard").rc == 0
    assert host.run(f"ls -d {data}/*_tablespaces_*").rc != 0


def test_a_killed_restore_leaves_the_live_cluster_alone_and_the_next_one_succeeds(host, sql, restore, play, data):
    before = state(host, data)
    host.check_output(f"systemd-run --quiet --unit=groundwork-restore {RESTORE} make latest")
    host.check_output(f'timeout 30 sh -c "until [ -e {data}/groundwork_restored/postmaster.pid ]; do sleep 0.05; done"')
    done = restore("make latest")
    assert done.rc == 75 and "Another restore is at work" in done.stderr
    host.check_output("systemctl kill --signal=KILL groundwork-restore")
    assert "There is no checked copy" in restore("swap").stderr
    assert state(host, data)[1] == before[1]
    assert restore("make latest").rc == 0
    assert restore("discard").rc == 0
    assert state(host, data) == before


@pytest.mark.parametrize("directory", ["main", "groundwork_restored"])
def test_a_server_that_is_killed_during_a_restore_loses_nothing(host, sql, restore, data, wait_until, directory):
    sql("CREATE TABLE survivor AS SELECT 'committed' AS note")
    host.check_output(f"systemd-run --quiet --unit=killed-restore --property=RemainAfterExit=yes {RESTORE} make latest")
    host.check_output(f'timeout 30 sh -c "until [ -e {data}/groundwork_restored/postmaster.pid ]; do sleep 0.05; done"')
    host.check_output(f"kill -KILL $(head -1 {data}/{directory}/postmaster.pid)")
    state = "systemctl show -P {} killed-restore".format
    wait_until("the restore has ended", lambda: host.check_output(state("SubState")) != "running")
    ended = host.check_output(state("Result"))
    said = host.check_output("journalctl --unit=killed-restore --output=cat --lines=3")
    host.run("systemctl stop killed-restore; systemctl reset-failed killed-restore")
    # The copy does not need the live server; its own server it does.
    assert ended == ("success" if directory == "main" else "exit-code"), said
    wait_until("the server is back", lambda: host.run("pg_isready -q").rc == 0)
    assert sql("SELECT note FROM survivor") == "committed"
    sql("DROP TABLE survivor")
    assert restore("make latest").rc == 0
    assert restore("discard").rc == 0


def test_a_swap_that_was_killed_halfway_is_completed_by_the_next_one(host, sql, restore, data):
    sql("CREATE TABLE half AS SELECT 1 AS n")
    assert restore("make latest").rc == 0
    killed = "restore.start = lambda _live: os.kill(os.getpid(), 9)"
    program = f"import os, sys; sys.path.insert(0, '{LIBRARY}'); import restore; {killed}; "
    program += "restore.command_swap(restore.Settings.load())"
    # ssh has no exit status for what a signal has ended.
    assert host.run(f"cd / && python3 -B -c {shlex.quote(program)} || exit 1").rc == 1
    done = restore("swap")
    assert done.rc == 0, done.stderr
    assert sql("SELECT n FROM half") == "1"
    assert host.run(f"ls -d {data}/groundwork_restored").rc != 0
    drop_kept(host, data)


def test_a_copy_that_does_not_start_is_taken_out_again(host, sql, restore, data):
    assert restore("make latest").rc == 0
    host.check_output(f"rm {data}/groundwork_restored/PG_VERSION")
    done = restore("swap")
    assert done.rc == 1
    assert "The cluster from before is in its place again." in done.stderr
    assert sql("SELECT 1") == "1"
    assert restore("discard").rc == 0


def test_too_little_space_and_a_wrong_passphrase_are_one_sentence_before_anything_is_made(host, refused, data, edited):
    before = state(host, data)
    with edited("/etc/groundwork/physical_backup.conf", reserve_megabytes="99999999"):
        said = refused(restore_to="latest", playbook=RESTORE_PLAYBOOK)
        assert f"There is too little space in {data}" in said
    with edited("/etc/pgbackrest/pgbackrest.conf", cipher_pass="not-the-one-that-it-was"):
        assert "is encrypted with another passphrase" in refused(restore_to="latest", playbook=RESTORE_PLAYBOOK)
    assert state(host, data) == before


def test_a_site_that_was_read_only_before_stays_so_with_a_database_that_did_not_know_it(host, play, get, sql, data):
    moment = host.check_output("date -u +%Y-%m-%dT%H:%M:%SZ")
    time.sleep(1)
    play(groundwork_maintenance="read_only", playbook=MAINTENANCE_PLAYBOOK)
    play(restore_to=moment, playbook=RESTORE_PLAYBOOK)
    assert host.file("/etc/nginx/groundwork/forge/read_only").is_file
    assert sql(READ_ONLY) == "1"
    play(groundwork_maintenance="off", playbook=MAINTENANCE_PLAYBOOK)
    assert get("/readyz").status == 200
    assert sql(READ_ONLY) == "0"
    drop_kept(host, data)


def test_a_site_that_a_lost_restore_has_closed_is_opened_by_the_next_one_whether_that_succeeds_or_not(
    host, play, refused, get, sql, data
):
    # As a run leaves it that was lost between the closing and the opening: nobody writes, the superuser apart.
    passing = {"groundwork_maintenance": "read_only", "groundwork_maintenance_passing_enabled": True}
    assert play(**passing, playbook=MAINTENANCE_PLAYBOOK).changed
    assert not play(**passing, playbook=MAINTENANCE_PLAYBOOK).changed
    assert host.file("/etc/nginx/groundwork/forge/read_only").is_symlink
    assert sql("SHOW default_transaction_read_only") == "on"
    assert (get("/").status, get("/login/", method="POST", body=b"").status) == (200, 503)
    host.check_output("dpkg-divert --quiet --local --rename --add /usr/bin/pg_createcluster")
    try:
        said = refused(restore_to="latest", playbook=RESTORE_PLAYBOOK)
    finally:
        host.check_output("dpkg-divert --quiet --local --rename --remove /usr/bin/pg_createcluster")
    assert "Registering" in said and "pg_createcluster" in said
    assert host.check_output("find /etc/nginx/groundwork/forge -name read_only") == ""
    assert get("/readyz").status == 200
    assert sql("SHOW default_transaction_read_only") == "off"
    # What was left half done is ended by what ends it when the host starts.
    mark = host.file(f"{data}/main/groundwork_restored.json")
    assert mark.exists
    host.check_output("systemctl start groundwork-restore-end")
    assert not mark.exists
    drop_kept(host, data)


def test_a_cluster_that_has_lost_its_data_comes_back(host, play, sql, get, data):
    sql("CREATE TABLE lost AS SELECT 'lost and found' AS note", "SELECT pg_switch_wal()")
    time.sleep(3)
    # The server runs on without them for up to a minute.
    host.check_output(f"rm -rf {data}/main/*")
    run = play(restore_to="latest", playbook=RESTORE_PLAYBOOK)
    assert "What was left of the one from before is in" in " ".join(run.output.split())
    assert sql("SELECT note FROM lost") == "lost and found"
    assert get("/readyz").status == 200
    host.check_output(f"rm -r {data}/before_*")


def test_a_host_without_its_cluster_and_configuration_gets_both_back(host, play, sql, get, data):
    sql("CREATE TABLE survives AS SELECT 'it has survived' AS note", "SELECT pg_switch_wal()")
    time.sleep(3)
    version = data.rpartition("/")[2]
    host.check_output("systemctl stop groundwork-archive 'groundwork-backup-*.timer' groundwork-archive-status.timer")
    host.check_output(f"pg_dropcluster --stop {version} main")
    host.check_output(
        "rm -rf /etc/pgbackrest/* /etc/ansible/facts.d/groundwork_forge-physical.fact /var/spool/pgbackrest/* "
        f"/etc/groundwork/physical_backup.conf /etc/groundwork/postgres {COUNTS}"
    )
    play(restore_to="latest", playbook=RESTORE_PLAYBOOK)
    assert sql("SELECT note FROM survives") == "it has survived"
    play()
    assert play().changed == 0
    assert get("/readyz").status == 200
    host.check_output("systemctl start groundwork-backup-differential && " + DRILL)
    drop_kept(host, data)
