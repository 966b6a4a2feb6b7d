"""Copies of the database: written beside and verified before they count, put back all or nothing.

PostgreSQL's own programs do it for PostgreSQL; they get the password by their environment. Everything that can go
wrong is a DatabaseCopyError of one sentence.
"""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from django.db import Error, OperationalError, connection
from django.db.backends.postgresql.client import DatabaseClient

SUFFIXES = {"postgresql": ".dump", "sqlite": ".sqlite3"}
MAGIC = {"postgresql": b"PGDMP", "sqlite": b"SQLite format 3\0"}
LOCK_TIMEOUT_SECONDS = 10
SWAP_ATTEMPTS = 5
# Every Django database has this table; what has it not is somebody else's file.
TELLING_TABLE = "django_migrations"
SCRATCH_PREFIX = ".database_copy_"
SCRATCH_KEPT_SECONDS = 24 * 3600
# Python has a name for it since 3.11.
SQLITE_DONE = 101


class DatabaseCopyError(Exception):
    """A copy could not be made, read or put back; the text is one sentence for the operator."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a command as an exception, so that nothing half made stays behind. For the main thread."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def vendor() -> str:
    """Return "postgresql" or "sqlite". Raises DatabaseCopyError for another database."""
    if connection.vendor not in SUFFIXES:
        raise DatabaseCopyError(f"the database is {connection.vendor}: only PostgreSQL and SQLite can be copied.")
    return connection.vendor


def file_name(app: str, now: datetime | None = None) -> str:
    """Return the name of a copy made now, in UTC: forge_20260131_235959.dump."""
    moment = now or datetime.now(timezone.utc)
    return f"{app}_{moment:%Y%m%d_%H%M%S}{SUFFIXES[vendor()]}"


def backup(target: Path) -> None:
    """Write a verified copy that only its owner may read. Never touches a file that is there already."""
    try:
        if target.exists():
            raise DatabaseCopyError(
                f"{target} exists already, and nothing was written: name another file or remove it."
            )
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _scratch(target.parent) as folder:
            draft = folder / "copy"
            draft.touch(mode=0o600)
            {"postgresql": _dump, "sqlite": _copy}[vendor()](draft)
            verify(draft)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            _publish(draft, target)
    except OSError as error:
        raise DatabaseCopyError(f"{target} could not be written: {error.strerror}.") from None


def _publish(draft: Path, target: Path) -> None:
    try:
        # Unlike a rename, a link does not replace what somebody else has written meanwhile.
        os.link(draft, target)
    except FileExistsError:
        raise DatabaseCopyError(f"{target} was made by somebody else meanwhile: it was left alone.") from None


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """Give a folder of one's own on the disk of another one, and remove those that killed processes left there."""
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        # One of another user stays, and one that is finished just now goes by itself.
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if newest < time.time() - SCRATCH_KEPT_SECONDS:
                shutil.rmtree(folder)
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def verify(file: Path) -> None:
    """Read a copy from its beginning to its end. Raises DatabaseCopyError when it is not whole."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(16)
    except OSError as error:
        raise DatabaseCopyError(f"{file} cannot be read: {error.strerror}.") from None
    if not beginning.startswith(MAGIC[vendor()]):
        raise DatabaseCopyError(f"{file} is no copy of a {connection.display_name} database.")
    if vendor() == "postgresql":
        _run(["pg_restore", "--list", str(file)])
        # The list is at the beginning only; this reads the data too.
        _run(["pg_restore", "--file=/dev/null", str(file)])
    else:
        _check_integrity(file)


def check_origin(file: Path) -> None:
    """Refuse a whole database that is not Django's: somebody has named the wrong file."""
    if vendor() == "postgresql":
        found = re.search(rf" TABLE \S+ {TELLING_TABLE} ", _run(["pg_restore", "--list", str(file)]))
    else:
        found = _ask_file(file, f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{TELLING_TABLE}'")
    if not found:
        raise DatabaseCopyError(f"{file} is no copy of a site: it has no table {TELLING_TABLE}.")


def tables(tolerant: bool = False) -> list[str]:
    """Return the tables of the database; if tolerant, none for a SQLite file that is damaged or is no database."""
    try:
        with connection.cursor() as cursor:
            return connection.introspection.table_names(cursor)
    except Error as error:
        if tolerant and vendor() == "sqlite" and not isinstance(error, OperationalError):
            return []
        raise DatabaseCopyError(f"the database does not answer: {_first_line(error)}.") from None


def restore(file: Path, migrate: Callable[[], None]) -> None:
    """Put a verified copy in the place of everything that the database holds, then migrate it.

    On failure the database holds what it held before. Where that can be arranged, the migrations are part of it.
    """
    try:
        if vendor() == "sqlite":
            _exchange(file, migrate)
        elif _may_swap():
            _swap(file, migrate)
        else:
            replaced, extensions = tables(), _extensions()
            connection.close()
            _load(file, connection.settings_dict["NAME"], replaced, extensions)
            _migrate(migrate, "the copy was put back, but its migrations failed")
    except (Error, sqlite3.Error, OSError) as error:
        raise DatabaseCopyError(f"the database was not changed: {_first_line(error)}.") from None


def _migrate(migrate: Callable[[], None], outcome: str) -> None:
    try:
        migrate()
    # A migration is code, and raises what it likes.
    except Exception as error:
        raise DatabaseCopyError(f"{outcome}: {_first_line(error)}.") from None


def _migrate_beside(database: str, migrate: Callable[[], None]) -> None:
    with _connected_to(database):
        _migrate(migrate, "the database was not changed, since the migrations of the copy failed")


# SQLite


def _copy(target: Path) -> None:
    try:
        connection.ensure_connection()
        with contextlib.closing(sqlite3.connect(target)) as copy:
            connection.connection.backup(copy)
    except (Error, sqlite3.Error) as error:
        raise DatabaseCopyError(f"the database could not be copied: {_first_line(error)}.") from None


def _exchange(file: Path, migrate: Callable[[], None]) -> None:
    """Migrate the copy in a file beside the database, then give the database its content."""
    database = Path(connection.settings_dict["NAME"])
    connection.close()
    with _scratch(database.parent) as folder:
        beside = folder / database.name
        shutil.copyfile(file, beside)
        _migrate_beside(str(beside), migrate)
        try:
            _overwrite(beside)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # What is there is no database, so that no other process works with it either.
            _replace(database, beside)


def _overwrite(file: Path) -> None:
    """Copy all pages in one transaction, so that other processes see the old content or the new one."""
    end = time.monotonic() + LOCK_TIMEOUT_SECONDS

    def give_up(status: int, remaining: int, total: int) -> None:
        # SQLite itself would wait for another process for ever.
        if status != SQLITE_DONE and time.monotonic() > end:
            raise DatabaseCopyError("the database was not changed: another process is writing to it.")

    # Not Django's connection: it cannot be made to a file that is no database.
    name = connection.settings_dict["NAME"]
    with (
        contextlib.closing(sqlite3.connect(name, timeout=1)) as target,
        contextlib.closing(sqlite3.connect(file)) as source,
    ):
        source.backup(target, progress=give_up)


def _replace(database: Path, file: Path) -> None:
    """Put a file in the place of another one, with its owner and its mode."""
    before = database.stat()
    os.chown(file, before.st_uid, before.st_gid)
    shutil.copymode(database, file)
    for suffix in ("-journal", "-wal", "-shm"):
        # They belong to what was there, and SQLite would bring them into the new one.
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    file.replace(database)


def _ask_file(file: Path, question: str) -> str | int | None:
    """Return the first value that a SQLite file answers with."""
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as copy:
        row = copy.execute(question).fetchone()
    return row and row[0]


def _check_integrity(file: Path) -> None:
    try:
        verdict = _ask_file(file, "PRAGMA integrity_check")
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        raise DatabaseCopyError(f"{file} is damaged: {verdict.splitlines()[0]}.")


# PostgreSQL


def _server(database: str) -> tuple[list[str], dict[str, str]]:
    """Return the options and the environment with which PostgreSQL's programs reach a database without asking."""
    arguments, variables = DatabaseClient.settings_to_cmd_args_env({**connection.settings_dict, "NAME": database}, [])
    options = [*arguments[1:-1], "--no-password", f"--dbname={database}"]
    return options, {**os.environ, **(variables or {})}


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run one of PostgreSQL's programs and return its output."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise _missing(command[0]) from None
    if done.returncode:
        raise DatabaseCopyError(f"{command[0]} failed: {_reason(done.stderr)}.")
    return done.stdout


def _missing(program: str) -> DatabaseCopyError:
    return DatabaseCopyError(f"the program {program} is missing: install the package postgresql-client.")


def _reason(text: str) -> str:
    """Return the first line of a program's complaint that says what is wrong."""
    lines = [line for line in text.strip().splitlines() if line]
    telling = [line for line in lines if "error:" in line.lower() or "fatal:" in line.lower()]
    return (telling or lines or ["it said nothing"])[0].rstrip(".")


def _first_line(error: Exception) -> str:
    return _reason(str(error))


def _dump(target: Path) -> None:
    options, environment = _server(connection.settings_dict["NAME"])
    _run(["pg_dump", "--format=custom", f"--file={target}", *options], environment)


def _may_swap() -> bool:
    """Tell whether another database may be made, and would be like the old one in all but its tables."""
    own = "{oid,datname,datdba,datistemplate,datallowconn,datfrozenxid,datminmxid,datacl,datcollversion}"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (r.rolcreatedb OR r.rolsuper) AND pg_has_role(d.datdba, 'USAGE') AND d.datacl IS NULL"
            " AND NOT EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)"
            " AND to_jsonb(d) - %s::text[] = to_jsonb(t) - %s::text[]"
            " FROM pg_roles r, pg_database d, pg_database t"
            " WHERE r.rolname = current_user AND d.datname = current_database() AND t.datname = 'template0'",
            [own, own],
        )
        return cursor.fetchone()[0]


