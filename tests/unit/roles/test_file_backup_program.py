"""The program that backs up files: what it makes of what restic says, what counts and expires, where files come to."""

import contextlib
import dataclasses
import json
import os
import queue
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

SETTINGS = """[files]
site = forge
file_directories = {root}/media
dumps_directory = {root}/dumps
system_paths = {root}/etc {root}/etc/*.conf {root}/none /nowhere/*
retention_days = 14
minimum_count = 2
reserve_megabytes = 0
read_back_days = 7
processes_count = 1
metrics_directory = {root}

[repo1]
type = directory
path = {root}

[repo2]
type = sftp
path = /keep-files/forge
host = backup.example.org

[repo3]
type = s3
path = /forge-files/forge
host = s3.example.org
port = 9000
bucket = vault
bucket_lookup = path
region = eu-1
own_authority = True
"""
DAY = 86400
NOW = 1_800_000_000
SUMMARY = {
    "message_type": "summary",
    "snapshot_id": "ffff0000",
    "total_files_processed": 3,
    "total_bytes_processed": 1000,
    "data_added": 10,
}
NOT_THERE = "Fatal: unable to open config file: {}\nIs there a repository at the following location?\n/x\n"


@pytest.fixture(scope="module")
def program(load):
    """The program, as a module."""
    return load("backups", "file_backup")


