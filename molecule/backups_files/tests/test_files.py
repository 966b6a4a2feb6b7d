"""The promises of the role's README about files, with a real restic and real repositories."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import hosts
import keeper
import pytest

REPOSITORY = "/var/lib/pgbackrest-files/forge"
FOLDER = "/etc/groundwork/backups/forge-files"
SETTINGS = f"{FOLDER}/settings.conf"
PROGRAM = "/usr/local/lib/groundwork/file_backup.py"
METRICS = "/var/lib/prometheus/node-exporter/groundwork_files_forge.prom"
UNIT = "forge-files-backup.service"
MEDIA = "/var/lib/forge/media"
KEYS = (
    "/etc/letsencrypt/accounts/acme.test/private_key.json",
    "/etc/letsencrypt/archive/forge/privkey1.pem",
    "/etc/nginx/tls/forge/current/privkey.pem",
    "/etc/groundwork/gunicorn_app/forge.secrets.json",
)


@pytest.fixture(scope="module")
def passphrase() -> str:
    return (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "backups_passphrase").read_text().split()[0]


@pytest.fixture
def told(host):
    """Function that returns what the last runs said, the newest last; of failures only, where that is asked for."""

    def last(lines=1, failures=False):
        host.run("journalctl --sync")
        only = "--priority=3" if failures else ""
        return host.check_output(f"journalctl --identifier=file_backup.py --output=cat --lines={lines} {only}")

    return last


@pytest.fixture
def restic(host):
    """Function that runs restic with the repository of the host and returns the finished command."""

    def run(words, passphrase_file=f"{FOLDER}/passphrase.txt"):
        return host.run(f"restic --no-cache --repo={REPOSITORY} --password-file={passphrase_file} {words}")

    return run


@pytest.fixture
def names(restic):
    """Function that names the snapshots, oldest first; only those that count unless `every`."""

    def found(every=False):
        listed = json.loads(restic("snapshots --json --no-lock").stdout)
        listed.sort(key=lambda item: item["time"])
        return [item["id"][:12] for item in listed if every or "complete" in (item.get("tags") or [])]

    return found


@pytest.fixture
def restore(host):
    """Function that puts files back and returns the finished command."""
    return lambda *words: host.run(f"{PROGRAM} restore {SETTINGS} {shlex.join(words)}")


def metric(host, name, place=REPOSITORY) -> float:
    labels = re.escape(f'{{repository="{place}",site="forge"}}')
    return float(re.search(rf"^groundwork_files_{name}{labels} (\S+)$", host.file(METRICS).content_string, re.M)[1])


def state_of(host, *paths) -> str:
    """Owners, modes and content of files."""
    return host.check_output(f"stat -c '%n %U:%G %a' {shlex.join(paths)}; sha256sum {shlex.join(paths)}")


def now(host) -> str:
    """The host's time, a second after all that was and a second before all that will be."""
    return host.check_output("sleep 1.1; date -u '+%Y-%m-%d %H:%M:%S+00'; sleep 1.1")


def test_the_files_and_the_dump_leave_together_and_nothing_twice(host, start, told, restic, names):
    assert start("forge-backup.service").rc == 0
    assert start(UNIT).rc == 0
    assert re.search(rf"{names()[-1]} in {REPOSITORY}: \d+ files, .* verified, 0 removed\.", told())
    held = restic(f"ls {names()[-1]}").stdout.split("\n")
    dump = max(path for path in held if path.endswith(".dump"))
    assert f"{MEDIA}/photos/one.txt" in held and set(KEYS) <= set(held)
    # The daily backup itself has no archive of the files any more.
    note = json.loads(host.file(dump.replace(".dump", ".json")).content_string)
    assert [item["name"] for item in note["files"]] == [os.path.basename(dump)]


def test_what_does_not_exist_is_named_in_the_journal(told):
    line = [line for line in told(5).split("\n") if line.startswith("Left out")][-1]
    assert "/etc/letsencrypt/renewal/forge.conf" in line and "/var/lib/forge" not in line


