import contextlib
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from operations import databases

from .conftest import APP, inherited, site_in

# In the middle of its work it gets the signal that systemd sends.
ENDED_BACKUP = (
    "import os, signal; from django.core.management import call_command; from operations import databases;"
    "databases._copy = lambda draft: os.kill(os.getpid(), signal.SIGTERM); call_command('backup_database')"
)
TITLES = "SELECT title FROM forge_template ORDER BY title"
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
# As restore_database does it, but with less patience.
IMPATIENT_RESTORE = (
    "from django.core.management import call_command; from operations import databases;"
    "databases.LOCK_TIMEOUT_SECONDS = 1; call_command('restore_database', {copy!r}, '--replace', '--yes')"
)


@pytest.fixture
def site(migrated_production):
    return migrated_production


def column(path: Path, query: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [value for (value,) in connection.execute(query)]


def titles(path: Path) -> list[str]:
    return column(path, TITLES)


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.fixture(scope="module")
def fresh_copy(manage, fresh_database) -> Path:
    """A copy of what each site holds at first: made once, to be copied and not to be changed."""
    file = fresh_database.parent / "copy.sqlite3"
    result = manage("backup_database", str(file), **site_in(fresh_database.parent))
    assert result.returncode == 0, result.stderr
    return file


@pytest.fixture
def copy(fresh_copy, tmp_path) -> Path:
    return Path(shutil.copy(fresh_copy, tmp_path))


def refused(result, sentence: str) -> None:
    assert result.returncode == 1
    assert re.fullmatch(f"CommandError: {sentence}\n", result.stderr), result.stderr


def test_copy_has_the_name_of_the_app_and_the_time(manage, site, tmp_path):
    result = manage("backup_database", **site)
    assert result.returncode == 0, result.stderr
    (file,) = (tmp_path / "backups").iterdir()
    assert re.fullmatch(r"forge_\d{8}_\d{6}\.sqlite3", file.name)
    assert result.stdout == f"{file}: {file.stat().st_size} bytes, verified\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert len(titles(file)) == 6


@pytest.mark.django_db
def test_time_is_utc(monkeypatch):
    monkeypatch.setattr(databases.connection, "vendor", "sqlite")
    assert databases.file_name("forge", datetime(2026, 1, 31, 23, 59, 58, tzinfo=timezone.utc)) == (
        "forge_20260131_235958.sqlite3"
    )


def test_file_that_is_there_is_never_overwritten(manage, site, copy):
    before = copy.read_bytes()
    result = manage("backup_database", str(copy), **site)
    refused(result, f"{copy} exists already, and nothing was written: name another file or remove it.")
    assert copy.read_bytes() == before


def test_file_that_comes_meanwhile_is_left_alone(manage, site, tmp_path, monkeypatch, django_db_blocker):
    target = tmp_path / "copy.sqlite3"
    monkeypatch.setattr(databases, "vendor", lambda: "sqlite")
    monkeypatch.setattr(databases, "_copy", lambda draft: target.write_text("of somebody else"))
    monkeypatch.setattr(databases, "verify", lambda draft: None)
    with pytest.raises(databases.DatabaseCopyError, match="was made by somebody else meanwhile: it was left alone"):
        databases.backup(target)
    assert target.read_text() == "of somebody else"
    assert not list(tmp_path.glob(".*"))


def test_directory_that_cannot_be_written_is_one_sentence(manage, site, tmp_path):
    (tmp_path / "file").touch()
    refused(
        manage("backup_database", str(tmp_path / "file" / "copy"), **site),
        ".*/file/copy could not be written: File exists.",
    )


def test_directory_that_may_not_be_entered_is_one_sentence(tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(databases.Path, "exists", forbidden)
    with pytest.raises(databases.DatabaseCopyError, match=r"/copy could not be written: Permission denied\.$"):
        databases.backup(tmp_path / "copy")


def test_database_that_is_none_is_one_sentence(manage, site, tmp_path):
    (tmp_path / "forge.sqlite3").write_bytes(b"garbage" * 1000)
    refused(manage("backup_database", **site), "the database could not be copied: file is not a database.")
    assert list((tmp_path / "backups").iterdir()) == []


def test_file_that_may_not_grow_is_one_sentence_and_leaves_nothing_behind(site, tmp_path):
    result = subprocess.run(
        ["sh", "-c", f"ulimit -f 50; exec {sys.executable} manage.py backup_database"],
        cwd=APP,
        # Nor may the file grow that coverage is written to.
        env={"PATH": os.environ["PATH"], **site, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    refused(result, "the database could not be copied: disk I/O error.")
    assert list((tmp_path / "backups").iterdir()) == []


def test_process_that_is_asked_to_end_leaves_nothing_behind(manage, site, tmp_path):
    result = manage("shell", "--no-imports", "-c", ENDED_BACKUP, **site)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert list((tmp_path / "backups").iterdir()) == []


def test_what_a_killed_process_left_is_removed_after_a_day(manage, site, tmp_path):
    for name, days in (("old", 2), ("new", 0)):
        folder = tmp_path / "backups" / f".database_copy_{name}"
        folder.mkdir(parents=True)
        (folder / "copy").touch()
        for path in (folder / "copy", folder):
            os.utime(path, (time.time() - days * 86400,) * 2)
    assert manage("backup_database", **site).returncode == 0
    assert [path.name for path in (tmp_path / "backups").glob(".*")] == [".database_copy_new"]


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(draft):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(databases, "vendor", lambda: "sqlite")
    monkeypatch.setattr(databases, "_copy", full)
    with pytest.raises(databases.DatabaseCopyError, match="could not be written: No space left on device"):
        databases.backup(tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_restore_puts_everything_back(manage, site, copy, tmp_path):
    database = tmp_path / "forge.sqlite3"
    before = titles(database)
    change(database, "DELETE FROM forge_template")
    change(database, "CREATE TABLE later (id int)")
    result = manage("restore_database", str(copy), "--replace", "--yes", **site)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{database} holds what was in copy.sqlite3\n"
    assert titles(database) == before
    assert "later" not in column(database, TABLES)


def test_restore_into_nothing_with_migrations(manage, site, copy, tmp_path):
    change(copy, "DELETE FROM django_migrations WHERE app = 'sessions'")
    change(copy, "DROP TABLE django_session")
    (tmp_path / "forge.sqlite3").unlink()
    result = manage("restore_database", str(copy), "--migrate", "--yes", **site)
    assert result.returncode == 0, result.stderr
    assert "Applying sessions.0001_initial" in result.stdout
    assert len(titles(tmp_path / "forge.sqlite3")) == 6
    assert manage("health_check", **site).returncode == 0


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("sessions", 'table "django_session" already exists'),
        ("auth", "Migration .* is applied before its dependency .*"),
    ],
)
def test_migration_that_fails_leaves_everything_as_it_was(manage, site, copy, tmp_path, app, reason):
    before = (tmp_path / "forge.sqlite3").read_bytes()
    change(copy, f"DELETE FROM django_migrations WHERE app = '{app}'")
    result = manage("restore_database", str(copy), "--migrate", "--yes", "--replace", **site)
    refused(result, f"the database was not changed, since the migrations of the copy failed: {reason}.")
    assert (tmp_path / "forge.sqlite3").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_broken_database_does_not_stop_its_own_repair(manage, site, copy, tmp_path):
    database = tmp_path / "forge.sqlite3"
    database.write_bytes(b"garbage" * 1000)
    database.chmod(0o640)
    journal = tmp_path / "forge.sqlite3-journal"
    journal.write_bytes(b"of the one before")
    refused(
        manage("restore_database", str(copy), "--yes", **site), "the database does not answer: file is not a database."
    )
    result = manage("restore_database", str(copy), "--yes", "--replace", **site)
    assert result.returncode == 0, result.stderr
    assert titles(database) == titles(copy)
    assert database.stat().st_mode & 0o777 == 0o640
    assert not journal.exists()


def test_database_of_something_else_is_not_put_back(manage, site, tmp_path):
    before = (tmp_path / "forge.sqlite3").read_bytes()
    change(tmp_path / "other", "CREATE TABLE bookmarks (id int)")
    result = manage("restore_database", str(tmp_path / "other"), "--replace", "--yes", **site)
    refused(result, ".*/other is no copy of a site: it has no table django_migrations.")
    assert (tmp_path / "forge.sqlite3").read_bytes() == before


def test_database_with_tables_is_kept_unless_told(manage, site, copy, tmp_path):
    before = (tmp_path / "forge.sqlite3").read_bytes()
    result = manage("restore_database", str(copy), "--yes", **site)
    refused(result, r".*forge.sqlite3 has \d+ tables, and nothing was changed: say --replace if what they hold may go.")
    assert (tmp_path / "forge.sqlite3").read_bytes() == before


def test_without_anybody_to_ask_nothing_is_changed(manage, site, copy, tmp_path):
    before = (tmp_path / "forge.sqlite3").read_bytes()
    result = manage("restore_database", str(copy), "--replace", **site)
    refused(result, "there is nobody to ask, and nothing was changed: say --yes.")
    assert (tmp_path / "forge.sqlite3").read_bytes() == before


@pytest.mark.parametrize(("answer", "kept"), [("yes", True), ("", True), ("NAME", False)])
def test_operator_types_the_name_of_the_database(site, copy, tmp_path, answer, kept):
    """On a terminal: the answer comes through one."""
    database = tmp_path / "forge.sqlite3"
    change(database, "DELETE FROM forge_template")
    outer, inner = pty.openpty()
    command = [sys.executable, "manage.py", "restore_database", str(copy), "--replace"]
    process = subprocess.Popen(
        command, cwd=APP, env={**inherited(), **site}, stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.write(outer, f"{answer.replace('NAME', str(database))}\n".encode())
    output, complaint = process.communicate(timeout=60)
    os.close(outer)
    os.close(inner)
    assert b"Type the name of the database" in output
    assert (titles(database) == []) is kept
    assert (process.returncode, b"that is not its name, and nothing was changed" in complaint) == (int(kept), kept)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, ".* cannot be read: No such file or directory."),
        (b"", ".* is no copy of a SQLite database."),
        (b"PGDMP\x01\x0e", ".* is no copy of a SQLite database."),
        (b"SQLite format 3\0" + b"x" * 5000, ".* is damaged: .*"),
    ],
)
def test_file_of_no_use_is_one_sentence(manage, site, tmp_path, content, sentence):
    before = (tmp_path / "forge.sqlite3").read_bytes()
    if content is not None:
        (tmp_path / "copy").write_bytes(content)
    refused(manage("restore_database", str(tmp_path / "copy"), "--replace", "--yes", **site), sentence)
    assert (tmp_path / "forge.sqlite3").read_bytes() == before


def test_damaged_copy_is_not_put_back(manage, site, copy, tmp_path):
    before = (tmp_path / "forge.sqlite3").read_bytes()
    content = bytearray(copy.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    copy.write_bytes(content)
    refused(manage("restore_database", str(copy), "--replace", "--yes", **site), ".* is damaged: .*")
    assert (tmp_path / "forge.sqlite3").read_bytes() == before


def test_database_that_is_in_use_is_not_changed(manage, site, copy, tmp_path):
    database = tmp_path / "forge.sqlite3"
    holder = sqlite3.connect(database)
    holder.execute("BEGIN IMMEDIATE")
    site["DATABASE_URL"] += "?timeout=1"
    result = manage("shell", "--no-imports", "-c", IMPATIENT_RESTORE.format(copy=str(copy)), **site)
    holder.close()
    refused(result, "the database was not changed: another process is writing to it.")
    assert len(titles(database)) == 6


def test_other_databases_are_refused(monkeypatch):
    monkeypatch.setattr(databases.connection, "vendor", "oracle")
    with pytest.raises(databases.DatabaseCopyError, match="the database is oracle: only PostgreSQL and SQLite"):
        databases.vendor()
