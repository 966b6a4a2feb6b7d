"""The database settings that one URL stands for."""

from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

CONNECT_TIMEOUT_SECONDS = 5


def from_url(url: str, conn_max_age_seconds: int, statement_timeout_seconds: int) -> dict[str, Any]:
    """Return Django's settings for a database URL.

    A path as host is a unix socket directory, percent-encoded: postgresql://%2Fvar%2Frun%2Fpostgresql/forge.
    Options in the URL's query win over the ones set here. A statement timeout of 0 sends none, which a
    connection pooler between may need. Raises ImproperlyConfigured for what is no database URL; the URL
    holds a password, so the message does not repeat it.
    """
    try:
        settings = dict(dj_database_url.parse(url, conn_max_age=conn_max_age_seconds, conn_health_checks=True))
    except ValueError:
        settings = {}
    if not settings.get("ENGINE") or not settings.get("NAME"):
        raise ImproperlyConfigured(
            "DATABASE_URL is not a database URL: write postgresql://user:password@host:5432/name "
            "with the password percent-encoded, or postgresql://%2Fvar%2Frun%2Fpostgresql/name for a unix socket."
        )
    if settings["ENGINE"] == "django.db.backends.postgresql":
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        if statement_timeout_seconds:
            options["options"] = f"-c statement_timeout={statement_timeout_seconds * 1000}"
        settings["OPTIONS"] = {**options, **settings.get("OPTIONS", {})}
    return settings
