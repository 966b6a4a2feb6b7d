#!/usr/bin/python3
# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""Back up a site's files by restic, and put them back.

    file_backup.py run <settings>        back up to each repository; once it is verified, what has expired is removed
    file_backup.py list <settings>       name the snapshots, newest first
    file_backup.py status <settings>     write the metrics; fails where a repository has no snapshot or is out of reach
    file_backup.py validate <settings>   say whether the repositories can be used with what is configured
    file_backup.py restore <settings>    put files back as they were; --help has the options

Settings are /etc/groundwork/backups/<site>-files/settings.conf. A snapshot counts once it has the tag "complete", which
it gets last. Exit status: 0 done, 1 failed, 75 another run is at work. A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# The program beside this one has what both share; root must not leave compiled files there.
sys.dont_write_bytecode = True
from backup import (  # noqa: E402
    ENVIRONMENT,
    MEGABYTE,
    Busy,
    Failure,
    Interrupted,
    complain,
    end_by_exception,
    exchange,
    expired,
    free_megabytes,
    place_metrics,
    read_moment,
)

COMPLETE = "complete"
REACH_SECONDS = 120
"""How long a repository may take to answer; restic itself tries for a quarter of an hour."""
HANDSHAKE_SECONDS = 10
NO_SPACE_MEGABYTES = 32
INCOMPLETE, MISSING, CLOSED = 3, 10, 12
"""Exit statuses of restic; those before 0.17 have the last two in words only."""
OWNERS = ("/etc/passwd", "/etc/group")
"""Files of each snapshot that say whose the numbers of its owners are."""
METRIC = "groundwork_files"
METRICS = {
    f"{METRIC}_last_success_timestamp_seconds": "When the last good backup of the files began.",
    f"{METRIC}_duration_seconds": "How long it took.",
    f"{METRIC}_size_bytes": "What it holds.",
    f"{METRIC}_added_bytes": "What it added to the repository.",
    f"{METRIC}_snapshots": "Good backups that the repository has.",
}
"""What the metrics are."""


@dataclass(frozen=True)
class Repository:
    """A place of the snapshots: its name, restic's words for it, and what people call it."""

    name: str
    type: str
    path: str
    place: str
    options: tuple[str, ...]
    environment: dict[str, str]
    server: tuple[str, int] | None = None
    """Name and port of what has to prove itself by a certificate."""
    authority: str | None = None
    """File of who vouches for that; None for those that the system trusts."""


@dataclass(frozen=True)
class Settings:
    """What the role has written for one site."""

    site: str
    folder: Path
    file_directories: tuple[str, ...]
    dumps_directory: str
    system_paths: tuple[str, ...]
    retention_days: int
    minimum_count: int
    reserve_megabytes: int
    read_back_days: int
    processes_count: int
    metrics_directory: Path
    repositories: tuple[Repository, ...]

    @classmethod
    def load(cls, path: str) -> Settings:
        """Read the settings. Raises Failure where the file is missing or not complete."""
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
        folder = Path(path).absolute().parent
        try:
            with open(path, encoding="utf-8") as stream:
                parser.read_file(stream)
            section = parser["files"]
            return cls(
                site=section["site"],
                folder=folder,
                file_directories=tuple(section["file_directories"].split()),
                dumps_directory=section["dumps_directory"],
                system_paths=tuple(section["system_paths"].split()),
                retention_days=section.getint("retention_days"),
                minimum_count=section.getint("minimum_count"),
                reserve_megabytes=section.getint("reserve_megabytes"),
                read_back_days=section.getint("read_back_days"),
                processes_count=section.getint("processes_count"),
                metrics_directory=Path(section["metrics_directory"]),
                repositories=tuple(
                    read_repository(folder, parser[name]) for name in parser.sections() if name != "files"
                ),
            )
        except (OSError, KeyError, ValueError, TypeError, configparser.Error) as error:
            raise Failure(f"The settings {path} cannot be read: {error}.") from error

    @property
    def cache(self) -> Path:
        """Where restic keeps what it would have to fetch again, and the lock of the runs is."""
        return Path("/var/cache/groundwork") / f"{self.site}-files"

    @property
    def staging(self) -> str:
        """Name of the directory that a restore writes to."""
        return f".restore-{self.site}"


@dataclass(frozen=True)
class Snapshot:
    """A backup as restic lists it, and its time in seconds since 1970."""

    name: str
    created: float
    complete: bool
    paths: tuple[str, ...]
    first_name: str
    """Its name before it counted: a tag gives it another one."""

    @property
    def when(self) -> str:
        """Its time, in UTC."""
        return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(self.created))


