# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules about PostgreSQL share: clusters on disk, statements, passwords."""

from __future__ import annotations

import base64
import glob
import hashlib
import hmac
import json
import os
import re
import secrets

from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, user_id

CONFIGURATION = "/etc/postgresql"
BINARIES = "/usr/lib/postgresql"
SOCKETS = "/var/run/postgresql"
SESSION = "-c search_path=pg_catalog -c default_transaction_read_only=off"
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]

FIRST_USER_OID = 16384
"""Databases that users made have this number or a higher one; their directories are named after it."""

_DATA_DIRECTORY = re.compile(r"^\s*data_directory\s*=\s*'([^']+)'", re.MULTILINE)
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([0-9]+):([^$]+)\$([^:]+):(.+)\Z")


class Cluster:
    """The cluster "main" of a major version, as it lies on disk."""

    def __init__(self, version: str, data_directory: str) -> None:
        self.version = version
        self.data_directory = data_directory

    @property
    def name(self) -> str:
        return f"{self.version}/main"

    @property
    def has_data(self) -> bool:
        """Whether the data directory is there at all."""
        return os.path.isfile(os.path.join(self.data_directory, "PG_VERSION"))

    @property
    def has_databases(self) -> bool:
        """Whether users have made databases, or put them into tablespaces of their own."""
        base = os.path.join(self.data_directory, "base")
        numbers = [int(name) for name in _names(base) if name.isdigit()]
        return any(number >= FIRST_USER_OID for number in numbers) or bool(
            _names(os.path.join(self.data_directory, "pg_tblspc"))
        )


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def clusters(root: str = "/") -> dict[str, Cluster]:
    """The clusters "main" of the host, by version. A configuration whose data is gone counts, as an empty one."""
    found = {}
    for path in glob.glob(os.path.join(root, CONFIGURATION.lstrip("/"), "*", "main", "postgresql.conf")):
        version = path.split("/")[-3]
        with open(path, encoding="utf-8", errors="replace") as stream:
            match = _DATA_DIRECTORY.search(stream.read())
        data = match.group(1) if match else f"/var/lib/postgresql/{version}/main"
        found[version] = Cluster(version, os.path.join(root, data.lstrip("/")))
    return found


def installed_versions(root: str = "/") -> list[str]:
    """Major versions whose server is installed, oldest first."""
    paths = glob.glob(os.path.join(root, BINARIES.lstrip("/"), "*", "bin", "postgres"))
    return sorted((path.split("/")[-3] for path in paths), key=float)


def literal(text: str) -> str:
    """Text as a literal of SQL."""
    if "\0" in text:
        raise Refusal("PostgreSQL takes no text with a zero byte.")
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = 4096) -> str:
    """What PostgreSQL keeps of a password, so that the password itself never reaches the server or its log.

    The password is taken as it is, which for ASCII is what SASLprep makes of it.
    """
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server))
    return "SCRAM-SHA-256$%d:%s$%s:%s" % (iterations, *parts)


def scram_matches(password: str, verifier: str | None) -> bool:
    """Whether `verifier`, as pg_authid has it, was made of `password`."""
    match = _VERIFIER.match(verifier or "")
    if not match:
        return False
    try:
        salt = base64.b64decode(match.group(2), validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(scram_verifier(password, salt, int(match.group(1))), verifier)


class Server:
    """The running server, spoken to by psql as the superuser over the unix socket."""

    def __init__(self, version: str, port: int) -> None:
        self._psql = f"{BINARIES}/{version}/bin/psql"
        self._command = [
            *AS_POSTGRES,
            self._psql,
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--set=VERBOSITY=terse",
            f"--host={SOCKETS}",
            f"--port={port}",
        ]

    def run(self, sql: str, database: str = "postgres") -> str:
        """Run statements and return what they print. They travel on standard input: no process list shows them.

        Functions of the owner of a database are not found, whatever its settings say: the superuser would run them.
        What keeps others from writing does not keep the superuser from it.
        Raises Unreachable where no server runs or none is installed, and Refusal with what the server said.
        """
        if not os.path.exists(self._psql) or user_id("postgres") is None:
            raise Unreachable("PostgreSQL is not installed on the host.")
        command = [*self._command, f"--dbname={database}"]
        code, output, errors = run(command, given=sql, inherited={}, PGOPTIONS=SESSION)
        if code == 2:
            raise Unreachable(f"PostgreSQL cannot be reached: {errors.strip()}")
        if code != 0:
            raise Refusal(f"PostgreSQL refused a statement in {database}: {errors.strip()}")
        return output

    def ask(self, sql: str, database: str = "postgres") -> dict:
        """The answer of one SELECT that makes a JSON object."""
        return json.loads(self.run(sql, database))


class Unreachable(Refusal):
    """There is no server to speak to."""
