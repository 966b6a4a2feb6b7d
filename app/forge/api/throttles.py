from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle

from config.clients import counted_as


class VisitorThrottle(AnonRateThrottle):
    """Counts by the client's address, as the proxy tells it: the connection itself has none."""

    def get_ident(self, request: Request) -> str:
        return counted_as(request)


class UserThrottle(UserRateThrottle):
    """Counts who is signed in, and nobody else: visitors have a throttle of their own."""

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return super().get_cache_key(request, view) if request.user.is_authenticated else None
