# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read and make certificates with the openssl command: no Python package is needed on the host."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from typing import NamedTuple

from ansible_collections.groundwork.django.plugins.module_utils.commands import MISSING, run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

_NAME = re.compile(r"DNS:([^,\s]+)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BEGIN = re.compile(r"^notBefore=(.+)$", re.MULTILINE)
_END = re.compile(r"^notAfter=(.+)$", re.MULTILINE)
_SERIAL = re.compile(r"^serial=([0-9A-Fa-f]+)$", re.MULTILINE)
_PUBLIC_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


class Certificate(NamedTuple):
    """What the first certificate of a PEM text says about itself."""

    names: tuple[str, ...]
    """Host names that it is for, in lower case and sorted."""
    begins: datetime
    """When it begins to be valid, in UTC."""
    ends: datetime
    """When it expires, in UTC."""
    serial: str
    """Serial number as hexadecimal digits in upper case."""
    public_key: str
    """Its public key in PEM form."""

    def covers(self, domain: str) -> bool:
        """Whether a client accepts it for a domain."""
        domain = domain.lower()
        return domain in self.names or f"*.{domain.partition('.')[2]}" in self.names

    def days_left(self) -> float:
        """Days until it expires; negative after that."""
        return (self.ends - datetime.now(timezone.utc)).total_seconds() / 86400


def available() -> bool:
    """Whether there is an openssl command."""
    return shutil.which("openssl") is not None


def _openssl(arguments: list[str], text: str = "") -> tuple[int, str, str]:
    """Run openssl with `text` as its input. Returns exit code, output and errors. Raises Refusal without openssl."""
    code, output, errors = run(["openssl", *arguments], given=text)
    if code == MISSING:
        raise Refusal("openssl is not installed on the host.")
    return code, output, errors


def _moment(text: str) -> datetime:
    """A time as openssl writes it, such as "Jan  2 03:04:05 2027 GMT"; strptime would expect the host's language."""
    month, day, clock, year = text.split()[:4]
    hour, minute, second = (int(part) for part in clock.split(":"))
    return datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=timezone.utc)


def read_certificate(text: str) -> Certificate | None:
    """The first certificate of a PEM text; None where there is none that openssl understands."""
    wanted = ["x509", "-noout", "-startdate", "-enddate", "-serial", "-pubkey", "-ext", "subjectAltName"]
    code, output, _errors = _openssl(wanted, text)
    begin, end = _BEGIN.search(output), _END.search(output)
    serial, key = _SERIAL.search(output), _PUBLIC_KEY.search(output)
    if code != 0 or not begin or not end or not serial or not key:
        return None
    names = tuple(sorted({name.lower() for name in _NAME.findall(output)}))
    return Certificate(names, _moment(begin.group(1)), _moment(end.group(1)), serial.group(1).upper(), key.group(0))


def public_key_of(private_key: str) -> str | None:
    """Public key, in PEM form, of a private key in PEM form; None where it is no key or needs a passphrase."""
    code, output, _errors = _openssl(["pkey", "-pubout", "-passin", "pass:"], private_key)
    found = _PUBLIC_KEY.search(output)
    return found.group(0) if code == 0 and found else None


def make_selfsigned(names: list[str], days: int) -> tuple[str, str]:
    """Certificate and private key (ECDSA P-256) in PEM form for host names. Raises Refusal where openssl fails."""
    code, key, errors = _openssl(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    if code == 0:
        # A common name holds 64 characters at most; clients look at the alternative names only.
        code, certificate, errors = _openssl(
            [
                "req", "-x509", "-new", "-sha256", "-key", "/dev/stdin", "-days", str(days),
                "-subj", f"/CN={names[0][:64]}",
                "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
                "-addext", "extendedKeyUsage=serverAuth",
            ],
            key,
        )  # fmt: skip
    if code != 0:
        raise Refusal(f"openssl could not make a self-signed certificate for {names[0]}: {errors.strip()}")
    return certificate, key
