"""Strict readers of the process environment.

Every reader raises ImproperlyConfigured with one sentence that names the variable and says what to do.
A variable that is set to nothing counts as not set.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = ("true", "1")
FALSE = ("false", "0")


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
    raise ImproperlyConfigured(f"{name} is {value!r}, which is not a boolean: set it to true or false.")


def integer(name: str, default: int, minimum: int = 0) -> int:
    """Return a whole number that is at least the minimum."""
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}, which is not a whole number: set it to digits.") from None
    if number < minimum:
        raise ImproperlyConfigured(f"{name} is {number}, which is too small: set it to {minimum} or more.")
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


def choice(name: str, choices: Sequence[str], default: str) -> str:
    """Return the variable, which must be one of the choices."""
    value = text(name, default)
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}, which is unknown: set it to one of {', '.join(choices)}.")
    return value


def secret(name: str, default: str | None = None) -> str:
    """Return the variable NAME, or what the file named by NAME_FILE holds, without blanks around it.

    Setting both is an error, so that nobody rotates the one that is not read. The value is in no message.
    """
    path = text(f"{name}_FILE", "")
    if not path:
        if os.environ.get(name, "").strip() or default is not None:
            return text(name, default)
        raise ImproperlyConfigured(f"{name} is not set: set {name}, or {name}_FILE to a file that holds it.")
    if os.environ.get(name, "").strip():
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set: keep one of them.")
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ImproperlyConfigured(f"{name}_FILE names {path!r}, which cannot be read: {reason}.") from None
    if not value:
        raise ImproperlyConfigured(f"{name}_FILE names {path!r}, which is empty: put the value into it.")
    return value
