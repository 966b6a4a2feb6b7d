"""A steady stream of requests over TLS, and what became of each.

Usage: load.py --url https://forge.demo.test --address 172.18.0.3 --root .demo/acme-root.pem --rate 200 --seconds 60

The stream is open: a request is due at a fixed moment whether or not the ones before it were answered, and its
latency counts from that moment. A site that stalls for a second thus shows in all requests of that second, and not in
the few that were under way. At most `connections` are open at a time; who waits for one is counted as late too.

Kept-alive connections behave as a browser's do. One that the server closed while it was idle is dropped. One that it
closes while a request is on its way, before a byte of the answer, has the request sent once more on a new connection;
that is `retried`, no failure. A POST is not sent again, since the server may have done it: it fails, with a reason of
its own. nginx does that now and then when it reloads (seen with 1.22), to connections that it takes for idle.

The requests are made in a process of their own, so that a busy test does not slow them down. At 200 requests a second,
one in ten on a new connection, it takes 16 to 18 % of a core (busy 2-core machine, Python 3.11, P-256 certificate).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import multiprocessing
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
from traffic import MIXES, Kind, turns

# How many examples a table shows.
EXAMPLES = 20


class LoadError(Exception):
    """The generator itself failed; the text says how in one sentence."""


@dataclass(slots=True)
class Sample:
    """One request: when it was due, and what became of it. All times in seconds.

    `at` counts from the start of the load. `beyond` is from the moment it was due to the last byte of the answer,
    less the kind's own time. `late` is how long the generator itself took to turn to it. `failure` is empty for a
    good answer; `status` is 0 where none came.
    """

    at: float
    kind: str
    beyond: float = 0.0
    late: float = 0.0
    status: int = 0
    failure: str = ""
    retried: bool = False


@dataclass(frozen=True)
class Result:
    """What became of the requests of a load, or of a slice of it.

    `started` is the moment of offset 0 on time.monotonic(), `seconds` how long requests were due,
    `cpu_seconds` what the generator used for the whole load.
    """

    started: float
    seconds: float
    samples: Sequence[Sample]
    cpu_seconds: float

    @property
    def failed(self) -> list[Sample]:
        """The requests without a good answer."""
        return [sample for sample in self.samples if sample.failure]

    @property
    def retried(self) -> int:
        """How many requests were sent a second time."""
        return sum(sample.retried for sample in self.samples)

    @property
    def rate(self) -> float:
        """Good answers for each second in which requests were due."""
        return (len(self.samples) - len(self.failed)) / self.seconds if self.seconds else 0.0

    @property
    def late(self) -> float:
        """How many seconds the generator itself was late at most: so much of a latency may not be the site's."""
        return max((sample.late for sample in self.samples), default=0.0)

    def percentile(self, percent: float) -> float:
        """Seconds beyond its own time that `percent` of the good answers did not exceed; NaN when there are none."""
        times = sorted(sample.beyond for sample in self.samples if not sample.failure)
        return times[max(math.ceil(len(times) * percent / 100), 1) - 1] if times else math.nan

    def beyond(self, seconds: float) -> list[Sample]:
        """The requests, failed ones too, that took more than so many seconds beyond their own time."""
        return [sample for sample in self.samples if sample.beyond > seconds]

    def of(self, kind: str) -> Result:
        """The requests of one kind."""
        return replace(self, samples=[sample for sample in self.samples if sample.kind == kind])

    def between(self, first: float, last: float) -> Result:
        """The requests that were due between two moments of time.monotonic(), on the same machine."""
        first, last = max(first, self.started), min(last, self.started + self.seconds)
        within = [sample for sample in self.samples if first <= self.started + sample.at <= last]
        return replace(self, seconds=max(last - first, 0.0), samples=within)

    def write(self, path: Path) -> None:
        """Write all requests as JSON, one a line."""
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(sample)) + "\n" for sample in self.samples)

    def table(self, threshold: float = 1.0) -> str:
        """A table for people, with examples of failures and of what took longer than the threshold in seconds."""
        lines = [
            "milliseconds beyond their own time, from the moment a request was due",
            f"{'':16}{'sent':>8}{'failed':>8}{'retried':>8}{'per s':>8}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}",
        ]
        names = dict.fromkeys(sample.kind for sample in self.samples)
        for name, part in [*((name, self.of(name)) for name in names), ("all", self)]:
            counts = f"{len(part.samples):8}{len(part.failed):8}{part.retried:8}{part.rate:8.1f}"
            times = "".join(f"{part.percentile(percent) * 1000:8.1f}" for percent in (50, 95, 99, 100))
            lines.append(f"{name:16}{counts}{times}")
        lines.append(
            f"The generator used {self.cpu_seconds:.2f} s of CPU and was {self.late * 1000:.1f} ms late at most."
        )
        slow = self.beyond(threshold)
        for title, samples in (("failed", self.failed), (f"more than {threshold:g} s beyond their own time", slow)):
            if samples:
                lines.append(f"{len(samples)} {title}:")
                lines += [f"  {s.at:9.3f} s  {s.beyond:8.3f} s  {s.kind}  {s.failure}" for s in samples[:EXAMPLES]]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Plan:
    """What the generator's process is told."""

    host: str
    port: int
    address: str
    root: str | None
    kinds: tuple[Kind, ...]
    rate: float
    seconds: float
    timeout: float
    connections: int