def test_what_is_the_same_is_stored_once(host, start):
    host.check_output(f"head -c 8000000 /dev/urandom > {MEDIA}/film && cp {MEDIA}/film {MEDIA}/copy")
    assert start(UNIT).rc == 0
    assert 8_000_000 < metric(host, "added_bytes") < 9_000_000
    assert start(UNIT).rc == 0
    assert metric(host, "added_bytes") < 100_000 and metric(host, "size_bytes") > 16_000_000


def test_the_metrics_tell_when_how_much_and_how_long(host, names):
    assert host.run(f"{PROGRAM} status {SETTINGS}").rc == 0
    moment = int(host.check_output("date +%s"))
    assert moment - 600 < metric(host, "last_success_timestamp_seconds") <= moment
    assert metric(host, "snapshots") == len(names()) and 0 < metric(host, "duration_seconds") < 600
    assert host.file(METRICS).mode == 0o644


def test_every_file_of_a_repository_is_encrypted(host, restic):
    look = (
        f"import pathlib, zlib; files = [path for path in pathlib.Path('{REPOSITORY}').rglob('*') "
        "if path.is_file() and path.parent.name != 'keys']; print(len(files), [str(path) for path in files "
        "if len(zlib.compress(path.read_bytes())) < path.stat().st_size])"
    )
    count, bare = host.check_output(f"python3 -c {shlex.quote(look)}").split(" ", 1)
    assert int(count) > 8 and bare == "[]"
    host.check_output("echo another-passphrase-than-before > /root/another")
    assert "wrong password" in restic("snapshots", "/root/another").stderr


def test_a_changed_file_comes_back_as_it_was_at_a_time(host, start, restore):
    path = f"{MEDIA}/photos/one.txt"
    host.check_output(f"echo before > {path} && chmod 640 {path} && chown forge:www-data {path}")
    before = state_of(host, path)
    assert start(UNIT).rc == 0
    moment = now(host)
    host.check_output(f"echo after > {path} && chmod 600 {path} && chown root: {path}")
    after = state_of(host, path)
    assert start(UNIT).rc == 0

    done = restore("--to", moment, "--path", path)
    assert done.rc == 0 and "They are in place." in done.stdout
    assert state_of(host, path) == before
    # What was there before is kept beside.
    kept = re.search(r"What was there before is in (\S+)\.", done.stdout)[1]
    assert host.file(kept + path).content_string == "after\n" and host.file(kept).mode == 0o700
    assert restore("--to", "latest", "--path", path).rc == 0
    assert state_of(host, path) == after
    host.check_output("rm -rf /.before-restore-forge-*")


def test_a_dry_run_tells_what_would_come_back_and_writes_nothing(host, restore, names):
    state = "ls -laR --time-style=full-iso /var/lib/forge /etc; ls -A /"
    before = host.check_output(state)
    done = restore("--to", "latest", "--path", MEDIA, "--dry-run")
    assert re.search(rf"{names()[-1]} of 20\S+ \S+ in {REPOSITORY}: \d+ files, 1\d\.\d MB: {MEDIA}\.", done.stdout)
    assert done.stdout.rstrip().endswith("Nothing has been written.")
    assert host.check_output(state) == before


def test_keys_and_secrets_come_back_byte_for_byte(host, start, restore):
    before = state_of(host, *KEYS)
    assert start(UNIT).rc == 0
    host.check_output("rm -rf /etc/letsencrypt /etc/nginx/tls /etc/groundwork/gunicorn_app /var/lib/forge")
    done = restore("--to", "latest")
    assert done.rc == 0, done.stderr
    assert state_of(host, *KEYS) == before
    assert host.file("/etc/letsencrypt/live/forge/privkey.pem").linked_to == KEYS[1]
    assert (host.file("/var/lib/forge").user, host.file("/etc/letsencrypt/archive").mode) == ("forge", 0o700)
    host.check_output("rm -rf /.before-restore-forge-*")


def test_owners_are_given_back_by_name_where_their_numbers_have_changed(host, restore):
    path = f"{MEDIA}/photos"
    number = host.check_output("id -u forge")
    # usermod itself gives the home directory only.
    host.check_output("usermod --uid 3333 forge && groupmod --gid 3333 forge")
    try:
        assert restore("--to", "latest", "--path", path).rc == 0
        assert host.check_output(f"stat -c '%u:%g %U %a' {path}") == "3333:3333 forge 750"
    finally:
        host.check_output(
            f"usermod --uid {number} forge; groupmod --gid {number} forge; chown -R forge: /var/lib/forge"
        )


