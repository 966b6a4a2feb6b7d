# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""A copy of the host's PostgreSQL cluster as it was at some moment, beside the live one and out of everybody's way.

It is made from a repository, and runs on a socket of its own, without a network and without archiving.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Root must not leave compiled files here.
sys.dont_write_bytecode = True
from backup import AS_POSTGRES, ENVIRONMENT, MEGABYTE, SOCKETS, Busy, Failure, free_megabytes, read_moment, run  # noqa: E402
from physical_backup import (  # noqa: E402
    Copy,
    Repository,
    Settings,
    bounds,
    copies,
    is_part,
    lineage,
    newest_segment,
    pgbackrest,
    position,
    why,
)
from postgres_server import Server  # noqa: E402

LOCKS = Path("/var/lib/groundwork/locks")
PROGRESS_SECONDS = 30
START_SECONDS = 60
STOP_SECONDS = 120
NO_MORE_FILES = "sftp error [4] failure"
"""What pgBackRest says where an sftp server has as many files open for it as it may."""
DAMAGED = "raised from local"
"""Begin of what it says of a file that cannot be read."""
TOO_EARLY = (
    "recovery ended before configured recovery target was reached",
    "requested recovery stop point is before consistent recovery point",
)
"""What the server says of a target that does not lie between the backup and the end of the log."""
BOUND_BY_THE_LOG = (
    *("max_connections", "max_worker_processes", "max_wal_senders"),
    *("max_prepared_transactions", "max_locks_per_transaction"),
)
"""Settings that must not be smaller than those of the server that wrote the log."""
ON_ITS_OWN = {
    "listen_addresses": "",
    "archive_mode": "off",
    "default_transaction_read_only": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "",
    "external_pid_file": "",
    "ssl": "off",
    "hot_standby": "on",
    "autovacuum": "off",
    "max_logical_replication_workers": "0",
    "cron.launch_active_jobs": "off",
    "jit": "off",
    "shared_buffers": "128MB",
    "huge_pages": "off",
}
"""What a copy has otherwise than the live server: it must not be noticed, take much memory or begin work of its own."""


class NotReached(Failure):
    """The target does not lie between the backup and the end of the log."""


@dataclass(frozen=True)
class Target:
    """What a cluster is to be as: a type of pgBackRest and the value that goes with it."""

    type: str
    value: str = ""
    seconds: float = 0

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `latest`, a time, `xid:<number>`, `lsn:<position>` or the name of a restore point. Raises Failure."""
        text = text.strip()
        if text == "latest":
            return cls("default")
        if match := re.fullmatch(r"xid:([0-9]+)", text):
            return cls("xid", match.group(1))
        if match := re.fullmatch(r"lsn:([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})", text):
            return cls("lsn", match.group(1).upper())
        if re.match(r"[0-9]{4}-", text):
            moment = read_moment(text)
            if moment.timestamp() > time.time():
                raise Failure(f'"{text}" is in the future: name a time that has passed, or "latest".')
            whole = time.strftime("%Y-%m-%d %H:%M:%S", moment.utctimetuple())
            return cls("time", f"{whole}.{moment.microsecond:06d}+00", moment.timestamp())
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,62}", text):
            return cls("name", text)
        raise Failure(
            f'"{text}" is not a moment to go back to: write "latest", a time like "2026-04-01T02:29:00+02:00", the '
            'name of a restore point like "deploy-<release>", "xid:<number>" or "lsn:<position>".'
        )

    @property
    def words(self) -> str:
        """It in a few words."""
        kinds = {
            "default": "the end of the log",
            "time": self.value,
            "name": f"the restore point {self.value}",
            "xid": f"the end of transaction {self.value}",
            "lsn": f"the position {self.value}",
        }
        return kinds[self.type]

    @property
    def moment(self) -> float:
        """The time whose timeline it is on: one that a restore has left since is found again by a time alone."""
        return self.seconds if self.type == "time" else math.inf

    def may_hold(self, copy: Copy) -> bool:
        """Whether a backup was finished before the target, as far as that can be told: to the second."""
        return self.type != "time" or copy.stopped + 1 <= self.seconds


def utc(seconds: float) -> str:
    """A time, to the second, as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


