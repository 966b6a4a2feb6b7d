# SPDX-License-Identifier: GPL-3.0-or-later
"""What the suffix of a variable's name promises about its value.

``nginx_https_port`` is a port, ``certbot_email`` an address, ``backups_on_calendar`` a systemd calendar event. A check
returns ``None`` for a good value, or a :class:`Fault`, from which the caller makes one sentence:
``<name> is <value>, which is not <what>: <remedy>.``
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit


class Fault(NamedTuple):
    """Why a value is wrong: ``what`` it should have been, and the ``remedy``; both are parts of a sentence."""

    what: str
    remedy: str


Check = Callable[[object], "Fault | None"]

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z", re.IGNORECASE)
_LINUX_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}\Z")
_SYSTEM_DIRECTORIES = frozenset(
    (
        *("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp"),
        *("/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/share", "/var", "/var/lib", "/var/log"),
    )
)
_SIZE = re.compile(r"[0-9]{1,9}[kKmMgG]?\Z")
_SPAN = r"[0-9]+ ?(?:s|sec|m|min|h|hour|hours|d|day|days|w|week|weeks|mo|y)"
_DURATION = re.compile(rf"(?:-1|[0-9]+|{_SPAN}(?: ?{_SPAN})*)\Z")
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z")
_EMAIL_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._~:=<>!,*/\[\]-]*\Z")
_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!//)\S+\Z")
_UNIT_SETTING = re.compile(r"[A-Z][A-Za-z0-9]+\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z", re.IGNORECASE)

_SHORTHANDS = frozenset(
    [
        "minutely",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "quarterly",
        "semiannually",
        "yearly",
        "annually",
        "biannually",
        "bi-annually",
        "semi-annually",
    ]
)
_DAY = r"(?:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:r(?:s(?:day)?)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_DAYS = re.compile(rf"{_DAY}(?:(?:\.\.|-){_DAY})?(?:,{_DAY}(?:(?:\.\.|-){_DAY})?)*,?\Z", re.IGNORECASE)
_ZONE = re.compile(r"(?:UTC|GMT|[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+){1,2})\Z")
_PART = re.compile(r"(?:\*|([0-9]+(?:\.[0-9]+)?)(?:\.\.([0-9]+(?:\.[0-9]+)?))?)(?:/([0-9]+(?:\.[0-9]+)?))?\Z")


def host_name(value: object) -> Fault | None:
    """A name as DNS has it: ``example.org``; no scheme, port, path, wildcard or address; IDNA names as ``xn--``."""
    text = str(value)
    what = "a host name"
    if not text.strip():
        return Fault(what, 'write a name like "example.org"')
    if "://" in text:
        return Fault(what, f'leave out "{text.split("://", 1)[0]}://"')
    if text.startswith("*."):
        return Fault(
            "a host name that a certificate can be issued for over HTTP", "list each name instead of a wildcard"
        )
    if not text.isascii():
        try:
            return Fault(what, f'write it in its ASCII form, "{text.encode("idna").decode("ascii")}"')
        except UnicodeError:
            return Fault(what, "use letters, digits and hyphens only")
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        pass
    else:
        return Fault("a host name but an address", "give the host a name in DNS and write that")
    if "/" in text:
        return Fault(what, "leave out the path")
    if re.search(r":[0-9]*\Z", text):
        return Fault(what, "leave out the port")
    if text.endswith("."):
        return Fault(what, "leave out the dot at the end")
    if len(text) > 253:
        return Fault(what, "it may have 253 characters at most")
    labels = text.split(".")
    if "" in labels:
        return Fault(what, "there is an empty part between two dots")
    if "_" in text:
        return Fault(what, "an underscore is not allowed in a host name, a hyphen is")
    if not all(_LABEL.match(label) for label in labels) or labels[-1].isdigit():
        return Fault(what, 'use letters, digits and hyphens, like "www.example.org"')
    return None


def port(value: object) -> Fault | None:
    """A TCP or UDP port, 1 to 65535."""
    number = _whole(value)
    if number is None or not 1 <= number <= 65535:
        return Fault("a port", "write a number from 1 to 65535")
    return None


def email(value: object) -> Fault | None:
    """One mail address, without a display name."""
    what = "an e-mail address"
    local, at, domain = str(value).rpartition("@")
    if not at or not _EMAIL_LOCAL.match(local) or host_name(domain) or "." not in domain:
        return Fault(what, 'write one like "admin@example.org"')
    return None


def url(value: object) -> Fault | None:
    """An absolute URL with scheme and host, a path after ``unix://`` or ``file://``, or git's ``user@host:path``."""
    what = "a URL"
    text = str(value)
    if _SCP.match(text):
        return None
    if re.search(r"\s", text):
        return Fault(what, "take out the white space")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return Fault(what, "its host or its port is malformed")
    if not _SCHEME.match(parts.scheme) or "://" not in text:
        return Fault(what, 'begin it with a scheme, like "https://"')
    if not parts.netloc and not parts.path.startswith("/"):
        return Fault(what, "the host is missing")
    if not parts.netloc and parts.scheme in ("http", "https"):
        return Fault(what, "the host is missing")
    return None


