#!/usr/bin/python3
# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""Back up a site: its database and its files, verified, with retention.

    backup.py run <settings>              make a backup, and remove what is older than the retention
    backup.py list <settings>             name the backups, newest first
    backup.py verify <settings> [<name>]  read a backup to the end and compare its checksums (the newest by default)

Settings are /etc/groundwork/backups/<site>.conf. A backup counts once its manifest, <name>.json, is there: that is
written last. Exit status: 0 done, 1 failed, 75 another run is at work. A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

SOCKETS = "/var/run/postgresql"
AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    # Whatever a database has been set to: what its owner calls "count" or "format" is not for the superuser to run.
    "PGOPTIONS": "-c search_path=pg_catalog",
}
LOCK_WAIT_SECONDS = 600
MEGABYTE = 1024 * 1024
BUSY = 75
EXCHANGE, AT_FDCWD = 2, -100
"""Of renameat2(2)."""
SUBSCRIPTIONS = (
    "SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()"
)
USER_MAPPINGS = "SELECT count(*) FROM pg_user_mappings"
"""Anybody can count them; what makes them whole is for the superuser only."""


class Failure(Exception):
    """Why there is no backup, as one sentence."""

    status = 1


class Busy(Failure):
    """Another run is at work."""

    status = BUSY


class Interrupted(Failure):
    """A signal has ended the run."""


@dataclass(frozen=True)
class Settings:
    """What the role has written for one site."""

    site: str
    directory: Path
    database: str
    user: str
    port: int
    file_directories: tuple[str, ...]
    retention_days: int
    minimum_count: int
    reserve_megabytes: int

    @property
    def by_superuser(self) -> bool:
        """Whether the superuser makes the dump rather than a role of its own, which the server knows as root."""
        return self.user == "postgres"

    @property
    def client(self) -> tuple[str, ...]:
        """What begins a command that speaks to the server, or reads what it has said."""
        return AS_POSTGRES if self.by_superuser else ()

    @classmethod
    def load(cls, path: str) -> Settings:
        """Read the settings. Raises Failure where the file is missing or not complete."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with open(path, encoding="utf-8") as stream:
                parser.read_file(stream)
            section = parser["backup"]
            return cls(
                site=section["site"],
                directory=Path(section["directory"]),
                database=section["database"],
                # The settings of a site that has not been applied since there is a role for it have none.
                user=section.get("user", "postgres"),
                port=section.getint("port"),
                file_directories=tuple(section["file_directories"].split()),
                retention_days=section.getint("retention_days"),
                minimum_count=max(1, section.getint("minimum_count")),
                reserve_megabytes=section.getint("reserve_megabytes"),
            )
        except (OSError, KeyError, ValueError, TypeError, configparser.Error) as error:
            raise Failure(f"The settings {path} cannot be read: {error}.") from error


@dataclass(frozen=True)
class Backup:
    """A backup on disk, as its manifest describes it."""

    name: str
    created: float
    files: tuple[dict, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(item["bytes"] for item in self.files)


def name_pattern(site: str) -> re.Pattern[str]:
    """Pattern of the names of the files of a site's backups; its first group is the name of the backup."""
    return re.compile(rf"({re.escape(site)}_[0-9]{{8}}_[0-9]{{6}})\.(?:dump|tar\.gz|sha256|json)")


