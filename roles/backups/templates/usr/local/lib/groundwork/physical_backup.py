#!/usr/bin/python3
# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""Back up the host's PostgreSQL cluster by pgBackRest, and watch over the archive of its log.

    physical_backup.py run full|differential   back up to each repository; after a full one the repository is read back,
                                               and what has expired is removed; then the rows are counted for a drill
    physical_backup.py prepare                 make the repositories, see that the log arrives, start the first backup
    physical_backup.py status                  write the metrics; fails where the log waits for long
    physical_backup.py validate                say whether the repositories can be used with what is configured

Settings are /etc/groundwork/physical_backup.conf and /etc/pgbackrest/pgbackrest.conf. pgBackRest itself runs as
postgres. Exit status: 0 done, 1 failed, 75 another run is at work. A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The program beside this one has what both share; root must not leave compiled files there.
sys.dont_write_bytecode = True
from backup import (  # noqa: E402
    AS_POSTGRES,
    ENVIRONMENT,
    MEGABYTE,
    Busy,
    Failure,
    Interrupted,
    complain,
    end_by_exception,
    free_megabytes,
    place_metrics,
    run,
    write_whole,
)
from postgres_server import Server  # noqa: E402

SETTINGS = "/etc/groundwork/physical_backup.conf"
PGBACKREST_SETTINGS = "/etc/pgbackrest/pgbackrest.conf"
FIRST_BACKUP = "groundwork-backup-full.service"
TYPES = {"full": "full", "differential": "diff", "incremental": "incr"}
KINDS = {short: kind for kind, short in TYPES.items()}
VERIFIES_FROM = (2, 39)
"""The first version of pgBackRest that can read a repository back."""
SERVER_WAIT_SECONDS = 60
ARCHIVE_WAIT_SECONDS = 60
NO_SPACE_MEGABYTES = 32
OUT_OF_REACH, UPGRADE, CLOCK = "unable to connect", "stanza-upgrade", "is not later than latest backup label"
"""Words of pgBackRest that tell what has happened."""
LOCKED, CRYPTO_ERROR, MISSING = 50, 95, (38, 55)
"""Exit statuses of pgBackRest."""
COUNTS = Path("/var/lib/groundwork/row_counts")
"""A file for each run: which backups it made, and how many rows the tables had at a restore point after them."""
METRIC = "groundwork_backup"
METRICS = {
    f"{METRIC}_last_success_timestamp_seconds": "When the last good backup ended.",
    f"{METRIC}_duration_seconds": "How long it took.",
    f"{METRIC}_size_bytes": "What it added to the repository.",
    f"{METRIC}_archive_lag_seconds": "How long the oldest part of the log waits.",
    f"{METRIC}_archive_waiting_segments": "Parts of the log that wait.",
    f"{METRIC}_archive_failures_total": "Attempts to archive that failed.",
    f"{METRIC}_archive_last_timestamp_seconds": "When a part was archived last.",
}
"""What the metrics are."""


@dataclass(frozen=True)
class Repository:
    """A place of the backups: its number, its type in pgBackRest's words, and what people call it."""

    number: int
    type: str
    path: str
    place: str


@dataclass(frozen=True)
class Settings:
    """What the role has written."""

    stanza: str
    port: int
    reserve_megabytes: int
    late_seconds: int
    metrics_directory: Path
    repositories: tuple[Repository, ...]

    @property
    def server(self) -> Server:
        """The live server."""
        return Server(self.port)

    @classmethod
    def load(cls, path: str = SETTINGS, pgbackrest_path: str = PGBACKREST_SETTINGS) -> Settings:
        """Read the settings. Raises Failure where a file is missing or not complete."""
        try:
            own, given = (read_ini(name) for name in (path, pgbackrest_path))
            section = own["physical"]
            return cls(
                stanza=section["stanza"],
                port=given.getint(section["stanza"], "pg1-port"),
                reserve_megabytes=section.getint("reserve_megabytes"),
                late_seconds=section.getint("late_seconds"),
                metrics_directory=Path(section["metrics_directory"]),
                repositories=tuple(read_repositories(given["global"])),
            )
        except (OSError, KeyError, ValueError, TypeError, configparser.Error) as error:
            # The text of an error may hold a line of the file, and with it the passphrase.
            raise Failure(
                f"The settings {path} and {pgbackrest_path} cannot be read ({type(error).__name__})."
            ) from None


