"""Django's migrate, with limits that fit a migration instead of a page."""

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from config.direct_database import go_direct

LOCK_TIMEOUT_SECONDS = 10


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        connection = connections[options["database"]]
        if connection.vendor == "postgresql":
            go_direct(connection)
            with connection.cursor() as cursor:
                # Filling a column may take minutes. Waiting for a lock must not: every page would queue behind it.
                cursor.execute("SET statement_timeout = 0")
                cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        return super().handle(*args, **options)
