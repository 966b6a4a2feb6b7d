# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A release from an archive: download it, hold it against its checksum, unpack it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import urllib.error
import urllib.request
import zipfile

from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.slots import first_line

TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1 << 20
ZIP = b"PK\x03\x04"
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def digest_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    whole = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            whole.update(block)
    return whole.hexdigest()


def download(url: str, path: str) -> None:
    """Write what a URL leads to into a file. TIMEOUT_SECONDS count for each silence. Raises Refusal."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, open(path, "wb") as stream:
            shutil.copyfileobj(answer, stream, BLOCK_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        status = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise Refusal(f"{url} cannot be had: {status}{reason}") from error


def check(path: str, name: str, wanted: str) -> None:
    """Raise a Refusal where a file has not the SHA-256 that it shall have."""
    found = digest_of(path)
    if found != wanted:
        raise Refusal(
            f"{name} has the checksum sha256:{found} instead of sha256:{wanted}: find out why before you trust it"
        )


def unpack(path: str, directory: str, name: str) -> None:
    """Unpack a tar or zip archive into an empty directory. Raises Refusal.

    A single directory that holds everything is left out. name: what the archive is called in a sentence.
    """
    try:
        if zipfile.is_zipfile(path) and _begin(path).startswith(ZIP):
            _unpack_zip(path, directory)
        else:
            _unpack_tar(path, directory)
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise Refusal(f"{name} cannot be unpacked: {error}") from error
    names = os.listdir(directory)
    top = os.path.join(directory, names[0]) if len(names) == 1 else ""
    if top and os.path.isdir(top) and not os.path.islink(top):
        # It may hold an entry of its own name.
        outside = f"{directory}.top"
        os.rename(top, outside)
        os.rmdir(directory)
        os.rename(outside, directory)
        os.chmod(directory, 0o755)
    elif not names:
        raise Refusal(f"{name} holds nothing")


def _begin(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(8)


def _unpack_tar(path: str, directory: str) -> None:
    """By GNU tar, which writes nothing outside of the directory; it need not know how the archive is packed."""
    begin = _begin(path)
    opener = next((opener for magic, opener in COMPRESSIONS.items() if begin.startswith(magic)), open)
    plain = f"{directory}.tar"
    with opener(path, "rb") as packed, open(plain, "wb") as stream:
        shutil.copyfileobj(packed, stream, BLOCK_BYTES)
    options = ["--no-same-owner", "--no-same-permissions", "--directory", directory]
    code, output = run_merged(["tar", "--extract", "--file", plain, *options])
    os.unlink(plain)
    if code != 0:
        raise OSError(first_line(output))


def _unpack_zip(path: str, directory: str) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            written = archive.extract(entry, directory)
            mode = entry.external_attr >> 16
            if os.path.isfile(written) and mode & stat.S_IXUSR:
                os.chmod(written, 0o755)
