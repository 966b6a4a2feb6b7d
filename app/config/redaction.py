"""Takes secrets out of what is about to leave the process: log lines, reports of errors."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SECRET_KEY = re.compile(r"passw|token|secret|authorization|cookie|api[_-]?key|private[_-]?key|session[_-]?id|dsn", re.I)

_WORD = r"[\w.-]*(?:passw(?:or)?d|token|secret|api[_-]?key|private[_-]?key|sessionid)[\w.-]*"
_IS = r"['\"]?\s*[:=]\s*"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
PATTERNS = (
    # https://user:password@host
    (r"(://[^\s:/@'\"]*:)[^\s/@'\"]+@", rf"\1{HIDDEN}@"),
    # A header with all that follows it: Authorization: Bearer x, 'Cookie': 'a=b; c=d'
    (rf"((?:proxy-)?authorization|(?:set-)?cookie)({_IS})(?:{_QUOTED}|[^\r\n'\"]+)", rf"\1\2{HIDDEN}"),
    (r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", rf"\1 {HIDDEN}"),
    # password=x, 'token': 'x', "secret": "x"
    (rf"({_WORD})({_IS})(?:{_QUOTED}|[^\s,;&'\"(){{}}\[\]]+)", rf"\1\2{HIDDEN}"),
)
_COMPILED = [(re.compile(pattern, re.IGNORECASE), replacement) for pattern, replacement in PATTERNS]


def redact(text: str) -> str:
    """Return the text with what looks like a secret replaced."""
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text


def scrub(value: Any) -> Any:
    """Return a copy of what holds text, with secrets replaced: by their keys in mappings, by their looks in text.

    What is neither text nor a list, a tuple or a mapping comes back as it is.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if SECRET_KEY.search(str(key)) else scrub(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [scrub(entry) for entry in value]
    if type(value) is tuple:
        return tuple(scrub(entry) for entry in value)
    return value
