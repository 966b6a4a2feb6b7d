"""The programs that restore the cluster: what a target means, which backup is taken, and when a drill is content."""

import importlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "roles/backups/templates/usr/local/lib/groundwork"
FIRST = "0" * 7 + "1" + "0" * 16


@pytest.fixture(scope="module")
def programs():
    """The programs by name; each finds the others beside itself."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in ("physical_backup", "cluster_copy", "restore", "drill")}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def cluster_copy(programs):
    return programs["cluster_copy"]


@pytest.fixture
def drill(programs):
    return programs["drill"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("latest", "default", ""),
        ("xid:803", "xid", "803"),
        ("lsn:0/7009eb0", "lsn", "0/7009EB0"),
        ("deploy-1f2e3d4c5b-0a9b8c", "name", "deploy-1f2e3d4c5b-0a9b8c"),
        ("2026-04-01 02:29:00+02:00", "time", "2026-04-01 00:29:00.000000+00"),
        ("2026-04-01 02:29:00 +02", "time", "2026-04-01 00:29:00.000000+00"),
        ("2026-04-01T02:29:00Z", "time", "2026-04-01 02:29:00.000000+00"),
        ("2026-04-01 02:29:00.125 UTC", "time", "2026-04-01 02:29:00.125000+00"),
    ],
)
def test_a_target_is_what_it_looks_like(cluster_copy, text, kind, value):
    found = cluster_copy.Target.parse(text)
    assert (found.type, found.value) == (kind, value)


def test_a_time_without_a_zone_is_of_the_host(cluster_copy, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    try:
        assert cluster_copy.Target.parse("2026-01-15 02:29").value == "2026-01-15 01:29:00.000000+00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "tomorrow at noon", "2026-13-01", "xid:abc", "lsn:7", "9", "--help", "a" * 64])
def test_what_is_no_target_is_refused_by_name(cluster_copy, text):
    with pytest.raises(cluster_copy.Failure, match=r"is not a (moment|time)") as caught:
        cluster_copy.Target.parse(text)
    assert f'"{text}"' in str(caught.value)


def test_a_day_that_a_command_line_has_left_of_a_time_is_refused(cluster_copy):
    with pytest.raises(cluster_copy.Failure, match='"2026-04-01" is a day: write the time as well, like 2026-04-01T'):
        cluster_copy.Target.parse("2026-04-01")
    assert cluster_copy.Target.parse("2026-04-01T02:29:00+02:00").value == "2026-04-01 00:29:00.000000+00"


def test_the_future_is_refused(cluster_copy):
    with pytest.raises(cluster_copy.Failure, match="is in the future"):
        cluster_copy.Target.parse("2999-01-01 00:00:00Z")


@pytest.fixture
def backups(programs, cluster_copy, monkeypatch):
    """Three backups, an hour apart, the first one of 1 January 2026 at midnight."""
    begin = 1_767_225_600
    copy = programs["physical_backup"].Copy
    found = [
        copy(f"backup-{n}", "full", 1, begin + n * 3600, begin + n * 3600 + 60, 0, FIRST, FIRST, 0, f"0/{n}000000")
        for n in range(3)
    ]
    monkeypatch.setattr(cluster_copy, "copies", lambda _settings, _repository: found)
    monkeypatch.setattr(cluster_copy, "lineage", lambda *_words: {1: math.inf})
    return found


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("latest", ["backup-2"]),
        ("2026-01-01 01:30:00Z", ["backup-1"]),
        # It had not ended by then, so it does not hold that moment.
        ("2026-01-01 01:00:30Z", ["backup-0"]),
        # Of its end the second is known, and that may have been after the moment.
        ("2026-01-01 01:01:00.500Z", ["backup-0"]),
        ("2026-01-01 01:01:01Z", ["backup-1"]),
        # Nobody knows when that was: each is tried, the newest first.
        ("deploy-x", ["backup-2", "backup-1", "backup-0"]),
        ("xid:5", ["backup-2", "backup-1", "backup-0"]),
    ],
)
def test_the_newest_backup_before_the_target_is_taken(cluster_copy, programs, backups, text, labels):
    repository = programs["physical_backup"].Repository(1, "posix", "/srv", "/srv")
    found = cluster_copy.candidates(None, repository, cluster_copy.Target.parse(text))
    assert [copy.label for copy in found] == labels


def test_a_time_before_the_first_backup_is_told(cluster_copy, programs, backups):
    repository = programs["physical_backup"].Repository(1, "posix", "/srv", "/srv")
    with pytest.raises(
        cluster_copy.Failure, match="is not after the first backup in /srv, which ended at 2026-01-01 00:01:00"
    ):
        cluster_copy.candidates(None, repository, cluster_copy.Target.parse("2025-12-31 00:00:00Z"))


def test_an_empty_repository_is_told(cluster_copy, programs, monkeypatch):
    monkeypatch.setattr(cluster_copy, "copies", lambda _settings, _repository: [])
    repository = programs["physical_backup"].Repository(1, "posix", "/srv", "/srv")
    with pytest.raises(cluster_copy.Failure, match=r"^There is no backup in /srv\.$"):
        cluster_copy.candidates(None, repository, cluster_copy.Target.parse("latest"))


def test_a_backup_of_a_past_that_a_restore_has_left_is_not_taken(cluster_copy, programs, backups, monkeypatch):
    repository = programs["physical_backup"].Repository(1, "posix", "/srv", "/srv")
    # The newest timeline left the first one after the second backup, and the third was made on that all the same.
    monkeypatch.setattr(cluster_copy, "lineage", lambda *_words: {1: 0x1800000, 2: math.inf})
    [found] = cluster_copy.candidates(None, repository, cluster_copy.Target.parse("latest"))
    assert found.label == "backup-1"


LISTED = {
    ".": {"type": "path"},
    "17-1/00000002.history": {"type": "file", "size": 41, "time": 100},
    "17-1/0000000A.history": {"type": "file", "size": 83, "time": 200},
    "17-1/00/0000000100-x": {"type": "file", "size": 1, "time": 50},
    "18-2/0000000F.history": {"type": "file", "size": 1, "time": 300},
}
HISTORIES = {
    "17-1/00000002.history": "1\t0/7009EB0\tbefore 2026\n",
    "17-1/0000000A.history": "1\t0/7009EB0\tbefore 2026\n\n2\t1/24039970\tno recovery target specified\n",
}


@pytest.mark.parametrize(
    ("moment", "line"),
    [
        (math.inf, {1: 0x7009EB0, 2: 0x124039970, 10: math.inf}),
        # What a restore has left since is found again.
        (150, {1: 0x7009EB0, 2: math.inf}),
        (99, {1: math.inf}),
    ],
)
def test_the_lineage_is_what_the_history_of_that_time_says(programs, monkeypatch, moment, line):
    program = programs["physical_backup"]

    def answer(_settings, command, *_options):
        verb, path = command.split()
        said = json.dumps(LISTED) if verb == "repo-ls" else HISTORIES[path.partition("main/")[2]]
        return program.Done(0, said, "")

    monkeypatch.setattr(program, "pgbackrest", answer)
    settings = program.Settings("main", 5432, 0, 0, Path(), ())
    assert program.lineage(settings, program.Repository(1, "posix", "/srv", "/srv"), 1, moment) == line


def test_a_log_that_cannot_be_listed_is_not_taken_for_one_without_restores(programs, monkeypatch):
    program = programs["physical_backup"]
    monkeypatch.setattr(
        program, "pgbackrest", lambda *_words: program.Done(49, "", "ERROR: [049]: unable to connect\n")
    )
    settings = program.Settings("main", 5432, 0, 0, Path(), ())
    with pytest.raises(program.Failure, match="The log in s3://far/forge cannot be listed: unable to connect"):
        program.lineage(settings, program.Repository(1, "s3", "/forge", "s3://far/forge"), 1)


def test_the_positions_of_a_part_of_the_log(programs):
    bounds, sixteen = programs["physical_backup"].bounds, 16 * 1024 * 1024
    assert bounds("000000010000000000000007", sixteen) == (0x7000000, 0x8000000)
    assert bounds("0000000200000003000000FF", sixteen) == (0x3FF000000, 0x400000000)
    assert bounds("000000010000000000000003", 1024 * 1024 * 1024) == (0xC0000000, 0x100000000)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": 5, "b": 0}, ""),
        ({"a": 7, "b": 0, "new": 1}, ""),
        ({"a": 4, "b": 0}, "a has 4 rows in the copy, and 5 to 7 at that time"),
        ({"a": 8, "b": 0}, "a has 8 rows"),
        ({"a": 5, "b": 1}, "b has 1 rows in the copy, and 0 at that time"),
        ({"a": 5}, "b is missing"),
    ],
)
def test_a_table_with_other_rows_than_there_were_is_named(drill, found, said):
    bounds = {"a": [5, 7], "b": [0, 0]}
    if not said:
        drill.compare_rows(bounds, found)
        return
    with pytest.raises(drill.Failure, match=said):
        drill.compare_rows(bounds, found)


def test_only_tablespaces_that_no_cluster_uses_are_removed_with_a_copy(cluster_copy, tmp_path):
    live = cluster_copy.Cluster("17", "main", 5432, tmp_path / "main", tmp_path)
    copy = cluster_copy.ClusterCopy(None, live, "copied")
    for owner, number in (("main", 1), ("before_x", 2), ("copied", 3)):
        (tmp_path / owner / "pg_tblspc").mkdir(parents=True)
        (tmp_path / f"copied_tablespaces_{number}" / "space").mkdir(parents=True)
        (tmp_path / owner / "pg_tblspc" / "16390").symlink_to(tmp_path / f"copied_tablespaces_{number}" / "space")
    (tmp_path / "copied_tablespaces_4").mkdir()
    (tmp_path / "another_tablespaces_5").mkdir()
    assert sorted(path.name for path in copy.stray_tablespaces()) == ["copied_tablespaces_3", "copied_tablespaces_4"]


def test_a_tablespace_made_after_the_backup_is_not_written_to(cluster_copy, programs, backups, tmp_path, monkeypatch):
    live = cluster_copy.Cluster("17", "main", 5432, tmp_path / "main", tmp_path)
    copy = cluster_copy.ClusterCopy(None, live, "copied")
    repository = programs["physical_backup"].Repository(1, "posix", "/srv", "/srv")
    (tmp_path / "main" / "pg_tblspc").mkdir(parents=True)
    (tmp_path / "main" / "pg_tblspc" / "16390").symlink_to("/srv/space")
    said = "            tablespaces:\n                space (16390) => /srv/space\n"
    done = programs["physical_backup"].Done
    monkeypatch.setattr(cluster_copy, "pgbackrest", lambda *_words: done(0, said, ""))
    copy.check_tablespaces(repository, backups[0])
    (tmp_path / "main" / "pg_tblspc" / "16391").symlink_to("/srv/newer")
    with pytest.raises(cluster_copy.Failure, match="The tablespace in /srv/newer was made after the backup backup-0"):
        copy.check_tablespaces(repository, backups[0])


def test_two_directories_are_exchanged_in_one_step(programs, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    programs["restore"].exchange(tmp_path / "one", tmp_path / "other")
    assert os.listdir(tmp_path / "one") == ["other"] and os.listdir(tmp_path / "other") == ["one"]
    with pytest.raises(OSError, match="No such file"):
        programs["restore"].exchange(tmp_path / "one", tmp_path / "missing")


def test_the_programs_say_how_they_are_used():
    for name in ("restore.py", "drill.py"):
        done = subprocess.run(
            [sys.executable, "-B", FOLDER / name, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "usage" in done.stdout
