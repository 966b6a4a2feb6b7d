# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands around a project's settings: extensions, front ends, processes, health pages, the remote."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
from collections.abc import Iterator

import yaml
from ansible_collections.groundwork.django.plugins.plugin_utils.detect import settings
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import (
    Checkout,
    Fact,
    dotted,
    first_text,
    text_of,
    texts_in,
)

#: operations of django.contrib.postgres and pgvector -> extension
EXTENSIONS = {
    "BloomExtension": "bloom",
    "BtreeGinExtension": "btree_gin",
    "BtreeGistExtension": "btree_gist",
    "CITextExtension": "citext",
    "CryptoExtension": "pgcrypto",
    "HStoreExtension": "hstore",
    "TrigramExtension": "pg_trgm",
    "UnaccentExtension": "unaccent",
    "VectorExtension": "vector",
}
IN_SQL = re.compile(r"create\s+extension\s+(?:if\s+not\s+exists\s+)?\"?([a-z][a-z0-9_-]*)", re.IGNORECASE)
#: words of a path that proves that a site can serve, the deepest first
HEALTHY = ("readyz", "ready", "readiness", "healthz", "health", "healthcheck", "health-check", "health_check")
ALIVE = ("_health", "__heartbeat__", "heartbeat", "livez", "live", "liveness", "__lbheartbeat__", "ping")
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./~-]*\Z")
PROCESS = re.compile(
    r"\b(celery\w*|beat|rq|rqworker|rqscheduler|qcluster|run_huey|huey\w*|dramatiq|rundramatiq|daphne|uvicorn|"
    r"hypercorn|runworker|\w*worker|scheduler|flower|process_tasks)\b"
)
COMPOSE = re.compile(r"(?:.*/)?(?:(?:docker-)?compose[\w.-]*|local|production)\.ya?ml\Z")


def extensions(checkout: Checkout) -> dict[str, str]:
    """The extensions that migrations create, with their places."""
    found: dict[str, str] = {}
    migrations = sorted(path for path in checkout.files if re.search(r"(^|/)migrations/[^/]+\.py$", path))
    for path in migrations:
        # Most migrations have nothing to do with it, and parsing is slow.
        if "xtension" not in checkout.text(path) and "EXTENSION" not in checkout.text(path):
            continue
        for _path, node in checkout.nodes(path):
            operation = dotted(node).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            names = [EXTENSIONS.get(operation), *IN_SQL.findall(text_of(node) or "")]
            if operation == "CreateExtension":
                names.append(next(iter(texts_in(node)), None))
            for name in filter(None, names):
                found.setdefault(name, f"{path}:{node.lineno}")
    return found


def front_ends(checkout: Checkout) -> Iterator[tuple[str, str, Fact]]:
    """Folder, command and origin for each package.json with a script named build, near the top."""
    for path in checkout.named("package.json", 2):
        try:
            package = json.loads(checkout.text(path))
        except (ValueError, RecursionError):
            continue
        scripts = package.get("scripts") if isinstance(package, dict) else None
        if not isinstance(scripts, dict) or "build" not in scripts or not isinstance(scripts["build"], str):
            continue
        folder = os.path.dirname(path)
        before = f"{folder}/" if folder else ""
        if f"{before}pnpm-lock.yaml" in checkout.files:
            command = "npx --yes pnpm install --frozen-lockfile && npx --yes pnpm run build"
        elif f"{before}yarn.lock" in checkout.files:
            command = "npx --yes yarn install --frozen-lockfile && npx --yes yarn run build"
        else:
            install = "ci" if f"{before}package-lock.json" in checkout.files else "install"
            command = f"npm {install} && npm run build"
        yield folder, command, Fact(scripts["build"], checkout.place(path, '"build"'))


def untranslated(checkout: Checkout) -> str:
    """The first catalogue of messages that has not been compiled; nothing where there is none."""
    sources = sorted(path for path in checkout.files if path.endswith("/LC_MESSAGES/django.po"))
    return next((path for path in sources if path[: -len(".po")] + ".mo" not in checkout.files), "")


