#!/usr/bin/python3
# Managed by Ansible (groundwork.django.postgres). Changes made here are overwritten.
"""Care for all databases of the host's PostgreSQL server.

    database_care.py vacuum     clean up the tables that need it: dead rows, old transactions, stale statistics
    database_care.py reindex    rebuild the bloated B-tree indexes, and drop what an interrupted rebuild has left
    database_care.py report     write a report, and metrics: unused and bloated indexes, slow queries, age

Settings are /etc/groundwork/database_care.conf. The site comes first: a statement waits for a lock for some seconds
only, and ends as soon as somebody waits for it; what was left is done the next time. Exit status: 0 done, 1 failed, 75
another run is at work. A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SETTINGS = "/etc/groundwork/database_care.conf"
DIRECTORY = Path("/var/lib/groundwork/database_care")
SOCKETS = "/var/run/postgresql"
AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
APPLICATION = f"groundwork-database-care-{os.getpid()}"
WATCH_SECONDS = 1
MEGABYTE = 1024 * 1024
RESERVE_MEGABYTES = 512
BUSY = 75

DEAD_ROWS_COUNT = 1000
"""Fewer dead rows are not worth a VACUUM, whatever their share."""
FRESH_STATISTICS = 0.2
"""Up to this share of changed rows the server's count of the rows of an index is believed."""
BLOCK, PAGE_OVERHEAD, TUPLE_OVERHEAD, FANOUT = 8192, 40, 12, 150
"""Bytes of a page, of its head and end, and of an entry beside its values; entries of an inner page."""
WRAPAROUND = 2_000_000_000
LISTED = 20
QUERY_LENGTH = 300
LOCK_NOT_AVAILABLE, CANCELED = "55P03", "57014"
GONE = ("42P01", "42704", "3D000", "3F000")
"""SQLSTATE: the table, index, database or schema was dropped meanwhile."""

METRICS = {
    "groundwork_database_care_last_success_timestamp_seconds": "When the care for the databases last succeeded.",
    "groundwork_database_care_duration_seconds": "How long it took.",
    "groundwork_database_care_left": "Tables or indexes that were left for the next time.",
    "groundwork_database_size_bytes": "Size of the database.",
    "groundwork_database_transaction_age": "Transactions since the oldest row that is not frozen.",
    "groundwork_database_dead_rows": "Rows that are dead and still take space.",
    "groundwork_database_unused_index_bytes": "Size of the indexes that no query has used.",
    "groundwork_database_bloated_index_bytes": "What the indexes would shrink by if they were rebuilt, as an estimate.",
    "groundwork_database_invalid_indexes": "Indexes that are invalid, and cost writes without being of use.",
}
"""What the metrics are."""

DATABASES = """
SELECT json_agg(json_build_object('name', datname, 'bytes', pg_database_size(oid), 'age', age(datfrozenxid),
    'multixact_age', mxid_age(datminmxid)) ORDER BY datname)
FROM pg_database WHERE datallowconn AND NOT datistemplate
"""

TABLES = """
SELECT json_agg(found) FROM (
  SELECT format('%I.%I', n.nspname, c.relname) AS name, n.nspname = 'pg_catalog' AS of_server, c.relpages AS pages,
    coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead,
    coalesce(s.n_mod_since_analyze, 0) AS modified,
    extract(epoch FROM now() - greatest(s.last_analyze, s.last_autoanalyze)) AS analyzed_seconds,
    greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS age,
    greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) AS multixact_age,
    EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p') AS has_primary_key
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
  WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_toast', 'information_schema')
    AND (NOT c.relisshared OR current_database() = 'postgres')) AS found
"""

