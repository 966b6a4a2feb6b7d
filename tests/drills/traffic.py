"""What a load asks for: kinds of requests, and the mixes of them for the sites that the drills deploy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

# What a client may not send a second time on its own.
ONCE_ONLY = ("POST", "PATCH")


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    `statuses` and `contains` say what a good answer has. `own_seconds` is the time that the site takes on purpose:
    latencies count from there. `weight` is a share: of all kinds together, this one gets weight / sum of weights.
    `new_connection` opens a connection for each request and closes it; else one from the pool is used.
    """

    name: str
    path: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (200,)
    contains: bytes = b""
    own_seconds: float = 0.0
    weight: float = 1.0
    new_connection: bool = False

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"The path of {self.name} is {self.path!r}: let it begin with a slash.")
        if self.weight <= 0:
            raise ValueError(f"The weight of {self.name} is {self.weight}: give it more than 0, or leave the kind out.")

    @property
    def repeatable(self) -> bool:
        """Whether a client may send it again without asking anybody."""
        return self.method not in ONCE_ONLY


def turns(kinds: Sequence[Kind]) -> Iterator[Kind]:
    """Yield the kinds for ever, each by its weight and evenly spread.

    After every sum-of-weights turns each kind has come exactly its weight's times. Chance would now and then send
    several slow requests at once, which then take all threads of a worker: that would be a flaw of the load.
    """
    total = sum(kind.weight for kind in kinds)
    credit = [0.0] * len(kinds)
    while True:
        credit = [had + kind.weight for had, kind in zip(credit, kinds, strict=True)]
        chosen = credit.index(max(credit))
        credit[chosen] -= total
        yield kinds[chosen]


_FORM = b"some form=and its values&" * 80
_FILE = b"0123456789abcdef" * 4096
_ECHO = Kind("post", "/echo", "POST", _FORM, contains=hashlib.sha256(_FORM).hexdigest().encode(), weight=45)

# tests/fixtures/loadable. Weights add up to 200, so that at 200 requests a second they are requests a second.
# One slow request a second keeps two threads busy; a slot has eight.
LOADABLE = (
    Kind("front", "/", contains=b"release", weight=123),
    Kind("front, new", "/", contains=b"release", weight=14, new_connection=True),
    _ECHO,
    replace(_ECHO, name="post, new", weight=5, new_connection=True),
    # More than nginx keeps in memory.
    replace(_ECHO, name="upload", body=_FILE, contains=hashlib.sha256(_FILE).hexdigest().encode(), weight=2),
    Kind("ready", "/readyz", weight=10),
    Kind("slow", "/slow?seconds=2", own_seconds=2, weight=1),
)

# app/. The prompt form keeps nothing, so that it may be sent as often as one likes. Its token only has to be the
# same in the cookie and in the header, together with an Origin of the site's own.
_TOKEN = "l0ad" * 8
_PROMPT = Kind(
    "prompt",
    "/templates/sort-a-bug-report/prompt.txt",
    "POST",
    urlencode({"value-product": "Forge", "value-report": "It is slow while it is deployed."}).encode(),
    {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"csrftoken={_TOKEN}", "X-CSRFToken": _TOKEN},
    contains=b"It is slow while it is deployed.",
    weight=18,
)
FORGE = (
    Kind("list", "/", contains=b"<title>", weight=73),
    Kind("list, new", "/", contains=b"<title>", weight=18, new_connection=True),
    Kind("template", "/templates/sort-a-bug-report/", contains=b"<title>", weight=30),
    Kind("login page", "/login/", contains=b"csrfmiddlewaretoken", weight=30),
    Kind("alive", "/livez", contains=b"ok", weight=29),
    _PROMPT,
    replace(_PROMPT, name="prompt, new", weight=2, new_connection=True),
)

MIXES = {"forge": FORGE, "loadable": LOADABLE}