def read_manifest(path: Path) -> Backup | None:
    """The backup of a manifest whose files are all there in full length; None for anything else."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(manifest["files"])
        whole = all((path.parent / item["name"]).stat().st_size == item["bytes"] > 0 for item in files)
        return Backup(manifest["name"], float(manifest["created_seconds"]), files) if whole and files else None
    except (OSError, KeyError, ValueError, TypeError):
        return None


def complete_backups(settings: Settings) -> list[Backup]:
    """The backups that count, newest first."""
    pattern = name_pattern(settings.site)
    paths = [path for path in settings.directory.glob("*.json") if pattern.fullmatch(path.name)]
    found = [backup for path in paths if (backup := read_manifest(path)) and backup.name == path.stem]
    return sorted(found, key=lambda backup: (backup.created, backup.name), reverse=True)


def expired(backups: list[Backup], now: float, retention_days: int, minimum_count: int) -> list[Backup]:
    """Those of `backups`, given newest first, that may go: beyond the minimum and older than the retention.

    now: seconds since 1970. A backup from the future (the clock was set back) is kept.
    """
    limit = now - retention_days * 86400
    return [backup for backup in backups[max(1, minimum_count) :] if backup.created < limit]


def run(command: list[str], what: str, good: tuple[int, ...] = (0,), last: bool = False, **streams: object) -> str:
    """Run a command and return its output. Raises Failure with `what` failed and the first thing it said.

    good: exit statuses that are no failure; last: whether the last thing it said tells more, as after a traceback;
    streams: stdin and stdout as of subprocess.run.
    """
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **streams}
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, check=False, cwd="/", env=ENVIRONMENT, **options)
    except OSError as error:
        raise Failure(f"{what} failed: {error}.") from error
    if done.returncode not in good:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = said[-1 if last else 0].strip() if said else f"exit status {done.returncode}"
        raise Failure(f"{what} failed: {reason.rstrip('.')}.")
    return (done.stdout or b"").decode("utf-8", "replace")


def ask(settings: Settings, sql: str) -> str:
    """Answer of one statement in the site's database."""
    options = ["--no-psqlrc", "--tuples-only", "--no-align", "--no-password", f"--host={SOCKETS}"]
    target = [f"--port={settings.port}", f"--username={settings.user}", f"--dbname={settings.database}"]
    command = [*settings.client, "psql", *options, *target, f"--command={sql}"]
    return run(command, f"Asking the database {settings.database}").strip()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    result = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(MEGABYTE):
            result.update(block)
    return result.hexdigest()


def sync(path: Path) -> None:
    """Have the disk keep a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file that is there whole or not at all, after a power cut too. Raises Failure."""
    aside = path.with_suffix(".new")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.chmod(mode)
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.") from error


def check_rights(settings: Settings) -> None:
    """Raise Failure where a dump would leave out, without a word, what only the superuser sees."""
    if settings.by_superuser:
        return
    for what, sql in (("a subscription", SUBSCRIPTIONS), ("a user mapping of a foreign server", USER_MAPPINGS)):
        if ask(settings, sql) != "0":
            raise Failure(
                f"The database {settings.database} has {what}, which only the superuser can dump: set "
                'backups_database_role to "postgres".'
            )


def dump_database(settings: Settings, path: Path) -> None:
    """Dump the database. It reads one consistent state and locks nothing out; it gives up behind a long migration."""
    options = ["--format=custom", "--no-password", f"--lock-wait-timeout={LOCK_WAIT_SECONDS * 1000}"]
    target = [f"--host={SOCKETS}", f"--port={settings.port}", f"--username={settings.user}", settings.database]
    command = [*settings.client, "pg_dump", *options, *target]
    with path.open("xb") as stream:
        run(command, f"Dumping the database {settings.database}", stdout=stream)


def verify_dump(settings: Settings, path: Path) -> int:
    """Read a dump to the end. Returns the number of tables with their data; raises Failure where it is not whole."""
    with path.open("rb") as stream:
        contents = run([*settings.client, "pg_restore", "--list"], f"Listing {path.name}", stdin=stream)
    tables = sum(" TABLE DATA " in line for line in contents.splitlines() if not line.startswith(";"))
    if tables == 0:
        raise Failure(f"The dump {path.name} holds no table.")
    with path.open("rb") as stream:
        command = [*settings.client, "pg_restore", "--file=/dev/null"]
        run(command, f"Reading {path.name}", stdin=stream, stdout=subprocess.DEVNULL)
    return tables


def archive_files(settings: Settings, path: Path) -> None:
    """Archive the directories of files. A file that grows or goes meanwhile is no failure, a missing directory is."""
    for directory in settings.file_directories:
        if not os.path.isdir(directory):
            raise Failure(f"The directory {directory}, which is to be backed up, does not exist.")
    names = [directory.strip("/") for directory in settings.file_directories]
    command = ["tar", "--create", "--gzip", "--directory=/", "--", *names]
    with path.open("xb") as stream:
        # 1 is "some files changed while they were read".
        run(command, "Archiving the files", good=(0, 1), stdout=stream)


def verify_archive(path: Path) -> None:
    """Read an archive to the end; raises Failure where it is not whole."""
    run(["tar", "--list", "--gzip", f"--file={path}"], f"Reading {path.name}", stdout=subprocess.DEVNULL)


def free_megabytes(path: str | Path) -> int:
    """Space that is free where a directory of this host is. Raises Failure."""
    try:
        return shutil.disk_usage(path).free // MEGABYTE
    except OSError as error:
        raise Failure(f"The directory {path} cannot be used: {error}.") from error