# What an entry takes: each value rounded up as the server stores it, and less of it where values are null. A short
# value of variable length is not rounded. Without statistics of such a column nothing is known.
INDEXES = """
SELECT json_agg(found) FROM (
  SELECT format('%I.%I', n.nspname, i.relname) AS name, i.relname AS bare_name, x.indrelid::regclass::text AS "table",
    a.amname = 'btree' AND NOT x.indisexclusion AS is_btree, x.indisvalid AS is_valid,
    x.indisunique OR x.indisexclusion OR EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid) AS is_constraint,
    coalesce(s.idx_scan, 0) AS scans, pg_relation_size(i.oid) AS bytes, i.reltuples AS rows,
    coalesce(substring(array_to_string(i.reloptions, ',') FROM 'fillfactor=([0-9]+)')::int, 90) AS fillfactor,
    ts.n_mod_since_analyze AS modified, greatest(ts.last_analyze, ts.last_autoanalyze) IS NOT NULL AS is_analyzed,
    EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = x.indrelid AND p.datname = current_database())
      AS is_at_work,
    coalesce(
      nullif(pg_tablespace_location(coalesce(nullif(i.reltablespace, 0), d.dattablespace)), ''),
      current_setting('data_directory')) AS place,
    (SELECT CASE WHEN bool_and(k.attlen > 0 OR w.stawidth IS NOT NULL) THEN
        sum((1 - coalesce(w.stanullfrac, 0)) * CASE
          WHEN k.attlen > 0 THEN ceil(k.attlen / l.bytes::numeric) * l.bytes
          WHEN w.stawidth < 127 THEN w.stawidth
          ELSE ceil(w.stawidth / 4.0) * 4 END)
        + 8 * max(coalesce(w.stanullfrac, 0)) END
      FROM pg_attribute k
      CROSS JOIN LATERAL (SELECT x.indkey[k.attnum - 1] AS number) AS c
      CROSS JOIN LATERAL (SELECT CASE k.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END AS bytes)
        AS l
      LEFT JOIN pg_statistic w ON NOT w.stainherit
        AND w.starelid = CASE c.number WHEN 0 THEN i.oid ELSE x.indrelid END
        AND w.staattnum = CASE c.number WHEN 0 THEN k.attnum ELSE c.number END
      WHERE k.attrelid = i.oid AND k.attnum > 0) AS value_bytes
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace
  JOIN pg_am a ON a.oid = i.relam
  JOIN pg_database d ON d.datname = current_database()
  LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = i.oid
  LEFT JOIN pg_stat_all_tables ts ON ts.relid = x.indrelid
  WHERE i.relkind = 'i' AND i.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
  AS found
"""

# Exact, but it reads the whole index; there where somebody has installed the extension.
MEASURED_BLOAT = """
SELECT to_json(greatest(0,
  1 - leaf_pages * avg_leaf_density / (leaf_pages + empty_pages + deleted_pages) / {fillfactor}))
FROM {schema}.pgstatindex({index}::regclass) WHERE leaf_pages > 0
"""

EXTENSION_SCHEMA = """
SELECT to_json(quote_ident(n.nspname)) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = '{name}'
"""

OLDEST_TRANSACTION = """
SELECT to_json(coalesce(max(extract(epoch FROM now() - xact_start)), 0)) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

# pg_cancel_backend ends the statement, not the connection.
CANCEL = """
SELECT to_json(count(pg_cancel_backend(own.pid))) FROM pg_stat_activity own
WHERE own.application_name = '{application}' AND own.pid <> pg_backend_pid()
"""
CANCEL_IF_WAITED_FOR = (
    CANCEL
    + """
  AND EXISTS (
    SELECT FROM pg_stat_activity other
    WHERE other.wait_event_type = 'Lock' AND own.pid = ANY (pg_blocking_pids(other.pid)))
"""
)

STATEMENTS = """
SELECT json_agg(found) FROM (
  SELECT d.datname AS database, s.calls, s.total_exec_time AS total, s.mean_exec_time AS mean, s.query
  FROM {schema}.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid
  WHERE NOT r.rolsuper ORDER BY s.total_exec_time DESC LIMIT 200) AS found
