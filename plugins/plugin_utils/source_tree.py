# SPDX-License-Identifier: GPL-3.0-or-later
"""A site's source directory on the controller: what of it travels, its digest, and the archive it travels in.

The same files make the same digest and the same archive on every controller: entries are sorted, and times, owners and
modes are fixed.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator

NEVER = (
    ".git",
    ".hg",
    ".svn",
    ".env",
    ".env.*",
    ".envrc",
    "node_modules",
    "__pycache__",
    "*.pyc",
    ".venv",
    ".tox",
    ".nox",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".coverage",
    ".coverage.*",
    ".hypothesis",
    "htmlcov",
    ".DS_Store",
    "*.sqlite3",
    "*.sqlite3-*",
    "/media",
    "/staticfiles",
)
"""Patterns of what never travels, unless an exclude of the user takes one back with "!"."""

MTIME = 946684800
"""Time of every file in an archive: the first second of the year 2000."""


class SourceError(Exception):
    """A source that cannot be used, said in one sentence."""


class Patterns:
    """Names that do not travel.

    patterns: as of a shell; with a slash at the begin it is about the top of the tree, with one elsewhere about the
    whole path, without one about the name at any depth; "!" in front takes earlier ones back. The last match decides.
    """

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = [(text.lstrip("!").rstrip("/"), text.startswith("!")) for text in (*NEVER, *patterns)]

    def match(self, path: str) -> bool:
        """Whether a path, relative to the top, does not travel."""
        excluded = False
        for pattern, keeps in self.patterns:
            if "/" in pattern:
                hit = fnmatch.fnmatchcase(path, pattern.lstrip("/"))
            else:
                hit = fnmatch.fnmatchcase(path.rpartition("/")[2], pattern)
            if hit:
                excluded = not keeps
        return excluded


def entries(root: str, exclude: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Relative paths and their status, sorted; of directories only what is in them, so that empty ones do not count.

    Raises SourceError for a root that is no directory, and for a link that leads out of it.
    """
    if not os.path.isdir(root):
        raise SourceError(f"{root} is not a directory on the controller.")
    patterns = Patterns(exclude)

    def walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
        for name in sorted(os.listdir(os.path.join(root, folder))):
            path = os.path.join(folder, name) if folder else name
            full = os.path.join(root, path)
            if patterns.match(path):
                continue
            info = os.lstat(full)
            if stat.S_ISDIR(info.st_mode):
                # Virtualenvs have all kinds of names.
                if not os.path.exists(os.path.join(full, "pyvenv.cfg")):
                    yield from walk(path)
            elif stat.S_ISLNK(info.st_mode):
                target = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(full)))
                if os.path.isabs(target) or target.split(os.sep)[0] == os.pardir:
                    raise SourceError(f"{full} is a link that leads out of the source: remove or exclude it.")
                yield path, info
            elif stat.S_ISREG(info.st_mode):
                yield path, info

    yield from walk("")


def digest_file(path: str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest(root: str, exclude: list[str]) -> str:
    """SHA-256 over paths, contents, links and executable bits. Raises SourceError."""
    whole = hashlib.sha256()
    count = 0
    for path, info in entries(root, exclude):
        full = os.path.join(root, path)
        if stat.S_ISLNK(info.st_mode):
            what = f"link {os.readlink(full)}"
        else:
            what = f"{'x' if info.st_mode & 0o100 else '-'} {digest_file(full)}"
        whole.update(f"{path}\0{what}\0".encode("utf-8", "surrogateescape"))
        count += 1
    if not count:
        raise SourceError(f"{root} has no file that could be released.")
    return whole.hexdigest()


def archive(root: str, exclude: list[str], target: str) -> None:
    """Write a gzipped tar archive of the source. Raises SourceError."""
    with (
        open(target, "wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, info in entries(root, exclude):
            full = os.path.join(root, path)
            member = tarfile.TarInfo(path)
            member.mtime = MTIME
            if stat.S_ISLNK(info.st_mode):
                member.type = tarfile.SYMTYPE
                member.linkname = os.readlink(full)
                tar.addfile(member)
                continue
            member.mode = 0o755 if info.st_mode & 0o100 else 0o644
            with open(full, "rb") as stream:
                content = stream.read()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