def check_space(settings: Settings, backups: list[Backup]) -> None:
    """Raise Failure where there is no room for one more backup: a quarter more than the last one, and the reserve."""
    if backups:
        expected = backups[0].size * 5 // 4
    else:
        expected = int(ask(settings, "SELECT pg_database_size(current_database())"))
        for directory in settings.file_directories:
            for folder, _folders, names in os.walk(directory):
                for name in names:
                    with contextlib.suppress(OSError):
                        expected += os.lstat(os.path.join(folder, name)).st_size
    needed = expected // MEGABYTE + 1 + settings.reserve_megabytes
    free = free_megabytes(settings.directory)
    if free < needed:
        raise Failure(
            f"There is too little space in {settings.directory}: {free} MB are free, and a backup needs {needed} MB "
            f"with the reserve of {settings.reserve_megabytes} MB."
        )


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Be the only run for the site. Raises Busy where another one is at work."""
    try:
        lock = (settings.directory / ".lock").open("a")
    except OSError as error:
        raise Failure(f"The directory of the backups cannot be used: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"Another backup of {settings.site} is at work; this one was not started.") from error
        yield


def make(settings: Settings, started: float) -> Backup:
    """Make one backup: everything is written and verified aside, and the manifest that makes it count comes last."""
    name = time.strftime(f"{settings.site}_%Y%m%d_%H%M%S", time.gmtime(started))
    if list(settings.directory.glob(f"{name}.*")):
        raise Failure(f"There is a backup named {name} already.")
    aside = settings.directory / ".partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    try:
        dump = aside / f"{name}.dump"
        check_rights(settings)
        dump_database(settings, dump)
        tables = verify_dump(settings, dump)
        paths = [dump]
        if settings.file_directories:
            archive = aside / f"{name}.tar.gz"
            archive_files(settings, archive)
            verify_archive(archive)
            paths.append(archive)
        files = [{"name": path.name, "bytes": path.stat().st_size, "sha256": digest(path)} for path in paths]
        sums = aside / f"{name}.sha256"
        sums.write_text("".join(f"{item['sha256']}  {item['name']}\n" for item in files), encoding="utf-8")
        manifest = {
            "name": name,
            "site": settings.site,
            "database": settings.database,
            "file_directories": list(settings.file_directories),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "created_seconds": int(started),
            "duration_seconds": round(time.time() - started, 1),
            "server_version": ask(settings, "SHOW server_version"),
            "tables": tables,
            "files": files,
        }
        note = aside / f"{name}.json"
        note.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for path in (*paths, sums, note):
            sync(path)
        for path in (*paths, sums):
            path.rename(settings.directory / path.name)
        sync(settings.directory)
        note.rename(settings.directory / note.name)
        sync(settings.directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Backup(name, started, tuple(files))


def remove(settings: Settings, backup: Backup) -> None:
    """Remove a backup, its manifest first: what is left of it after an interruption does not count."""
    for ending in ("json", "dump", "tar.gz", "sha256"):
        with contextlib.suppress(FileNotFoundError):
            (settings.directory / f"{backup.name}.{ending}").unlink()


def remove_remains(settings: Settings) -> None:
    """Remove files of backups without a manifest, which an interrupted run has left."""
    pattern = name_pattern(settings.site)
    for path in settings.directory.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not (settings.directory / f"{match.group(1)}.json").exists():
            path.unlink()


def command_run(settings: Settings) -> str:
    """Make a backup, then remove what has expired. Returns what to tell."""
    started = time.time()
    with locked(settings):
        before = complete_backups(settings)
        try:
            check_space(settings, before)
            backup = make(settings, started)
        except (Failure, OSError) as error:
            kept = f"The last good one is {before[0].name}." if before else "There is no good one yet."
            raise Failure(f"The backup of {settings.site} failed. {str(error).rstrip('.')}. {kept}") from error
        gone = expired(complete_backups(settings), time.time(), settings.retention_days, settings.minimum_count)
        for old in gone:
            remove(settings, old)
        remove_remains(settings)
    took = time.time() - started
    return (
        f"{backup.name}: {backup.size / MEGABYTE:.1f} MB, made and verified in {took:.0f} s; "
        f"{len(gone)} removed, {len(complete_backups(settings))} kept."
    )


def command_list(settings: Settings) -> str:
    """The backups that count, newest first."""
    lines = [f"{backup.name}  {backup.size / MEGABYTE:10.1f} MB" for backup in complete_backups(settings)]
    return "\n".join(lines) or f"There is no backup of {settings.site}."


def command_verify(settings: Settings, name: str | None) -> str:
    """Read one backup to the end. Returns what to tell; raises Failure where it is not whole."""
    backups = complete_backups(settings)
    found = [backup for backup in backups if name in (None, backup.name)]
    if not found:
        raise Failure(f"There is no whole backup {name or 'of ' + settings.site}.")
    for item in found[0].files:
        path = settings.directory / item["name"]
        if digest(path) != item["sha256"]:
            raise Failure(f"{path} is not what was written: its checksum differs.")
        if path.suffix == ".dump":
            verify_dump(settings, path)
        else:
            verify_archive(path)
    return f"{found[0].name} is whole."


def place_metrics(path: Path, meanings: dict[str, str], values: dict[str, float], keep: tuple[str, ...] = ()) -> None:
    """Write metrics in one step, for the textfile collector of the node exporter. Raises Failure.

    meanings: what each metric is; values: by its name with labels; keep: ends of the names of those that stay as the
    file has them, unless `values` has them.
    """
    found: dict[str, float] = {}
    try:
        if keep and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                name, _, value = line.rpartition(" ")
                if name.endswith(keep):
                    found[name] = float(value)
        found |= values
        lines = []
        for name in sorted(found):
            bare = name.partition("{")[0]
            if f"# HELP {bare} {meanings[bare]}" not in lines:
                kind = "counter" if bare.endswith("_total") else "gauge"
                lines += [f"# HELP {bare} {meanings[bare]}", f"# TYPE {bare} {kind}"]
            lines.append(f"{name} {found[name]:.15g}")
    except OSError as error:
        raise Failure(f"The metrics cannot be written: {error}.") from error
    write_whole(path, "\n".join(lines) + "\n", 0o644)


def read_moment(text: str) -> datetime:
    """A time as people write it; one without a zone is of the host's own. Raises Failure."""
    iso = re.sub(r"(?:Z| ?UTC)$", "+00:00", text)
    iso = re.sub(r"\s+([+-])", r"\1", iso)
    iso = re.sub(r"([+-][0-9]{2})$", r"\1:00", iso) if ":" in iso else iso
    try:
        moment = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        raise Failure(f'"{text}" is not a time: write it like "2026-04-01T02:29:00+02:00".') from None
    if ":" not in text:
        raise Failure(
            f'"{text}" is a day: write the time as well, like {text}T02:29:00+02:00, without a blank, at which a '
            "command line would cut it off."
        )
    return moment


