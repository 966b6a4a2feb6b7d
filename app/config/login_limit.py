"""The limit of failed logins: django-axes counts them by address and by name, in the cache.

Too many answer 429 and are logged as event=login_blocked. A cache that does not answer blocks nobody.
"""

import math
from datetime import timedelta
from typing import Any

from axes.backends import AxesStandaloneBackend
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config import clients
from forge import security

# A name and an address must not share a count: else who types an address as a name would block its owner.
NAME_PREFIX = "name:"


class Backend(AxesStandaloneBackend):
    """The first authentication backend: it refuses who is blocked, and lets the next one decide about the others."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        # Without a request there is no client: a command signs in, or a test.
        if request is not None:
            super().authenticate(request, **credentials)


def name(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return what django-axes shall count a name as."""
    return NAME_PREFIX + str((credentials or {}).get("username", ""))


def counted_by(request: Any, credentials: dict[str, Any] | None) -> list[str]:
    """Return what failures are counted by: those of all clients without an address must not add up."""
    known = clients.client_ip(request) != clients.UNKNOWN
    return ["ip_address", "username"] if known else ["username"]


def answer(request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None) -> HttpResponse:
    """Return the page for somebody who is blocked. Retry-After is the longest it can take."""
    wait: timedelta = settings.AXES_COOLOFF_TIME
    minutes = math.ceil(wait.total_seconds() / 60)
    page = render(request, "operations/login_blocked.html", {"minutes": minutes}, status=429)
    page["Retry-After"] = str(int(wait.total_seconds()))
    return page


def log_blocked(sender: Any, request: HttpRequest, username: str, **kwargs: Any) -> None:
    security.log("login_blocked", request, username.removeprefix(NAME_PREFIX))
