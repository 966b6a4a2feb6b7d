from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle

from config.clients import client_ip


class VisitorThrottle(AnonRateThrottle):
    """Counts by the client's address, as the proxy tells it: the connection itself has none."""

    def get_ident(self, request: Request) -> str:
        return client_ip(request)
