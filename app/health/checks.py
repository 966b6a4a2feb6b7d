"""What must be true before this process may serve: each check says so, or why not."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The verdict of one check. An empty reason is a pass; the detail is for this host's eyes only."""

    reason: str = ""
    detail: str = ""

    @property
    def passed(self) -> bool:
        return not self.reason


def check_database() -> Result:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        return Result("the database does not answer", str(error))
    return Result()


def check_migrations() -> Result:
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        return Result("the migrations cannot be read", str(error))
    if not plan:
        return Result()
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan)
    return Result("migrations are pending: run manage.py migrate", names)


def check_media() -> Result:
    # No probe file: it would write to the disk on every request.
    if not Path(settings.MEDIA_ROOT).is_dir():
        return Result("the media directory is missing", str(settings.MEDIA_ROOT))
    if not os.access(settings.MEDIA_ROOT, os.W_OK | os.X_OK):
        return Result("the media directory is not writable", str(settings.MEDIA_ROOT))
    return Result()


CHECKS: dict[str, Callable[[], Result]] = {
    "database": check_database,
    "migrations": check_migrations,
    "media": check_media,
}
NEEDS_DATABASE = {"migrations"}


def run() -> dict[str, Result]:
    """Run every check and log the failed ones. Without a database, what needs it is not tried."""
    results: dict[str, Result] = {}
    for name, check in CHECKS.items():
        if name in NEEDS_DATABASE and not results["database"].passed:
            results[name] = Result("not checked: the database does not answer")
        else:
            results[name] = check()
        if not results[name].passed:
            logger.error("not ready: %s: %s: %s", name, results[name].reason, results[name].detail)
    return results