def interrupted(number: int, _frame: object) -> None:
    """Leave by an exception, so that what is half-written is removed."""
    raise Interrupted(f"It was ended by {signal.Signals(number).name}.")


def exchange(one: str | Path, other: str | Path) -> None:
    """Have two paths change places in one step, so that there is never nothing; in two where that cannot be.

    The disk keeps it. Raises OSError.
    """
    words = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE)
    if ctypes.CDLL(None, use_errno=True).renameat2(*words) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), other)
        aside = f"{one}.aside"
        os.rename(other, aside)
        os.rename(one, other)
        os.rename(aside, one)
    for directory in {Path(one).parent, Path(other).parent}:
        sync(directory)


def complain(failure: Failure) -> int:
    """Say why a program has failed, and return its exit status."""
    # The prefix makes it an error in the journal.
    print(("<3>" if "JOURNAL_STREAM" in os.environ else "") + str(failure), file=sys.stderr)
    return failure.status


def end_by_exception() -> None:
    """Have a signal end the program by an exception, so that what is half-written is removed."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)


def main() -> int:
    parser = argparse.ArgumentParser(description="Back up a site.")
    parser.add_argument("command", choices=("run", "list", "verify"))
    parser.add_argument("settings", help="/etc/groundwork/backups/<site>.conf")
    parser.add_argument("name", nargs="?", help="backup to verify; the newest by default")
    arguments = parser.parse_args()
    os.umask(0o077)
    end_by_exception()
    try:
        settings = Settings.load(arguments.settings)
        if arguments.command == "run":
            print(command_run(settings))
        elif arguments.command == "list":
            print(command_list(settings))
        else:
            print(command_verify(settings, arguments.name))
    except Failure as failure:
        return complain(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
