"""Put a copy made by backup_database back. What the database held before is kept if that fails."""

import sys
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from config.direct_database import go_direct
from operations import databases


class Command(BaseCommand):
    help = __doc__
    # A broken database must not stop its own repair.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the copy")
        parser.add_argument("--replace", action="store_true", help="replace the tables that the database has")
        parser.add_argument("--migrate", action="store_true", help="bring its tables up to date, beside if it can be")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"].absolute()
        go_direct(connection)
        name = str(connection.settings_dict["NAME"])
        try:
            databases.verify(file)
            databases.check_origin(file)
            tables = databases.tables(tolerant=options["replace"])
            if tables and not options["replace"]:
                raise CommandError(
                    f"the database {name} has {len(tables)} tables, and nothing was changed: "
                    "say --replace if what they hold may go."
                )
            if not options["yes"]:
                self._confirm(name, len(tables))
            with databases.terminable():
                databases.restore(
                    file, lambda: call_command("migrate", interactive=False) if options["migrate"] else None
                )
        except databases.DatabaseCopyError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{name} holds what was in {file.name}")

    def _confirm(self, name: str, tables: int) -> None:
        if not sys.stdin.isatty():
            raise CommandError("there is nobody to ask, and nothing was changed: say --yes.")
        answer = input(f"Replace {tables} tables of {name}? Type the name of the database: ")
        if answer != name:
            raise CommandError("that is not its name, and nothing was changed.")
