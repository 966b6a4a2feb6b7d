"""Write a verified copy of the database."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from config.direct_database import go_direct
from operations import databases


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", nargs="?", help="what to write (default: <app>_YYYYMMDD_HHMMSS below BACKUP_DIRECTORY)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        go_direct(connection)
        try:
            name = options["file"] or Path(settings.BACKUP_DIRECTORY) / databases.file_name(settings.APP_NAME)
            target = Path(name).absolute()
            with databases.terminable():
                databases.backup(target)
        except databases.DatabaseCopyError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{target}: {target.stat().st_size} bytes, verified")