def _swap(file: Path, migrate: Callable[[], None]) -> None:
    """Fill and migrate a database beside the old one, then give it the old one's name."""
    name = connection.settings_dict["NAME"]
    stamp = f"{datetime.now(timezone.utc):%Y%m%d%H%M%S}"
    scratch, old = f"{name[:40]}_new_{stamp}", f"{name[:40]}_old_{stamp}"
    quote = connection.ops.quote_name
    with _maintenance() as execute:
        execute(f"CREATE DATABASE {quote(scratch)} TEMPLATE template0")
        try:
            _load(file, scratch, replaced=[], extensions=[])
            _migrate_beside(scratch, migrate)
            # Several statements in one string are one transaction: there is always a database of that name.
            swap = (
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s;"
                f" ALTER DATABASE {quote(name)} RENAME TO {quote(old)};"
                f" ALTER DATABASE {quote(scratch)} RENAME TO {quote(name)}"
            )
            _repeat(SWAP_ATTEMPTS, lambda: execute(swap, [name]))
        except BaseException:
            # The old database has its other name only where the new one has taken its place.
            for left in (scratch, old):
                execute(f"DROP DATABASE IF EXISTS {quote(left)} WITH (FORCE)")
            raise
        try:
            execute(f"DROP DATABASE {quote(old)} WITH (FORCE)")
        except Error as error:
            raise DatabaseCopyError(
                f"the copy was put back, but what was there before is still in {old}: {_first_line(error)}."
            ) from None