@dataclass(frozen=True)
class Cluster:
    """The live cluster, as Debian's tools know it."""

    version: str
    name: str
    port: int
    data_directory: Path
    configuration: Path

    @property
    def unit(self) -> str:
        """Its unit."""
        return f"postgresql@{self.version}-{self.name}.service"

    @property
    def server(self) -> Server:
        """Its server."""
        return Server(self.port)

    @property
    def answers(self) -> bool:
        """Whether its server answers. One whose files are gone runs on for a while, and does not."""
        with contextlib.suppress(Failure):
            return self.server.ask("SELECT true") == "t"
        return False

    def program(self, name: str) -> str:
        """Path of one of PostgreSQL's programs."""
        return f"/usr/lib/postgresql/{self.version}/bin/{name}"

    def control(self, directory: Path) -> dict[str, str]:
        """What pg_controldata says of a data directory. Raises Failure."""
        output = run([*AS_POSTGRES, self.program("pg_controldata"), str(directory)], f"Looking at {directory}")
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in output.splitlines())}

    def segment_bytes(self, directory: Path) -> int:
        """Size of the parts of the log in a data directory. Raises Failure."""
        return int(self.control(directory)["Bytes per WAL segment"])


def live_cluster(settings: Settings) -> Cluster:
    """The live cluster. Raises Failure where there is none."""
    found = [item for item in list_clusters() if int(item["port"]) == settings.port and item["cluster"] == "main"]
    if not found:
        raise Failure(f"This host has no cluster with port {settings.port}: apply the role postgres first.")
    [item] = found
    return Cluster(
        version=str(item["version"]),
        name=item["cluster"],
        port=settings.port,
        data_directory=Path(item["pgdata"]),
        configuration=Path(item["configdir"]),
    )


def list_clusters() -> list[dict]:
    """The clusters of this host. Raises Failure."""
    return json.loads(run(["pg_lsclusters", "--json"], "Listing the clusters"))


