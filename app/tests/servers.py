"""Servers for tests: one that stands before a real one and can die, hang and come back, and plain HTTP ones."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wait_until(ready: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is true. Raises TimeoutError when it takes too long."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"not ready after {seconds} s")
        time.sleep(0.02)


class Relay:
    """A unix socket whose bytes go to a server and back."""

    def __init__(self, path: Path, target: str | tuple[str, int], credentials: str) -> None:
        self.path, self.target = path, target
        self.url = f"unix://{credentials}@{path}?db=0"
        self.hanging = False
        self.listener: socket.socket | None = None
        self.open: list[socket.socket] = []

    def live(self) -> None:
        self.hanging = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def hang(self) -> None:
        self.hanging = True

    def die(self) -> None:
        if self.listener:
            self.path.unlink()
            for each in (self.listener, *self.open):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self.listener, self.open = None, []

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET)
                server.connect(self.target)
                self.open += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.hanging:
                    sink.sendall(data)


class Handler(BaseHTTPRequestHandler):
    """Answers requests in a few words and without a log."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serve(handler: type[Handler]) -> Iterator[str]:
    """Run an HTTP server on this host and give its address, 127.0.0.1:<port>."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
