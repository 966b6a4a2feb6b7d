# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a site over a unix socket whether it answers as it should."""

from __future__ import annotations

import http.client
import re
import socket

EXCERPT = 200
LARGEST_BODY = 2_000_000


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; timeout in seconds."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def accepted(status: int, ranges: list[str]) -> bool:
    """Whether a status is one of "200" or lies in one of "200-399"."""
    for text in ranges:
        first, _dash, last = str(text).partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False


def excerpt(body: str) -> str:
    """The begin of a body as one line; of an HTML page its title."""
    title = re.search(r"<title[^>]*>(.*?)</title>", body, re.DOTALL | re.IGNORECASE)
    text = " ".join((title.group(1) if title else body).split())
    return text[:EXCERPT] + ("..." if len(text) > EXCERPT else "")


def ask(path: str, health: dict, host: str) -> str:
    """Ask once. Returns why the answer is not good enough, or an empty text.

    path: socket. health: path, host, headers, status, contains, timeout_seconds. host: Host unless health has one.
    """
    connection = UnixConnection(path, health["timeout_seconds"])
    headers = {
        "Host": health["host"] or host,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "127.0.0.1",
        "User-Agent": "groundwork-probe",
        **{str(name): str(value) for name, value in (health["headers"] or {}).items()},
    }
    what = f"GET {health['path']} (Host {headers['Host']})"
    try:
        connection.request("GET", health["path"], headers=headers)
        answer = connection.getresponse()
        body = answer.read(LARGEST_BODY).decode("utf-8", "replace")
    except TimeoutError:
        return f"{what} got no answer within {health['timeout_seconds']} s"
    except (OSError, http.client.HTTPException) as error:
        return f"{what} got no answer ({getattr(error, 'strerror', None) or type(error).__name__})"
    finally:
        connection.close()
    if not accepted(answer.status, health["status"]):
        wanted = ", ".join(str(entry) for entry in health["status"])
        said = f', saying "{excerpt(body)}"' if body.strip() else ""
        return f"{what} answered {answer.status} instead of {wanted}{said}"
    if health["contains"] and health["contains"] not in body:
        return f'{what} answered {answer.status} without the text "{health["contains"]}"'
    return ""