def say(text: str) -> None:
    """Show how far it is. Nobody may listen any more."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


class ClusterCopy:
    """A copy beside the live cluster. It is not registered with Debian's tools, and ends with the program."""

    def __init__(self, settings: Settings, live: Cluster, name: str) -> None:
        self.settings = settings
        self.live = live
        self.name = name
        self.directory = live.data_directory.parent / name
        self.sockets = Path(SOCKETS) / name
        # A name of its own each time: after a swap the live cluster goes on with what is there.
        self.tablespaces = live.data_directory.parent / f"{name}_tablespaces_{time.time_ns()}"
        self.log = Path(f"/var/log/postgresql/{name}.log")
        self.process: subprocess.Popen | None = None

    @property
    def server(self) -> Server:
        """Its server, on the live one's port in a directory of its own, so that a site finds it by a mount alone."""
        return Server(self.live.port, str(self.sockets))

    def remove(self) -> None:
        """Remove it, with what a run that was killed has left. Raises Failure."""
        self.stop()
        if (self.directory / "postmaster.pid").exists():
            command = [self.live.program("pg_ctl"), "stop", "--mode=immediate", "--pgdata", str(self.directory)]
            # It fails where the server has gone without a word.
            run([*AS_POSTGRES, *command], "Stopping the server of an earlier copy", good=(0, 1))
        for path in (self.directory, self.sockets, *self.stray_tablespaces()):
            as_postgres(["rm", "--recursive", "--force", "--", str(path)], f"Removing {path}")

    def stray_tablespaces(self) -> list[Path]:
        """Directories of tablespaces of such copies that no other cluster beside it uses."""
        place = self.directory.parent
        others = (path for path in place.glob("*/pg_tblspc/*") if path.parents[1] != self.directory)
        used = {Path(os.readlink(path)).parent for path in others if path.is_symlink()}
        return [path for path in place.glob(f"{self.name}_tablespaces_*") if path not in used]

    def check_space(self, copy: Copy) -> int:
        """Megabytes that it takes. Raises Failure where they are not free, beside the reserve."""
        needed = copy.cluster_bytes // MEGABYTE + 1 + self.settings.reserve_megabytes
        place = self.live.data_directory.parent
        free = free_megabytes(place)
        if self.directory.exists():
            free += used_megabytes(self.directory)
        if free < needed:
            raise Failure(
                f"There is too little space in {place}: {free} MB are free, and a copy of the cluster beside it needs "
                f"{needed} MB with the reserve of {self.settings.reserve_megabytes} MB."
            )
        return needed

    def check_tablespaces(self, repository: Repository, copy: Copy) -> None:
        """Raise Failure where replaying the log would write to a tablespace of the live cluster.

        The log names the place where a tablespace was made, and a server that replays that takes the place. What the
        backup has itself is kept away from there.
        """
        done = pgbackrest(self.settings, f"info --set={copy.label}", f"--repo={repository.number}")
        if done.status != 0:
            raise Failure(
                f"The backup {copy.label} cannot be looked at: {why(self.settings, repository, done.reason)}."
            )
        known = re.findall(r"\(([0-9]+)\) => ", done.output)
        for link in (self.live.data_directory / "pg_tblspc").glob("*"):
            if link.name not in known:
                raise Failure(
                    f"The tablespace in {os.readlink(link)} was made after the backup {copy.label}, and replaying the "
                    "log would write to it: back up once more."
                )

    def make(self, repository: Repository, copy: Copy, target: Target, timeline: int, *, pause: bool = False) -> None:
        """Put the files of a backup there, and say how far the log is to be replayed. Raises Failure.

        timeline: which one a time is of. pause: whether the server waits at the target, to be read only, in place of
        going on from there.
        """
        self.remove()
        as_postgres(["mkdir", "--mode=0700", "--", str(self.directory)], f"Making {self.directory}")
        as_postgres(["mkdir", "--mode=0755", "--", str(self.sockets)], f"Making {self.sockets}")
        options = [f"--repo={repository.number}", f"--set={copy.label}", f"--type={target.type}"]
        # Never to where those of the live cluster are.
        options.append(f"--tablespace-map-all={self.tablespaces}")
        if target.value:
            options += [f"--target={target.value}", f"--target-action={'pause' if pause else 'promote'}"]
        if target.type == "time":
            options.append(f"--target-timeline={timeline}")
        done = pgbackrest(self.settings, "restore", *options, data_directory=str(self.directory))
        # pgBackRest keeps files of an sftp server open, until that gives it no more. What is there already counts.
        before = -1
        while done.status != 0 and NO_MORE_FILES in done.errors and before < (there := count_files(self.directory)):
            before = there
            say(f"{there} files are there; the server opens no more for this connection, so the next one goes on.")
            done = pgbackrest(self.settings, "restore", "--delta", *options, data_directory=str(self.directory))
        if done.status != 0:
            reason = why(self.settings, repository, done.reason)
            if DAMAGED in reason:
                verify = f"runuser -u postgres -- pgbackrest --stanza={self.settings.stanza} verify --output=text"
                reason += f"; `{verify}` says which backup has bad files"
            raise Failure(f"The backup {copy.label} of {repository.place} cannot be restored: {reason}.")

    def replay(self, paused: bool = False) -> None:
        """Start the server and wait until it has replayed the log to the target. Raises Failure, or NotReached."""
        self.start()
        state = "pg_get_wal_replay_pause_state() = 'paused'" if paused else "NOT pg_is_in_recovery()"
        query = f"SELECT CASE WHEN {state} THEN 'done' ELSE pg_last_wal_replay_lsn()::text END"
        if paused:
            # After the end of recovery the function of the pause is an error.
            query = f"SELECT CASE WHEN pg_is_in_recovery() THEN ({query[7:]}) ELSE 'over' END"
        told = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise self.complaint()
            try:
                answer = self.server.ask(query)
            except Failure:
                answer = ""
            if answer in ("done", "over"):
                return
            if time.monotonic() > told + PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"The log is being replayed; it is at {answer or 'the files of the backup'}.")
            time.sleep(0.2)

    def start(self) -> None:
        """Start the server."""
        words = {
            **ON_ITS_OWN,
            "config_file": self.live.configuration / "postgresql.conf",
            "data_directory": self.directory,
            "port": self.live.port,
            "unix_socket_directories": self.sockets,
            "cluster_name": self.name,
            **self.sizes(),
        }
        command = [self.live.program("postgres"), *(f"--{name}={value}" for name, value in words.items())]
        with open_log(self.log) as stream:
            self.process = subprocess.Popen(
                [*AS_POSTGRES, *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd="/",
                env=ENVIRONMENT,
            )

    def sizes(self) -> dict[str, int]:
        """Settings that must not be smaller than those of the server that wrote the log."""
        control = self.live.control(self.directory)
        names = {"max_prepared_transactions": "max_prepared_xacts", "max_locks_per_transaction": "max_locks_per_xact"}
        found = {name: int(control[f"{names.get(name, name)} setting"]) for name in BOUND_BY_THE_LOG}
        wanted = ", ".join(f"'{name}'" for name in BOUND_BY_THE_LOG)
        # A live server that does not answer has nothing to add.
        with contextlib.suppress(Failure):
            now = self.live.server.ask(
                f"SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN ({wanted})"
            )
            found = {name: max(value, int(json.loads(now)[name])) for name, value in found.items()}
        return found

    def complaint(self) -> Failure:
        """Why the server has ended."""
        if self.process.returncode < 0:
            return Failure(f"The server of the copy was killed by signal {-self.process.returncode}.")
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        fatal = [line.partition(":")[2].strip() for line in said if re.match(r"(?:FATAL|PANIC):", line)]
        reason = fatal[-1] if fatal else f"exit status {self.process.returncode}"
        if reason in TOO_EARLY:
            last = re.findall(r"last completed transaction was at log time ([^\n]+)", "\n".join(said))
            return NotReached(last[-1] if last else "")
        missing = [line for line in said if "unable to find" in line or "could not restore file" in line]
        hint = f" ({missing[-1].strip()})" if missing else ""
        return Failure(f"The server of the copy ended: {reason}{hint}. {self.log} has what it said.")

    def go_on(self) -> None:
        """Have a copy that was paused replay the log to its end. Raises Failure."""
        self.stop()
        path = self.directory / "postgresql.auto.conf"
        as_postgres(["sed", "--in-place", "/^recovery_target/d", str(path)], f"Writing {path}")
        self.replay()

    def forget_recovery(self) -> None:
        """Remove what pgBackRest has told the server for the recovery, which is over. Raises Failure."""
        names = self.server.ask(
            "SELECT coalesce(string_agg(name, ' '), '') FROM pg_file_settings WHERE sourcefile LIKE "
            "'%postgresql.auto.conf' AND (name LIKE 'recovery\\_target%' OR name = 'restore_command')"
        )
        for name in dict.fromkeys(names.split()):
            self.server.ask(f"ALTER SYSTEM RESET {name}")

    def stop(self) -> None:
        """Stop the server in an orderly way. Raises Failure."""
        if self.process and self.process.poll() is None:
            # A fast shutdown: whoever is connected is sent away.
            self.process.send_signal(2)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise Failure(f"The server of the copy in {self.directory} did not stop.") from None
        self.process = None

    def check_structure(self) -> int:
        """Read every table and index. Returns how many databases there are; raises Failure with what is wrong."""
        names = self.server.databases()
        for name in names:
            had = self.server.ask("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'", name) == "1"
            if not had:
                self.server.ask("CREATE EXTENSION amcheck SCHEMA pg_catalog", name)
            where = ["--no-password", f"--host={self.sockets}", f"--port={self.live.port}", name]
            done = subprocess.run(
                [*AS_POSTGRES, self.live.program("pg_amcheck"), *where],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",
                env=ENVIRONMENT,
            )
            if done.returncode != 0:
                said = done.stdout.decode("utf-8", "replace").strip() or f"exit status {done.returncode}"
                raise Failure(f"The copy of the database {name} is damaged: {said.splitlines()[0].rstrip('.:')}.")
            if not had:
                self.server.ask("DROP EXTENSION amcheck", name)
        return len(names)


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Be the only one of this host that does it. Raises Busy."""
    # Only root gets there: anybody else could hold a lock that they can open.
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    with (LOCKS / what).open("a", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"Another {what} is at work; this one was not started.") from error
        yield


def as_postgres(command: list[str], what: str, text: str = "") -> str:
    """Run a command as postgres, which reads the text. Raises Failure."""
    with tempfile.TemporaryFile() as stream:
        stream.write(text.encode())
        stream.seek(0)
        return run([*AS_POSTGRES, *command], f"{what} as postgres", stdin=stream)


def open_log(path: Path):
    """A log that begins anew, readable as those of the server are."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    return os.fdopen(descriptor, "w")


def count_files(directory: Path) -> int:
    """How many files there are in a directory and below it."""
    return sum(len(names) for _folder, _folders, names in os.walk(directory))


def used_megabytes(directory: Path) -> int:
    """Space that a directory takes."""
    total = 0
    for folder, _folders, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total // MEGABYTE


def candidates(settings: Settings, repository: Repository, target: Target) -> list[Copy]:
    """Backups from which a target may be reached, the best first. Raises Failure where there is none."""
    found = copies(settings, repository)
    if not found:
        raise Failure(f"There is no backup in {repository.place}.")
    # After an upgrade of PostgreSQL the server can read only what was made since.
    cluster = max(copy.cluster for copy in found)
    line = lineage(settings, repository, cluster, target.moment)
    found = [copy for copy in found if copy.cluster == cluster and is_part(copy, line)]
    if not found:
        raise Failure(f"There is no backup in {repository.place} that the log of that time follows.")
    fit = [copy for copy in reversed(found) if target.may_hold(copy)]
    if not fit:
        first = utc(found[0].stopped)
        raise Failure(f"{target.value} is not after the first backup in {repository.place}, which ended at {first}.")
    # The newest one before a time is right; of the other targets the time is not known.
    return fit[:1] if target.type in ("default", "time") else fit


def check_end(copy: ClusterCopy, repository: Repository, newest: str) -> None:
    """Raise Failure where the log, replayed to its end, ended before its newest part: one before that is missing.

    newest: its name before the log was replayed; more comes all the time.
    """
    said = copy.log.read_text(encoding="utf-8", errors="replace")
    done = re.findall(r"redo done at ([0-9A-F]+/[0-9A-F]+)", said)
    if newest and done and position(done[-1]) < bounds(newest, copy.live.segment_bytes(copy.directory))[0]:
        last = re.findall(r"last completed transaction was at log time ([^\n]+)", said)
        raise Failure(
            f"The log in {repository.place} has a gap: it goes on to {newest}, and can be replayed to {done[-1]} only. "
            f"The last transaction before that is of {last[-1] if last else 'an unknown time'}; the cluster can be "
            f"brought back as it was then: lsn:{done[-1]}."
        )


def bring_back(copy: ClusterCopy, repository: Repository, target: Target, *, pause: bool = False) -> Copy:
    """Make the copy from the best backup and replay the log. Returns the backup; raises Failure."""
    ended = ""
    for backup in candidates(copy.settings, repository, target):
        copy.check_space(backup)
        copy.check_tablespaces(repository, backup)
        newest = newest_segment(copy.settings, repository, backup.cluster)
        timeline = max(lineage(copy.settings, repository, backup.cluster, target.moment))
        say(f"{backup.label} of {repository.place} is being restored to {copy.directory}.")
        copy.make(repository, backup, target, timeline, pause=pause)
        say(f"The log is being replayed to {target.words}.")
        try:
            copy.replay(paused=pause)
            if target.type == "default":
                check_end(copy, repository, newest)
            return backup
        except NotReached as short:
            ended = str(short)
            copy.remove()
    if target.type == "time" and ended:
        raise Failure(
            f"The log in {repository.place} ends before {target.value}: its last transaction is of {ended}. Name an "
            'earlier time, or "latest".'
        )
    raise Failure(f"The log cannot be replayed to {target.words}: no backup in {repository.place} is followed by that.")
