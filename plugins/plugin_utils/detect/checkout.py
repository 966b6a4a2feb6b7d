# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a checkout, read and parsed, never imported; and what the readers beside share about Python code."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.groundwork.django.plugins.plugin_utils.source_tree import Patterns

MOST_FILES = 100_000
MOST_BYTES = 4_000_000
#: directories that hold examples of projects rather than the project
ASIDE = frozenset({"tests", "test", "testing", "example", "examples", "demo", "docs", "doc", "sandbox"})


class DetectionError(Exception):
    """A directory that no variables can be proposed for, said in one sentence."""


@dataclass(frozen=True)
class Fact:
    """A text that was read, and ``place``, the file and line it was read from."""

    value: str
    place: str


@dataclass
class Checkout:
    """A directory with a project. ``subdir`` is where manage.py is below ``root``; Python starts from there.

    root: an absolute path. Raises DetectionError where it is no directory, or far too large for one project.
    """

    root: str
    subdir: str = ""
    files: frozenset[str] = field(init=False)
    #: files that are no Python, with the reason
    unreadable: dict[str, str] = field(init=False, default_factory=dict)
    _trees: dict[str, ast.Module | None] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not os.path.isdir(self.root):
            raise DetectionError(f'source is "{self.root}", which is no directory of this machine: name a checkout.')
        found = []
        for path in self._walk():
            found.append(path)
            if len(found) > MOST_FILES:
                raise DetectionError(
                    f'source is "{self.root}", which has more than {MOST_FILES} files: name one project.'
                )
        self.files = frozenset(found)

    def _walk(self) -> Iterator[str]:
        """Relative paths of the files that would be released; virtualenvs have all kinds of names."""
        patterns = Patterns([])
        for folder, folders, names in os.walk(self.root):
            below = os.path.relpath(folder, self.root)
            below = "" if below == "." else f"{below}/"
            folders[:] = sorted(
                name
                for name in folders
                if not patterns.match(below + name) and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
            )
            for name in names:
                path = below + name
                if not patterns.match(path) and self._is_own(os.path.join(folder, name)):
                    yield path

    def _is_own(self, path: str) -> bool:
        """Whether it is a file, and no link that leads out of the checkout."""
        if os.path.islink(path):
            root = os.path.realpath(self.root)
            return os.path.isfile(path) and os.path.commonpath([root, os.path.realpath(path)]) == root
        return os.path.isfile(path)

    def named(self, name: str, deepest: int = 99) -> list[str]:
        """The files of that name, those near the top first and those of tests and examples last."""
        found = [path for path in self.files if path.rpartition("/")[2] == name and path.count("/") <= deepest]
        return sorted(found, key=lambda path: (bool(ASIDE & set(path.split("/"))), path.count("/"), path))

    def text(self, path: str) -> str:
        """What a file holds, its first 4 megabytes; nothing where it is missing or may not be read."""
        if path not in self.files and not path.startswith(".git/"):
            return ""
        try:
            with open(os.path.join(self.root, path), encoding="utf-8-sig", errors="replace") as stream:
                return stream.read(MOST_BYTES)
        except OSError:
            return ""

    def place(self, path: str, needle: str) -> str:
        """File and line of the first line that holds ``needle``; the file alone where none does."""
        for number, line in enumerate(self.text(path).splitlines(), start=1):
            if needle in line:
                return f"{path}:{number}"
        return path

    def tree(self, path: str) -> ast.Module | None:
        """A Python file, parsed; None, and a line in ``unreadable``, where it is none."""
        if path not in self._trees:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._trees[path] = ast.parse(self.text(path))
            except SyntaxError as error:
                self._trees[path] = None
                self.unreadable[path] = f"line {error.lineno}: {error.msg}"
            except (ValueError, RecursionError) as error:
                self._trees[path] = None
                self.unreadable[path] = str(error)
        return self._trees[path]

    def nodes(self, *paths: str) -> Iterator[tuple[str, ast.AST]]:
        """Every node of these files that has a line, with its file."""
        for path in paths:
            for node in ast.walk(self.tree(path) or ast.Module([], [])):
                if hasattr(node, "lineno"):
                    yield path, node

    def module(self, name: str) -> str | None:
        """The file of a module, where it is part of the project."""
        relative = name.replace(".", "/")
        for base in dict.fromkeys((self.subdir, f"{self.subdir}/src".strip("/"), "", "src")):
            start = f"{base}/{relative}" if base else relative
            for path in (f"{start}/__init__.py", f"{start}.py"):
                if path in self.files:
                    return path
        return None

    def module_name(self, path: str) -> str:
        """What Python calls a file of the project."""
        for base in dict.fromkeys((f"{self.subdir}/src".strip("/"), self.subdir, "src")):
            if base and path.startswith(f"{base}/"):
                path = path[len(base) + 1 :]
                break
        return re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")


def dotted(node: ast.AST) -> str:
    """``os.environ.get`` for the expression that says so; calls on the way count as their function; else nothing."""
    if isinstance(node, ast.Call):
        return dotted(node.func)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST | None) -> str | None:
    """The text of a constant; None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def texts_in(node: ast.AST) -> list[str]:
    """Every constant text in an expression."""
    return [text for part in ast.walk(node) if (text := text_of(part)) is not None]


def first_text(node: ast.AST) -> str | None:
    """The first argument of a call, where it is a constant text."""
    return text_of(node.args[0]) if isinstance(node, ast.Call) and node.args else None
