"""Logging: one JSON object a line with the request's id; security events as plain lines."""

import copy
import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse

from config.clients import client_ip
from config.redaction import redact, scrub

HEADER = "X-Request-ID"
ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

access = logging.getLogger("forge.access")

request_id: ContextVar[str] = ContextVar("request_id", default="-")


class RequestMiddleware:
    """Give a request its id, the proxy's or a new one, and log one line about it when it is answered.

    Log lines bear the id and the answer returns it. The line has the path without its query, which may hold secrets.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        start = time.monotonic()
        given = request.headers.get(HEADER, "")
        request.id = given if ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(request.id)
        try:
            response = self.get_response(request)
            self._log(request, response, time.monotonic() - start)
        finally:
            request_id.reset(token)
        response[HEADER] = request.id
        return response

    @staticmethod
    def _log(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
        # Whoever did not need to know the user made no query for it; this line makes none either.
        user = getattr(request, "_cached_user", None)
        access.info(
            "%s %s %d",
            request.method,
            request.path,
            response.status_code,
            extra={
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "duration_ms": round(seconds * 1000, 1),
                "user_id": user.pk if user else None,
                "client": client_ip(request),
            },
        )


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON. Whatever the message holds, it stays one line without a secret."""

    def format(self, record: logging.LogRecord) -> str:
        clean = copy.copy(record)
        clean.args = scrub(record.args)
        # The request is left out: it holds everything.
        extras = {key: value for key, value in vars(record).items() if key not in STANDARD and key != "request"}
        entry = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(clean.getMessage()),
            # Django logs some answers after the middleware has ended, but says which request it was.
            "request_id": getattr(getattr(record, "request", None), "id", None) or request_id.get(),
            **scrub(extras),
        }
        if record.exc_info:
            entry["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, default=lambda value: redact(repr(value)))


def configuration(level: str, directory: str) -> dict[str, Any]:
    """Return Django's LOGGING: everything to stdout, and to files in the directory if one is named.

    The files are app.log (everything as JSON) and security.log (the plain security lines). They are opened
    again when they were rotated away. They are opened at the first line, so that a directory that cannot be
    written costs the file, not the start: stdout has every line too.
    """
    handlers: dict[str, Any] = {
        "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"},
        "security_stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain"},
    }
    everything, security = ["stdout"], ["security_stdout"]
    if directory:
        for name, formatter in (("app", "json"), ("security", "plain")):
            handlers[f"{name}_file"] = {
                "class": "logging.handlers.WatchedFileHandler",
                "filename": str(Path(directory) / f"{name}.log"),
                "formatter": formatter,
                "encoding": "utf-8",
                "delay": True,
            }
        everything.append("app_file")
        security += ["security_file", "app_file"]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "config.logs.JsonFormatter"}, "plain": {"format": "%(message)s"}},
        "handlers": handlers,
        "root": {"handlers": everything, "level": level},
        "loggers": {
            # Django's own handlers would print every line a second time.
            "django": {"handlers": [], "level": level, "propagate": True},
            # What it has to say about logins, the security events say.
            "axes": {"level": "CRITICAL"},
            "forge.security": {"handlers": security, "level": "INFO", "propagate": False},
        },
    }
