# SPDX-License-Identifier: GPL-3.0-or-later
"""What a project says about its packages: requirements files, locks, Python, and what it needs of the system."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import Checkout, Fact

REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
INCLUDED = re.compile(r"(?:-r|--requirement)[\s=]*(\S+)")
#: names of requirements files, without .txt, the best first
_SITE = ("production", "prod", "live", "deploy")
_ANY = ("requirements", "base", "main", "default", "common", "core")

#: package -> (packages at run time, packages to build it, why)
SYSTEM_PACKAGES = {
    "psycopg": (["libpq5"], [], "psycopg without [binary] loads libpq"),
    "psycopg-c": (["libpq5"], ["gcc", "libpq-dev", "python3-dev"], "psycopg[c] is compiled"),
    "psycopg2": (["libpq5"], ["gcc", "libpq-dev", "python3-dev"], "psycopg2 is compiled; psycopg2-binary is not"),
    "pycairo": (["libcairo2"], ["gcc", "libcairo2-dev", "pkg-config", "python3-dev"], "pycairo is compiled"),
    "pygraphviz": (["graphviz"], ["gcc", "libgraphviz-dev", "pkg-config", "python3-dev"], "pygraphviz is compiled"),
    "python-ldap": ([], ["gcc", "libldap-dev", "libsasl2-dev", "python3-dev"], "python-ldap is compiled"),
    "django-auth-ldap": ([], ["gcc", "libldap-dev", "libsasl2-dev", "python3-dev"], "its python-ldap is compiled"),
    "cairosvg": (["libcairo2"], [], "CairoSVG loads cairo"),
    "weasyprint": (["libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0"], [], "WeasyPrint loads Pango"),
    "python-magic": (["file"], [], "python-magic loads libmagic, which comes with file"),
    "pdf2image": (["poppler-utils"], [], "pdf2image runs pdftoppm"),
    "pytesseract": (["tesseract-ocr"], [], "pytesseract runs tesseract"),
    "graphviz": (["graphviz"], [], "graphviz runs dot"),
    "pydub": (["ffmpeg"], [], "pydub runs ffmpeg"),
    "ffmpeg-python": (["ffmpeg"], [], "ffmpeg-python runs ffmpeg"),
    "pyzbar": (["zbar-tools"], [], "pyzbar loads zbar"),
    "wand": (["imagemagick"], [], "Wand loads ImageMagick"),
    "pysaml2": (["xmlsec1"], [], "pysaml2 runs xmlsec1"),
    "djangosaml2": (["xmlsec1"], [], "its pysaml2 runs xmlsec1"),
}
#: package -> what the collection cannot do about it
UNSUPPORTED = {
    "mysqlclient": "mysqlclient: the collection brings PostgreSQL, not MySQL",
    "pymysql": "PyMySQL: the collection brings PostgreSQL, not MySQL",
    "cx-oracle": "cx_Oracle: the collection brings PostgreSQL, not Oracle",
    "oracledb": "oracledb: the collection brings PostgreSQL, not Oracle",
}


@dataclass
class Requirements:
    """What was found: ``files`` below the top, or an ``installer``, or the command that makes a file in ``remedy``.

    ``packages`` has the name of each with its place.
    """

    installer: str = ""
    files: list[str] = field(default_factory=list)
    why: str = ""
    hashed: bool = False
    remedy: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    pythons: list[Fact] = field(default_factory=list)
    project: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, requirement: str, place: str) -> None:
        """Note one requirement, ``name[extra]>=1``. An extra counts as a package with a hyphen before it."""
        match = REQUIREMENT.match(requirement.strip())
        if match:
            name = normal(match[1])
            self.packages.setdefault(name, place)
            for extra in filter(None, map(str.strip, (match[2] or "").split(","))):
                self.packages.setdefault(f"{name}-{extra}", place)

    def system(self) -> Iterator[tuple[list[str], list[str], str]]:
        """Packages at run time, packages for building, and why, for each requirement that needs some."""
        for name, (runtime, build, why) in SYSTEM_PACKAGES.items():
            is_whole = f"{name}-binary" in self.packages or (name == "psycopg" and "psycopg-c" in self.packages)
            if name in self.packages and not is_whole:
                yield runtime, build, f"{why} ({self.packages[name]})"


def normal(name: str) -> str:
    """Name of a package as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(checkout: Checkout) -> Requirements:
    """What the files at the top of a checkout, and beside manage.py, say."""
    found = Requirements()
    _read_pyproject(checkout, found)
    _choose_files(checkout, found)
    for path in found.files:
        _read_file(checkout, found, path, set())
    hashes = [_is_hashed(checkout.text(path)) for path in found.files]
    found.hashed = bool(hashes) and all(hashes)
    locks = {path: checkout.text(path) for path in ("uv.lock", "poetry.lock", "Pipfile.lock") if path in checkout.files}
    for path, text in locks.items():
        _read_lock(found, path, text)
    if "uv.lock" in locks:
        found.installer, found.why = "lock", "uv.lock"
    elif not found.files and not locks and (found.project or "setup.py" in checkout.files):
        path = "pyproject.toml" if found.project else "setup.py"
        found.installer, found.why = "project", f"{path}; its dependencies have no lock, so that two builds may differ"
    elif not found.files:
        found.remedy = _remedy(checkout, locks)
    for path, pattern in ((".python-version", r"^(\d\S*)"), ("runtime.txt", r"^python-(\d\S*)")):
        match = re.search(pattern, checkout.text(path), re.MULTILINE)
        if match:
            found.pythons.append(Fact(match[1], f"{path}:1"))
    return found


