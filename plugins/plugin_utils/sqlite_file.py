# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file on the controller is a whole database of SQLite, before it travels to a host."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

HEADER = b"SQLite format 3\0"
LEFT_OVER = ("-wal", "-journal")
"""Endings of files in which SQLite keeps what is not in the database yet."""


class FileError(Exception):
    """Why a file cannot be imported, as one sentence."""


def checked(path: str) -> str:
    """The full path of a database. Raises FileError."""
    if not path:
        raise FileError("There is no file to import: name it with -e import_sqlite_file=<path>.")
    path = os.path.abspath(os.path.expanduser(path))
    try:
        with open(path, "rb") as stream:
            head = stream.read(len(HEADER))
    except OSError as error:
        raise FileError(f"The file {path} cannot be read: {error.strerror}.") from error
    if head != HEADER:
        raise FileError(f"The file {path} is not a database of SQLite.")
    for ending in LEFT_OVER:
        if os.path.exists(path + ending) and os.path.getsize(path + ending):
            raise FileError(
                f"The database {path} is in use, or was not closed ({os.path.basename(path)}{ending} is beside it): "
                "stop what writes to it, or import a copy made with sqlite3's .backup."
            )
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)
        try:
            [found] = connection.execute("PRAGMA integrity_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise FileError(f"The database {path} is damaged: {found}.")
    return path