@dataclass(frozen=True)
class Done:
    """How a command of restic ended."""

    status: int
    output: str
    errors: str

    @property
    def said(self) -> list[str]:
        """What it complained about, line by line; restic 0.17 and newer put some of that into JSON."""
        lines = []
        for line in filter(None, map(str.strip, self.errors.splitlines())):
            item = read_json(line)
            text = str(item.get("message", "")) if item else line
            lines.extend(part.strip() for part in text.splitlines() if part.strip())
        return lines

    @property
    def reason(self) -> str:
        """The thing it complained about that tells most: why it gave up, else the first one."""
        for start in ("Fatal: ", ""):
            for line in self.said:
                if line.startswith(start):
                    return line.removeprefix(start).rstrip(".:")
        return f"exit status {self.status}"

    @property
    def messages(self) -> Iterator[dict]:
        """The lines of its output and of its complaints that are JSON."""
        for line in [*self.output.splitlines(), *self.errors.splitlines()]:
            if item := read_json(line):
                yield item


def read_json(line: str) -> dict | None:
    """A line that holds an object of JSON; None for any other."""
    try:
        item = json.loads(line)
    except ValueError:
        return None
    return item if isinstance(item, dict) else None


def read_repository(folder: Path, section: configparser.SectionProxy) -> Repository:
    """A repository of the settings. What is secret about it is in files beside them, which restic and ssh read."""
    name, kind, path, host = section.name, section["type"], section["path"], section.get("host", "")
    options, environment = [], {}
    server = authority = None
    if kind == "sftp":
        options.append(f"--option=sftp.command=ssh -F {folder}/{name}.ssh {name} -s sftp")
        url = f"sftp:{name}:{path}"
    elif kind == "s3":
        options.append(f"--option=s3.bucket-lookup={section['bucket_lookup']}")
        environment = {
            "AWS_SHARED_CREDENTIALS_FILE": f"{folder}/{name}.credentials",
            "AWS_DEFAULT_REGION": section["region"],
        }
        if section.getboolean("own_authority"):
            authority = f"{folder}/{name}.pem"
            options.append(f"--cacert={authority}")
        server = (host if section["bucket_lookup"] == "path" else f"{section['bucket']}.{host}", section.getint("port"))
        url = f"s3:https://{host}:{section.getint('port')}/{section['bucket']}{path}"
    else:
        url = path
    return Repository(
        name=name,
        type=kind,
        path=path,
        place=f"{kind}://{host}{path}" if host else path,
        options=(f"--repo={url}", *options),
        environment=environment,
        server=server,
        authority=authority,
    )