def test_files_on_a_file_system_of_their_own_come_back_to_it(host, restore):
    host.check_output(
        f"mount -t tmpfs -o size=64m tmpfs {MEDIA} && mkdir {MEDIA}/photos && echo new > {MEDIA}/photos/x"
    )
    try:
        assert restore("--to", "latest", "--path", "/var/lib/forge").rc == 0
        assert host.check_output(f"findmnt -no FSTYPE {MEDIA}") == "tmpfs"
        assert host.file(f"{MEDIA}/film").size == 8_000_000 and not host.file(f"{MEDIA}/photos/x").exists
        assert host.check_output(f"find {MEDIA}/.before-restore-forge-* -name x")
    finally:
        host.check_output(f"umount {MEDIA}")


def test_a_restore_without_room_writes_nothing(host, restore):
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=20m tmpfs /mnt/small")
    try:
        done = restore("--to", "latest", "--path", MEDIA, "--target", "/mnt/small")
        assert done.rc == 1 and "There is too little space on the file system of /mnt/small" in done.stderr
        assert host.check_output("ls -A /mnt/small") == ""
    finally:
        host.check_output("umount /mnt/small")


def test_a_killed_restore_leaves_the_live_files_whole(host, restore, wait_until):
    host.check_output(f"echo live > {MEDIA}/film")
    before = state_of(host, f"{MEDIA}/film", f"{MEDIA}/copy")
    # It stands still when all is there and nothing has been replaced.
    host.check_output(
        'printf \'#!/bin/sh\\n/usr/bin/restic "$@" || exit\\ncase "$*" in *" restore "*) sleep 60;; esac\\n\' '
        "> /usr/local/sbin/restic && chmod 755 /usr/local/sbin/restic"
    )
    try:
        host.check_output(f"(setsid {PROGRAM} restore {SETTINGS} --to latest > /dev/null 2>&1 & echo $! > /root/pid)")
        wait_until("it stands still", lambda: host.run("pgrep -xf 'sleep 60'").rc == 0)
        host.check_output("pkill -KILL --pgroup $(cat /root/pid)")
    finally:
        host.check_output("rm /usr/local/sbin/restic")
    assert host.file(f"/.restore-forge{MEDIA}/film").size == 8_000_000
    assert state_of(host, f"{MEDIA}/film", f"{MEDIA}/copy") == before
    assert restore("--to", "latest", "--path", f"{MEDIA}/film").rc == 0
    assert host.file(f"{MEDIA}/film").size == 8_000_000
    assert host.run("ls -d /.restore-forge").rc != 0


def test_nothing_secret_is_to_be_seen(host, start, passphrase, play):
    secret = host.file(f"{FOLDER}/passphrase.txt")
    assert (secret.user, secret.group, secret.mode) == ("root", "root", 0o600)
    host.check_output(f"systemctl start --no-block {UNIT}")
    seen = []
    while len(seen) < 5 or host.run(f"systemctl is-active {UNIT}").stdout.strip() == "activating":
        seen.append(host.check_output("ps -eo args e"))
    assert any("restic" in listing for listing in seen)
    assert not any(passphrase in listing for listing in seen)
    host.run("journalctl --sync")
    places = "/var/log /run /etc /var/lib/prometheus /var/lib/groundwork /var/cache/groundwork"
    assert host.run(f"grep -rlF {passphrase} {places} 2>/dev/null").stdout.split() == [f"{FOLDER}/passphrase.txt"]
    assert host.run(f"journalctl --no-pager --output=export | grep -qaF {passphrase}").rc == 1
    # Not even where the file is written anew.
    host.check_output(f"echo changed-by-hand > {FOLDER}/passphrase.txt")
    run = play("--diff")
    assert run.changed > 0 and passphrase not in run.output


def test_two_runs_at_once_do_not_disturb_each_other(host, names):
    before = names(every=True)
    # `flock` holds the lock that a run at work would hold.
    done = host.run(f"flock /var/cache/groundwork/forge-files/.lock {PROGRAM} run {SETTINGS}")
    assert done.rc == 75 and "Another backup or restore of the files of forge is at work" in done.stderr
    assert names(every=True) == before