@pytest.fixture
def settings(program, tmp_path):
    """Settings of three repositories, of which the first is a directory of the test."""
    for name in ("media", "dumps", "etc"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings.conf").write_text(SETTINGS.format(root=tmp_path))
    return program.Settings.load(str(tmp_path / "settings.conf"))


@pytest.fixture
def tool(program, monkeypatch):
    """A stand-in for restic: `ages` are days since its snapshots by name, `answers` what single commands say."""

    class Tool:
        def __init__(self):
            self.commands = []
            self.answers = {}
            self.ages = {"aaaa": 1}
            self.partial = set()
            self.complains = (0, "")

        def __call__(self, _settings, _repository, *words, timeout=None):
            self.commands.append(words)
            if words[0] in self.answers:
                return program.Done(*self.answers[words[0]])
            if words[0] == "snapshots":
                return program.Done(0, json.dumps([self.item(name) for name in self.ages]), "")
            if words[0] == "backup":
                self.ages["ffff0000"] = 0
                self.partial.add("ffff0000")
                status, errors = self.complains
                return program.Done(status, json.dumps(SUMMARY), errors)
            if words[0] == "tag":
                self.partial.discard(words[-1])
            return program.Done(0, "", "")

        def item(self, name):
            moment = program.time.strftime(
                "%Y-%m-%dT%H:%M:%S.123456789Z", program.time.gmtime(NOW - self.ages[name] * DAY)
            )
            tags = None if name in self.partial else ["complete"]
            return {"id": name * 8, "time": moment, "tags": tags, "paths": ["/etc/groundwork", "/etc/passwd"]}

        @property
        def verbs(self):
            return [words[0] for words in self.commands]

    tool = Tool()
    monkeypatch.setattr(program, "restic", tool)
    monkeypatch.setattr(program.time, "time", lambda: NOW)
    return tool


def test_nothing_secret_is_among_the_words_and_the_environment_of_restic(settings, tmp_path):
    directory, sftp, s3 = settings.repositories
    assert directory.options == (f"--repo={tmp_path}",)
    assert sftp.options == (
        "--repo=sftp:repo2:/keep-files/forge",
        f"--option=sftp.command=ssh -F {tmp_path}/repo2.ssh repo2 -s sftp",
    )
    assert s3.options[0] == "--repo=s3:https://s3.example.org:9000/vault/forge-files/forge"
    assert f"--cacert={tmp_path}/repo3.pem" in s3.options
    assert s3.environment == {
        "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/repo3.credentials",
        "AWS_DEFAULT_REGION": "eu-1",
    }


def test_what_is_below_another_path_is_named_once_and_what_is_missing_is_told(program, settings, tmp_path):
    (tmp_path / "etc" / "one.conf").touch()
    paths, missing = program.paths_of(settings)
    assert paths == ("/etc/group", "/etc/passwd", *(f"{tmp_path}/{name}" for name in ("dumps", "etc", "media")))
    assert missing == (f"{tmp_path}/none", "/nowhere/*")


def test_a_missing_directory_of_files_is_a_failure(program, settings, tmp_path):
    (tmp_path / "media").rmdir()
    with pytest.raises(program.Failure, match="which is to be backed up, does not exist"):
        program.paths_of(settings)


def test_a_snapshot_counts_once_it_has_been_verified_and_only_then_others_go(program, settings, tool):
    tool.ages = {"aaaa": 30, "bbbb": 20, "cccc": 1}
    told, values = program.back_up(settings, settings.repositories[0], ("/etc",))
    order = [verb for verb in tool.verbs if verb in ("backup", "check", "tag", "forget")]
    assert order == ["backup", "check", "tag", "forget"]
    assert next(words for words in tool.commands if words[0] == "forget") == (
        "forget",
        "--prune",
        *removed("bbbb", "aaaa"),
    )
    assert "2 removed" in told and values["snapshots"] == 2 and values["added_bytes"] == 10


def removed(*names: str) -> tuple[str, ...]:
    return tuple((name * 8)[:12] for name in names)


def test_the_minimum_stays_however_old_it_is(program, settings, tool):
    tool.ages = {"aaaa": 90, "bbbb": 80}
    program.back_up(settings, settings.repositories[0], ("/etc",))
    assert next(words for words in tool.commands if words[0] == "forget")[2:] == removed("aaaa")


def test_what_never_counted_goes_by_its_age_and_saves_no_other(program, settings, tool):
    tool.ages = {"aaaa": 90, "bbbb": 80, "cccc": 2}
    tool.partial = {"bbbb", "cccc"}
    program.back_up(settings, settings.repositories[0], ("/etc",))
    assert next(words for words in tool.commands if words[0] == "forget")[2:] == removed("bbbb")


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"backup": (1, "", "Fatal: unable to save\n")}, "failed: unable to save. The last good one is aaaa"),
        ({"backup": (0, "", "")}, "failed: exit status 0"),
        (
            {"backup": (3, json.dumps(SUMMARY), '{"message_type":"error","item":"/etc/passwd"}')},
            "is not whole: 1 files",
        ),
        ({"check": (1, "", "error for pack 12345678:\nFatal: repository contains errors\n")}, "damaged .*12345678"),
        ({"backup": (3, json.dumps(SUMMARY), "")}, "1 files could not be read .restic does not say which"),
        ({"tag": (1, "", "Fatal: no\n")}, "failed: no"),
    ],
    ids=["failed", "empty", "partial", "damaged", "partial without names", "not tagged"],
)
def test_a_backup_that_is_not_good_removes_nothing(program, settings, tool, answers, sentence):
    tool.ages = {"aaaa": 1, "bbbb": 80, "cccc": 90}
    tool.answers = answers
    with pytest.raises(program.Failure, match=sentence):
        program.back_up(settings, settings.repositories[0], ("/etc",))
    assert "forget" not in tool.verbs


def test_a_file_that_went_while_it_was_read_is_no_failure(program, settings, tool):
    tool.complains = (3, json.dumps({"message_type": "error", "item": "/nowhere/at/all"}))
    assert "verified" in program.back_up(settings, settings.repositories[0], ("/etc",))[0]


def test_each_day_another_part_is_read_until_all_of_it_was(program, settings, tool, monkeypatch):
    for day in range(7):
        monkeypatch.setattr(program.time, "time", lambda day=day: NOW + day * DAY)
        program.verify(settings, settings.repositories[0])
    assert sorted(words[1] for words in tool.commands) == [f"--read-data-subset={part}/7" for part in range(1, 8)]


