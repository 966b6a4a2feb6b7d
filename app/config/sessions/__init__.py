"""Sessions that leave the database alone while the site is read-only.

`db` keeps them in the database; `cached_db` too, and reads them from the shared cache. A cache of each process's own
would not do: who signs out in one process would stay signed in at the others.
"""

from typing import Any

from config import read_only


class ReadOnlySessions:
    """Comes before a session store that writes to the database."""

    def save(self, must_create: bool = False) -> None:
        if not read_only.is_active():
            super().save(must_create)

    def delete(self, *arguments: Any) -> None:
        if not read_only.is_active():
            super().delete(*arguments)