def test_a_killed_run_does_not_count_and_the_next_one_succeeds(host, start, names, wait_until):
    before = names(every=True)
    host.check_output(f"touch /root/begin; head -c 150000000 /dev/urandom > {MEDIA}/large")
    writing = f"find {REPOSITORY}/data -type f -newer /root/begin | grep -q ."
    host.check_output(f"systemctl start --no-block {UNIT}; timeout 60 sh -c 'until {writing}; do sleep 0.05; done'")
    host.check_output(f"systemctl kill --signal=KILL {UNIT}")
    wait_until("the run has ended", lambda: "activating" not in host.run(f"systemctl is-active {UNIT}").stdout, 20)
    assert names(every=True) == before
    host.check_output(f"find {REPOSITORY}/locks -type f | grep -q . && rm {MEDIA}/large")
    assert start(UNIT).rc == 0
    assert names() == [*before, names()[-1]]
    assert host.run(f"find {REPOSITORY}/locks {REPOSITORY}/data -path '*/locks/*' -o -name '*-tmp-*'").stdout == ""


def test_old_snapshots_go_once_a_new_one_is_verified(host, start, names, told, edited):
    before = names()
    assert len(before) > 3
    with edited(SETTINGS, retention_days="0"):
        assert start(UNIT).rc == 0
    assert f"verified, {len(before) - 1} removed." in told()
    assert names()[:-1] == before[-1:] and len(names()) == 2


def test_a_file_that_cannot_be_read_is_told_and_nothing_is_removed(host, start, names, told, edited):
    before = names()
    # Not even root can read it.
    host.check_output(f"touch {MEDIA}/broken && mount --bind /proc/sys/vm/compact_memory {MEDIA}/broken")
    try:
        with edited(SETTINGS, retention_days="0", minimum_count="1"):
            assert start(UNIT).rc != 0
    finally:
        host.check_output(f"umount {MEDIA}/broken && rm {MEDIA}/broken")
    said = told(failures=True)
    assert f"is not whole: 1 files could not be read ({MEDIA}/broken). Nothing has been removed." in said
    assert f"The last good one is {before[-1]}" in said
    # It is there for who wants it, and does not count.
    assert names() == before and names(every=True)[:-1] == before


def test_a_missing_directory_is_a_failure(host, start, told, names):
    before = names(every=True)
    host.check_output(f"mv {MEDIA} /var/lib/forge/elsewhere")
    try:
        assert start(UNIT).rc != 0
    finally:
        host.check_output(f"mv /var/lib/forge/elsewhere {MEDIA}")
    assert f"The directory {MEDIA}, which is to be backed up, does not exist." in told(failures=True)
    assert names(every=True) == before


def test_a_flipped_byte_is_told_and_nothing_is_removed(host, start, names, told, edited):
    before = names()
    path = host.check_output(f"find {REPOSITORY}/data -type f -size +1M | head -1")
    host.check_output(f"cp -p {path} /root/whole; chmod u+w {path}")
    with edited(SETTINGS, retention_days="0", minimum_count="1"):
        host.check_output(f"printf '\\377\\000\\377' | dd of={path} bs=1 seek=300000 conv=notrunc status=none")
        assert start(UNIT).rc != 0
        assert f"The repository {REPOSITORY} is damaged" in told(failures=True)
        assert os.path.basename(path)[:8] in told(failures=True)
        assert names() == before

        host.check_output(f"cat /root/whole > {path}")
        assert start(UNIT).rc == 0
    assert len(names()) == 1