"""

COUNTED_SINCE = """
SELECT to_json(coalesce(to_char(stats_reset AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), ''))
FROM pg_stat_database WHERE datname = current_database()
"""

_LITERALS = re.compile(
    r"""(?P<comment>/\*.*?(?:\*/|\Z)|--[^\n]*)"""
    r"""|(?P<text>\$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z)|[EeNnBbXx]?'(?:[^'\\]|''|\\.)*(?:'|\Z))"""
    r"""|(?P<keep>"(?:[^"]|"")*"|\$[0-9]+|[^\W\d]\w*)"""
    r"""|(?P<number>[0-9][\w.]*)""",
    re.DOTALL,
)
_QUERY = re.compile(r"[\s(]*(?:select|insert|update|delete|merge|with|values)\b", re.IGNORECASE)
_LEFT_BEHIND = re.compile(r"_cc(?:new|old)[0-9]*\Z")
_ERROR = re.compile(r"^[A-Z]+: +([0-9A-Z]{5}): (.+)$", re.MULTILINE)


class Failure(Exception):
    """Why something was not done, as one sentence."""

    status = 1


class Busy(Failure):
    """Another run is at work."""

    status = BUSY


class Refused(Failure):
    """The server refused a statement; `state` is its SQLSTATE, empty where there is no server."""

    def __init__(self, sentence: str, state: str = "") -> None:
        super().__init__(sentence)
        self.state = state


@dataclass(frozen=True)
class Settings:
    """What the role has written."""

    port: int
    minutes: int
    lock_timeout_seconds: int
    dead_rows_percent: int
    transaction_age_count: int
    statistics_days: int
    index_bloat_percent: int
    index_minimum_megabytes: int
    metrics_directory: Path

    @classmethod
    def load(cls, path: str = SETTINGS) -> Settings:
        """Read the settings. Raises Failure where the file is missing or not complete."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with open(path, encoding="utf-8") as stream:
                parser.read_file(stream)
            section = parser["care"]
            numbers = {name: int(section[name]) for name in cls.__annotations__ if name != "metrics_directory"}
            return cls(metrics_directory=Path(section["metrics_directory"]), **numbers)
        except (OSError, KeyError, ValueError, configparser.Error) as error:
            raise Failure(f"The settings {path} cannot be read: {error}.") from error


def literal(text: str) -> str:
    """Text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


