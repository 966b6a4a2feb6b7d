"""The verdict of /health/ for scripts: JSON on stdout, exit code 0 if the site can serve, else 1."""

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand

from health import checks


class Command(BaseCommand):
    help = __doc__
    # What is wrong is the verdict's to say.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        report = checks.report(checks.run(), with_detail=True, with_facts=True)
        self.stdout.write(json.dumps(report, indent=2))
        if report["status"] == checks.FAILED:
            sys.exit(1)
