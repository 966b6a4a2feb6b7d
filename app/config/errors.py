"""Reports of errors to Sentry, without anything that tells who somebody is or how to get in."""

from typing import Any

import sentry_sdk
from django.core.exceptions import ImproperlyConfigured
from sentry_sdk.integrations.logging import ignore_logger
from sentry_sdk.utils import BadDsn

from config.redaction import scrub


def start(dsn: str, release: str, environment: str) -> None:
    """Report errors from now on. Raises ImproperlyConfigured for a DSN that is none."""
    # Their lines say who asked for what.
    for name in ("forge.access", "forge.security"):
        ignore_logger(name)
    try:
        sentry_sdk.init(
            dsn,
            release=release,
            environment=environment,
            send_default_pii=False,
            # Local variables and bodies hold what people typed.
            include_local_variables=False,
            max_request_body_size="never",
            before_send=clean,
            before_breadcrumb=clean,
        )
    except BadDsn:
        raise ImproperlyConfigured(
            "SENTRY_DSN is not a DSN: copy it from the project's settings in Sentry, https://key@host/number."
        ) from None


def clean(event: Any, hint: dict[str, Any]) -> Any:
    """Return the event without secrets, and without what was asked for in the query."""
    event = scrub(event)
    if "request" in event:
        event["request"] = {key: event["request"].get(key, "") for key in ("method", "url")}
    return event
