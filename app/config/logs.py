"""Logging: one JSON object a line with the request's id; security events as plain lines."""

import json
import logging
import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse

HEADER = "X-Request-ID"
ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

request_id: ContextVar[str] = ContextVar("request_id", default="-")


class RequestIdMiddleware:
    """Take the request's id from the proxy, or make one; log lines bear it and the answer returns it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        request.id = given if ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(request.id)
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response[HEADER] = request.id
        return response


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON. Whatever the message holds, it stays one line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            # Django logs some answers after the middleware has ended, but says which request it was.
            "request_id": getattr(getattr(record, "request", None), "id", None) or request_id.get(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


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
            "forge.security": {"handlers": security, "level": "INFO", "propagate": False},
        },
    }
