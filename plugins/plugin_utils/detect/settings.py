# SPDX-License-Identifier: GPL-3.0-or-later
"""Which module a project's settings are, which files they are made of, and what some of them say."""

from __future__ import annotations

import ast
import fnmatch
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import (
    Checkout,
    Fact,
    dotted,
    first_text,
    text_of,
    texts_in,
)

PRODUCTION = ("production", "prod", "live", "deployment")
#: settings that are never those of a real site
ELSEWHERE = frozenset({"local", "dev", "develop", "development", "test", "tests", "testing", "ci", "docker", "example"})
SHARED = frozenset({"base", "common", "defaults", "default", "settings"})


@dataclass(frozen=True)
class Choice:
    """A settings module, and why it is this one."""

    module: str
    why: str


def named_settings(checkout: Checkout, path: str) -> Fact | None:
    """What a manage.py or wsgi.py gives as DJANGO_SETTINGS_MODULE."""
    for _path, node in checkout.nodes(path):
        module = None
        if isinstance(node, ast.Call) and dotted(node).endswith("environ.setdefault") and len(node.args) == 2:
            module = text_of(node.args[1]) if first_text(node) == "DJANGO_SETTINGS_MODULE" else None
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            is_name = text_of(node.targets[0].slice) == "DJANGO_SETTINGS_MODULE"
            module = text_of(node.value) if is_name else None
        if module:
            return Fact(module, f"{path}:{node.lineno}")
    return None


def choose(checkout: Checkout, starters: list[str]) -> Choice | None:
    """The settings module of a real site: the one that the first of ``starters`` names, or its production sibling."""
    named = next((fact for path in starters if (fact := named_settings(checkout, path))), None)
    if named is None:
        found = [path for path in checkout.named("settings.py", 4) if "INSTALLED_APPS" in checkout.text(path)]
        found += [path for path in checkout.named("__init__.py", 4) if path.endswith("settings/__init__.py")]
        if not found:
            return None
        named = Fact(checkout.module_name(found[0]), f"{found[0]}, a guess by its name")
    sibling = _production_sibling(checkout, named.value)
    if sibling:
        return Choice(sibling, f"a guess by its name; {named.place} has {named.value}")
    return Choice(named.value, named.place)


def _production_sibling(checkout: Checkout, module: str) -> str:
    """The module for production beside one that is not meant for it; nothing where there is none."""
    path = checkout.module(module)
    package, _dot, last = module.rpartition(".")
    if path is None or last in PRODUCTION:
        return ""
    if path.endswith("/__init__.py"):
        tree = checkout.tree(path)
        # A package that works something out chooses by itself.
        if tree is None or any(isinstance(node, (ast.Assign, ast.Call)) for node in ast.walk(tree)):
            return ""
        names = [f"{module}.{name}" for name in PRODUCTION]
    elif "settings" in package or last in ELSEWHERE | SHARED - {"settings"}:
        names = [f"{package}.{name}" for name in PRODUCTION]
    else:
        before = f"{package}." if package else ""
        names = [f"{before}{name}" for word in PRODUCTION for name in (f"{last}_{word}", f"{word}_{last}")]
    return next((name for name in names if checkout.module(name)), "")


def files_of(checkout: Checkout, module: str) -> list[str]:
    """The files that a settings module is made of: itself, and what it imports of the project, in that order."""
    start = checkout.module(module)
    todo = [start] if start else []
    if start and start.endswith("/__init__.py"):
        folder = os.path.dirname(start)
        siblings = sorted(path for path in checkout.files if fnmatch.fnmatch(path, f"{folder}/*.py"))
        todo += [path for path in siblings if os.path.dirname(path) == folder and not _is_elsewhere(path)]
    found: list[str] = []
    while todo:
        path = todo.pop(0)
        if path not in found:
            found.append(path)
            todo += _imported(checkout, path)
    return found


def _is_elsewhere(path: str) -> bool:
    """Whether a file is about a developer's machine or tests."""
    return os.path.basename(path)[: -len(".py")] in ELSEWHERE


def _imported(checkout: Checkout, path: str) -> Iterator[str]:
    """The files of the project that a file imports, or takes in with django-split-settings."""
    package = checkout.module_name(path).split(".")
    if not path.endswith("/__init__.py"):
        package.pop()
    for _path, node in checkout.nodes(path):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names if alias.name != "*")]
        elif isinstance(node, ast.Call) and dotted(node) in ("include", "optional"):
            for pattern in texts_in(node):
                wanted = os.path.normpath(os.path.join(os.path.dirname(path), pattern))
                yield from sorted(name for name in checkout.files if fnmatch.fnmatch(name, wanted))
        for name in names:
            found = checkout.module(name)
            if found and not _is_elsewhere(found):
                yield found


def assigned(checkout: Checkout, files: list[str], name: str) -> Iterator[tuple[str, ast.expr]]:
    """What a setting is set to, each time, with file and line."""
    for path, node in checkout.nodes(*files):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            targets = [node.target]
        if name in map(dotted, targets):
            yield f"{path}:{node.lineno}", node.value


def text_setting(checkout: Checkout, files: list[str], name: str) -> Fact | None:
    """A setting that is a constant text, or the default that stands in the call that reads it."""
    for place, value in assigned(checkout, files, name):
        text = text_of(value)
        if text is None and isinstance(value, ast.Call):
            given = [*value.args[1:], *(keyword.value for keyword in value.keywords if keyword.arg == "default")]
            text = next((word for node in given if (word := text_of(node)) is not None), None)
        if text is not None:
            return Fact(text, place)
    return None


def holder_of(checkout: Checkout, files: list[str], setting: str, words: tuple[str, ...]) -> Fact | None:
    """The first text in a list or mapping setting that holds one of ``words``."""
    for place, value in assigned(checkout, files, setting):
        for text in texts_in(value):
            if any(word in text for word in words):
                return Fact(text, place)
    return None


def application(checkout: Checkout, files: list[str], setting: str, name: str) -> Fact | None:
    """``module:name`` of WSGI_APPLICATION or ASGI_APPLICATION, or of the file ``name`` with such a callable."""
    said = text_setting(checkout, files, setting)
    if said and "." in said.value:
        module, _dot, attribute = said.value.rpartition(".")
        return Fact(f"{module}:{attribute}", said.place)
    for path in checkout.named(name, 4):
        for _path, node in checkout.nodes(path):
            target = dotted(node.targets[0]) if isinstance(node, ast.Assign) else ""
            if target in ("application", "app"):
                return Fact(f"{checkout.module_name(path)}:{target}", f"{path}:{node.lineno}")
    return None