@pytest.mark.parametrize(
    "answer",
    [
        (1, "", NOT_THERE.format("stat /x/config: no such file or directory")),
        (1, "", NOT_THERE.format("Lstat: file does not exist")),
        (1, "", NOT_THERE.format("Stat: The specified key does not exist.")),
        (10, "", '{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist"}'),
    ],
    ids=["directory", "sftp", "s3", "restic 0.17"],
)
def test_a_repository_that_is_not_there_is_made(program, settings, tool, answer):
    tool.answers = {"cat": answer}
    program.prepare(settings, settings.repositories[0])
    assert tool.verbs == ["cat", "init", "unlock"]


def test_what_a_killed_run_has_half_written_is_removed(program, settings, tool, tmp_path):
    (tmp_path / "data" / "ab").mkdir(parents=True)
    for name in ("abcd", "abcd-tmp-123"):
        (tmp_path / "data" / "ab" / name).touch()
    program.prepare(settings, settings.repositories[0])
    assert os.listdir(tmp_path / "data" / "ab") == ["abcd"]


def test_a_repository_that_is_gone_is_not_begun_anew(program, settings, tool):
    gone, other, _third = settings.repositories
    program.write_metrics(settings, {gone.place: {"last_success_timestamp_seconds": NOW, "snapshots": 4}})
    tool.answers = {"cat": (10, "", "")}
    with pytest.raises(program.Failure, match="is gone, and there were backups in it: see whether its disk is mounted"):
        program.prepare(settings, gone)
    assert "init" not in tool.verbs
    program.prepare(settings, other)
    assert "init" in tool.verbs


def test_a_signal_ends_the_run_and_not_only_the_repository_at_hand(program, settings, tool, tmp_path, monkeypatch):
    monkeypatch.setattr(program.Settings, "cache", tmp_path / "cache")
    interrupted = sys.modules[program.Failure.__module__].interrupted
    reached = []

    def verify(_settings, repository):
        reached.append(repository.name)
        interrupted(15, None)

    monkeypatch.setattr(program, "verify", verify)
    with pytest.raises(program.Failure, match=r"^It was ended by SIGTERM\. The last good one is aaaa"):
        program.command_run(settings)
    assert reached == ["repo1"]


@pytest.fixture
def tls_server(tmp_path):
    """A server on loopback with a certificate that nobody else vouches for.

    Its port, the certificate's file, and a queue of the handshakes that came about.
    """
    handshakes = queue.Queue()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=s3 -addext subjectAltName=DNS:localhost"
    command = [*make.split(), "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as safe:
                        # What the client thinks of the certificate shows when it goes on.
                        handshakes.put(safe.recv(1))

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], certificate, handshakes


def test_a_certificate_that_is_not_trusted_is_told_at_once(program, settings, tool, tls_server):
    port, certificate, handshakes = tls_server
    bucket = settings.repositories[2]
    assert bucket.server == ("s3.example.org", 9000)

    unproven = dataclasses.replace(bucket, server=("localhost", port), authority=None)
    with pytest.raises(program.Failure) as failure:
        program.is_made(settings, unproven)
    assert str(failure.value) == (
        f"The repository s3://s3.example.org/forge-files/forge cannot be read: the certificate of localhost:{port} is "
        "not trusted (self-signed certificate)."
    )
    assert tool.commands == [] and handshakes.empty()

    proven = dataclasses.replace(unproven, authority=str(certificate))
    assert program.distrust(proven) == ""
    assert handshakes.get(timeout=10) == b""


def test_a_bucket_may_be_part_of_the_name_that_the_server_has_to_prove(program, settings, tmp_path):
    by_name = SETTINGS.format(root=tmp_path).replace("bucket_lookup = path", "bucket_lookup = dns")
    (tmp_path / "settings.conf").write_text(by_name)
    assert program.Settings.load(str(tmp_path / "settings.conf")).repositories[2].server == (
        "vault.s3.example.org",
        9000,
    )


