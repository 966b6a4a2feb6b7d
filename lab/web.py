"""Asks a web server as curl does, over HTTP/1.1 or HTTP/2, and gives back every header it sent. Needs curl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: by the name that curl gives them
VERSIONS = ("1.1", "2")


@dataclass(frozen=True)
class Reply:
    """An answer, with its headers as they came: names in lower case, those that came twice twice."""

    version: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Values of a header, one for each time that it was sent."""
        return [value for key, value in self.headers if key == name.lower()]

    def one(self, name: str) -> str:
        """Value of a header that was sent exactly once."""
        values = self.all(name)
        assert len(values) == 1, f"{name} was sent {len(values)} times: {values}"
        return values[0]


def ask(
    address: str,
    name: str,
    path: str = "/",
    *,
    version: str = "1.1",
    scheme: str = "https",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """Send one request from outside and follow nothing; the certificate is not looked at.

    Raises ConnectionError when there is no answer.
    """
    port = {"https": 443, "http": 80}[scheme]
    command = [
        *("curl", "--silent", "--insecure", "--path-as-is", "--include", "--max-time", "20", f"--http{version}"),
        *("--resolve", f"{name}:{port}:{address}", "--request", method),
        *(("--head",) if method == "HEAD" else ()),
        # Without it curl waits for leave to send a large body.
        *("--header", "Expect:"),
        *(word for key, value in (headers or {}).items() for word in ("--header", f"{key}: {value}")),
        *(() if body is None else ("--data-binary", "@-")),
        f"{scheme}://{name}{path}",
    ]
    done = subprocess.run(command, input=body or b"", capture_output=True, check=False)
    head, _blank, rest = done.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split()
    if len(words) < 2:
        raise ConnectionError(f"{scheme}://{name}{path[:60]}: no answer, curl ended with {done.returncode}")
    return Reply(words[0].removeprefix("HTTP/"), int(words[1]), tuple(_parsed(lines)), rest)


def _parsed(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        key, _colon, value = line.partition(":")
        yield key.lower(), value.strip()