class Load:
    """A load that runs in a process of its own: start it, do what has to be done meanwhile, stop it.

    `address` is where to connect, if not to what the URL's host resolves to; `root` a PEM file with the only
    authority to trust, the system's where it is None. `rate` is in requests a second. The load ends by itself after
    `seconds`. A request fails after `timeout` seconds beyond its own time. Raises ValueError for what cannot work.
    """

    def __init__(
        self,
        url: str,
        kinds: Sequence[Kind],
        *,
        rate: float,
        seconds: float = 3600.0,
        address: str = "",
        root: Path | None = None,
        timeout: float = 30.0,
        connections: int = 256,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"The URL is {url!r}: write https:// and a name, the paths are the mix's.")
        if not kinds or min(rate, seconds, timeout, connections) <= 0:
            raise ValueError("A load needs kinds of requests, and a rate, seconds, a timeout and connections above 0.")
        if len({kind.name for kind in kinds}) < len(kinds):
            raise ValueError("Two kinds of requests have the same name: give each its own, results are told by it.")
        try:
            ssl.create_default_context(cafile=root)
        except OSError as error:
            reason = f"{str(root)!r}, which is no certificate ({error})"
            raise ValueError(f"The root is {reason}: name a PEM file with the authority's root.") from None
        host, port = parts.hostname, parts.port or 443
        where = str(root.resolve()) if root else None
        self._plan = _Plan(host, port, address or host, where, tuple(kinds), rate, seconds, timeout, connections)
        self._started = math.nan

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def start(self) -> None:
        """Start the stream; returns when the first request is due."""
        self._pipe, theirs = multiprocessing.Pipe()
        # A bare interpreter: one that multiprocessing starts would import the caller's program, pytest mostly, as well.
        command = [sys.executable, "-c", f"import load; load.work({theirs.fileno()})"]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parent, pass_fds=[theirs.fileno()])
        theirs.close()
        self._pipe.send(self._plan)
        self._started = self._receive(30)

    def stop(self) -> Result:
        """End the stream, wait for the answers that are due, and return what became of all requests."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(None)
        return self._result(0)

    def wait(self) -> Result:
        """Let the stream end by itself, and return what became of all requests."""
        return self._result(self._started + self._plan.seconds - time.monotonic())

    def _result(self, seconds: float) -> Result:
        slowest = max(kind.own_seconds for kind in self._plan.kinds)
        result = self._receive(max(seconds, 0) + slowest + self._plan.timeout + 30)
        self._process.wait()
        return result

    def _receive(self, seconds: float) -> Any:
        """What the process sends next. Raise LoadError when it sends nothing in so many seconds, or has died."""
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise LoadError(f"The load generator died with exit status {self._process.wait()}.") from None
        self._process.kill()
        raise LoadError(f"The load generator said nothing for {seconds:.0f} s.")


class _Failed(Exception):
    """A request without a good answer."""


class _Unanswered(_Failed):
    """The connection ended before the first byte of the answer."""


@dataclass(eq=False)
class _Connection:
    """A connection to the site, and where HTTP stands on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection

    @property
    def open(self) -> bool:
        """Whether the server has not closed it yet, as far as is known."""
        return not (self.reader.at_eof() or self.reader.exception() or self.writer.is_closing())

    async def ask(self, request: Iterable[h11.Event]) -> tuple[int, bytes]:
        """Send a request and return status and body. Raise _Failed when no whole answer comes."""
        self.writer.write(b"".join(self.http.send(part) for part in request))
        status, body, data, begun = 0, bytearray(), b"", False
        while True:
            try:
                event = self.http.next_event()
                if event is h11.NEED_DATA:
                    data = await self.reader.read(65536)
                    if not (data or begun):
                        raise _Unanswered("closed before the answer")
                    begun = True
                    self.http.receive_data(data)
            except OSError as error:
                if not begun:
                    raise _Unanswered("closed before the answer") from None
                raise _Failed(f"closed in the middle of the answer: {error}") from None
            except h11.RemoteProtocolError as error:
                what = "broken answer" if data else "closed in the middle of the answer"
                raise _Failed(f"{what}: {error}") from None
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)


