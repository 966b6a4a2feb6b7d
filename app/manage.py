#!/usr/bin/env python3
"""Run Django's commands for Forge."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # Whoever mistyped a setting needs the sentence, not the traceback.
        sys.exit(f"forge: {error}")


if __name__ == "__main__":
    main()