@dataclass(frozen=True)
class Copy:
    """A finished backup in a repository, as pgBackRest lists it; each upgrade of PostgreSQL makes another cluster."""

    label: str
    kind: str
    cluster: int
    started: int
    stopped: int
    stored_bytes: int
    first_wal: str
    last_wal: str
    cluster_bytes: int
    stop_position: str


def read_ini(path: str) -> configparser.ConfigParser:
    """The sections of a file of settings."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    with open(path, encoding="utf-8") as stream:
        parser.read_file(stream)
    return parser


def read_repositories(section: configparser.SectionProxy) -> Iterable[Repository]:
    """The repositories of pgBackRest's section [global]."""
    for name in section:
        if match := re.fullmatch(r"repo([0-9]+)-type", name):
            prefix = f"repo{match.group(1)}"
            kind, path = section[name], section[f"{prefix}-path"]
            host = section.get(f"{prefix}-sftp-host") or section.get(f"{prefix}-s3-endpoint")
            place = f"{kind}://{host}{path}" if host else path
            yield Repository(int(match.group(1)), kind, path, place)


def repository_of(settings: Settings, number: int) -> Repository:
    """A repository by its number. Raises Failure where there is none."""
    found = [item for item in settings.repositories if item.number == number]
    if not found:
        raise Failure(f"There is no repository {number}: backups_repositories has {len(settings.repositories)}.")
    return found[0]


@dataclass(frozen=True)
class Done:
    """How a command of pgBackRest ended."""

    status: int
    output: str
    errors: str

    @property
    def reason(self) -> str:
        """The first thing it complained about."""
        for line in self.errors.splitlines():
            if match := re.match(r"(?:P\d+ +)?ERROR: \[\d+\]: (.+)", line.strip()):
                return match.group(1).rstrip(".:")
        return f"exit status {self.status}"