class Server:
    """The server, spoken to by psql as the superuser over the unix socket."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def _start(self, sql: str, database: str) -> subprocess.Popen[bytes]:
        """Begin one statement. What the owner of a database has put into its schemas or settings is not looked at."""
        options = {
            "lock_timeout": f"{self.settings.lock_timeout_seconds}s",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "search_path": "pg_catalog",
            "lc_messages": "C",
            # The priority of this process is not that of the server's: it has to go slowly by itself.
            "vacuum_cost_delay": "2ms",
            "max_parallel_workers_per_gather": "0",
            "max_parallel_maintenance_workers": "0",
        }
        command = [
            *(*AS_POSTGRES, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password"),
            *("--set=VERBOSITY=verbose", f"--host={SOCKETS}", f"--port={self.settings.port}", f"--command={sql}"),
        ]
        environment = {
            **ENVIRONMENT,
            "PGDATABASE": database,
            "PGAPPNAME": APPLICATION,
            "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in options.items()),
        }
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment,
            )
        except OSError as error:
            raise Refused(f"psql cannot be started: {error}.") from error

    def _end(self, process: subprocess.Popen[bytes], output: bytes, errors: bytes, database: str) -> str:
        """What the statement printed. Raises Refused."""
        if process.returncode:
            said = errors.decode("utf-8", "replace").strip()
            found = _ERROR.search(said)
            state, reason = found.groups() if found else ("", (said.splitlines() or ["it did not say why"])[0])
            raise Refused(f"PostgreSQL refused a statement in {database}: {reason.rstrip('.')}.", state)
        return output.decode("utf-8", "replace")

    def ask(self, sql: str, database: str = "postgres") -> object:
        """The answer of a SELECT of one JSON value; None where there is no row."""
        process = self._start(sql, database)
        answer = self._end(process, *process.communicate(), database).strip()
        return json.loads(answer) if answer else None

    def do(self, sql: str, database: str) -> None:
        """Run a statement that may take long, and end it as soon as somebody waits for it. Raises Refused."""
        process = self._start(sql, database)
        try:
            while True:
                try:
                    self._end(process, *process.communicate(timeout=WATCH_SECONDS), database)
                    return
                except subprocess.TimeoutExpired:
                    self.ask(CANCEL_IF_WAITED_FOR.format(application=APPLICATION))
        except Failure:
            # The server would go on with the statement of a psql that is gone.
            if process.poll() is None:
                self.ask(CANCEL.format(application=APPLICATION))
                process.communicate()
            raise

    def do_or_leave(self, sql: str, database: str, what: str) -> str:
        """Run a statement. Returns why it was left for the next time, or nothing; raises Refused for all else."""
        try:
            self.do(sql, database)
        except Refused as refused:
            if refused.state == LOCK_NOT_AVAILABLE:
                return f"{what} is locked"
            if refused.state == CANCELED:
                return f"somebody waited for {what}"
            if refused.state not in GONE:
                raise Refused(f"{what} in {database}: {refused}", refused.state) from refused
        return ""


@dataclass
class Work:
    """What a run has come to."""

    deadline: float
    done: list[str]
    left: list[str]
    failures: list[str]

    @classmethod
    def begin(cls, settings: Settings) -> Work:
        return cls(time.monotonic() + settings.minutes * 60, [], [], [])

    def is_time_over(self) -> bool:
        """Whether nothing more shall be begun."""
        return time.monotonic() > self.deadline

    def sentence(self, verb: str) -> str:
        """What to tell. Raises Failure where something failed."""
        left = f"; {len(self.left)} left for the next time: {', '.join(self.left)}" if self.left else ""
        told = f"{len(self.done)} {verb}{': ' + ', '.join(self.done) if self.done else ''}{left}."
        if self.failures:
            raise Failure(f"{' '.join(self.failures)} {told}")
        return told


def is_standby(server: Server) -> bool:
    """Whether the server only follows another one, where nothing can be cleaned up."""
    return bool(server.ask("SELECT to_json(pg_is_in_recovery())"))


def databases(server: Server) -> list[dict]:
    """All databases that one can connect to, but templates."""
    return server.ask(DATABASES) or []


# vacuum


def vacuum_statement(table: dict, settings: Settings) -> tuple[str, str] | None:
    """The statement that a table needs and why, or nothing. It never takes the lock that shortens the file."""
    if max(table["age"], table["multixact_age"]) >= settings.transaction_age_count:
        return "VACUUM (FREEZE, ANALYZE, TRUNCATE false, PARALLEL 0)", "old transactions"
    dead, rows = table["dead"], table["live"] + table["dead"]
    if dead >= DEAD_ROWS_COUNT and dead * 100 >= settings.dead_rows_percent * rows:
        return "VACUUM (ANALYZE, TRUNCATE false, PARALLEL 0)", f"{dead} of {rows} rows dead"
    if table["of_server"]:
        return None
    if table["analyzed_seconds"] is None:
        return ("ANALYZE", "no statistics") if table["modified"] or table["pages"] else None
    if table["modified"] and table["analyzed_seconds"] >= settings.statistics_days * 86400:
        return "ANALYZE", "old statistics"
    return None


def urgency(table: dict) -> tuple[int, int]:
    """What comes first: old transactions, in steps of ten million, then dead rows."""
    return max(table["age"], table["multixact_age"]) // 10_000_000, table["dead"]


def command_vacuum(server: Server) -> tuple[str, dict[str, float]]:
    """Clean up what needs it. Returns what to tell, and metrics."""
    if is_standby(server):
        return "This server follows another one, which is where tables are cleaned up.", {}
    work = Work.begin(server.settings)
    for database in databases(server):
        name = database["name"]
        try:
            for table in sorted(server.ask(TABLES, name) or [], key=urgency, reverse=True):
                if not (needed := vacuum_statement(table, server.settings)):
                    continue
                what = f"{name} {table['name']}"
                if work.is_time_over():
                    work.left.append(f"{what} (the time is over)")
                    continue
                statement, why = needed
                try:
                    left = server.do_or_leave(f"{statement} {table['name']}", name, table["name"])
                except Refused as refused:
                    work.failures.append(str(refused))
                    continue
                if left:
                    work.left.append(f"{what} ({left})")
                else:
                    work.done.append(f"{what} ({why})")
        except Refused as refused:
            work.failures.append(str(refused))
    return work.sentence("cleaned up"), {"groundwork_database_care_left": len(work.left)}


# reindex


def full_size(rows: float, value_bytes: float, fillfactor: int) -> int:
    """Bytes of a B-tree index that was just built: an upper bound, since equal values are kept once."""
    entry = math.ceil((value_bytes + TUPLE_OVERHEAD - 4) / 8) * 8 + 4
    leaves = math.ceil(rows / max(1.0, (BLOCK - PAGE_OVERHEAD) * fillfactor / 100 / entry))
    return (1 + leaves + math.ceil(leaves / FANOUT)) * BLOCK


def estimated_bloat(index: dict, bytes_per_row: float | None) -> float | None:
    """Which part of an index could be had back by building it anew, from 0 to 1; None where nothing is known.

    bytes_per_row: what an earlier rebuild has come to, which is worth more than an estimate.
    """
    rows = index["rows"]
    if not index["is_analyzed"] or rows < 0 or index["modified"] > FRESH_STATISTICS * rows + DEAD_ROWS_COUNT:
        return None
    if bytes_per_row is not None:
        wanted = bytes_per_row * rows + BLOCK
    elif index["value_bytes"] is not None:
        wanted = full_size(rows, index["value_bytes"], index["fillfactor"])
    else:
        return None
    return max(0.0, 1 - wanted / index["bytes"]) if index["bytes"] else None


class Rebuilt:
    """What a row took in an index just after it was rebuilt, by database and index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.known = {str(key): float(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            self.known = {}

    def get(self, database: str, index: dict) -> float | None:
        return self.known.get(f"{database} {index['name']}")

    def remember(self, database: str, index: dict) -> None:
        """Note an index as it is now. One with few rows says nothing about what a row takes."""
        if index["rows"] >= DEAD_ROWS_COUNT:
            self.known[f"{database} {index['name']}"] = index["bytes"] / index["rows"]
            write(self.path, json.dumps(self.known, indent=1) + "\n", 0o600)


def bloat_of(server: Server, database: str, index: dict, rebuilt: Rebuilt, measuring: str | None) -> float | None:
    """Bloat of an index: measured where the extension is there (`measuring`, its schema), else estimated."""
    if measuring:
        return server.ask(
            MEASURED_BLOAT.format(schema=measuring, index=literal(index["name"]), fillfactor=index["fillfactor"]),
            database,
        )
    return estimated_bloat(index, rebuilt.get(database, index))


def bloated(server: Server, database: str, indexes: list[dict], rebuilt: Rebuilt) -> list[tuple[dict, float]]:
    """The indexes that are worth a rebuild, with their bloat; those that give back most come first."""
    measuring = server.ask(EXTENSION_SCHEMA.format(name="pgstattuple"), database)
    least = server.settings.index_minimum_megabytes * MEGABYTE
    found = []
    for index in indexes:
        if index["is_btree"] and index["is_valid"] and index["bytes"] >= least:
            bloat = bloat_of(server, database, index, rebuilt, measuring)
            if bloat is not None and bloat * 100 >= server.settings.index_bloat_percent:
                found.append((index, bloat))
    return sorted(found, key=lambda pair: pair[0]["bytes"] * pair[1], reverse=True)


def is_left_behind(index: dict) -> bool:
    """Whether an index is what an interrupted REINDEX CONCURRENTLY has left, which nobody is at work on."""
    return not index["is_valid"] and not index["is_at_work"] and bool(_LEFT_BEHIND.search(index["bare_name"]))


def obstacle(server: Server, database: str, index: dict) -> str:
    """Why an index should not be rebuilt now, or nothing."""
    oldest = server.ask(OLDEST_TRANSACTION, database)
    if oldest > server.settings.lock_timeout_seconds:
        return f"a transaction is open for {oldest:.0f} s"
    try:
        free = shutil.disk_usage(index["place"]).free
    except OSError as error:
        return f"the space in {index['place']} is not known: {error}"
    if free < index["bytes"] + RESERVE_MEGABYTES * MEGABYTE:
        return f"{free // MEGABYTE} MB are free in {index['place']}"
    return ""


def drop_left_behind(server: Server, database: str, work: Work) -> None:
    """Drop what interrupted rebuilds have left, that of this run too."""
    for index in server.ask(INDEXES, database) or []:
        if is_left_behind(index):
            left = server.do_or_leave(f"DROP INDEX CONCURRENTLY {index['name']}", database, index["name"])
            if left:
                work.left.append(f"{database} {index['name']} ({left})")
            else:
                work.done.append(f"{database} {index['name']} (an interrupted rebuild, dropped)")


def rebuild(server: Server, database: str, index: dict, rebuilt: Rebuilt, work: Work) -> None:
    """Rebuild one index beside the old one, or note why not."""
    what = f"{database} {index['name']}"
    why = "the time is over" if work.is_time_over() else obstacle(server, database, index)
    why = why or server.do_or_leave(f"REINDEX INDEX CONCURRENTLY {index['name']}", database, index["name"])
    if why:
        work.left.append(f"{what} ({why})")
        return
    for new in server.ask(INDEXES, database) or []:
        if new["name"] == index["name"]:
            rebuilt.remember(database, new)
            work.done.append(f"{what} ({index['bytes'] / MEGABYTE:.1f} MB, now {new['bytes'] / MEGABYTE:.1f} MB)")


def command_reindex(server: Server) -> tuple[str, dict[str, float]]:
    """Rebuild what is bloated. Returns what to tell, and metrics."""
    if is_standby(server):
        return "This server follows another one, which is where indexes are rebuilt.", {}
    work = Work.begin(server.settings)
    rebuilt = Rebuilt(DIRECTORY / "rebuilt.json")
    for database in databases(server):
        name = database["name"]
        try:
            drop_left_behind(server, name, work)
            for index, _bloat in bloated(server, name, server.ask(INDEXES, name) or [], rebuilt):
                try:
                    rebuild(server, name, index, rebuilt, work)
                except Refused as refused:
                    work.failures.append(str(refused))
            drop_left_behind(server, name, work)
        except Refused as refused:
            work.failures.append(str(refused))
    return work.sentence("rebuilt or dropped"), {"groundwork_database_care_left": len(work.left)}


# report


def without_values(query: str) -> str:
    """A query without its comments and whatever is left of values in it, on one line, cut to a length.

    The server has put $1 for values already, but not in all queries; comments may carry values too.
    """

    def replaced(match: re.Match[str]) -> str:
        if match["comment"]:
            return " "
        return match[0] if match["keep"] else "?"

    line = " ".join(_LITERALS.sub(replaced, query).split())
    return line if len(line) <= QUERY_LENGTH else line[:QUERY_LENGTH] + " ..."


def slowest(statements: list[dict]) -> list[dict]:
    """The first of the statements that read or write rows. Others, such as one that sets a password, are not shown."""
    shown = [{**item, "query": without_values(item["query"])} for item in statements]
    return [item for item in shown if _QUERY.match(item["query"])][:LISTED]


def statement_lines(server: Server) -> list[str]:
    """The part of the report about queries."""
    if "pg_stat_statements" not in str(server.ask("SELECT to_json(current_setting('shared_preload_libraries'))")):
        return ["Queries are not counted: pg_stat_statements is not among postgres_preload_libraries."]
    if not is_standby(server):
        server.ask("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public")
    schema = server.ask(EXTENSION_SCHEMA.format(name="pg_stat_statements"))
    if not schema:
        return ["Queries are not counted: the extension pg_stat_statements is not in the database postgres."]
    lines = ["Slowest queries, by the time of all their calls:"]
    for item in slowest(server.ask(STATEMENTS.format(schema=schema)) or []):
        lines += [
            f"  {item['total'] / 1000:10.1f} s = {item['calls']} x {item['mean']:.1f} ms  {item['database']}",
            f"      {item['query']}",
        ]
    return lines if len(lines) > 1 else ["No query has been counted yet."]


def listed(heading: str, lines: list[str], otherwise: str) -> list[str]:
    """A list with its heading, cut to a length."""
    if not lines:
        return [otherwise]
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [heading, *(f"  {line}" for line in lines[:LISTED]), *more]


def is_unused(index: dict) -> bool:
    """Whether an index is there for queries only, and no query has used it."""
    return index["is_valid"] and not index["is_constraint"] and not index["scans"]


def in_megabytes(index: dict) -> str:
    return f"{index['bytes'] / MEGABYTE:10.1f} MB  {index['name']}"


def database_lines(server: Server, database: dict, rebuilt: Rebuilt) -> tuple[list[str], dict[str, float]]:
    """The part of the report about one database, and its metrics."""
    name = database["name"]
    tables = [table for table in server.ask(TABLES, name) or [] if not table["of_server"]]
    indexes = sorted(server.ask(INDEXES, name) or [], key=lambda index: index["bytes"], reverse=True)
    unused = [index for index in indexes if is_unused(index)]
    invalid = [index for index in indexes if not index["is_valid"] and not index["is_at_work"]]
    trees = [index for index in indexes if index["is_btree"] and index["is_valid"]]
    bloat = {index["name"]: estimated_bloat(index, rebuilt.get(name, index)) or 0.0 for index in trees}
    large = [
        f"{in_megabytes(index)}, {bloat[index['name']] * 100:.0f} % of it"
        for index in indexes
        if index["bytes"] >= server.settings.index_minimum_megabytes * MEGABYTE
        and bloat.get(index["name"], 0) * 100 >= server.settings.index_bloat_percent
    ]
    since = server.ask(COUNTED_SINCE, name)
    counted = f"counted since {since} UTC" if since else "counted since the database was made"
    age = max(database["age"], database["multixact_age"])
    dead = sorted((table for table in tables if table["dead"] >= DEAD_ROWS_COUNT), key=lambda table: -table["dead"])
    lines = [
        f"{name}: {database['bytes'] / MEGABYTE:.1f} MB",
        f"Transactions since the oldest row that is not frozen: {age}, {age * 100 // WRAPAROUND} % of the limit.",
        *listed(
            f"Unused indexes, {counted} (one on a foreign key may still be of use when rows it points to are deleted):",
            [f"{in_megabytes(index)} on {index['table']}" for index in unused],
            f"Every index has been used, {counted}.",
        ),
        *listed("Bloated indexes, which the next rebuild takes up:", large, "No index is bloated."),
        *listed(
            "Invalid indexes, which cost writes and are of no use:",
            [in_megabytes(index) for index in invalid],
            "No index is invalid.",
        ),
        *listed(
            "Tables with dead rows:",
            [f"{table['dead']:10d} of {table['live'] + table['dead']}  {table['name']}" for table in dead],
            "No table has many dead rows.",
        ),
        *listed(
            "Tables without a primary key:",
            sorted(table["name"] for table in tables if not table["has_primary_key"]),
            "Every table has a primary key.",
        ),
    ]
    values = {
        "size_bytes": database["bytes"],
        "transaction_age": age,
        "dead_rows": sum(table["dead"] for table in tables),
        "unused_index_bytes": sum(index["bytes"] for index in unused),
        "bloated_index_bytes": round(sum(index["bytes"] * bloat.get(index["name"], 0) for index in indexes)),
        "invalid_indexes": len(invalid),
    }
    label = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return lines, {f'groundwork_database_{key}{{database="{label}"}}': value for key, value in values.items()}


def command_report(server: Server) -> tuple[str, dict[str, float]]:
    """Write the report. Returns what to tell, and metrics."""
    rebuilt = Rebuilt(DIRECTORY / "rebuilt.json")
    version = server.ask("SELECT to_json(current_setting('server_version'))")
    parts = [[f"PostgreSQL {version}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"]]
    metrics: dict[str, float] = {}
    failures = []
    for database in databases(server):
        try:
            lines, values = database_lines(server, database, rebuilt)
        except Refused as refused:
            failures.append(str(refused))
            lines, values = [f"{database['name']}: {refused}"], {}
        parts.append(lines)
        metrics |= values
    try:
        parts.append(statement_lines(server))
    except Refused as refused:
        failures.append(str(refused))
    path = DIRECTORY / "report.txt"
    write(path, "\n\n".join("\n".join(lines) for lines in parts) + "\n", 0o600)
    if failures:
        raise Failure(f"The report {path} is not complete. {' '.join(failures)}")
    return f"{path} tells about {len(parts) - 2} databases and the slowest queries.", metrics


# what the commands share


def write(path: Path, text: str, mode: int) -> None:
    """Write a file, whole or not at all, after a power cut too. Raises Failure."""
    aside = path.with_name(f"{path.name}.new")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.chmod(mode)
        aside.replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error}.") from error


def metrics_text(values: dict[str, float]) -> str:
    """Metrics in the format of the node exporter's textfile collector."""
    lines, known = [], set()
    for name, value in sorted(values.items()):
        bare = name.partition("{")[0]
        if bare not in known:
            known.add(bare)
            lines += [f"# HELP {bare} {METRICS[bare]}", f"# TYPE {bare} gauge"]
        lines.append(f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def locked(command: str) -> Iterator[None]:
    """Be the only run; a report may be made while tables are cared for. Raises Busy where another one is at work."""
    try:
        DIRECTORY.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = (DIRECTORY / (".report.lock" if command == "report" else ".lock")).open("a")
    except OSError as error:
        raise Failure(f"The directory {DIRECTORY} cannot be used: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"Another run is at work on the databases; this {command} was not started.") from error
        yield


COMMANDS = {"vacuum": command_vacuum, "reindex": command_reindex, "report": command_report}


def carry_out(command: str, settings: Settings) -> str:
    """Do the work of a command and write its metrics. Returns what to tell."""
    started = time.time()
    with locked(command):
        told, values = COMMANDS[command](Server(settings))
        ended = time.time()
        care = {
            "groundwork_database_care_last_success_timestamp_seconds": ended,
            "groundwork_database_care_duration_seconds": ended - started,
            **{name: value for name, value in values.items() if "{" not in name},
        }
        labelled = {f'{name}{{command="{command}"}}': value for name, value in care.items()}
        of_databases = {name: value for name, value in values.items() if "{" in name}
        path = settings.metrics_directory / f"groundwork_database_{command}.prom"
        write(path, metrics_text({**labelled, **of_databases}), 0o644)
    return told


def interrupted(number: int, _frame: object) -> None:
    """Leave by an exception, so that the server does not go on with a statement."""
    raise Failure(f"It was ended by {signal.Signals(number).name}.")


def main() -> int:
    parser = argparse.ArgumentParser(description="Care for all databases of the host's PostgreSQL server.")
    parser.add_argument("command", choices=tuple(COMMANDS))
    arguments = parser.parse_args()
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    try:
        print(carry_out(arguments.command, Settings.load()))
    except Failure as failure:
        # The prefix makes it an error in the journal.
        print(("<3>" if "JOURNAL_STREAM" in os.environ else "") + str(failure), file=sys.stderr)
        return failure.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
