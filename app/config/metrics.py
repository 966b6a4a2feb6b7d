"""/metrics, for callers on this host only: for everybody else there is no such page."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django_prometheus.exports import ExportToDjangoView

from config.clients import is_direct


class MetricsMiddleware:
    """Answers before host validation, as the health pages do: a scraper knows the socket, not the site's name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == "/metrics" and request.method == "GET" and is_direct(request):
            return ExportToDjangoView(request)
        return self.get_response(request)