def test_a_full_repository_is_foreseen_and_the_last_good_snapshot_stays(host, start, names, told, edited):
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=96m tmpfs /mnt/small")
    host.check_output(f"cp -a {REPOSITORY}/. /mnt/small && mount --bind /mnt/small {REPOSITORY}")
    free = "$(($(df --output=avail -BM /mnt/small | tr -dc 0-9) - {0}))"
    fill = "dd if=/dev/zero of=/mnt/small/filler{0} bs=1M count=" + free
    host.check_output(fill.format(14))
    try:
        before = names()
        assert start(UNIT).rc != 0
        assert f"there is too little space in {REPOSITORY}" in told(failures=True)
        assert f"The last good one is {before[-1]}" in told(failures=True)
        # Without the reserve it fills while the backup is written.
        host.check_output(f"head -c 30000000 /dev/urandom > {MEDIA}/large")
        with edited(SETTINGS, reserve_megabytes="-1000"):
            assert start(UNIT).rc != 0
        assert f"there is no space left in {REPOSITORY}" in told(failures=True)
        assert names() == before
    finally:
        host.check_output(f"umount {REPOSITORY} && umount /mnt/small; rm -f {MEDIA}/large")
    assert start(UNIT).rc == 0


def test_a_repository_that_is_gone_is_told_and_not_begun_anew(host, start, names, told):
    before = names()
    host.check_output(f"mount -t tmpfs tmpfs {REPOSITORY}")
    try:
        assert start(UNIT).rc != 0
        assert f"The repository {REPOSITORY} is gone, and there were backups in it" in told(failures=True)
        assert host.check_output(f"ls -A {REPOSITORY}") == ""
    finally:
        host.check_output(f"umount {REPOSITORY}")
    assert names() == before


def test_another_passphrase_is_one_sentence_and_changes_nothing(host, start, told, refused):
    state = f"sha256sum {FOLDER}/*; find {REPOSITORY}/keys {REPOSITORY}/config"
    before = host.check_output(state)
    said = refused(backups_passphrase="another-passphrase-than-before")
    assert f"The repository {REPOSITORY} is encrypted with another passphrase than backups_passphrase" in said
    assert "What was placed before it has been put back." in said
    assert host.check_output(state) == before
    # A run refuses it too, rather than make another repository.
    host.check_output(f"cp -p {FOLDER}/passphrase.txt /root/right && echo another-passphrase > {FOLDER}/passphrase.txt")
    try:
        assert start(UNIT).rc != 0
        assert "is encrypted with another passphrase than backups_passphrase" in told(failures=True)
    finally:
        host.check_output(f"cat /root/right > {FOLDER}/passphrase.txt")
    assert host.check_output(state) == before


def test_an_sftp_server_gets_everything_and_may_be_away(host, sftp_server, play, start, told, refused):
    local, place = {"type": "directory", "path": "/var/lib/pgbackrest"}, "sftp://localhost/keep-files/forge"
    play("--extra-vars", json.dumps({"backups_repositories": [local, sftp_server]}))
    key = host.file(f"{FOLDER}/repo2.key")
    assert (key.user, key.mode) == ("root", 0o600)
    assert start(UNIT).rc == 0
    # While it is away the other one goes on.
    before, away = metric(host, "snapshots"), metric(host, "snapshots", place)
    host.check_output("kill $(cat /run/sshd-sftp.pid)")
    assert start(UNIT).rc != 0
    assert f"The repository {place} cannot be read: ssh: connect to host localhost port 2222" in told(failures=True)
    assert metric(host, "snapshots") == before + 1 and metric(host, "snapshots", place) == away
    host.check_output("/usr/sbin/sshd -f /root/sftp/config")
    assert start(UNIT).rc == 0
    assert metric(host, "snapshots", place) == away + 1
    host.check_output("mkdir -p /root/out")
    done = host.run(f"{PROGRAM} restore {SETTINGS} --to latest --repository 2 --path {KEYS[1]} --target /root/out")
    assert done.rc == 0 and state_of(host, KEYS[1]) == state_of(host, f"/root/out{KEYS[1]}").replace("/root/out", "")

    # A server that shows another key is not believed.
    other = " ".join(host.file("/etc/ssh/ssh_host_rsa_key.pub").content_string.split()[:2])
    said = refused(backups_repositories=[local, {**sftp_server, "host_public_keys": [other]}])
    assert f"The repository {place} cannot be read: " in said
    play()
    assert not host.file(f"{FOLDER}/repo2.key").exists