def _repeat(attempts: int, action: Callable[[], None]) -> None:
    """Try again: between the disconnection and the new name a busy site may have connected."""
    for left in reversed(range(attempts)):
        try:
            return action()
        except Error:
            if not left:
                raise
    return None


@contextlib.contextmanager
def _maintenance() -> Iterator[Callable[..., None]]:
    """Give what runs SQL outside of the database and of any transaction."""
    connection.close()
    with connection._nodb_cursor() as cursor:
        yield cursor.execute


@contextlib.contextmanager
def _connected_to(database: str) -> Iterator[None]:
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = database
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name


def _extensions() -> list[str]:
    """Return the extensions of the database, which belong to its administrator and stay."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname FROM pg_extension")
        return [name for (name,) in cursor.fetchall()]


def _load(file: Path, database: str, replaced: list[str], extensions: list[str]) -> None:
    """Load a copy in one transaction, which also drops the tables that it replaces. The extensions are there."""
    quote = connection.ops.quote_name
    options, environment = _server(database)
    psql = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *options]
    drops = "".join(f"DROP TABLE IF EXISTS {quote(table)} CASCADE;\n" for table in replaced)
    beginning = f"BEGIN;\nSET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s';\n{drops}"
    there = tuple(f" EXTENSION - {name}" for name in extensions)
    with tempfile.NamedTemporaryFile("w") as contents, tempfile.TemporaryFile("w+") as complaints:
        lines = _run(["pg_restore", "--list", str(file)]).splitlines()
        contents.write("\n".join(line for line in lines if not line.rstrip().endswith(there)))
        contents.flush()
        script = ["pg_restore", "--clean", "--if-exists", "--no-owner", "--no-acl", "--no-comments", "--file=-"]
        script += [f"--use-list={contents.name}", str(file)]
        try:
            target = subprocess.Popen(
                psql, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
            )
        except FileNotFoundError:
            raise _missing(psql[0]) from None
        with target:
            _feed(target.stdin, beginning.encode())
            source = subprocess.run(script, stdout=target.stdin, stderr=complaints, check=False)
            # Without this last word, the end of the input rolls everything back.
            if not source.returncode:
                _feed(target.stdin, b"COMMIT;\n")
        if target.returncode or source.returncode:
            complaints.seek(0)
            raise DatabaseCopyError(f"the database was not changed: {_reason(complaints.read())}.")


def _feed(stream: IO[bytes], text: bytes) -> None:
    """Write to a program that may have given up already; its exit code tells that."""
    with contextlib.suppress(BrokenPipeError):
        stream.write(text)
        stream.flush()
