# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""A PostgreSQL server of this host, asked over its unix socket as postgres."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

# Root must not leave compiled files here.
sys.dont_write_bytecode = True
from backup import AS_POSTGRES, SOCKETS, run  # noqa: E402

COUNT_TIMEOUT_SECONDS = 1800
LOCK_TIMEOUT_SECONDS = 60
COUNT_ROWS = """
SELECT coalesce(json_object_agg(
    format('%s.%s', n.nspname, c.relname),
    (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I.%I', n.nspname, c.relname),
        false, true, '')))[1]::text::bigint), '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""
"""Rows of the tables of a database. One that is not logged is empty after a restore, so it is left out."""


@dataclass(frozen=True)
class Server:
    """A server: the port that names its socket, and the directory of that."""

    port: int
    sockets: str = SOCKETS

    def ask(self, sql: str, database: str = "postgres") -> str:
        """Answer of the last one of some statements. Raises Failure."""
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password", f"--host={self.sockets}"]
        command = [*AS_POSTGRES, "psql", *options, f"--port={self.port}", f"--dbname={database}", f"--command={sql}"]
        return run(command, "Asking the server").strip()

    def databases(self) -> list[str]:
        """Names of the databases that can be entered, but the templates. Raises Failure."""
        names = "SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate"
        return json.loads(self.ask(names))

    def count_rows(self) -> dict[str, int]:
        """Rows of each table, by names such as `forge.public.parts`. Raises Failure."""
        patience = f"SET statement_timeout = '{COUNT_TIMEOUT_SECONDS}s'; SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'; "
        found = {}
        for database in self.databases():
            for name, rows in json.loads(self.ask(patience + COUNT_ROWS, database)).items():
                found[f"{database}.{name}"] = rows
        return found
