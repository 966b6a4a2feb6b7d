"""Security events as plain lines that fail2ban reads.

    security event=login_failed ip=203.0.113.9 user="bob"

The address comes first and the name last, as a JSON string, so that no name can forge another field or line.
"""

import json
import logging
from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest

from config.clients import client_ip

USER_MAX_CHARACTERS = 150

logger = logging.getLogger("forge.security")


def log(event: str, request: HttpRequest | None, user: str) -> None:
    """Write the line of an event."""
    name = json.dumps(user[:USER_MAX_CHARACTERS])
    logger.warning("security event=%s ip=%s user=%s", event, client_ip(request), name)


def log_login_failed(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    log("login_failed", request, str(credentials.get("username", "")))


def connect() -> None:
    user_login_failed.connect(log_login_failed, dispatch_uid="forge.security.login_failed")