def pgbackrest(settings: Settings, command: str, *options: str, data_directory: str = "") -> Done:
    """Run a command of pgBackRest as postgres. Secrets are in its file only, never on the command line."""
    words = [f"--stanza={settings.stanza}", "--log-level-console=off", "--log-level-stderr=error", *options]
    if data_directory:
        words.append(f"--pg1-path={data_directory}")
    try:
        done = subprocess.run(
            [*AS_POSTGRES, "pgbackrest", *words, *command.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
            env=ENVIRONMENT,
        )
    except OSError as error:
        raise Failure(f"pgBackRest cannot be started: {error}.") from error
    return Done(done.returncode, *(text.decode("utf-8", "replace") for text in (done.stdout, done.stderr)))


def look_at(settings: Settings, repository: Repository) -> tuple[bool, str]:
    """Whether a repository is there, and what keeps it from being used: out of reach, or another passphrase."""
    made = []
    for kind in ("archive", "backup"):
        done = pgbackrest(settings, f"repo-get {kind}/{settings.stanza}/{kind}.info", f"--repo={repository.number}")
        # A certificate that is not trusted has the same status.
        closed = done.status == CRYPTO_ERROR and "certificate" not in done.reason
        if closed or (done.status == 0 and not done.output.startswith("[")):
            return True, (
                "is encrypted with another passphrase than backups_passphrase: put the one it was made with back into "
                "the vault, or name another path in backups_repositories"
            )
        if done.status not in (0, *MISSING):
            return False, f"cannot be read: {done.reason}"
        made.append(done.status == 0)
    return all(made), ""


def is_made(settings: Settings, repository: Repository) -> bool:
    """Whether a repository is there. Raises Failure where it cannot be used."""
    made, trouble = look_at(settings, repository)
    if trouble:
        raise Failure(f"The repository {repository.place} {trouble}.")
    return made


def why(settings: Settings, repository: Repository, said: str) -> str:
    """Why a command of pgBackRest has failed, as far as that can be told better than by what it said."""
    if OUT_OF_REACH in said:
        return said
    if CLOCK in said:
        return (
            f"the clock of this host is behind the newest backup in {repository.place}: it was ahead then, or has been "
            "set back since; the log is kept all the same, backups go on once the clock has passed that one, and one "
            "of the other kind, full or differential, is made even now"
        )
    if repository.type == "posix" and free_megabytes(repository.path) < NO_SPACE_MEGABYTES:
        return f"there is no space left in {repository.place}"
    trouble = look_at(settings, repository)[1]
    return f"it {trouble}" if trouble else said


def copies(settings: Settings, repository: Repository) -> list[Copy]:
    """The finished backups of a repository, oldest first. Raises Failure where that cannot be told."""
    done = pgbackrest(settings, "info --output=json", f"--repo={repository.number}")
    reason = done.reason
    try:
        stanzas = json.loads(done.output)
        known = stanzas[0] if stanzas else {"backup": [], "repo": []}
        # 2 is "no backup yet", 1 and 3 "nothing there yet".
        states = [item["status"] for item in known["repo"]]
        broken = [state["message"] for state in states if state["code"] not in (0, 1, 2, 3)]
        if done.status == 0 and not broken:
            found = [read_copy(item) for item in known["backup"] if item["database"]["repo-key"] == repository.number]
            return sorted(found, key=lambda copy: copy.label)
        reason = broken[0].splitlines()[0] if broken else reason
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"its answer cannot be read ({type(error).__name__})" if done.status == 0 else reason
    raise Failure(f"The backups in {repository.place} cannot be listed: {why(settings, repository, reason)}.")


def read_copy(item: dict) -> Copy:
    """A backup as `pgbackrest info` has it."""
    return Copy(
        item["label"],
        KINDS[item["type"]],
        item["database"]["id"],
        item["timestamp"]["start"],
        item["timestamp"]["stop"],
        item["info"]["repository"].get("delta", 0),
        item["archive"]["start"],
        item["archive"]["stop"],
        item["info"].get("size", 0),
        item.get("lsn", {}).get("stop", "0/0"),
    )


def segments_between(first: str, last: str, segment_bytes: int) -> Iterable[str]:
    """Names of the parts of the log from `first` to `last`; none where a new timeline has begun between them."""
    if first[:8] != last[:8]:
        return
    each = 0x100000000 // segment_bytes
    start, end = (int(name[8:16], 16) * each + int(name[16:24], 16) for name in (first, last))
    for number in range(start, end + 1):
        yield f"{first[:8]}{number // each:08X}{number % each:08X}"


def gaps(wanted: Iterable[str], present: set[str]) -> list[tuple[str, str]]:
    """The runs of names in `wanted` that are not present, each as its first and last name."""
    found: list[tuple[str, str]] = []
    was_missing = False
    for name in wanted:
        if name not in present:
            found = [*found[:-1], (found[-1][0], name)] if was_missing else [*found, (name, name)]
        was_missing = name not in present
    return found


def listed_log(settings: Settings, repository: Repository, *options: str) -> str:
    """Paths of all that a repository has of the log, one a line unless options ask for JSON. Raises Failure."""
    options = ("--recurse", f"--repo={repository.number}", *options)
    done = pgbackrest(settings, f"repo-ls archive/{settings.stanza}", *options)
    if done.status != 0:
        raise Failure(f"The log in {repository.place} cannot be listed: {why(settings, repository, done.reason)}.")
    return done.output


def archived(settings: Settings, repository: Repository, cluster: int) -> set[str]:
    """Names of all parts of a cluster's log that a repository has. Raises Failure."""
    pattern = rf"-{cluster}/[0-9A-F]{{16}}/([0-9A-F]{{24}})-[0-9a-f]{{40}}"
    return set(re.findall(pattern, listed_log(settings, repository)))


def lineage(settings: Settings, repository: Repository, cluster: int, moment: float = math.inf) -> dict[int, float]:
    """The timelines that led to the one a cluster was on at a moment, and the position at which each was left.

    Each restore begins another timeline, so that what came after the moment it went back to is no longer part of it;
    its history is archived then. The last one is endless. Raises Failure.
    """
    listed = json.loads(listed_log(settings, repository, "--output=json"))
    pattern = rf"\S+-{cluster}/([0-9A-F]{{8}})\.history"
    found = {
        match.group(1): path
        for path, item in listed.items()
        if (match := re.fullmatch(pattern, path)) and item["time"] <= moment
    }
    if not found:
        return {1: math.inf}
    newest = max(found)
    path = f"archive/{settings.stanza}/{found[newest]}"
    done = pgbackrest(settings, f"repo-get {path}", f"--repo={repository.number}")
    if done.status != 0:
        raise Failure(f"The log in {repository.place} cannot be read: {why(settings, repository, done.reason)}.")
    lines = (line.split() for line in done.output.splitlines() if line.strip())
    return {int(words[0]): position(words[1]) for words in lines} | {int(newest, 16): math.inf}


def position(text: str) -> int:
    """A position in the log as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def bounds(segment: str, segment_bytes: int) -> tuple[int, int]:
    """Positions at which a part of the log begins and ends."""
    each = 0x100000000 // segment_bytes
    number = int(segment[8:16], 16) * each + int(segment[16:24], 16)
    return number * segment_bytes, (number + 1) * segment_bytes


def newest_segment(settings: Settings, repository: Repository, cluster: int) -> str:
    """Name of the newest part of a cluster's log that a repository has; empty where it has none. Raises Failure."""
    timeline = max(lineage(settings, repository, cluster))
    names = archived(settings, repository, cluster)
    return max((name for name in names if int(name[:8], 16) == timeline), default="")


def is_part(copy: Copy, line: dict[int, float]) -> bool:
    """Whether the newest timeline goes through the end of a backup."""
    return position(copy.stop_position) <= line.get(int(copy.last_wal[:8], 16), -1)


def missing_log(settings: Settings, repository: Repository, before: Copy | None, after: Copy) -> str:
    """What of the log between two backups is missing, as after a queue that had run over; empty where it is whole."""
    if before is None or before.cluster != after.cluster:
        return ""
    segment_bytes = int(settings.server.ask("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"))
    wanted = segments_between(before.last_wal, after.first_wal, segment_bytes)
    missing = gaps(wanted, archived(settings, repository, after.cluster))
    return f"from {missing[0][0]} to {missing[-1][1]}" if missing else ""


def check_space(settings: Settings, repository: Repository, found: list[Copy], kind: str) -> None:
    """Raise Failure where a repository of this host has no room: a quarter more than the last backup, and the reserve.

    Without a backup to go by, half of the cluster's size is taken for a full one, which is compressed, and nothing for
    a differential one.
    """
    if repository.type != "posix":
        return
    alike = [copy for copy in found if copy.kind == kind]
    if alike:
        expected = alike[-1].stored_bytes * 5 // 4
    elif found and kind != "full":
        expected = 0
    else:
        expected = int(settings.server.ask("SELECT sum(pg_database_size(oid)) FROM pg_database")) // 2
    needed = expected // MEGABYTE + 1 + settings.reserve_megabytes
    free = free_megabytes(repository.path)
    if free < needed:
        raise Failure(
            f"there is too little space in {repository.place}: {free} MB are free, and a backup needs {needed} MB with "
            f"the reserve of {settings.reserve_megabytes} MB"
        )


def can_verify() -> bool:
    """Whether this pgBackRest can read a repository back."""
    found = re.search(r"(\d+)\.(\d+)", run(["pgbackrest", "version"], "Asking pgBackRest for its version"))
    return found is not None and tuple(map(int, found.groups())) >= VERIFIES_FROM


def verify(settings: Settings, repository: Repository) -> None:
    """Read a repository to the end. Raises Failure that names what is damaged."""
    done = pgbackrest(settings, "verify --output=text", f"--repo={repository.number}")
    if done.status == 0 and "status: error" not in done.output:
        return
    damaged = re.findall(r"^ *((?:backup|archiveId): .*(?:invalid|total valid).*?)$", done.output, re.MULTILINE)
    detail = "; ".join(line.strip() for line in damaged) or done.reason
    raise Failure(f"The repository {repository.place} is damaged ({detail}). Nothing has been removed from it.")


def back_up(settings: Settings, repository: Repository, kind: str, data_directory: str) -> str:
    """Back up to one repository and return what to tell. Raises Failure, or Busy where another run is at work."""
    started = time.time()
    before = copies(settings, repository)
    kept = f"The last good one is {before[-1].label}." if before else "There is no good one yet."
    number = f"--repo={repository.number}"
    what = f"The {kind} backup to {repository.place}"
    try:
        check_space(settings, repository, before, kind)
    except Failure as failure:
        raise Failure(f"{what} failed: {str(failure).rstrip('.')}. {kept}") from failure
    # What has expired goes only after all has been read back.
    options = (number, f"--type={TYPES[kind]}", "--no-expire-auto")
    done = pgbackrest(settings, "backup", *options, data_directory=data_directory)
    if done.status == LOCKED:
        raise Busy("Another backup of the cluster is at work; this one was not started.")
    if done.status != 0:
        reason = why(settings, repository, done.reason)
        if not has_run_since(settings.server, started):
            reason = f"PostgreSQL was stopped or killed meanwhile ({reason})"
        raise Failure(f"{what} failed: {reason}. {kept}")
    after = copies(settings, repository)
    if not after or (before and after[-1].label == before[-1].label):
        raise Failure(f"{what} failed: pgBackRest reports success, but lists no new backup. {kept}")
    new = after[-1]
    missing = missing_log(settings, repository, before[-1] if before else None, new)
    told = ""
    if kind == "full":
        if can_verify():
            verify(settings, repository)
            told = ", the repository read back"
        expired = pgbackrest(settings, "expire", number)
        if expired.status != 0:
            reason = f"nothing could be removed: {expired.reason}"
            raise Failure(f"The backup {new.label} in {repository.place} is good, but {reason}.")
        told += f", {len(after) - len(copies(settings, repository))} removed"
    if missing:
        raise Failure(
            f"The backup {new.label} in {repository.place} is good, but of the log before it a part is missing, "
            f"{missing}: no moment of that time can be restored."
        )
    took = time.time() - started
    return f"{new.label} in {repository.place}: {new.kind}, {new.stored_bytes / MEGABYTE:.1f} MB in {took:.0f} s{told}."


def has_run_since(server: Server, moment: float) -> bool:
    """Whether a server has run all the time since a moment."""
    with contextlib.suppress(Failure):
        return server.ask(f"SELECT pg_postmaster_start_time() <= to_timestamp({moment})") == "t"
    return False


def command_run(settings: Settings, kind: str) -> str:
    """Back up to each repository; one that fails does not keep the others from theirs."""
    data_directory = settings.server.ask("SHOW data_directory")
    told, failures, known = [], [], {}
    for repository in settings.repositories:
        try:
            told.append(back_up(settings, repository, kind, data_directory))
            known[repository.place] = copies(settings, repository)
        except (Busy, Interrupted):
            raise
        except Failure as failure:
            failures.append(str(failure))
    try:
        write_metrics(settings, log_state(settings), known)
    except Failure as failure:
        failures.append(f"The metrics were not written: {failure}")
    if known:
        try:
            note_counts(settings, known)
        except Failure as failure:
            failures.append(f"The rows were not counted: {failure}")
    if failures:
        raise Failure(" ".join([*failures, *told]))
    return "\n".join(told)


def note_counts(settings: Settings, known: dict[str, list[Copy]]) -> None:
    """Note how many rows the tables have, for a drill to compare. Raises Failure.

    Others write meanwhile, so they are counted before and after a restore point, at which a drill stops to count.
    """
    point = time.strftime("groundwork-rows-%Y%m%dT%H%M%SZ", time.gmtime())
    before = settings.server.count_rows()
    settings.server.ask(f"SELECT pg_create_restore_point('{point}')")
    after = settings.server.count_rows()
    send_log(settings.server)
    bounds = {name: sorted((rows, after[name])) for name, rows in before.items() if name in after}
    note = {
        "restore_point": point,
        "backups": {place: found[-1].label for place, found in known.items()},
        "rows": bounds,
    }
    write_whole(COUNTS / f"{point}.json", json.dumps(note, indent=2) + "\n", 0o600)
    labels = {copy.label for found in known.values() for copy in found}
    for path in COUNTS.glob("*.json"):
        # Those of a repository that is away now are of use when it is back.
        noted = read_counts(path)["backups"]
        if not any(label in labels or place not in known for place, label in noted.items()):
            path.unlink()


def read_counts(path: Path) -> dict:
    """A note about rows, with the labels of its backups by the places of their repositories; one of none if broken."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return {"restore_point": noted["restore_point"], "backups": dict(noted["backups"]), "rows": noted["rows"]}
    except (ValueError, KeyError, TypeError):
        return {"restore_point": "", "backups": {}, "rows": {}}


def wait_for_server(settings: Settings) -> str:
    """Data directory of the server, once it answers. Raises Failure where it does not."""
    end = time.monotonic() + SERVER_WAIT_SECONDS
    while True:
        try:
            return settings.server.ask("SHOW data_directory")
        except Failure:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def send_log(server: Server) -> bool:
    """Have the server send away all that has been committed, and return whether it has arrived. Raises Failure."""
    segment = server.ask("SELECT pg_walfile_name(pg_current_wal_lsn())")
    server.ask("SELECT pg_switch_wal()")
    arrived = f"SELECT count(*) FROM pg_stat_archiver WHERE last_archived_wal >= '{segment}'"
    end = time.monotonic() + ARCHIVE_WAIT_SECONDS
    while server.ask(arrived) != "1":
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def check_server(settings: Settings) -> None:
    """Have the server hand its log over. Raises Failure where it does not. A reload takes a moment to reach it."""
    settings.server.ask("SELECT pg_reload_conf()")
    wanted = f"pgbackrest --stanza={settings.stanza} "
    end = time.monotonic() + 10
    while not (found := settings.server.ask("SHOW archive_command")).startswith(wanted):
        if time.monotonic() > end:
            raise Failure(
                f'archive_command is "{found}" in the server and another one in /etc/groundwork/postgres/archive.conf: '
                "remove the setting of your own."
            )
        time.sleep(0.2)


def command_prepare(settings: Settings) -> str:
    """Make the repositories, prove that the log reaches each, and start the first backup where there is none."""
    data_directory = wait_for_server(settings)
    if settings.server.ask("SHOW archive_mode") == "off":
        raise Failure("archive_mode is off: apply the role postgres, which turns it on.")
    hint = (
        " If PostgreSQL has been upgraded, say so: runuser -u postgres -- pgbackrest "
        f"--stanza={settings.stanza} --pg1-path={data_directory} stanza-upgrade"
    )
    if not all(is_made(settings, repository) for repository in settings.repositories):
        # One command for all repositories; what is there already is left as it is.
        done = pgbackrest(settings, "stanza-create", data_directory=data_directory)
        if done.status == LOCKED:
            raise Busy("A backup of the cluster is at work, and a repository could not be made beside it: try again.")
        if done.status != 0:
            raise Failure(
                f"A repository could not be made: {why_any(settings, done.reason)}."
                f"{hint if UPGRADE in done.errors else ''}"
            )
    check_server(settings)
    done = pgbackrest(settings, "check", data_directory=data_directory)
    if done.status != 0:
        reason = why_any(settings, done.reason)
        raise Failure(f"PostgreSQL's log does not reach its archive: {reason}.{hint if UPGRADE in done.errors else ''}")
    places = ", ".join(repository.place for repository in settings.repositories)
    if all(copies(settings, repository) for repository in settings.repositories):
        return f"PostgreSQL's log reaches {places}."
    run(["systemctl", "start", "--no-block", FIRST_BACKUP], "Starting the first backup")
    return f"PostgreSQL's log reaches {places}; the first full backup has been started."


def why_any(settings: Settings, said: str) -> str:
    """Why a command about all repositories has failed."""
    reasons = (why(settings, repository, said) for repository in settings.repositories)
    return next((reason for reason in reasons if reason != said), said)


def command_validate(settings: Settings) -> str:
    """Say whether the repositories can be used with what is configured. Nothing is changed."""
    for repository in settings.repositories:
        is_made(settings, repository)
    return "The repositories can be used."


def log_state(settings: Settings) -> dict:
    """What the server says of its archive: how long a part of its log waits, how many do, failures, the last one."""
    return json.loads(
        settings.server.ask(
            "SELECT json_build_object("
            "'waiting_segments', count(*), "
            "'lag_seconds', coalesce(extract(epoch FROM now() - min(modification)), 0), "
            "'failures_total', (SELECT failed_count FROM pg_stat_archiver), "
            "'last_timestamp_seconds', (SELECT coalesce(extract(epoch FROM last_archived_time), 0) "
            "FROM pg_stat_archiver)) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
        )
    )


def metrics_of(place: str, found: list[Copy]) -> dict[str, float]:
    """What the metrics say of a repository: by name and labels, the newest backup of each kind."""
    values = {}
    for copy in found:
        labels = f'{{kind="{copy.kind}",repository="{place}"}}'
        values[f"{METRIC}_last_success_timestamp_seconds{labels}"] = copy.stopped
        values[f"{METRIC}_duration_seconds{labels}"] = copy.stopped - copy.started
        values[f"{METRIC}_size_bytes{labels}"] = copy.stored_bytes
    return values


def write_metrics(settings: Settings, log: dict, known: dict[str, list[Copy]]) -> None:
    """Write the metrics.

    known: backups by the place of their repository. What the file says of the other repositories stays.
    """
    values = {f"{METRIC}_archive_{name}": value for name, value in log.items()}
    for place, found in known.items():
        values |= metrics_of(place, found)
    others = tuple(f'repository="{item.place}"}}' for item in settings.repositories if item.place not in known)
    place_metrics(settings.metrics_directory / "groundwork_backups.prom", METRICS, values, keep=others)


def command_status(settings: Settings) -> str:
    """Write the metrics. Raises Failure where the log waits for long, or a repository is out of reach."""
    log = log_state(settings)
    failures, known = [], {}
    for repository in settings.repositories:
        try:
            known[repository.place] = copies(settings, repository)
        except Failure as failure:
            failures.append(str(failure))
    write_metrics(settings, log, known)
    waiting, lag = log["waiting_segments"], log["lag_seconds"]
    if lag > settings.late_seconds:
        failures.append(
            f"PostgreSQL's log does not reach its archive: {waiting} parts of it wait, the oldest for {lag / 60:.0f} "
            f"minutes. /var/log/pgbackrest/{settings.stanza}-archive-push-async.log says why."
        )
    if failures:
        raise Failure(" ".join(failures))
    return f"{waiting} parts of the log wait, the oldest for {lag:.0f} s."


def main() -> int:
    parser = argparse.ArgumentParser(description="Back up the host's PostgreSQL cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("kind", choices=("full", "differential"))
    for name in ("prepare", "status", "validate"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    end_by_exception()
    try:
        settings = Settings.load()
        if arguments.command == "run":
            print(command_run(settings, arguments.kind))
        elif arguments.command == "prepare":
            print(command_prepare(settings))
        elif arguments.command == "status":
            print(command_status(settings))
        else:
            print(command_validate(settings))
    except Failure as failure:
        return complain(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
