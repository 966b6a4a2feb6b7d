"""A site with TLS on loopback that misbehaves when asked to, each path in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
import socket
import ssl
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Programs beside other programs, not a package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "drills"))

IDLE_SECONDS = 0.05


def authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key, and the certificate for `name` on loopback that it signs itself, so that it is its own root."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def write_pair(folder: Path, name: str) -> Path:
    """Write certificate and key below a folder and return the file, which serves as root too."""
    key, certificate = authority(name)
    pair = folder / f"{name}.pem"
    pair.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


class Site:
    """The site: `port` and `root` to reach it, `connections` and `requests` as it has counted them."""

    def __init__(self, folder: Path) -> None:
        self.root = write_pair(folder, "site.test")
        self.stranger = write_pair(folder, "stranger.test")
        self.port = 0
        self.connections = 0
        self.requests: list[str] = []
        self.stalled_until = 0.0

    async def serve(self, listening: threading.Event, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(self.root)
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0, ssl=trust)
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        await stop.wait()
        server.close()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            served = 0
            while True:
                patience = IDLE_SECONDS if served and self.requests[-1].endswith("/idle") else 60
                async with asyncio.timeout(patience):
                    head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _version = lines[0].split()
                self.requests.append(f"{method} {path}")
                if path == "/stale" and served:
                    break
                await self.answer(writer, path, body, headers)
                served += 1
                if headers.get("connection") == "close":
                    break
        writer.close()

    async def answer(self, writer: asyncio.StreamWriter, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Answer one request, or fail to in the way that the path names."""
        await asyncio.sleep(max(self.stalled_until - time.monotonic(), 0))
        text = f"{headers['host']} {headers.get('origin', '')} {hashlib.sha256(body).hexdigest()}".encode()
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        if path == "/broken":
            whole = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"
        elif path == "/chunked":
            whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(text), text)
        elif path == "/slow":
            await asyncio.sleep(0.3)
        elif path == "/silent":
            await asyncio.sleep(60)
        elif path in ("/reset", "/cut"):
            writer.write(whole[:-10])
            await asyncio.sleep(0.02)
            if path == "/reset":
                # Without a goodbye of TLS or TCP, as when a worker is killed.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            raise ConnectionResetError
        elif path == "/nonsense":
            whole = b"220 mail.site.test ESMTP\r\n\r\n"
        writer.write(whole)


@pytest.fixture(scope="session")
def running_site(tmp_path_factory):
    """The site, in a thread."""
    site = Site(tmp_path_factory.mktemp("site"))
    loop, stop, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=loop.run_until_complete, args=(site.serve(listening, stop),), daemon=True)
    thread.start()
    assert listening.wait(10)
    yield site
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


@pytest.fixture
def site(running_site):
    """The site, with its counts at zero."""
    running_site.connections = 0
    running_site.requests.clear()
    return running_site
