"""What must be true before this process may serve: each check says so, or why not."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import FileSystemStorage, storages
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from config import logs

OK, DEGRADED, FAILED = "ok", "degraded", "failed"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The verdict of one check. An empty reason is a pass; the detail is for this host's eyes only.

    `serves` says that the site can do without what is wrong.
    """

    reason: str = ""
    detail: str = ""
    serves: bool = False

    @property
    def status(self) -> str:
        if not self.reason:
            return OK
        return DEGRADED if self.serves else FAILED


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


def check_cache() -> Result:
    # Memory of this process always answers.
    if settings.REDIS_URL:
        try:
            cache.ping()
        except RedisError as error:
            return Result("the cache does not answer: pages come without it", str(error), serves=True)
    return Result()


def check_media() -> Result:
    # A bucket is not asked: a probe every few seconds would be paid for.
    if not isinstance(storages["default"], FileSystemStorage):
        return Result()
    # No probe file: it would write to the disk on every request.
    try:
        if not Path(settings.MEDIA_ROOT).is_dir():
            return Result("the media directory is missing", str(settings.MEDIA_ROOT))
    except OSError as error:
        return Result("the media directory is out of reach", str(error))
    if not os.access(settings.MEDIA_ROOT, os.W_OK | os.X_OK):
        return Result("the media directory is not writable", str(settings.MEDIA_ROOT))
    return Result()


def check_logs() -> Result:
    """Look whether the log files can be written. stdout has every line too, so the site serves without them."""
    for path in (Path(settings.LOG_DIR, name) for name in logs.FILES if settings.LOG_DIR):
        creatable = not os.access(path, os.F_OK) and os.access(path.parent, os.W_OK | os.X_OK)
        if not creatable and not os.access(path, os.W_OK):
            return Result("a log file cannot be written: only stdout has its lines", str(path), serves=True)
    return Result()


def check_disk() -> Result:
    """Look at the disks of the uploads and the logs. A directory out of reach is not this check's matter."""
    for directory in filter(None, (settings.MEDIA_ROOT, settings.LOG_DIR)):
        try:
            free_megabytes = shutil.disk_usage(directory).free // 1_000_000
        except OSError:
            continue
        if free_megabytes < settings.HEALTH_FREE_MEGABYTES:
            return Result(
                "the disk is nearly full",
                f"{directory} has {free_megabytes} MB left, HEALTH_FREE_MEGABYTES asks for "
                f"{settings.HEALTH_FREE_MEGABYTES}",
            )
    return Result()


CHECKS: dict[str, Callable[[], Result]] = {
    "database": check_database,
    "migrations": check_migrations,
    "cache": check_cache,
    "media": check_media,
    "logs": check_logs,
    "disk": check_disk,
}
NEEDS_DATABASE = {"migrations"}


def run() -> dict[str, Result]:
    """Run every check; one that breaks has failed. Without a database, what needs it is not tried."""
    results: dict[str, Result] = {}
    for name, check in CHECKS.items():
        if name in NEEDS_DATABASE and results["database"].status == FAILED:
            results[name] = Result("not checked: the database does not answer")
            continue
        try:
            results[name] = check()
        except Exception as error:
            results[name] = Result(f"the check broke: {type(error).__name__}", str(error))
    return results


def log(results: dict[str, Result]) -> None:
    """Write a line about each check that did not pass."""
    for name, result in results.items():
        if result.status != OK:
            level = logging.WARNING if result.status == DEGRADED else logging.ERROR
            logger.log(level, "%s: %s: %s: %s", result.status, name, result.reason, result.detail)


def report(results: dict[str, Result], with_detail: bool, with_facts: bool) -> dict[str, Any]:
    """Return what is said to whoever asked: the worst verdict, and that of each check.

    The details name addresses and paths, the facts are the app's name and version.
    """
    verdicts = {result.status for result in results.values()}
    facts = {"app": settings.APP_NAME, "version": settings.APP_VERSION} if with_facts else {}
    return {
        "status": next(status for status in (FAILED, DEGRADED, OK) if status in verdicts),
        **facts,
        "checks": {name: _entry(result, with_detail) for name, result in results.items()},
    }


def _entry(result: Result, with_detail: bool) -> dict[str, str]:
    entry = {"status": result.status}
    if result.reason:
        entry["reason"] = result.reason
    if with_detail and result.detail:
        entry["detail"] = result.detail
    return entry