def test_a_server_that_does_not_answer_is_left_to_restic(program, settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    away = dataclasses.replace(settings.repositories[2], server=("localhost", port), authority=None)
    assert program.distrust(away) == ""


def test_what_ssh_says_last_is_why_a_server_cannot_be_reached(program, settings, tool, tmp_path, monkeypatch):
    tool.answers = {"cat": (1, "", "Fatal: unable to open repository: EOF\n")}
    (tmp_path / "ssh").write_text("#!/bin/sh\necho @@@@@ >&2\necho 'Host key verification failed.' >&2\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setitem(program.ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(program.Failure, match=r"forge cannot be read: Host key verification failed\.$"):
        program.prepare(settings, settings.repositories[1])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((1, "", "Fatal: wrong password or no key found\n"), "is encrypted with another passphrase"),
        ((12, "", '{"message_type":"exit_error","message":"Fatal: no"}'), "is encrypted with another passphrase"),
        ((1, "", NOT_THERE.format("stat /x/config: permission denied")), "cannot be read: unable to open config file"),
        (
            (1, "", "Load() failed\nFatal: unable to open repository: EOF\n"),
            "cannot be read: unable to open repository",
        ),
    ],
    ids=["wrong", "wrong, restic 0.17", "not to be read", "away"],
)
def test_a_repository_that_cannot_be_used_is_never_made_anew(program, settings, tool, answer, sentence):
    tool.answers = {"cat": answer}
    with pytest.raises(program.Failure, match=sentence):
        program.prepare(settings, settings.repositories[0])
    assert "init" not in tool.verbs


def test_no_room_is_foreseen_by_what_has_changed(program, settings, tool, tmp_path, monkeypatch):
    path = tmp_path / "media" / "film"
    path.write_bytes(b"x" * (3 << 20))
    assert program.changed_bytes([str(tmp_path / "media")], 0) == 3 << 20
    assert program.changed_bytes([str(path)], path.stat().st_ctime + 10) == 0
    monkeypatch.setattr(program, "free_megabytes", lambda _path: 3)
    tool.ages = {}
    with pytest.raises(program.Failure, match=r"3 MB are free, and a backup needs 4 MB .* There is no good one yet"):
        program.back_up(settings, settings.repositories[0], (str(tmp_path / "media"),))
    assert "backup" not in tool.verbs


def test_one_repository_that_fails_keeps_the_others_from_nothing(
    program, settings, tool, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(program.Settings, "cache", tmp_path / "cache")

    def back_up(_settings, repository, _paths):
        if repository.name == "repo2":
            raise program.Failure("It is away.")
        return f"{repository.name} has it.", {"size_bytes": 1000}

    monkeypatch.setattr(program, "back_up", back_up)
    with pytest.raises(program.Failure, match=r"^It is away\. repo1 has it\. repo3 has it\.$"):
        program.command_run(settings)
    assert "Left out, since there is no such path: " in capsys.readouterr().out
    text = (tmp_path / "groundwork_files_forge.prom").read_text()
    assert f'groundwork_files_size_bytes{{repository="{tmp_path}",site="forge"}} 1000\n' in text
    assert "sftp://" not in text


def test_the_metrics_of_a_repository_that_is_away_stand_still(program, settings, tool, tmp_path):
    near, far, _third = settings.repositories
    program.write_metrics(settings, {far.place: {"size_bytes": 5.0, "snapshots": 1}, near.place: {"snapshots": 7}})
    program.write_metrics(settings, {near.place: {"snapshots": 8}})
    text = (tmp_path / "groundwork_files_forge.prom").read_text()
    assert f'groundwork_files_size_bytes{{repository="{far.place}",site="forge"}} 5\n' in text
    assert f'groundwork_files_snapshots{{repository="{near.place}",site="forge"}} 8\n' in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T10:00:00.500000000+02:00", NOW + 0.5),
    ],
)
def test_times_are_read_as_restic_writes_them(program, text, seconds):
    assert program.read_time(text) == seconds


