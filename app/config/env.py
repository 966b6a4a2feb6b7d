"""Strict readers of the process environment.

Every reader raises ImproperlyConfigured with one sentence that names the variable and says what to do.
A variable that is set to nothing counts as not set.
"""

import os
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = ("true", "1")
FALSE = ("false", "0")
# What fits in a whole number of 32 bits, which the programs behind a setting count with: 68 years in seconds.
LARGEST = 2**31 - 1
LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 4095

_HOST = r"([a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\])"

_repr = reprlib.Repr()
_repr.maxstring = 100


def _wrong(name: str, value: str, what: str) -> ImproperlyConfigured:
    """Return the sentence about a wrong value, which may be of any length."""
    return ImproperlyConfigured(f"{name} is {_repr.repr(value)}, which {what}.")


def text(name: str, default: str | None = None) -> str:
    """Return the variable without surrounding blanks; without a default it is required."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise ImproperlyConfigured(f"{name} is not set: give it a value in the environment.")
    return default


def boolean(name: str, default: bool) -> bool:
    """Return True for true or 1, False for false or 0, in any case; anything else is an error."""
    value = text(name, "").lower()
    if not value:
        return default
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise _wrong(name, value, "is not a boolean: set it to true or false")


def integer(name: str, default: int, minimum: int = 0, maximum: int = LARGEST) -> int:
    """Return a whole number that is at least the minimum and at most the maximum."""
    value = text(name, str(default))
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise _wrong(name, value, "is not a whole number: set it to digits, 18 at most")
    number = int(value)
    if number < minimum:
        raise _wrong(name, value, f"is too small: set it to {minimum} or more")
    if number > maximum:
        raise _wrong(name, value, f"is too large: set it to {maximum} or less")
    return number


def comma_list(name: str, default: Sequence[str] | None = None) -> list[str]:
    """Return the entries between commas, without blanks; without a default at least one is required."""
    entries = [entry.strip() for entry in text(name, None if default is None else "").split(",")]
    entries = [entry for entry in entries if entry]
    if entries:
        return entries
    if default is None:
        raise ImproperlyConfigured(f"{name} has no entry: set it to one value or several with commas between.")
    return list(default)


def hosts(name: str) -> list[str]:
    """Return host names and addresses; .example.org stands for a domain and all below it, * for any host."""
    entries = comma_list(name)
    for entry in entries:
        if not re.fullmatch(rf"\*|{_HOST}", entry):
            raise _wrong(name, entry, "is no host: write names such as forge.example.org, without scheme and port")
    return entries


def origins(name: str, default: Sequence[str] | None = None) -> list[str]:
    """Return origins, scheme and host as a browser sends them; the host may begin with *."""
    entries = comma_list(name, default)
    for entry in entries:
        if not re.fullmatch(rf"https?://(\*\.)?{_HOST}(:[0-9]+)?", entry):
            raise _wrong(name, entry, "is no origin: write https:// and a host, such as https://forge.example.org")
    return entries


def header_url(name: str, default: str) -> str:
    """Return a URL, or a path on the site itself, that ends no header and no directive in it."""
    value = text(name, default)
    if value and not (value.isascii() and re.fullmatch(r"(https?:/)?/[^\s;,\x00-\x1f]+", value)):
        raise _wrong(name, value, "is no URL for a header: write one with ; and , and blanks percent-encoded")
    return value


def path(name: str, default: str | None = None) -> str:
    """Return an absolute path, of which nothing has to be there yet. A default of "" stands for none."""
    value = text(name, default)
    if value and not value.startswith("/"):
        raise _wrong(name, value, "is not absolute: write the whole path, which begins with /")
    encoded = os.fsencode(value)
    if len(encoded) > LONGEST_PATH_BYTES or any(len(part) > LONGEST_NAME_BYTES for part in encoded.split(b"/")):
        raise _wrong(
            name, value, f"is longer than a path can be: {LONGEST_NAME_BYTES} bytes between two / are the most"
        )
    return value


def choice(name: str, choices: Sequence[str], default: str) -> str:
    """Return the variable, which must be one of the choices."""
    value = text(name, default)
    if value not in choices:
        raise _wrong(name, value, f"is unknown: set it to one of {', '.join(choices)}")
    return value


def secret(name: str, default: str | None = None, min_length: int = 0) -> str:
    """Return the variable NAME, or what the file named by NAME_FILE holds, without blanks around it.

    Setting both is an error, so that nobody rotates the one that is not read. The value is in no message.
    """
    value = _secret(name, default)
    if len(value) < min_length:
        raise ImproperlyConfigured(f"{name} is too short: give it {min_length} characters or more.")
    return value


def _secret(name: str, default: str | None) -> str:
    file = text(f"{name}_FILE", "")
    if not file:
        if os.environ.get(name, "").strip() or default is not None:
            return text(name, default)
        raise ImproperlyConfigured(f"{name} is not set: set {name}, or {name}_FILE to a file that holds it.")
    if os.environ.get(name, "").strip():
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set: keep one of them.")
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ImproperlyConfigured(f"{name}_FILE names {_repr.repr(file)}, which cannot be read: {reason}.") from None
    if not value:
        raise ImproperlyConfigured(f"{name}_FILE names {_repr.repr(file)}, which is empty: put the value into it.")
    return value
