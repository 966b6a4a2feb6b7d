"""Answers /livez, /readyz and /health/ before anything looks at the Host header or the scheme."""

from collections.abc import Callable

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
        return self._report(request, with_facts=False)

    def health(self, request: HttpRequest) -> HttpResponse:
        return self._report(request, with_facts=True)

    @staticmethod
    def _report(request: HttpRequest, with_facts: bool) -> HttpResponse:
        results = checks.run()
        checks.log(results)
        report = checks.report(results, with_detail=is_direct(request), with_facts=with_facts)
        return JsonResponse(report, status=503 if report["status"] == checks.FAILED else 200)
