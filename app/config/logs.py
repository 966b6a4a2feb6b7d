"""Logging: one JSON object a line with the request's id; security events as plain lines."""

import contextlib
import copy
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse

from config.clients import client_ip
from config.redaction import redact, scrub

HEADER = "X-Request-ID"
ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
FILES = {"app.log": "json", "security.log": "plain"}
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


class Discreet(logging.Handler):
    """Tells stderr of a line that is lost, but not what the line or the error says, which may hold a secret."""

    told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            # It is the disk's or the pipe's fault, and the next line will meet it too.
            if self.told:
                return
            self.told = True
        with contextlib.suppress(OSError):
            sys.stderr.write(f"log line lost: {type(error).__name__}, {self} at {record.pathname}:{record.lineno}\n")


class StreamHandler(Discreet, logging.StreamHandler):
    """Writes to a stream."""


class FileHandler(Discreet, WatchedFileHandler):
    """Writes to a file, and goes on without it where it cannot be opened."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


class StrangersFault(logging.Filter):
    """Makes a warning without a traceback of an error that anybody can cause at will."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = None
        return logging.getLogger(record.name).isEnabledFor(logging.WARNING)


def configuration(level: str, directory: str) -> dict[str, Any]:
    """Return Django's LOGGING: everything to stdout, and to files in the directory if one is named.

    The files are app.log (everything as JSON) and security.log (the plain security lines). They are opened
    again when they were rotated away. They are opened at the first line, so that a directory that cannot be
    written costs the files, not the start: stdout has every line too.
    """
    handlers: dict[str, Any] = {
        "stdout": {"class": "config.logs.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"},
        "security_stdout": {"class": "config.logs.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain"},
    }
    everything, security = ["stdout"], ["security_stdout"]
    if directory:
        for name, formatter in FILES.items():
            handlers[name] = {
                "class": "config.logs.FileHandler",
                "filename": str(Path(directory) / name),
                "formatter": formatter,
                "encoding": "utf-8",
                "delay": True,
            }
        everything.append("app.log")
        security += FILES
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "config.logs.JsonFormatter"}, "plain": {"format": "%(message)s"}},
        "filters": {"strangers_fault": {"()": "config.logs.StrangersFault"}},
        "handlers": handlers,
        "root": {"handlers": everything, "level": level},
        "loggers": {
            # Django's own handlers would print every line a second time.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.security.DisallowedHost": {"filters": ["strangers_fault"]},
            # What it has to say about logins, the security events say.
            "axes": {"level": "CRITICAL"},
            "forge.security": {"handlers": security, "level": "INFO", "propagate": False},
        },
    }
