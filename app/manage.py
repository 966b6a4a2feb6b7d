#!/usr/bin/env python3
"""Run Django's commands for Forge."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # Only the workers of the web server have metrics to share; their directory may not be there yet.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # Whoever mistyped a setting needs the sentence, not the traceback.
        sys.exit(f"forge: {error}")


if __name__ == "__main__":
    main()
