"""Takes secrets out of what is about to leave the process: log lines, reports of errors.

What is read here is what strangers send, so each pattern takes time in proportion to the text: a name is looked at from
its first character only, and once.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# journald cuts a line in two after 48 kB.
MAX_CHARACTERS = 32_000

_HEADER_WORDS = r"authorization|cookie"
_WORDS = r"passw|passphrase|pwd|credential|token|secret|(?:api|access|private)[_-]?key|session[_-]?id|dsn"
SECRET_NAME = re.compile(rf"{_WORDS}|{_HEADER_WORDS}", re.IGNORECASE)

_NAME = r"[\w.-]+"
_NAME_WITH_DASH = r"[\w.]*-[\w.-]*"
# Where a whole name begins that holds one of the words.
_SECRET = rf"(?<![\w.-])(?=[\w.-]*(?:{_WORDS}))"
_SECRET_HEADER = rf"(?<![\w.-])(?=[\w.-]*(?:{_HEADER_WORDS}))"
# name=x, "name": x, name%3Dx, and the pair 'name', 'x'
_IS = r"(?:\\*['\"]?\s*(?:[:=]+|%3[AD])\s*|['\"]\s*,\s*(?=b?['\"]))"
# A quote that is never closed goes on to the end: the text may have been cut.
_QUOTED = r"[\[(]*b?\\*(?:\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?)"
_REST_OF_LINE = r"[^\s'\"][^\r\n]*"
# The end of a URL's password is the last @ before a blank, a quote or the next URL; a port is none.
_PASSWORD = r"(?!\d+[/?#])(?:(?!://)[^\s'\"])*"
PATTERNS = (
    # https://user:password@host, https://token@host
    (rf"(://[^\s:/@'\"]*:){_PASSWORD}@", rf"\1{HIDDEN}@"),
    (r"(://)[^\s:/?#@'\"]+@", rf"\1{HIDDEN}@"),
    # A header with all that follows it: Authorization: Bearer x, 'Cookie': 'a=b; c=d', X-Api-Key: a b
    (rf"({_SECRET_HEADER}{_NAME}{_IS})(?:{_QUOTED}|{_REST_OF_LINE})", rf"\1{HIDDEN}"),
    (rf"({_SECRET}{_NAME_WITH_DASH}:[ \t]+){_REST_OF_LINE}", rf"\1{HIDDEN}"),
    (r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", rf"\1 {HIDDEN}"),
    # password=x, 'token': 'x', "secret": "x"
    (rf"({_SECRET}{_NAME}{_IS})(?:{_QUOTED}|[^\s,;&'\"(){{}}\[\]]+)", rf"\1{HIDDEN}"),
    # Words too common to be looked for elsewhere: ?key=x, &sig=x, &X-Amz-Signature=x
    (r"([?&](?:[\w.-]*[_-])?(?:key|sig|signature)=)[^\s&#'\"]+", rf"\1{HIDDEN}"),
    # A JSON web token
    (r"(?<![\w-])eyJ[\w-]+(?:\.[\w-]+)+", HIDDEN),
)
_COMPILED = [(re.compile(pattern, re.IGNORECASE), replacement) for pattern, replacement in PATTERNS]


def redact(text: str) -> str:
    """Return the text with what looks like a secret replaced. A text that is too long is cut, and says so."""
    left_out = ""
    if len(text) > MAX_CHARACTERS:
        # Not within a word: the beginning of a secret need not look like one.
        end = max(text.rfind(blank, 0, MAX_CHARACTERS) for blank in " \n") + 1
        left_out = f"[{len(text) - end} characters left out]"
        text = text[:end]
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text + left_out


def scrub(value: Any) -> Any:
    """Return a copy of what holds text, with secrets replaced, by names in mappings and pairs, else by looks.

    Bytes become text, and sets lists. What is neither text nor a collection comes back as it is.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {_key(key): HIDDEN if SECRET_NAME.search(str(key)) else scrub(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [scrub(entry) for entry in value]
        if _is_pair_with_secret(entries):
            entries[1] = HIDDEN
        return tuple(entries) if isinstance(value, tuple) else entries
    return value


def _key(key: Any) -> Any:
    """Return a key that JSON takes."""
    return key if key is None or isinstance(key, (int, float)) else redact(str(key))


def _is_pair_with_secret(entries: list[Any]) -> bool:
    if len(entries) != 2 or not all(isinstance(entry, str) for entry in entries):
        return False
    return bool(re.fullmatch(_NAME, entries[0]) and SECRET_NAME.search(entries[0]))
