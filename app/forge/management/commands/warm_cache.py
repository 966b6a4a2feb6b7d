"""Count the templates for the lists before the first visitor has to wait for it."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from forge import library

PRIVATE = ("locmem.LocMemCache", "dummy.DummyCache")


class Command(BaseCommand):
    help = "Fill the cache that the site shares with what its lists show: the roles, and the counts of each phase."

    def handle(self, *args: Any, **options: Any) -> None:
        counts = library.warm()
        self.stdout.write(f"Counted {counts.total()} templates in {len(counts.roles)} roles.")
        if settings.CACHES["default"]["BACKEND"].endswith(PRIVATE):
            self.stderr.write("The cache is private to each process, so that the site has nothing of it: share one.")