@pytest.fixture
def bucket(host) -> Iterator[dict]:
    """A server of S3 with a certificate that only its own authority vouches for; what backups_repositories takes."""
    network = host.backend.get_hostname()
    name = f"{network}-bucket"
    yield {**keeper.start_s3(name, network, "bucket.test"), "port": 9443, "secret_key": "sentinel/of+a-secret-key"}
    hosts.remove([name])


def test_a_bucket_gets_everything_and_only_a_server_that_proves_itself(host, bucket, play, start, refused):
    place = "s3://bucket.test/keep-files/forge"
    run = play("--diff", "--extra-vars", json.dumps({"backups_repositories": [bucket]}))
    secret = host.file(f"{FOLDER}/repo1.credentials")
    assert (secret.user, secret.mode) == ("root", 0o600) and bucket["secret_key"] not in run.output
    assert start("--no-block " + UNIT).rc == 0
    seen = []
    while len(seen) < 5 or host.run(f"systemctl is-active {UNIT}").stdout.strip() == "activating":
        seen.append(host.check_output("ps -eo args e"))
    assert any("--repo=s3:https" in listing for listing in seen)
    assert not any(bucket["secret_key"] in listing for listing in seen)
    assert metric(host, "snapshots", place) == 1
    host.check_output("mkdir -p /root/out")
    done = host.run(f"{PROGRAM} restore {SETTINGS} --to latest --path {KEYS[0]} --target /root/out")
    assert done.rc == 0 and state_of(host, KEYS[0]) == state_of(host, f"/root/out{KEYS[0]}").replace("/root/out", "")

    unproven = {key: value for key, value in bucket.items() if key != "certificate_authority"}
    told = f"The repository {place} cannot be read: the certificate of bucket.test:9443 is not trusted "
    assert told in refused(backups_repositories=[unproven])
    play()
    assert host.run(f"ls {FOLDER}/repo1.*").stdout == ""


def test_the_cluster_goes_to_a_bucket_too(host, bucket, play, refused, wait_until):
    values = {"backups_repositories": [bucket], "backups_physical_enabled": True, "backups_files_enabled": False}
    run = play("--diff", "--extra-vars", json.dumps(values))
    assert bucket["secret_key"] not in run.output
    unit = "groundwork-backup-full.service"
    wait_until("the first backup ends", lambda: host.run(f"systemctl is-active {unit}").stdout.strip() == "inactive")
    assert host.check_output(f"systemctl show -P Result {unit}") == "success"
    info = host.check_output("cd / && setpriv --reuid=postgres --regid=postgres --init-groups pgbackrest info")
    assert "full backup: " in info and "cipher: aes-256-cbc" in info

    unproven = {key: value for key, value in bucket.items() if key != "certificate_authority"}
    said = refused(**{**values, "backups_repositories": [unproven]})
    assert "The repository s3://bucket.test/keep cannot be read: " in said
    play()


def test_it_is_sandboxed_and_gives_way_to_the_site(host):
    exposure = host.check_output(f"systemd-analyze security --no-pager {UNIT} | tail -1")
    assert float(re.search(r"([0-9.]+) \w+", exposure)[1]) < 3.0, exposure
    unit = host.check_output(f"systemctl show -p Nice -p PrivateNetwork {UNIT}")
    assert "Nice=10" in unit and "PrivateNetwork=yes" in unit


def test_the_schedule_is_a_timer_or_cron_and_ends_with_the_switch(host, play):
    timer, cron = "/etc/systemd/system/forge-files-backup.timer", "/etc/cron.d/forge-files-backup"
    assert host.service("forge-files-backup.timer").is_running
    play("--extra-vars", json.dumps({"backups_scheduler": "cron"}))
    assert f"systemctl start {UNIT}" in host.file(cron).content_string and not host.file(timer).exists
    assert host.run("systemctl is-active forge-files-backup.timer").rc != 0

    play("--extra-vars", json.dumps({"backups_files_enabled": False}))
    assert host.run(f"ls {timer} {cron} /etc/systemd/system/{UNIT} {FOLDER}/*").stdout == ""
    assert host.run("systemctl is-active forge-files-backup.timer").rc != 0
    assert f"file_directories = {MEDIA}" in host.file("/etc/groundwork/backups/forge.conf").content_string

    play()
    assert host.service("forge-files-backup.timer").is_running
    assert play().changed == 0