def processes(checkout: Checkout) -> Iterator[tuple[str, Fact]]:
    """Name, command and place of what a Procfile or a compose file runs beside the web server."""
    for path in ("Procfile", f"{checkout.subdir}/Procfile"):
        for number, line in enumerate(checkout.text(path).splitlines(), start=1):
            name, colon, command = line.partition(":")
            if colon and re.match(r"[A-Za-z0-9_-]+$", name):
                yield name, Fact(command.strip(), f"{path}:{number}")
    for path in sorted(path for path in checkout.files if path.count("/") < 2 and COMPOSE.match(path)):
        try:
            whole = yaml.safe_load(checkout.text(path))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        services = whole.get("services") if isinstance(whole, dict) else None
        for name, service in (services if isinstance(services, dict) else {}).items():
            command = service.get("command") if isinstance(service, dict) else None
            line = " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
            if PROCESS.search(line):
                yield str(name), Fact(line, checkout.place(path, f"{name}:"))


def plain_words(command: str) -> list[str]:
    """The words of a command that needs no shell and holds no password in a URL; none for another one."""
    if re.search(r"[$`|&;<>*?~#\x00-\x1f\x7f-\x9f\u2028\u2029]|://[^/\s]*@", command):
        return []
    try:
        return shlex.split(command)
    except ValueError:
        return []


def celery(checkout: Checkout) -> Fact | None:
    """The package that ``celery -A`` takes, where the project has one."""
    for path in checkout.named("celery.py", 4):
        for _path, node in checkout.nodes(path):
            if isinstance(node, ast.Call) and dotted(node).rpartition(".")[2] == "Celery":
                return Fact(checkout.module_name(path).rpartition(".")[0], f"{path}:{node.lineno}")
    return None


def health(checkout: Checkout, files: list[str]) -> Fact | None:
    """The path that best proves that a site can serve: of its urls, or that a middleware of the project answers."""
    root = settings.text_setting(checkout, files, "ROOT_URLCONF")
    modules = [root.value] if root else []
    # What is worked out, or elsewhere, is looked for where it mostly is.
    modules += [checkout.module_name(path) for path in checkout.named("urls.py", 3)[:1]]
    found = [fact for module in modules for fact in _urls(checkout, module, "/", ())]
    for _place, value in settings.assigned(checkout, files, "MIDDLEWARE"):
        for name in texts_in(value):
            path = checkout.module(name.rpartition(".")[0])
            constants = [node for _path, node in checkout.nodes(path) if isinstance(node, ast.Constant)] if path else []
            found += [
                Fact(node.value, f"{path}:{node.lineno}")
                for node in constants
                if isinstance(node.value, str) and node.value.startswith("/") and PLAIN_PATH.match(node.value)
            ]
    words = [*HEALTHY, *ALIVE]
    ranked = [(words.index(word), fact) for fact in found if (word := _last_word(fact.value)) in words]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _last_word(path: str) -> str:
    """The last part of a path, without its slash."""
    return path.rstrip("/").rpartition("/")[2].lower()


def _urls(checkout: Checkout, module: str, before: str, above: tuple[str, ...]) -> Iterator[Fact]:
    """The constant paths of a URL module and of those that it includes."""
    path = checkout.module(module)
    if path is None or path in above:
        return
    for _path, node in checkout.nodes(path):
        if not isinstance(node, ast.Call) or dotted(node).rpartition(".")[2] not in ("path", "re_path", "url"):
            continue
        route = re.sub(r"^\^|\\Z$|\$$", "", first_text(node) or "").removesuffix("?")
        if not PLAIN_PATH.match(route) or len(node.args) < 2:
            continue
        yield Fact(before + route, f"{path}:{node.lineno}")
        included = first_text(node.args[1]) if dotted(node.args[1]) == "include" else None
        if included:
            yield from _urls(checkout, included, before + route, (*above, path))


def remote(checkout: Checkout) -> tuple[str, str] | None:
    """URL and branch of the git repository whose top the checkout is; no credentials are kept in the URL."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(checkout.text(".git/config"))
        url = parser.get('remote "origin"', "url")
    except configparser.Error:
        return None
    head = re.match(r"ref: refs/heads/(\S+)", checkout.text(".git/HEAD"))
    return re.sub(r"(https?://)[^/@]*@", r"\1", url), head[1] if head else "HEAD"