def restic(settings: Settings, repository: Repository, *words: str, timeout: float | None = None) -> Done:
    """Run a command of restic. Secrets are in files only, never on the command line or in the environment."""
    command = ["restic", f"--password-file={settings.folder}/passphrase.txt", f"--cache-dir={settings.cache}/restic"]
    environment = {
        **ENVIRONMENT,
        **repository.environment,
        "GOMAXPROCS": str(settings.processes_count),
        "RESTIC_PROGRESS_FPS": "0.02",
    }
    try:
        done = subprocess.run(
            [*command, *repository.options, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
            env=environment,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        # restic went on trying; what it has said says why.
        said = Done(1, "", (error.stderr or b"").decode("utf-8", "replace")).said
        return Done(1, "", f"Fatal: no answer within {REACH_SECONDS} s" + (f" ({said[0]})" if said else ""))
    except OSError as error:
        raise Failure(f"restic cannot be started: {error}.") from error
    return Done(done.returncode, *(text.decode("utf-8", "replace") for text in (done.stdout, done.stderr)))


def look_at(settings: Settings, repository: Repository) -> tuple[bool, str]:
    """Whether a repository is there, and what keeps it from being used: out of reach, or another passphrase."""
    if unproven := distrust(repository):
        return False, f"cannot be read: {unproven}"
    done = restic(settings, repository, "cat", "config", timeout=REACH_SECONDS)
    text = done.errors.lower()
    if done.status == 0:
        return True, ""
    if done.status == CLOSED or "wrong password" in text:
        return True, (
            "is encrypted with another passphrase than backups_passphrase: put the one it was made with back into the "
            "vault, or name another path in backups_repositories"
        )
    if done.status == MISSING or ("is there a repository" in text and re.search("no such file|not exist", text)):
        return False, ""
    return False, f"cannot be read: {refusal(settings, repository) or done.reason}"


def distrust(repository: Repository) -> str:
    """Why the certificate of a repository's server is not trusted; empty where it is, or where none has to be.

    restic would try again for minutes. A server that does not answer is left to it: that may pass.
    """
    if repository.server is None:
        return ""
    name, port = repository.server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # As restic has it: a certificate that is known may stand for itself, and how strong a key is does not matter.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    try:
        if repository.authority:
            context.load_verify_locations(repository.authority)
        else:
            context.load_default_certs()
        with socket.create_connection((name, port), timeout=HANDSHAKE_SECONDS) as connection:
            context.wrap_socket(connection, server_hostname=name).close()
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {name}:{port} is not trusted ({error.verify_message.rstrip('.')})"
    except OSError:
        pass
    return ""


def refusal(settings: Settings, repository: Repository) -> str:
    """Why ssh does not reach the server of a repository, which restic does not always repeat; empty where it does."""
    if repository.type != "sftp":
        return ""
    command = ["ssh", "-F", f"{settings.folder}/{repository.name}.ssh", repository.name, "-s", "sftp"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=ENVIRONMENT)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1].rstrip(".") if done.returncode and said else ""


def is_made(settings: Settings, repository: Repository) -> bool:
    """Whether a repository is there. Raises Failure where it cannot be used."""
    made, trouble = look_at(settings, repository)
    if trouble:
        raise Failure(f"The repository {repository.place} {trouble}.")
    return made


def why(settings: Settings, repository: Repository, said: str) -> str:
    """Why a command of restic has failed, as far as that can be told better than by what it said."""
    if repository.type == "directory" and free_megabytes(repository.path) < NO_SPACE_MEGABYTES:
        return f"there is no space left in {repository.place}"
    trouble = look_at(settings, repository)[1]
    return f"it {trouble}" if trouble else said


def snapshots(settings: Settings, repository: Repository) -> list[Snapshot]:
    """The snapshots of a repository, newest first. Raises Failure where that cannot be told."""
    done = restic(settings, repository, "snapshots", "--json", "--no-lock")
    reason = done.reason
    if done.status == 0:
        try:
            found = [read_snapshot(item) for item in json.loads(done.output) or []]
            return sorted(found, key=lambda snapshot: snapshot.created, reverse=True)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"its answer cannot be read ({type(error).__name__})"
    raise Failure(f"The snapshots in {repository.place} cannot be listed: {why(settings, repository, reason)}.")


def read_snapshot(item: dict) -> Snapshot:
    """A snapshot as `restic snapshots` has it."""
    return Snapshot(
        name=item["id"][:12],
        created=read_time(item["time"]),
        complete=COMPLETE in (item.get("tags") or ()),
        paths=tuple(item["paths"]),
        first_name=item.get("original") or item["id"],
    )


def read_time(text: str) -> float:
    """Seconds since 1970 of a time as restic writes it, to the nanosecond. Raises ValueError."""
    match = re.fullmatch(r"(\S+T[0-9:]{8})(\.[0-9]+)?(Z|[+-][0-9:]{5})", text)
    if match is None:
        raise ValueError(f"{text} is not a time")
    second, fraction, zone = match.groups()
    return datetime.fromisoformat(second + zone.replace("Z", "+00:00")).timestamp() + float(fraction or 0)


def complete(found: list[Snapshot]) -> list[Snapshot]:
    """The snapshots that count."""
    return [snapshot for snapshot in found if snapshot.complete]


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths that are below no other one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
    return tuple(kept)


def paths_of(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to back up, and what is left out since it does not exist. A missing directory of files is a failure."""
    for directory in settings.file_directories:
        if not os.path.isdir(directory):
            raise Failure(f"The directory {directory}, which is to be backed up, does not exist.")
    found, missing = [*settings.file_directories, *OWNERS], []
    for pattern in (settings.dumps_directory, *settings.system_paths):
        matches = glob.glob(pattern) or ([pattern] if os.path.lexists(pattern) else [])
        found.extend(os.path.normpath(path) for path in matches)
        missing.extend([] if matches else [pattern])
    return outermost(found), tuple(missing)


def changed_bytes(paths: Iterable[str], since: float) -> int:
    """Bytes of the files that have changed since a time: no more than that is new to a repository."""
    total = 0
    for path in paths:
        for folder, _folders, names in os.walk(path):
            for name in names:
                total += size_of(os.path.join(folder, name), since)
        total += size_of(path, since)
    return total


def size_of(path: str, since: float) -> int:
    """Bytes of a file that has changed since a time, else nothing."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_size if found.st_ctime >= since and not stat.S_ISDIR(found.st_mode) else 0
    return 0


def check_space(settings: Settings, repository: Repository, paths: tuple[str, ...], since: float) -> None:
    """Raise Failure where a repository of this host has no room for all that has changed, and the reserve."""
    if repository.type != "directory":
        return
    needed = changed_bytes(paths, since) // MEGABYTE + 1 + settings.reserve_megabytes
    free = free_megabytes(repository.path)
    if free < needed:
        raise Failure(
            f"there is too little space in {repository.place}: {free} MB are free, and a backup needs {needed} MB with "
            f"the reserve of {settings.reserve_megabytes} MB"
        )


def unread(done: Done) -> list[str]:
    """Files that a backup could not read though they are there; one that went meanwhile is no failure."""
    items = [str(item.get("item", "")) for item in done.messages if item.get("message_type") == "error"]
    return [path for path in items if os.path.lexists(path)] if all(items) and items else ["restic does not say which"]


def verify(settings: Settings, repository: Repository) -> None:
    """Check a repository: all that belongs together is there, and a part of it is read, another one each day."""
    part = int(time.time() // 86400) % settings.read_back_days + 1
    done = restic(settings, repository, "check", f"--read-data-subset={part}/{settings.read_back_days}")
    if done.status == 0:
        return
    advice = "Fatal: |The repository |To repair |restic repair |Damaged pack files can |using |Load"
    damage = [line for line in done.said if not re.match(advice, line)]
    trouble = why(settings, repository, "")
    if trouble:
        raise Failure(f"The repository {repository.place} could not be verified: {trouble}. Nothing has been removed.")
    detail = damage[0][:160].rstrip(".") if damage else done.reason
    raise Failure(f"The repository {repository.place} is damaged ({detail}). Nothing has been removed from it.")


def metrics_file(settings: Settings) -> Path:
    """The file with the site's metrics."""
    return settings.metrics_directory / f"groundwork_files_{settings.site}.prom"


def has_been(settings: Settings, repository: Repository) -> bool:
    """Whether the metrics know of a backup to a repository."""
    with contextlib.suppress(OSError):
        name = f'{METRIC}_last_success_timestamp_seconds{{repository="{repository.place}",'
        return name in metrics_file(settings).read_text(encoding="utf-8")
    return False


def prepare(settings: Settings, repository: Repository) -> None:
    """Make a repository that is not there, and remove what a killed run has left: its lock, and a half-written file."""
    if not is_made(settings, repository):
        if has_been(settings, repository):
            raise Failure(
                f"The repository {repository.place} is gone, and there were backups in it: see whether its disk is "
                f"mounted. To begin a new one, remove {metrics_file(settings)}."
            )
        done = restic(settings, repository, "init")
        if done.status != 0:
            raise Failure(f"The repository {repository.place} could not be made: {done.reason}.")
    # Only locks of processes that are gone.
    restic(settings, repository, "unlock", timeout=REACH_SECONDS)
    if repository.type == "directory":
        # restic itself never looks at them again. This is the only run.
        for path in Path(repository.path).glob("data/*/*-tmp-*"):
            path.unlink(missing_ok=True)


def remove_expired(settings: Settings, repository: Repository, new: Snapshot) -> list[Snapshot]:
    """Remove what has expired, and return it. What never counted goes by its age alone."""
    found = snapshots(settings, repository)
    gone = expired(complete(found), time.time(), settings.retention_days, settings.minimum_count)
    limit = new.created - settings.retention_days * 86400
    gone += [snapshot for snapshot in found if not snapshot.complete and snapshot.created < limit]
    if gone:
        done = restic(settings, repository, "forget", "--prune", *(snapshot.name for snapshot in gone))
        if done.status != 0:
            reason = why(settings, repository, done.reason)
            raise Failure(
                f"The snapshot {new.name} in {repository.place} is good, but nothing could be removed: {reason}."
            )
    return gone


def back_up(settings: Settings, repository: Repository, paths: tuple[str, ...]) -> tuple[str, dict[str, float]]:
    """Back up to one repository. Returns what to tell and the values of its metrics; raises Failure."""
    started = time.time()
    prepare(settings, repository)
    before = complete(snapshots(settings, repository))
    kept = f"The last good one is {before[0].name} of {before[0].when}." if before else "There is no good one yet."
    what = f"The backup of the files of {settings.site} to {repository.place}"
    try:
        check_space(settings, repository, paths, before[0].created if before else 0)
    except Failure as failure:
        raise type(failure)(f"{what} failed: {str(failure).rstrip('.')}. {kept}") from failure
    ours = [item.path for item in settings.repositories if item.type == "directory"]
    ours += [f"{settings.dumps_directory}/.partial", settings.staging, f".before-restore-{settings.site}-*"]
    words = [f"--exclude={pattern}" for pattern in ours]
    # Without it a changed list of paths would have every file read again.
    words += [f"--parent={before[0].name}"] if before else []
    done = restic(settings, repository, "backup", "--json", f"--host={settings.site}", *words, "--", *paths)
    summary = next((item for item in done.messages if item.get("message_type") == "summary"), None)
    if done.status not in (0, INCOMPLETE) or summary is None:
        raise Failure(f"{what} failed: {why(settings, repository, done.reason)}. {kept}")
    if done.status == INCOMPLETE and (missed := unread(done)):
        names = ", ".join(missed[:3])
        raise Failure(
            f"{what} is not whole: {len(missed)} files could not be read ({names}). Nothing has been removed. {kept}"
        )
    try:
        verify(settings, repository)
    except Failure as failure:
        raise type(failure)(f"{failure} {kept}") from failure
    name = summary["snapshot_id"]
    done = restic(settings, repository, "tag", f"--set={COMPLETE}", name)
    if done.status != 0:
        raise Failure(f"{what} failed: {why(settings, repository, done.reason)}. {kept}")
    after = complete(snapshots(settings, repository))
    new = next((snapshot for snapshot in after if snapshot.first_name.startswith(name)), None)
    if new is None:
        raise Failure(f"{what} failed: restic reports success, but lists no new snapshot. {kept}")
    gone = remove_expired(settings, repository, new)
    took = time.time() - started
    size, added = summary["total_bytes_processed"], summary["data_added"]
    left = [snapshot for snapshot in after if snapshot not in gone]
    values = {**values_of(left), "duration_seconds": took, "size_bytes": size, "added_bytes": added}
    told = (
        f"{new.name} in {repository.place}: {summary['total_files_processed']} files, {size / MEGABYTE:.1f} MB, "
        f"of which {added / MEGABYTE:.1f} MB were new, in {took:.0f} s, verified, {len(gone)} removed."
    )
    return told, values


def values_of(found: list[Snapshot]) -> dict[str, float]:
    """What the metrics say of the good snapshots of a repository, newest first."""
    newest = {"last_success_timestamp_seconds": int(found[0].created)} if found else {}
    return {**newest, "snapshots": len(found)}


def write_metrics(settings: Settings, known: dict[str, dict[str, float]]) -> None:
    """Write the metrics. known: values by the place of their repository; what else the file says of these stays."""
    labels = {item.place: f'{{repository="{item.place}",site="{settings.site}"}}' for item in settings.repositories}
    values = {
        f"{METRIC}_{name}{labels[place]}": value for place, found in known.items() for name, value in found.items()
    }
    place_metrics(metrics_file(settings), METRICS, values, keep=tuple(labels.values()))


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Be the only run for the site on this host. Raises Busy where another one is at work."""
    try:
        settings.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (settings.cache / ".lock").open("a")
    except OSError as error:
        raise Failure(f"The directory {settings.cache} cannot be used: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(
                f"Another backup or restore of the files of {settings.site} is at work; this one was not started."
            ) from error
        yield


def command_run(settings: Settings) -> str:
    """Back up to each repository; one that fails does not keep the others from theirs."""
    told, failures, known = [], [], {}
    with locked(settings):
        paths, missing = paths_of(settings)
        if missing:
            print(f"Left out, since there is no such path: {', '.join(missing)}.", flush=True)
        for repository in settings.repositories:
            try:
                text, known[repository.place] = back_up(settings, repository, paths)
                told.append(text)
            except Interrupted:
                raise
            except Failure as failure:
                failures.append(str(failure))
        write_metrics(settings, known)
    if failures:
        raise Failure(" ".join([*failures, *told]))
    return "\n".join(told)


def command_list(settings: Settings) -> str:
    """The snapshots of each repository, newest first."""
    lines = []
    for repository in settings.repositories:
        found = snapshots(settings, repository) if is_made(settings, repository) else []
        lines.append(f"{repository.place}:" if found else f"{repository.place}: no snapshot")
        lines += [
            f"  {item.name}  {item.when}{'' if item.complete else '  not whole or not verified'}" for item in found
        ]
    return "\n".join(lines)


def command_status(settings: Settings) -> str:
    """Write the metrics. Raises Failure where a repository has no good snapshot, or is out of reach."""
    told, failures, known = [], [], {}
    for repository in settings.repositories:
        try:
            found = complete(snapshots(settings, repository)) if is_made(settings, repository) else []
            known[repository.place] = values_of(found)
            if not found:
                raise Failure(f"There is no good snapshot in {repository.place} yet.")
            hours = (time.time() - found[0].created) / 3600
            told.append(f"{repository.place}: {len(found)} snapshots, the newest {hours:.1f} hours old.")
        except Failure as failure:
            failures.append(str(failure))
    write_metrics(settings, known)
    if failures:
        raise Failure(" ".join([*failures, *told]))
    return "\n".join(told)


def command_validate(settings: Settings) -> str:
    """Say whether the repositories can be used with what is configured. Nothing is changed."""
    for repository in settings.repositories:
        is_made(settings, repository)
    return "The repositories can be used."


@dataclass(frozen=True)
class Node:
    """A file, directory or link of a snapshot."""

    path: str
    kind: str
    size: int
    mode: int
    owner: int
    group: int


def choose(found: list[Snapshot], wanted: str) -> Snapshot:
    """The snapshot that is meant: the newest, the newest of a time, or one by its name. Raises Failure."""
    good = complete(found)
    if wanted == "latest":
        if good:
            return good[0]
        raise Failure("There is no good snapshot yet.")
    named = [snapshot for snapshot in found if re.fullmatch("[0-9a-f]{6,64}", wanted) and same(snapshot.name, wanted)]
    if named:
        return named[0]
    if not re.match(r"[0-9]{4}-", wanted):
        raise Failure(
            f'There is no snapshot "{wanted}": write latest, the name of one that `list` shows, or a time like '
            '"2026-04-01T02:30:00+00:00".'
        )
    moment = read_moment(wanted).timestamp()
    for snapshot in good:
        if snapshot.created <= moment:
            return snapshot
    oldest = f"the oldest one is of {good[-1].when}" if good else "there is none yet"
    raise Failure(f"There is no good snapshot of {wanted} or before: {oldest}.")


def same(name: str, wanted: str) -> bool:
    """Whether one of two names of a snapshot is the beginning of the other."""
    return name.startswith(wanted) or wanted.startswith(name)


def nodes_of(settings: Settings, repository: Repository, snapshot: Snapshot) -> list[Node]:
    """All that a snapshot holds. Raises Failure where that cannot be told."""
    done = restic(settings, repository, "ls", "--json", "--no-lock", snapshot.name)
    if done.status != 0:
        raise Failure(f"The snapshot {snapshot.name} cannot be read: {why(settings, repository, done.reason)}.")
    return [
        Node(item["path"], item["type"], item.get("size", 0), item.get("mode", 0) & 0o777, item["uid"], item["gid"])
        for item in done.messages
        if item.get("struct_type") == "node"
    ]


def below(path: str, top: str) -> bool:
    """Whether a path is another one or below it."""
    return path == top or path.startswith(f"{top}/")


def tops_of(snapshot: Snapshot, nodes: list[Node], chosen: list[str]) -> tuple[str, ...]:
    """What to put back: all that was backed up, or what is chosen. Raises Failure where that is not there."""
    there = {node.path for node in nodes}
    if not chosen:
        return tuple(path for path in snapshot.paths if path in there and path not in OWNERS)
    paths = [os.path.normpath(path) for path in chosen]
    for path in paths:
        if path not in there or not any(below(path, top) for top in snapshot.paths):
            raise Failure(f"{path} is not in the snapshot {snapshot.name} of {snapshot.when}.")
    return outermost(paths)


def mount_points() -> tuple[str, ...]:
    """Where file systems are mounted, the longest paths first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        found = {re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in stream}
    return tuple(sorted(found, key=len, reverse=True))


def divided(top: str, target: str, children: dict[str, list[str]], mounts: tuple[str, ...]) -> Iterator[str]:
    """A path, or its entries where a file system is mounted on it or below: a mount point cannot be replaced."""
    if any(below(mount, within(target, top)) for mount in mounts):
        for child in children.get(top, ()):
            yield from divided(child, target, children, mounts)
    else:
        yield top


def rooms_of(tops: Iterable[str], target: str, nodes: list[Node]) -> dict[str, list[str]]:
    """What to put back, by the root of the file system it comes to: from there a rename leads to it, without a copy.

    Raises Failure where a link leads elsewhere.
    """
    children: dict[str, list[str]] = {}
    for node in nodes:
        children.setdefault(os.path.dirname(node.path), []).append(node.path)
    mounts = mount_points()
    rooms: dict[str, list[str]] = {}
    for top in (part for whole in tops for part in divided(whole, target, children, mounts)):
        live = within(target, top)
        parent = os.path.dirname(live)
        if os.path.realpath(parent) != parent:
            raise Failure(f"{parent} leads through a link to {os.path.realpath(parent)}: nothing is put there.")
        room = next(mount for mount in mounts if mount == "/" or below(live, mount))
        rooms.setdefault(room, []).append(top)
    return rooms


def within(target: str, path: str) -> str:
    """A path of a snapshot below the place it is put back to."""
    return path if target == "/" else target + path


def new_owners(settings: Settings, repository: Repository, snapshot: Snapshot) -> dict[str, dict[int, int]]:
    """Numbers of users and groups of a snapshot that are other ones on this host, by the kind, old ones first."""
    result: dict[str, dict[int, int]] = {}
    for path in OWNERS:
        done = restic(settings, repository, "dump", "--no-lock", snapshot.name, path)
        if done.status != 0:
            raise Failure(f"The snapshot {snapshot.name} cannot be read: {why(settings, repository, done.reason)}.")
        here = numbers_of(Path(path).read_text(encoding="utf-8"))
        result[path] = {
            number: here[name] for name, number in numbers_of(done.output).items() if here.get(name, number) != number
        }
    return result


def numbers_of(text: str) -> dict[str, int]:
    """Numbers by the names of a passwd or group file."""
    rows = (line.split(":") for line in text.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}


def give_to(owners: dict[str, dict[int, int]], node: Node, path: str) -> None:
    """Give a path to those whose name had it, where their number is another one on this host."""
    users, groups = (owners[source] for source in OWNERS)
    if node.owner in users or node.group in groups:
        mode = os.lstat(path).st_mode
        os.lchown(path, users.get(node.owner, node.owner), groups.get(node.group, node.group))
        if not stat.S_ISLNK(mode):
            # A change of owner takes the bits of set-user-id away.
            os.chmod(path, stat.S_IMODE(mode))


def stage(settings: Settings, repository: Repository, snapshot: Snapshot, room: str, tops: list[str]) -> str:
    """Restore what comes to a file system into a directory of it, verified. Returns that directory."""
    staging = os.path.join(room, settings.staging)
    shutil.rmtree(staging, ignore_errors=True)
    os.mkdir(staging, 0o700)
    included = [re.sub(r"([*?\[\\])", r"\\\1", top) for top in tops]
    words = ["--verify", f"--target={staging}", *(f"--include={pattern}" for pattern in included)]
    done = restic(settings, repository, "restore", "--no-lock", *words, snapshot.name)
    missing = [top for top in tops if not os.path.lexists(staging + top)]
    if done.status != 0 or missing:
        # What it says last is how many of the others there were.
        said = (done.said or [done.reason])[0].rstrip(".") if done.status else f"{missing[0]} did not come back"
        reason = why(settings, repository, said)
        raise Failure(f"The snapshot {snapshot.name} could not be restored: {reason}. Nothing has been replaced.")
    return staging


def put(staged: str, live: str, before: str) -> None:
    """Put one path in place by renames; what was there is at `before` afterwards."""
    if os.path.lexists(live):
        os.makedirs(os.path.dirname(before), mode=0o700, exist_ok=True)
        # Whenever this is killed, there is a whole one in place, and none of both is lost.
        os.rename(staged, before)
        exchange(before, live)
    else:
        os.rename(staged, live)


def make_parents(top: str, target: str, nodes: dict[str, Node], owners: dict[str, dict[int, int]]) -> None:
    """Make the directories on the way to a path that are missing, as the snapshot has them."""
    for parent in reversed(Path(top).parents[:-1]):
        live = within(target, str(parent))
        if not os.path.isdir(live):
            node = nodes[str(parent)]
            os.mkdir(live, 0o700)
            os.chown(live, node.owner, node.group)
            os.chmod(live, node.mode)
            give_to(owners, node, live)


def command_restore(settings: Settings, wanted: argparse.Namespace) -> str:
    """Restore beside what is there, verify it, and only then put it in place. Returns what to tell; raises Failure."""
    with locked(settings):
        repository = settings.repositories[wanted.repository - 1]
        if not is_made(settings, repository):
            raise Failure(f"There is no repository in {repository.place} yet.")
        snapshot = choose(snapshots(settings, repository), wanted.to)
        nodes = nodes_of(settings, repository, snapshot)
        tops = tops_of(snapshot, nodes, wanted.path)
        target = os.path.realpath(wanted.target)
        if not os.path.isdir(target):
            raise Failure(f"The directory {wanted.target}, where the files are to come to, does not exist.")
        rooms = rooms_of(tops, target, nodes)
        files = [node for node in nodes if node.kind != "dir" and any(below(node.path, top) for top in tops)]
        size = sum(node.size for node in files)
        what = (
            f"The snapshot {snapshot.name} of {snapshot.when} in {repository.place}: {len(files)} files, "
            f"{size / MEGABYTE:.1f} MB: {', '.join(tops)}."
        )
        if wanted.dry_run:
            return f"{what} Nothing has been written."
        for room, names in rooms.items():
            share = sum(node.size for node in files if any(below(node.path, top) for top in names))
            needed = share // MEGABYTE + 1 + settings.reserve_megabytes
            if (free := free_megabytes(room)) < needed:
                raise Failure(
                    f"There is too little space on the file system of {room}: {free} MB are free, and what comes back "
                    f"needs {needed} MB with the reserve of {settings.reserve_megabytes} MB. Nothing has been written."
                )
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        before = {room: os.path.join(room, f".before-restore-{settings.site}-{stamp}") for room in rooms}
        owners = new_owners(settings, repository, snapshot)
        known = {node.path: node for node in nodes}
        placed: list[str] = []
        try:
            staged = {room: stage(settings, repository, snapshot, room, names) for room, names in rooms.items()}
            for room, names in rooms.items():
                for node in nodes:
                    if any(below(node.path, top) for top in names):
                        give_to(owners, node, staged[room] + node.path)
            os.sync()
            for room, names in rooms.items():
                for top in names:
                    live = within(target, top)
                    make_parents(top, target, known, owners)
                    put(staged[room] + top, live, before[room] + live)
                    placed.append(live)
        except OSError as error:
            state = f"In place are {', '.join(placed)}" if placed else "Nothing has been replaced"
            raise Failure(f"The snapshot {snapshot.name} could not be put in place: {error}. {state}.") from error
        finally:
            for room in rooms:
                shutil.rmtree(os.path.join(room, settings.staging), ignore_errors=True)
    kept = [path for path in before.values() if os.path.isdir(path)]
    told = f" What was there before is in {', '.join(kept)}." if kept else ""
    return f"{what} They are in place.{told} Restart what has had them open."


def main() -> int:
    parser = argparse.ArgumentParser(description="Back up a site's files by restic, and put them back.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "list", "status", "validate", "restore"):
        commands.add_parser(name).add_argument("settings", help="/etc/groundwork/backups/<site>-files/settings.conf")
    restore = commands.choices["restore"]
    restore.add_argument("--to", required=True, help="latest, a time such as 2026-04-01T02:30:00+00, or a snapshot")
    restore.add_argument("--path", action="append", default=[], help="what to put back; all of the snapshot by default")
    restore.add_argument("--target", default="/", help="directory to put it below; in its old place by default")
    restore.add_argument("--repository", type=int, default=1, help="number of the repository in backups_repositories")
    restore.add_argument("--dry-run", action="store_true", help="only say what would come back")
    arguments = parser.parse_args()
    os.umask(0o077)
    end_by_exception()
    try:
        settings = Settings.load(arguments.settings)
        if arguments.command == "run":
            print(command_run(settings))
        elif arguments.command == "list":
            print(command_list(settings))
        elif arguments.command == "status":
            print(command_status(settings))
        elif arguments.command == "validate":
            print(command_validate(settings))
        else:
            if not 1 <= arguments.repository <= len(settings.repositories):
                raise Failure(f"There are {len(settings.repositories)} repositories: {arguments.repository} is none.")
            print(command_restore(settings, arguments))
    except Failure as failure:
        return complain(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
