"""The promises of the role's README, with a real server, real dumps and a real restore."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

PLACE = "/var/backups/groundwork/forge"
SETTINGS = "/etc/groundwork/backups/forge.conf"
PROGRAM = "/usr/local/lib/groundwork/backup.py"
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups"


@pytest.fixture
def backups(host):
    """Function that names the backups that count, newest first."""

    def names():
        return re.findall(r"^(forge_\d{8}_\d{6}) ", host.check_output(f"{PROGRAM} list {SETTINGS}"), re.MULTILINE)

    return names


@pytest.fixture
def start(host):
    """Function that makes a backup as the timer does, and returns the finished command."""

    def run():
        # Two backups of one second would have one name.
        host.run("sleep 1.1; systemctl reset-failed forge-backup.service")
        return host.run("systemctl start forge-backup.service")

    return run


@pytest.fixture
def journal(host):
    """Function that returns the newest message of a failure of the backup."""

    def last():
        host.run("journalctl --sync")
        return host.check_output("journalctl --identifier=backup.py --output=cat --priority=3 --lines=1")

    return last


@pytest.fixture
def sql(host):
    """Function that runs one statement as the superuser and returns what it prints."""

    def run(statement, database="forge"):
        return host.check_output(f"{AS_POSTGRES} psql -XAtq -d {database} -c %s", statement)

    return run


def settings_with(host, path, **changed):
    """Write settings that differ from those of the site, for a run of the program by hand."""
    text = host.file(SETTINGS).content_string
    for key, value in changed.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    host.check_output(f"printf %s > {path}", text)


def test_a_backup_is_a_dump_an_archive_and_a_manifest(host, start, backups):
    assert start().rc == 0
    name = backups()[0]
    manifest = json.loads(host.file(f"{PLACE}/{name}.json").content_string)
    assert manifest["tables"] == 1 and manifest["database"] == "forge"
    assert {item["name"] for item in manifest["files"]} == {f"{name}.dump", f"{name}.tar.gz"}
    assert host.run(f"cd {PLACE} && sha256sum --check --strict {name}.sha256").rc == 0
    assert "var/lib/forge/media/photos/one.txt" in host.check_output(f"tar -tzf {PLACE}/{name}.tar.gz")
    assert host.run(f"{PROGRAM} verify {SETTINGS}").rc == 0


def test_a_backup_restores_row_by_row(host, start, backups, sql):
    assert start().rc == 0
    name = backups()[0]
    sql("DROP DATABASE IF EXISTS forge_restored", "postgres")
    sql("CREATE DATABASE forge_restored OWNER forge TEMPLATE template0", "postgres")
    restore = f"{AS_POSTGRES} pg_restore --exit-on-error --dbname=forge_restored < {PLACE}/{name}.dump"
    assert host.run(restore).rc == 0
    rows = "SELECT count(*), md5(string_agg(id || name, ',' ORDER BY id)) FROM parts"
    assert sql(rows, "forge_restored") == sql(rows) and sql(rows).startswith("5000|")
    assert sql("SELECT tableowner FROM pg_tables WHERE tablename = 'parts'", "forge_restored") == "forge"
    sql("DROP DATABASE forge_restored", "postgres")


def test_large_objects_and_rows_that_row_security_hides_are_in_a_backup(host, start, backups, sql):
    sql(
        "SET ROLE forge; CREATE TABLE hidden AS SELECT 'a hidden row' AS word; ALTER TABLE hidden ENABLE ROW LEVEL "
        "SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY; SELECT lo_from_bytea(424242, 'a large object')"
    )
    try:
        assert start().rc == 0
        name = backups()[0]
    finally:
        sql("SET ROLE forge; DROP TABLE hidden; SELECT lo_unlink(424242)")
    text = host.check_output(f"pg_restore --file=- {PLACE}/{name}.dump")
    assert "a hidden row" in text and "ALTER LARGE OBJECT 424242 OWNER TO forge" in text
    assert b"a large object".hex() in text


def test_a_role_of_its_own_makes_the_dump(host, start, backups, journal, sql):
    assert start().rc == 0
    before = backups()
    sql("ALTER ROLE forge_backup NOLOGIN")
    try:
        assert start().rc != 0
    finally:
        sql("ALTER ROLE forge_backup LOGIN")
    assert backups() == before and '"forge_backup" is not permitted to log in' in journal()
    assert sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'forge_backup'") == "f"


def test_what_only_the_superuser_can_dump_is_a_failure_until_he_makes_it(host, start, backups, journal, sql):
    sql("CREATE FOREIGN DATA WRAPPER remote; CREATE SERVER remote FOREIGN DATA WRAPPER remote")
    sql("CREATE USER MAPPING FOR forge SERVER remote OPTIONS (password 'sentinel-of-the-mapping')")
    try:
        assert start().rc != 0
        assert "has a user mapping of a foreign server, which only the superuser can dump" in journal()
        converge(backups_database_role="postgres")
        assert start().rc == 0
        assert "sentinel-of-the-mapping" in host.check_output(f"pg_restore --file=- {PLACE}/{backups()[0]}.dump")
    finally:
        sql("DROP FOREIGN DATA WRAPPER remote CASCADE")
        converge()
    assert start().rc == 0


def test_only_root_can_read_the_backups(host, start, backups):
    assert start().rc == 0
    place = host.file(PLACE)
    assert (place.user, place.group, place.mode) == ("root", "root", 0o700)
    for ending in ("dump", "tar.gz", "json", "sha256"):
        path = host.file(f"{PLACE}/{backups()[0]}.{ending}")
        assert (path.user, path.mode) == ("root", 0o600)


def test_a_failed_backup_removes_nothing_and_says_why(host, start, backups, journal):
    assert start().rc == 0
    before = backups()
    unit = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*'").split()[0]
    host.check_output(f"systemctl stop {unit}")
    try:
        assert start().rc != 0
    finally:
        host.check_output(f"systemctl start {unit}")
    assert backups() == before
    message = journal()
    assert "The backup of forge failed." in message and f"The last good one is {before[0]}." in message
    assert not host.file(f"{PLACE}/.partial").exists


def test_a_missing_directory_is_a_failure(host, start, backups, journal):
    assert start().rc == 0
    before = backups()
    host.check_output("mv /var/lib/forge/media /var/lib/forge/elsewhere")
    try:
        assert start().rc != 0
    finally:
        host.check_output("mv /var/lib/forge/elsewhere /var/lib/forge/media")
    assert backups() == before and "/var/lib/forge/media" in journal()


def test_an_empty_database_is_a_failure(host, sql):
    sql("CREATE DATABASE hollow TEMPLATE template0", "postgres")
    host.check_output("mkdir -p -m 0700 /root/hollow")
    # Its own role does not come into another database.
    changed = {"database": "hollow", "user": "postgres", "directory": "/root/hollow", "file_directories": ""}
    settings_with(host, "/root/hollow.conf", **changed)
    done = host.run(f"{PROGRAM} run /root/hollow.conf")
    sql("DROP DATABASE hollow", "postgres")
    assert done.rc == 1 and "holds no table" in done.stderr and "There is no good one yet." in done.stderr
    assert host.check_output("ls /root/hollow") == ""


def test_a_full_disk_is_a_failure_that_is_foreseen(host):
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=8m tmpfs /mnt/small")
    try:
        settings_with(host, "/root/small.conf", directory="/mnt/small")
        done = host.run(f"{PROGRAM} run /root/small.conf")
        assert done.rc == 1 and "too little space in /mnt/small" in done.stderr
        # Without the reserve the disk fills while the dump is written.
        host.check_output("dd if=/dev/zero of=/mnt/small/filler bs=1k count=8150 status=none")
        settings_with(host, "/root/small.conf", directory="/mnt/small", database="forge", reserve_megabytes="-100")
        done = host.run(f"{PROGRAM} run /root/small.conf")
        assert done.rc == 1 and "No space left on device" in done.stderr
        assert host.check_output("ls -A /mnt/small").split() == [".lock", "filler"]
    finally:
        host.check_output("umount /mnt/small")


def test_a_damaged_backup_does_not_count(host, start, backups):
    assert start().rc == 0
    name = backups()[0]
    dump = f"{PLACE}/{name}.dump"
    # A byte of the data is turned: the size is the same, the content is not.
    size = host.file(dump).size
    host.check_output(f"printf '\\377\\000\\377' | dd of={dump} bs=1 seek={size // 2} conv=notrunc status=none")
    done = host.run(f"{PROGRAM} verify {SETTINGS} {name}")
    assert done.rc == 1 and "its checksum differs" in done.stderr
    host.check_output(f"truncate --size=-1 {dump}")
    assert name not in backups()
    host.check_output(f"rm {PLACE}/{name}.*")


def test_two_runs_at_once_do_not_disturb_each_other(host, start, backups):
    assert start().rc == 0
    before = backups()
    # `flock` holds the lock that a run at work would hold.
    done = host.run(f"flock {PLACE}/.lock {PROGRAM} run {SETTINGS}")
    assert done.rc == 75 and "Another backup of forge is at work" in done.stderr
    assert backups() == before


def test_what_an_interrupted_run_left_is_removed(host, start, backups):
    host.check_output(f"mkdir -p {PLACE}/.partial && touch {PLACE}/.partial/half {PLACE}/forge_20200101_000000.dump")
    assert "forge_20200101_000000" not in backups()
    assert start().rc == 0
    assert not host.file(f"{PLACE}/.partial").exists
    assert not host.file(f"{PLACE}/forge_20200101_000000.dump").exists


def test_old_backups_go_only_after_a_new_one_is_verified(host, start, backups):
    assert start().rc == 0
    newest = backups()[0]
    for day in ("01", "02", "03"):
        old = f"forge_202001{day}_000000"
        created = f"sed -e 's/{newest}/{old}/' -e 's/\"created_seconds\": .*/\"created_seconds\": 15778368{day},/'"
        for ending in ("dump", "tar.gz", "sha256"):
            host.check_output(f"cp {PLACE}/{newest}.{ending} {PLACE}/{old}.{ending}")
        host.check_output(f"{created} {PLACE}/{newest}.json > {PLACE}/{old}.json")
        host.check_output(f"sed -i 's/{newest}/{old}/' {PLACE}/{old}.json")
    assert len([name for name in backups() if name.startswith("forge_2020")]) == 3
    assert host.run(f"flock {PLACE}/.lock {PROGRAM} run {SETTINGS}").rc == 75
    assert len([name for name in backups() if name.startswith("forge_2020")]) == 3
    assert start().rc == 0
    assert [name for name in backups() if name.startswith("forge_2020")] == []
    assert len(backups()) >= 2


def test_nothing_secret_is_on_a_command_line_or_in_the_settings(host):
    settings = host.file(SETTINGS)
    assert (settings.user, settings.mode) == ("root", 0o640)
    assert not re.search("password|secret|key", settings.content_string)


def test_the_backup_is_sandboxed_and_gives_way_to_the_site(host):
    exposure = host.check_output("systemd-analyze security --no-pager forge-backup.service | tail -1")
    assert float(re.search(r"([0-9.]+) \w+", exposure).group(1)) < 4.0
    unit = host.check_output("systemctl show -p Nice -p PrivateNetwork -p CapabilityBoundingSet forge-backup.service")
    assert "CapabilityBoundingSet=cap_dac_read_search\n" in unit
    assert "Nice=10" in unit and "PrivateNetwork=yes" in unit


def converge(**values):
    """Apply the role once more with further values, and return the finished process."""
    playbook = Path(__file__).parents[2] / "shared" / "converge.yml"
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    command = ["ansible-playbook", "--inventory", inventory, "--extra-vars", json.dumps(values), playbook]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_schedule_is_a_timer_or_cron_and_never_both(host):
    timer, cron = host.file("/etc/systemd/system/forge-backup.timer"), host.file("/etc/cron.d/forge-backup")
    assert timer.exists and not cron.exists
    assert host.service("forge-backup.timer").is_enabled and host.service("forge-backup.timer").is_running

    converge(backups_scheduler="cron")
    assert cron.exists and not timer.exists and cron.mode == 0o644
    assert "systemctl start forge-backup.service" in cron.content_string
    assert host.run("systemctl is-active forge-backup.timer").rc != 0
    assert host.run("systemctl is-enabled forge-backup.timer").rc != 0
    assert "changed=0" in converge(backups_scheduler="cron")

    converge(backups_scheduler="timer")
    assert timer.exists and not cron.exists
    assert host.service("forge-backup.timer").is_running
    assert "changed=0" in converge(backups_scheduler="timer")
