"""Load templates from Markdown files: a directory, a git forge, or the library that comes with Forge."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from config import env
from forge.models import RemoteFile, Source
from forge.sync import SyncError, apply, documents, remote

LIBRARY = Path(__file__).resolve().parents[2] / "templates_library"


class Command(BaseCommand):
    help = "Load templates from a directory or a git forge; the environment names it. All of them, or none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("directory", nargs="?", default="", help="instead of what the environment names")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found, source, files = self._read(options["directory"])
            changes = apply.apply(found, source, files, options["dry_run"])
        except SyncError as error:
            raise CommandError(str(error)) from None
        for verb, slug in changes:
            if verb != "unchanged":
                self.stdout.write(f"{verb} {slug}")
        self.stdout.write(f"{'Would be: ' if options['dry_run'] else ''}{apply.summary(changes)}.")

    @staticmethod
    def _read(argument: str) -> tuple[list[documents.Document], Source, list[RemoteFile]]:
        """Read what the argument names, else what the environment names, else the library."""
        if argument:
            return documents.read_directory(Path(argument)), Source.DIRECTORY, []
        directory, forge = env.text("FORGE_TEMPLATES_DIRECTORY", ""), remote.from_environment()
        if directory and forge:
            raise ImproperlyConfigured(
                "FORGE_TEMPLATES_DIRECTORY and FORGE_SYNC_REPOSITORY are both set: keep the one to load from."
            )
        if forge:
            found, files = remote.read_forge(forge)
            return found, Source.GIT, files
        if directory:
            return documents.read_directory(Path(directory)), Source.DIRECTORY, []
        return documents.read_directory(LIBRARY), Source.LIBRARY, []