def url_path(value: object) -> Fault | None:
    """A path of the site such as ``/static/``, or an absolute URL; both end with a slash."""
    text = str(value)
    if not text.endswith("/") or not (re.match(r"/[A-Za-z0-9._~/-]*\Z", text) or url(text) is None):
        return Fault("a path of the site", 'begin and end it with a slash, like "/static/"')
    return None


def network(value: object) -> Fault | None:
    """An IPv4 or IPv6 address or network; host bits must be zero."""
    text = str(value)
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            whole = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return Fault("an address or network", 'write one like "192.0.2.0/24" or "2001:db8::/32"')
        return Fault("a network", f'its address has bits beyond the mask; write "{whole}"')
    return None


def size(value: object) -> Fault | None:
    """A size as nginx has it: a number, or a number with k, m or g."""
    if isinstance(value, bool) or not _SIZE.match(str(value)):
        return Fault("a size", 'write a number with k, m or g, like "10m"')
    return None


def amount(value: object) -> Fault | None:
    """A whole number of the unit that the name ends with, zero or more."""
    number = _whole(value)
    if number is None or number < 0:
        return Fault("a whole number of zero or more", "write only the number, the name has the unit")
    return None


def confirmation(value: object) -> Fault | None:
    """Seconds in which a change of the way in has to be confirmed: enough to log in once, or 0 for no proof."""
    number = _whole(value)
    if number is None or not (number == 0 or 15 <= number <= 900):
        return Fault(
            "0 or a number from 15 to 900",
            "give the host time for one login, but keep nobody out for longer than needed; 0 is no proof",
        )
    return None


def unit_settings(value: object) -> Fault | None:
    """Settings of a systemd unit: names as systemd.exec(5) has them, each value on one line."""
    for name, setting in dict(value).items():
        if not _UNIT_SETTING.match(str(name)) or "\n" in str(setting) or "\r" in str(setting):
            shown = re.sub(r"\s", " ", str(name))
            return Fault("made of settings of a unit", f"write {shown} as systemd.exec(5) has it, and on one line")
    return None


def duration(value: object) -> Fault | None:
    """A time span as fail2ban has it: seconds, or 10m, 1h, 1d; -1 is for ever."""
    if isinstance(value, bool) or not _DURATION.match(str(value)):
        return Fault("a time span", 'write seconds, or a number with m, h, d or w, like "10m"')
    return None


def clock(value: object) -> Fault | None:
    """A time of day, ``HH:MM``."""
    if not _CLOCK.match(str(value)):
        return Fault("a time of day", 'write hours and minutes in quotes, like "04:30"')
    return None


def calendar(value: object) -> Fault | None:
    """A systemd calendar event (``OnCalendar=``): ``daily``, ``Mon..Fri 02:30``, ``*-*-01 04:00:00 UTC``."""
    fault = Fault("a systemd calendar event", 'write one like "*-*-* 02:30" or "daily"')
    words = str(value).split()
    if words and _ZONE.match(words[-1]) and len(words) > 1:
        words.pop()
    if len(words) == 1 and words[0].lower() in _SHORTHANDS:
        return None
    if words and _DAYS.match(words[0]):
        words.pop(0)
        if not words:
            return None
    date = words.pop(0) if words and ":" not in words[0] else None
    time = words.pop(0) if words else None
    if words or (date is None and time is None):
        return fault
    if date is not None and not _calendar_date(date):
        return fault
    if time is not None and not _calendar_time(time):
        return fault
    return None