def _choose_files(checkout: Checkout, found: Requirements) -> None:
    """The requirements files of a real site: one for production, with the shared one where it does not include it."""
    top = dict.fromkeys(("", f"{checkout.subdir}/" if checkout.subdir else ""))
    places = [f"{before}{form}" for before in top for form in ("requirements/{}.txt", "requirements-{}.txt")]
    places += [f"{before}{form}" for before in top for form in ("requirements_{}.txt", "{}.txt")]
    for names in (_SITE, _ANY):
        candidates = [form.format(name) for name in names for form in places]
        path = next((path for path in candidates if path in checkout.files and _has_packages(checkout, path)), None)
        if path is None:
            continue
        if not found.files:
            found.files, found.why = [path], f"{path}, a guess by its name"
        elif path not in _included(checkout, found.files[0], set()) and "hash=" not in checkout.text(found.files[0]):
            found.files.insert(0, path)
            found.why = f"guesses by their names; {found.files[1]} does not include {path}"


def _has_packages(checkout: Checkout, path: str) -> bool:
    """Whether a text file names requirements at all."""
    return any(REQUIREMENT.match(line) or INCLUDED.match(line) for line in checkout.text(path).splitlines())


def _included(checkout: Checkout, path: str, seen: set[str]) -> set[str]:
    """A requirements file with all that it includes."""
    if path not in seen:
        seen.add(path)
        for line in checkout.text(path).splitlines():
            match = INCLUDED.match(line.strip())
            if match:
                _included(checkout, os.path.normpath(os.path.join(os.path.dirname(path), match[1])), seen)
    return seen


def _read_file(checkout: Checkout, found: Requirements, top: str, seen: set[str]) -> None:
    """Note the packages of a requirements file, and of those it includes."""
    for path in sorted(_included(checkout, top, seen)):
        for number, line in enumerate(checkout.text(path).splitlines(), start=1):
            if REQUIREMENT.match(line):
                found.take(line, f"{path}:{number}")


def _is_hashed(text: str) -> bool:
    """Whether every requirement of a file is pinned with a hash."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    named = [line for line in lines if REQUIREMENT.match(line)]
    return bool(named) and all("--hash=" in line for line in named)


def _toml(found: Requirements, path: str, text: str) -> dict:
    """A TOML file; nothing, and a line in ``problems``, where it is none."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found.problems.append(f"{path} could not be read: {error}")
        return {}


def _mapping(value: object) -> dict:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    """The texts of a value that should be a list of them."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _read_pyproject(checkout: Checkout, found: Requirements) -> None:
    """Name, Python, requirements, groups and scripts of pyproject.toml, as PEP 621, PEP 735 and Poetry have them."""
    path = "pyproject.toml"
    if path not in checkout.files:
        return
    whole = _toml(found, path, checkout.text(path))
    project = _mapping(whole.get("project"))
    poetry = _mapping(_mapping(whole.get("tool")).get("poetry"))
    found.project = str(project.get("name") or poetry.get("name") or "")
    own = _mapping(poetry.get("dependencies"))
    python = project.get("requires-python") or own.get("python")
    if isinstance(python, str):
        found.pythons.append(Fact(python, checkout.place(path, python)))
    for requirement in _texts(project.get("dependencies")):
        found.take(requirement, checkout.place(path, requirement))
    for name, value in own.items():
        extras = _mapping(value).get("extras")
        found.take(f"{name}[{','.join(_texts(extras))}]", checkout.place(path, name))
    found.packages.pop("python", None)
    found.scripts = {
        name: target
        for scripts in (project.get("scripts"), poetry.get("scripts"))
        for name, target in _mapping(scripts).items()
        if isinstance(target, str)
    }
    for kind, groups in (
        ("extra", project.get("optional-dependencies") or poetry.get("extras")),
        ("group", whole.get("dependency-groups") or poetry.get("group")),
    ):
        for name in _mapping(groups):
            found.extras[str(name)] = kind


def _read_lock(found: Requirements, path: str, text: str) -> None:
    """The packages of a lock, which no other file has named."""
    if path.endswith(".toml") or path in ("uv.lock", "poetry.lock"):
        packages = _toml(found, path, text).get("package")
        names = [_mapping(package).get("name") for package in packages] if isinstance(packages, list) else []
    else:
        try:
            names = list(_mapping(_mapping(json.loads(text)).get("default")))
        except (ValueError, RecursionError) as error:
            found.problems.append(f"{path} could not be read: {error}")
            return
    for name in names:
        if isinstance(name, str):
            found.packages.setdefault(normal(name), path)


def _remedy(checkout: Checkout, locks: dict[str, str]) -> str:
    """The command that makes the requirements file that is missing."""
    if "poetry.lock" in locks:
        return "poetry export --only main --output requirements.txt (with poetry-plugin-export)"
    if "Pipfile.lock" in locks:
        return "pipenv requirements --hash > requirements.txt"
    if "requirements.in" in checkout.files:
        return "uv pip compile --generate-hashes --output-file requirements.txt requirements.in"
    return "uv pip freeze > requirements.txt, in the virtualenv that the project runs in"