def test_the_newest_of_a_time_is_chosen_and_what_does_not_count_only_by_its_name(program, settings, tool):
    tool.ages = {"aaaa": 3, "bbbb": 2, "cccc": 1}
    tool.partial = {"bbbb"}
    found = program.snapshots(settings, settings.repositories[0])
    assert program.choose(found, "latest").name == removed("cccc")[0]
    assert program.choose(found, "2027-01-14T07:00Z").name == removed("aaaa")[0]
    assert program.choose(found, "bbbbbbbb").name == removed("bbbb")[0]
    for wanted, sentence in (
        ("2020-01-01T00:00Z", "the oldest one is of 2027-01-12"),
        ("2027-01-14", "is a day: write the time as well"),
        ("yesterday", "write latest"),
    ):
        with pytest.raises(program.Failure, match=sentence):
            program.choose(found, wanted)


def test_a_mount_point_is_put_back_entry_by_entry_and_a_link_is_refused(program, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "mount_points", lambda: (f"{tmp_path}/lib/media", "/"))
    nodes = [
        program.Node(f"{tmp_path}/{name}", "dir", 0, 0o755, 0, 0)
        for name in ("lib", "lib/keys", "lib/media", "lib/media/a", "lib/media/b")
    ]
    assert program.rooms_of([f"{tmp_path}/lib"], "/", nodes) == {
        "/": [f"{tmp_path}/lib/keys"],
        f"{tmp_path}/lib/media": [f"{tmp_path}/lib/media/a", f"{tmp_path}/lib/media/b"],
    }
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(program.Failure, match="leads through a link to /etc: nothing is put there"):
        program.rooms_of([f"{tmp_path}/link/passwd"], "/", nodes)


def test_the_owners_file_is_never_put_back_unless_it_is_asked_for(program):
    snapshot = program.Snapshot("aaaa", NOW, True, ("/etc/groundwork", "/etc/passwd"), "aaaa")
    nodes = [program.Node(path, "file", 0, 0o644, 0, 0) for path in (*snapshot.paths, "/etc", "/etc/groundwork/x")]
    assert program.tops_of(snapshot, nodes, []) == ("/etc/groundwork",)
    assert program.tops_of(snapshot, nodes, ["/etc/passwd"]) == ("/etc/passwd",)
    for path in ("/etc/shadow", "/etc"):
        with pytest.raises(program.Failure, match="is not in the snapshot aaaa"):
            program.tops_of(snapshot, nodes, [path])


def test_what_was_there_and_what_comes_change_places(program, tmp_path):
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "old").touch()
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "new").touch()
    program.put(str(tmp_path / "staged"), str(tmp_path / "live"), str(tmp_path / "before" / "live"))
    assert os.listdir(tmp_path / "live") == ["new"] and os.listdir(tmp_path / "before" / "live") == ["old"]
    assert not (tmp_path / "staged").exists()


def test_numbers_of_owners_are_changed_only_where_a_name_has_another_one(program, settings, tool, monkeypatch):
    here = Path("/etc/passwd").read_text().splitlines()[0].split(":")
    tool.answers = {"dump": (0, f"{here[0]}:x:4242:4242::/:\nnobody_knows:x:77:77::/:\n", "")}
    snapshot = program.Snapshot("aaaa", NOW, True, (), "aaaa")
    owners = program.new_owners(settings, settings.repositories[0], snapshot)
    assert owners["/etc/passwd"] == {4242: int(here[2])}


def test_a_snapshot_that_does_not_come_back_whole_replaces_nothing(program, settings, tool, tmp_path):
    snapshot = program.Snapshot("aaaa", NOW, True, (), "aaaa")
    for answer, sentence in (
        ((1, "", "ignoring error for /x: it is damaged\nFatal: There were 1 errors\n"), "error for /x: it is damaged"),
        ((0, "", ""), "/etc/x did not come back"),
    ):
        tool.answers = {"restore": answer}
        with pytest.raises(program.Failure, match=rf"{sentence}\. Nothing has been replaced\.$"):
            program.stage(settings, settings.repositories[0], snapshot, str(tmp_path), ["/etc/x"])