def absolute_path(value: object) -> Fault | None:
    """An absolute path without control characters."""
    text = str(value)
    if not text.startswith("/"):
        return Fault("an absolute path", 'begin it with "/"')
    if re.search(r"[\x00-\x1f\x7f]", text):
        return Fault("an absolute path on one line", "take out the control characters")
    if os.path.normpath(f"/{text.lstrip('/')}") in _SYSTEM_DIRECTORIES:
        return Fault("a path of its own", "that directory belongs to the system: name one below it")
    return None


def linux_name(value: object) -> Fault | None:
    """A name of a user or group as useradd takes it."""
    if not _LINUX_NAME.match(str(value)):
        return Fault(
            "a Linux user or group name",
            "use at most 31 lower-case letters, digits, hyphens and underscores, with a letter first",
        )
    return None


def package(value: object) -> Fault | None:
    """A package's name, with a version if wanted; no white space and no options."""
    if not isinstance(value, str) or not _PACKAGE.match(value):
        return Fault("a package name", "write one name for each line of the list")
    return None


def _whole(value: object) -> int | None:
    """The integer that ``value`` stands for, or None."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None


def _within(text: str, low: int, high: int) -> bool:
    """Whether a comma list of ``*``, ``n``, ``n..m`` and ``/step`` stays inside low and high."""
    for part in text.split(","):
        match = _PART.match(part)
        if not match:
            return False
        first, last, step = match.groups()
        bounds = [float(number) for number in (first, last) if number is not None]
        if any(not low <= number < high + 1 for number in bounds) or bounds != sorted(bounds):
            return False
        if step is not None and float(step) <= 0:
            return False
    return True


def _calendar_date(text: str) -> bool:
    """Whether ``text`` is [year-]month-day of a calendar event; ``~`` counts days from the month's end."""
    parts = text.replace("~", "-").split("-")
    if len(parts) == 3 and _within(parts[0], 0, 9999):
        parts = parts[1:]
    return len(parts) == 2 and _within(parts[0], 1, 12) and _within(parts[1], 1, 31)


def _calendar_time(text: str) -> bool:
    """Whether ``text`` is hour:minute[:second] of a calendar event."""
    parts = text.split(":")
    if len(parts) not in (2, 3):
        return False
    return all(_within(part, 0, high) for part, high in zip(parts, (23, 59, 59), strict=False))


#: suffix of the name -> (the types of the spec it speaks about, the check of one value)
KINDS: dict[str, tuple[frozenset[str], Check]] = {
    **dict.fromkeys(("port", "ports"), (frozenset({"int"}), port)),
    **dict.fromkeys(("domain", "domains"), (frozenset({"str"}), host_name)),
    **dict.fromkeys(("email", "emails"), (frozenset({"str"}), email)),
    "url": (frozenset({"str"}), url),
    **dict.fromkeys(("static_url", "media_url"), (frozenset({"str"}), url_path)),
    **dict.fromkeys(("network", "networks"), (frozenset({"str"}), network)),
    "size": (frozenset({"str"}), size),
    **dict.fromkeys(
        ("kilobytes", "megabytes", "gigabytes", "milliseconds", "seconds", "minutes", "hours", "days", "count"),
        (frozenset({"int"}), amount),
    ),
    "confirm_seconds": (frozenset({"int"}), confirmation),
    "unit_settings": (frozenset({"dict"}), unit_settings),
    **dict.fromkeys(("ban_time", "find_time"), (frozenset({"str"}), duration)),
    "on_calendar": (frozenset({"str"}), calendar),
    **dict.fromkeys(("directory", "file", "path"), (frozenset({"str", "path"}), absolute_path)),
    **dict.fromkeys(("user", "group"), (frozenset({"str"}), linux_name)),
    "packages": (frozenset({"str"}), package),
    "time": (frozenset({"str"}), clock),
}


def kind_of(name: str, type_name: str) -> Check | None:
    """The check for a value, or for each element of a list.

    ``name`` is a variable or the key of a nested option; its longest known suffix counts. ``type_name`` is the spec's
    type of the value (of the elements, for a list); a ``path`` is absolute whatever its name. Returns None where the
    name promises nothing about that type. A key named just ``path`` may be a path in a URL or on the controller.
    """
    words = name.split("_")
    if type_name == "str" and name in ("directory", "file", "path"):
        return None
    for start in range(len(words)):
        found = KINDS.get("_".join(words[start:]))
        if found:
            return found[1] if type_name in found[0] else None
    return absolute_path if type_name == "path" else None
