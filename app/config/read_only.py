"""Read-only mode: everything is shown, nothing is changed.

READ_ONLY=true starts it, and so does a file, which is looked for at every request: no restart is needed. A view whose
POST changes nothing says so with @changes_nothing, and goes on.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve

View = TypeVar("View", bound=Callable[..., HttpResponse])

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MESSAGE = "The site is read-only at the moment. Nothing was changed."


def is_active() -> bool:
    """Tell whether the site must not be changed. A file that cannot be looked for counts as absent."""
    with contextlib.suppress(OSError):
        return settings.READ_ONLY or Path(settings.READ_ONLY_FILE).exists()
    return False


def changes_nothing(view: View) -> View:
    """Declare that a view writes nothing, whatever the method. It needs its CSRF token as ever."""
    view.changes_nothing = True
    return view


class ReadOnlyMiddleware:
    """Refuse what may change something. Belongs below the sessions, so that it can say that none is to be saved."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_active():
            return self.get_response(request)
        response = self.get_response(request) if self._is_harmless(request) else self._refuse(request)
        # A new session would be a cookie for something that was never written.
        request.session.modified = False
        return response

    @staticmethod
    def _is_harmless(request: HttpRequest) -> bool:
        if request.method in SAFE_METHODS:
            return True
        try:
            view = resolve(request.path_info).func
        except Resolver404:
            return False
        return getattr(view, "changes_nothing", False)

    @staticmethod
    def _refuse(request: HttpRequest) -> HttpResponse:
        wants = request.get_preferred_type(["text/html", "application/json"])
        if request.path_info.startswith("/api/") or wants == "application/json":
            response: HttpResponse = JsonResponse({"detail": MESSAGE}, status=503)
        else:
            response = render(request, "operations/read_only.html", status=503)
        response["Retry-After"] = str(settings.READ_ONLY_RETRY_SECONDS)
        return response


def context(request: HttpRequest) -> dict[str, bool]:
    """Let every page know whether the site is read-only."""
    return {"read_only": is_active()}
