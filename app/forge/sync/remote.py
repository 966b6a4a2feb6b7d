"""Templates in a repository on a git forge, read file by file from its raw URLs.

An index file in the repository lists their paths, one a line. This needs no API, so that GitHub, GitLab, Gitea
and a plain web server all do.
"""

import re
import time
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import urllib3
from django.core.exceptions import ImproperlyConfigured

from config import env

from ..models import RemoteFile
from . import SyncError, documents

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 15.0
# For one file: a server that sends a byte now and then never runs into the read timeout.
FILE_TIMEOUT_SECONDS = 60.0
CHUNK_BYTES = 65536

TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
REFUSED = {401, 403}
LOCAL = ("localhost", "127.0.0.1", "::1")
PLACEHOLDERS = ("repository", "ref", "path", "repository_id", "path_id")


@dataclass(frozen=True)
class Forge:
    """Where the templates are. The token is in no message and no repr."""

    base_url: str
    repository: str
    ref: str
    index: str
    token: str = field(repr=False, default="")

    def url(self, path: str) -> str:
        """Return the raw URL of a file in the repository."""
        values = {"repository": self.repository, "ref": self.ref, "path": path}
        return self.base_url.format(
            **{name: quote(value) for name, value in values.items()},
            repository_id=quote(self.repository, safe=""),
            path_id=quote(path, safe=""),
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def from_environment() -> Forge | None:
    """Return the forge that the environment names, None if it names none; a wrong value is ImproperlyConfigured."""
    repository = env.text("FORGE_SYNC_REPOSITORY", "")
    if not repository:
        for name in ("FORGE_SYNC_BASE_URL", "FORGE_SYNC_TOKEN", "FORGE_SYNC_TOKEN_FILE"):
            if env.text(name, ""):
                raise ImproperlyConfigured(f"{name} is set, but FORGE_SYNC_REPOSITORY is not: name what to load from.")
        return None
    forge = Forge(
        base_url=env.text("FORGE_SYNC_BASE_URL"),
        repository=repository,
        ref=env.text("FORGE_SYNC_REF", "main"),
        index=env.text("FORGE_SYNC_INDEX", "templates.txt"),
        token=env.secret("FORGE_SYNC_TOKEN", ""),
    )
    _check_base_url(forge)
    if not re.fullmatch(r"[!-~]*", forge.token):
        raise ImproperlyConfigured("FORGE_SYNC_TOKEN holds a blank or a letter beyond ASCII: no header can carry it.")
    return forge


def _check_base_url(forge: Forge) -> None:
    """Refuse a base URL that is none; it is not repeated, since somebody may have put a password into it."""
    example = "https://raw.githubusercontent.com/{repository}/{ref}/{path}"
    try:
        parts = urlsplit(forge.url("path"))
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username and parts.port != 0
    except (ValueError, LookupError, AttributeError):
        right = False
    if not right or not re.search(r"\{path(_id)?\}", forge.base_url):
        names = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise ImproperlyConfigured(
            f"FORGE_SYNC_BASE_URL is no raw URL: write one like {example}, without a user, with any of {names} in it."
        )
    if forge.token and parts.scheme == "http" and parts.hostname not in LOCAL:
        raise ImproperlyConfigured("FORGE_SYNC_BASE_URL is plain http, which shows FORGE_SYNC_TOKEN: write https.")


class _TryAgainError(Exception):
    """A failure that may pass: why, in a few words."""


def _reason(error: Exception) -> str:
    """Say in a few words why there is no answer. The error's own text has the URL in it."""
    timed_out = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
    # urllib3 counts a connection that was refused among the timeouts.
    if timed_out and not isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no answer in time"
    return f"the connection failed ({type(error).__name__})"


class Reader:
    """Reads files of one forge, and remembers what came back for the next time."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        self.known = {file.url: file for file in RemoteFile.objects.all()}
        self.files: list[RemoteFile] = []
        self.pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS), retries=False
        )

    def read(self, path: str) -> str:
        """Return a file's text; raise SyncError if it cannot be had, after several tries where they may help."""
        tries = 0
        while True:
            tries += 1
            try:
                return self._read_once(path)
            except _TryAgainError as error:
                if tries > len(PAUSES_SECONDS):
                    raise SyncError(f"{path} cannot be read after {tries} tries: {error}.") from None
            time.sleep(PAUSES_SECONDS[tries - 1])

    def _read_once(self, path: str) -> str:
        url = self.forge.url(path)
        known = self.known.get(url)
        headers = {**self.forge.headers, **({"If-None-Match": known.etag} if known else {})}
        try:
            # No redirect: a forge sends who may not read to its login page, and a token goes to no other host.
            response = self.pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
            try:
                data = self._body(path, response) if response.status == 200 else b""
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _TryAgainError(_reason(error)) from None
        if response.status == 304 and known:
            self.files.append(known)
            return known.text
        if response.status != 200:
            raise self._refusal(path, response.status)
        text = documents.decode(path, data)
        etag = response.headers.get("ETag", "")
        if etag and len(etag) <= RemoteFile._meta.get_field("etag").max_length:
            self.files.append(RemoteFile(url=url, etag=etag, text=text))
        return text

    @staticmethod
    def _body(path: str, response: urllib3.BaseHTTPResponse) -> bytes:
        deadline = time.monotonic() + FILE_TIMEOUT_SECONDS
        data = b""
        while chunk := response.read1(CHUNK_BYTES):
            data += chunk
            if len(data) > documents.FILE_MAX_BYTES:
                raise SyncError(f"{path} has more than {documents.FILE_MAX_BYTES} bytes: make it smaller.")
            if time.monotonic() > deadline:
                raise TimeoutError
        return data

    @staticmethod
    def _refusal(path: str, status: int) -> Exception:
        if status in TRY_AGAIN:
            return _TryAgainError(f"the forge answers {status}")
        if status in REFUSED:
            remedy = "check FORGE_SYNC_TOKEN and what it may read"
        elif 300 <= status < 400:
            remedy = "it points elsewhere; check FORGE_SYNC_BASE_URL, and FORGE_SYNC_TOKEN if the repository is private"
        else:
            remedy = "check FORGE_SYNC_BASE_URL, FORGE_SYNC_REPOSITORY, FORGE_SYNC_REF and the path"
        return SyncError(f"{path} cannot be read: the forge answers {status}: {remedy}.")


def listed_paths(index: str, text: str) -> list[str]:
    """Return the paths in an index: one a line; blank lines and lines that begin with # do not count."""
    lines = [line.strip() for line in text.splitlines()]
    paths = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    for path in paths:
        if path.startswith("/") or ".." in path.split("/") or not path.endswith(".md"):
            raise SyncError(f"{index} lists {path!r}: list paths from the top of the repository that end in .md.")
    documents.check_number(paths, index)
    return paths


def read_forge(forge: Forge) -> tuple[list[documents.Document], list[RemoteFile]]:
    """Read the index and every file in it; return the templates, and the files to remember."""
    reader = Reader(forge)
    paths = listed_paths(forge.index, reader.read(forge.index))
    found = [documents.parse(path, reader.read(path)) for path in paths]
    documents.check_together(found, forge.index)
    return found, reader.files
