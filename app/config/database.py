"""The database settings that one URL stands for."""

from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

CONNECT_TIMEOUT_SECONDS = 5
#: "transaction": a pooler lends each transaction a connection of its own choice
POOL_MODES = ("none", "transaction")


def from_url(
    url: str,
    conn_max_age_seconds: int,
    statement_timeout_seconds: int,
    pool_mode: str = "none",
    name: str = "DATABASE_URL",
) -> dict[str, Any]:
    """Return Django's settings for a database URL, which the variable of that name holds.

    A path as host is a unix socket directory, percent-encoded: postgresql://%2Fvar%2Frun%2Fpostgresql/forge.
    Options in the URL's query win over the ones set here. A statement timeout of 0 sends none. Behind a pool of
    transactions nothing may stay with a connection: no timeout is sent, which is for the pooler to keep, and no
    cursor outlives its statement. Raises ImproperlyConfigured for what is no database URL; the URL holds a
    password, so the message does not repeat it.
    """
    pooled = pool_mode == "transaction"
    try:
        found = dict(dj_database_url.parse(url, conn_max_age=conn_max_age_seconds, conn_health_checks=True))
    except ValueError:
        found = {}
    if not found.get("ENGINE") or not found.get("NAME"):
        raise ImproperlyConfigured(
            f"{name} is not a database URL: write postgresql://user:password@host:5432/name "
            "with the password percent-encoded, or postgresql://%2Fvar%2Frun%2Fpostgresql/name for a unix socket."
        )
    if found["ENGINE"] == "django.db.backends.postgresql":
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        if statement_timeout_seconds and not pooled:
            options["options"] = f"-c statement_timeout={statement_timeout_seconds * 1000}"
        found["OPTIONS"] = {**options, **found.get("OPTIONS", {})}
        found["DISABLE_SERVER_SIDE_CURSORS"] = pooled
    return found
