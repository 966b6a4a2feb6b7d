"""Refuses what no browser sends and Django or the database would break on: odd charsets, NUL characters."""

import codecs
from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.datastructures import MultiValueDict
from django.utils.http import parse_header_parameters
from django.views.defaults import bad_request

CHARSETS = ("utf-8", "ascii", "iso8859-1")
MARK = "forge.bad_content_type"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def without_odd_charsets(application: Application) -> Application:
    """Return a WSGI application that takes away a Content-Type whose charset is not one of CHARSETS, and marks it.

    Django decodes the query by it before any middleware runs, with whatever codec Python has, such as hex or zlib.
    """

    def wrapper(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not _has_known_charset(environ.get("CONTENT_TYPE", "")):
            environ.update({"CONTENT_TYPE": "", MARK: True})
        return application(environ, start_response)

    return wrapper


def _has_known_charset(content_type: str) -> bool:
    try:
        charset = parse_header_parameters(content_type)[1].get("charset", CHARSETS[0])
        return codecs.lookup(charset).name in CHARSETS
    except (LookupError, ValueError):
        return False


class BadRequestMiddleware:
    """Answers 400 to what was marked, and to NUL characters: PostgreSQL takes none, so a search for one is an error.

    Must be below the middleware for CSRF, which reads the form first and knows how that can fail.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        texts = (request.path_info, *request.COOKIES.values())
        if MARK in request.META or any("\0" in text for text in texts):
            return _refuse(request)
        # The API says itself which parameter is wrong.
        if not _is_for_api(request) and _has_nul(request.GET):
            return _refuse(request)
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        """Look at the form."""
        return _refuse(request) if _has_nul(request.POST) else None


def _is_for_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _refuse(request: HttpRequest) -> HttpResponse:
    if _is_for_api(request):
        return JsonResponse({"detail": "The request cannot be understood."}, status=400)
    return bad_request(request, None)


def _has_nul(form: MultiValueDict[str, str]) -> bool:
    return any("\0" in text for name, values in form.lists() for text in (name, *values))
