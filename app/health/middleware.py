"""Answers /livez, /readyz and /health/ before anything looks at the Host header or the scheme."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

from config.clients import is_direct

from . import checks


class HealthMiddleware:
    """Must be the first middleware. It never asks the request for its host."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.answers = {"/livez": self.livez, "/readyz": self.readyz, "/health": self.health}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self.answers.get(request.path_info.removesuffix("/"))
        if answer is None:
            return self.get_response(request)
        response = answer(request) if request.method in ("GET", "HEAD") else HttpResponseNotAllowed(["GET", "HEAD"])
        response["Cache-Control"] = "no-store"
        response["Content-Length"] = len(response.content)
        return response

    def livez(self, request: HttpRequest) -> HttpResponse:
        """Say that the process answers; nothing else is asked, or a database outage would restart it."""
        return HttpResponse("ok", content_type="text/plain")

    def readyz(self, request: HttpRequest) -> HttpResponse:
        return self._report(request, {})

    def health(self, request: HttpRequest) -> HttpResponse:
        return self._report(request, {"app": settings.APP_NAME, "version": settings.APP_VERSION})

    def _report(self, request: HttpRequest, facts: dict[str, str]) -> HttpResponse:
        results = checks.run()
        passed = all(result.passed for result in results.values())
        report = {
            "status": "ok" if passed else "failed",
            **facts,
            "checks": {name: self._entry(result, is_direct(request)) for name, result in results.items()},
        }
        return JsonResponse(report, status=200 if passed else 503)

    @staticmethod
    def _entry(result: checks.Result, with_detail: bool) -> dict[str, str]:
        if result.passed:
            return {"status": "ok"}
        entry = {"status": "failed", "reason": result.reason}
        if with_detail and result.detail:
            entry["detail"] = result.detail
        return entry