class _Client:
    """Makes the requests of a plan, over kept-alive connections and new ones."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.trust = ssl.create_default_context(cafile=plan.root)
        self.trust.set_alpn_protocols(["http/1.1"])
        self.room = asyncio.Semaphore(plan.connections)
        self.idle: list[_Connection] = []
        self.requests = {kind.name: self._request(kind) for kind in plan.kinds}

    def _request(self, kind: Kind) -> list[h11.Event]:
        """A request of this kind, made once: checking its headers each time would be a good part of the work."""
        site = self.plan.host if self.plan.port == 443 else f"{self.plan.host}:{self.plan.port}"
        headers = {"Host": site, "User-Agent": "groundwork-load", "Accept": "*/*"}
        if kind.body or not kind.repeatable:
            headers |= {"Origin": f"https://{site}", "Content-Length": str(len(kind.body))}
        if kind.new_connection:
            headers["Connection"] = "close"
        request = h11.Request(method=kind.method, target=kind.path, headers=list({**headers, **kind.headers}.items()))
        return [request, h11.Data(kind.body), h11.EndOfMessage()]

    async def request(self, kind: Kind, due: float, sample: Sample) -> None:
        """Make one request that was due at a moment of the loop's clock, and fill in what became of it."""
        loop = asyncio.get_running_loop()
        sample.late = loop.time() - due
        patience = kind.own_seconds + self.plan.timeout
        try:
            async with asyncio.timeout_at(due + patience), self.room:
                sample.status, body = await self._fetch(kind, sample)
            if sample.status not in kind.statuses:
                sample.failure = f"status {sample.status}"
            elif kind.contains not in body:
                sample.failure = f"an answer without {kind.contains.decode(errors='replace')!r}"
        except _Failed as error:
            sample.failure = str(error)
        except TimeoutError:
            sample.failure = f"no answer in {patience:g} s"
        sample.beyond = loop.time() - due - kind.own_seconds

    async def _fetch(self, kind: Kind, sample: Sample) -> tuple[int, bytes]:
        while self.idle and not kind.new_connection:
            connection = self.idle.pop()
            if not connection.open:
                connection.writer.close()
                continue
            try:
                return await self._ask(connection, kind)
            except _Unanswered:
                if not kind.repeatable:
                    raise _Failed("kept-alive connection closed before the answer") from None
                sample.retried = True
                break
        return await self._ask(await self._connect(), kind)

    async def _connect(self) -> _Connection:
        plan = self.plan
        try:
            streams = await asyncio.open_connection(plan.address, plan.port, ssl=self.trust, server_hostname=plan.host)
        except ssl.SSLCertVerificationError as error:
            raise _Failed(f"certificate refused: {error.verify_message}") from None
        except OSError as error:
            raise _Failed(f"no connection: {error}") from None
        return _Connection(*streams, h11.Connection(our_role=h11.CLIENT))

    async def _ask(self, connection: _Connection, kind: Kind) -> tuple[int, bytes]:
        """Ask on a connection, and keep it for the next request where both sides may use it again."""
        try:
            answer = await connection.ask(self.requests[kind.name])
        except BaseException:
            connection.writer.transport.abort()
            raise
        if connection.http.our_state is connection.http.their_state is h11.DONE:
            connection.http.start_next_cycle()
            self.idle.append(connection)
        else:
            connection.writer.close()
        return answer

    async def stream(self, pipe: Pipe) -> Result:
        """Send what the plan says until its time is over or the pipe has news; then wait for the answers."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def stop() -> None:
            stopped.set()
            loop.remove_reader(pipe.fileno())

        loop.add_reader(pipe.fileno(), stop)
        plan, samples = self.plan, []
        started, used = loop.time(), time.process_time()
        pipe.send(started)
        async with asyncio.TaskGroup() as tasks:
            for number, kind in enumerate(itertools.islice(turns(plan.kinds), round(plan.rate * plan.seconds))):
                at = number / plan.rate
                await asyncio.sleep(started + at - loop.time())
                if stopped.is_set():
                    break
                samples.append(Sample(at, kind.name))
                tasks.create_task(self.request(kind, started + at, samples[-1]))
            seconds = max(len(samples) / plan.rate, loop.time() - started)
        for connection in self.idle:
            connection.writer.transport.abort()
        return Result(started, seconds, samples, time.process_time() - used)


def work(descriptor: int) -> None:
    """The generator's process: it gets its plan from a pipe, and ends with it, so that it never outlives its caller."""
    # Ctrl-C is the caller's, which then stops the stream and shows what there is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Pipe(descriptor)
    client = _Client(pipe.recv())
    result = asyncio.run(client.stream(pipe))
    with contextlib.suppress(BrokenPipeError):
        pipe.send(result)


def main() -> int:
    """Run a load and print its table; 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", required=True, help="https:// and the name of the site")
    parser.add_argument("--address", default="", help="where to connect, in place of what the name resolves to")
    parser.add_argument("--root", type=Path, help="PEM file with the only authority to trust")
    parser.add_argument("--mix", choices=sorted(MIXES), default="forge", help="what is asked for (traffic.py)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; Ctrl-C ends it before")
    parser.add_argument("--threshold", type=float, default=1.0, help="seconds beyond its own time that are shown")
    parser.add_argument("--json", type=Path, help="file that gets every request as a line of JSON")
    chosen = parser.parse_args()
    try:
        load = Load(
            chosen.url,
            MIXES[chosen.mix],
            rate=chosen.rate,
            seconds=chosen.seconds,
            address=chosen.address,
            root=chosen.root,
        )
    except ValueError as error:
        parser.error(str(error))
    with load:
        try:
            result = load.wait()
        except KeyboardInterrupt:
            result = load.stop()
    print(result.table(chosen.threshold))
    if chosen.json:
        result.write(chosen.json)
    return 1 if result.failed else 0


if __name__ == "__main__":
    # As a module: what passes through the pipe must have the same name on both sides.
    import load

    sys.exit(load.main())
