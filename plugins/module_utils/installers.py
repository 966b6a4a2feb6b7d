# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the packages of a release get into its virtualenv: from a lock, requirements files, the project, or the index."""

from __future__ import annotations

import glob
import os
import re

from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text
from ansible_collections.groundwork.django.plugins.module_utils.python_version import obstacle
from ansible_collections.groundwork.django.plugins.module_utils.venv import Uv, Virtualenv, digest_of, find_python

LOCK = "uv.lock"
REQUIREMENTS = "requirements.txt"
PROJECT = "pyproject.toml"
SETUP = "setup.py"

REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
INCLUDED = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)")
LOCAL = re.compile(r"^\s*(?:-e|--editable|\.|/|file:|-f|--find-links)|@\s*(?:file:|\.)")
LOCAL_IN_LOCK = re.compile(r"^source = \{ (?:editable|directory|path) = ", re.MULTILINE)
BUILD_SYSTEM = re.compile(r"^\s*\[build-system\]", re.MULTILINE)
REQUIRES_PYTHON = re.compile(r"^requires-python\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)


def normal_name(requirement: str) -> str:
    """Name of a package as the index compares it."""
    match = REQUIREMENT.match(requirement)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""


def requirements_lines(paths: list[str]) -> list[str]:
    """Lines of requirements files and of those that they include. Raises Refusal where one is missing."""
    lines: list[str] = []
    seen: set[str] = set()

    def read(path: str) -> None:
        real = os.path.realpath(path)
        if real in seen:
            return
        seen.add(real)
        try:
            with open(path, encoding="utf-8") as stream:
                found = stream.read().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            name = path.partition("/source/")[2]
            raise Refusal(f"the source has no {name}, which gunicorn_app_requirements names") from None
        for line in found:
            lines.append(line)
            included = INCLUDED.match(line)
            if included:
                read(os.path.join(os.path.dirname(path), included.group(1)))

    for path in paths:
        read(path)
    return lines


class ReleaseVirtualenv(Virtualenv):
    """The virtualenv of a release.

    path: where it is; with an empty one it is only planned, and `path_in` says where it belongs. source: directory of
    the source. project: that of manage.py. options: `installer` (auto, lock, requirements, project, none),
    `requirements` (files below the source), `groups`, `extras`, `extra_packages`, `require_hashes`, `install_args`,
    `python`, and `spec` of a package from the index. Raises Refusal where the source has not what they name.
    """

    def __init__(self, path: str, source: str, project: str, options: dict) -> None:
        if not os.path.isabs(interpreter(options["python"])):
            raise Refusal(
                f"gunicorn_app_python is {options['python']}, and the host has no such interpreter: have "
                "gunicorn_app_system_packages install it, or name another one"
            )
        super().__init__(
            path,
            python=options["python"],
            packages=options["extra_packages"],
            arguments=options["install_args"],
            require_hashes=options["require_hashes"],
        )
        self.options = options
        self.places = [source] if source == project else [source, project]
        self.files = [os.path.join(source, name) for name in options["requirements"]]
        self.kind = self._kind()
        self._check_python()

    def _find(self, *names: str) -> str:
        """Path of the first of some files that the source has; at its root first, then beside manage.py."""
        for name in names:
            for place in self.places:
                path = os.path.join(place, name)
                if os.path.isfile(path):
                    return path
        return ""

    def _kind(self) -> str:
        """The installer that the options and the source come down to. Raises Refusal."""
        kind = self.options["installer"]
        if kind == "auto" and not self.files and not self.options["spec"]:
            found = os.path.basename(self._find(LOCK, REQUIREMENTS, PROJECT, SETUP))
            if not found:
                raise Refusal(
                    f"the source has none of {LOCK}, {REQUIREMENTS}, {PROJECT} and {SETUP}: name its files in "
                    "gunicorn_app_requirements, or set gunicorn_app_installer to none"
                )
            kind = {LOCK: "lock", REQUIREMENTS: "requirements"}.get(found, "project")
        elif kind == "auto":
            kind = "requirements"
        needed = {"lock": (LOCK,), "project": (PROJECT, SETUP)}.get(kind, ())
        if needed and not self._find(*needed):
            raise Refusal(f"the source has no {' and no '.join(needed)}, which gunicorn_app_installer={kind} needs")
        if kind == "requirements" and not self.files and not self.options["spec"]:
            if not self._find(REQUIREMENTS):
                raise Refusal(f"the source has no {REQUIREMENTS}: name its files in gunicorn_app_requirements")
            self.files = [self._find(REQUIREMENTS)]
        return kind

    def _check_python(self) -> None:
        """Raise a Refusal where the project does not run with the interpreter."""
        wanted = REQUIRES_PYTHON.search(read_text(self._find(PROJECT))) if self._find(PROJECT) else None
        if not wanted:
            return
        code, output, _errors = run([self.python, "-c", "import platform; print(platform.python_version())"])
        if code == 0 and obstacle(output.strip(), wanted.group(1)):
            raise Refusal(
                f"{PROJECT} requires Python {wanted.group(1)}, and gunicorn_app_python, {self.options['python']}, is "
                f"{output.strip()} on this host: name one that fits and have gunicorn_app_system_packages install it"
            )

    def differing_python(self) -> str:
        """What .python-version asks for, where the interpreter is another one; else an empty text."""
        pinned = read_text(self._find(".python-version")).strip() if self._find(".python-version") else ""
        version = re.match(r"(?:cpython-)?(\d+\.\d+)", pinned)
        return pinned if version and not self.python.endswith(f"python{version.group(1)}") else ""

    def content(self) -> list:
        """All that it depends on, and that a release with the same virtualenv must have in common."""
        options = self.options
        said: list = [self.kind, self.python, options["extra_packages"], options["install_args"]]
        if self.kind == "lock":
            said += [read_text(self._find(LOCK)), read_text(self._find(PROJECT)), options["groups"], options["extras"]]
        elif self.kind == "project":
            said += [read_text(self._find(PROJECT)), options["groups"], options["extras"]]
        elif self.kind == "requirements":
            said += [requirements_lines(self.files), options["require_hashes"], options["spec"]]
        return said

    def is_local(self) -> bool:
        """Whether something is installed from the source itself, so that no other release can use it."""
        if self.kind == "lock":
            return bool(LOCAL_IN_LOCK.search(read_text(self._find(LOCK))))
        if self.kind == "project":
            return not self._has_dependencies_only()
        return any(LOCAL.search(line) for line in requirements_lines(self.files))

    def _has_dependencies_only(self) -> bool:
        """Whether pyproject.toml lists dependencies of a project that is not a package."""
        path = self._find(PROJECT)
        return bool(path) and not BUILD_SYSTEM.search(read_text(path)) and not self._find(SETUP)

    def path_in(self, directory: str, release_id: str) -> str:
        """Where it belongs: releases with the same content share one, unless something is installed from the source."""
        digest = digest_of(self.content(), self.options["index_url"], release_id if self.is_local() else "")
        return os.path.join(directory, digest[:16])

    def stamp(self) -> dict:
        return {"digest": digest_of(self.content()), "packages": sorted(self.installed()), "python": self.python}

    def installed(self) -> set[str]:
        """Names of the packages that are in it."""
        found = glob.glob(os.path.join(glob.escape(self.path), "lib", "python*", "site-packages", "*.dist-info"))
        return {normal_name(os.path.basename(path).partition("-")[0]) for path in found}

    def install(self, uv: Uv) -> None:
        """Install what the project needs, and then what is still missing of the extra packages."""
        what = f"Installing the packages of {self.path}"
        if self.kind == "lock":
            directory = os.path.dirname(self._find(LOCK))
            choice = [f"--group={name}" for name in self.options["groups"]]
            choice += [f"--extra={name}" for name in self.options["extras"]]
            sync = ["sync", "--quiet", "--frozen", "--no-dev", "--project", directory, "--python", self.executable]
            # Unlike uv pip, uv sync has no virtualenv as an argument.
            uv.run([*sync, *choice, *self.arguments], what, UV_PROJECT_ENVIRONMENT=self.path)
        elif self.kind == "project":
            uv.run([*self.command, *self._project()], what)
        elif self.kind == "requirements":
            hashes = ["--require-hashes"] if self.require_hashes else []
            files = [word for path in self.files for word in ("-r", path)]
            if files:
                uv.run([*self.command, *hashes, *files], what)
            if self.options["spec"]:
                uv.run([*self.command, "--", self.options["spec"]], what)
        present = self.installed()
        missing = [package for package in self.packages if normal_name(package) not in present]
        if missing:
            uv.run([*self.command, "--", *missing], what)

    def _project(self) -> list[str]:
        """Arguments that install the project, or its dependencies where it is no package."""
        path = self._find(PROJECT, SETUP)
        groups = [f"--group={path}:{name}" for name in self.options["groups"]]
        if self._has_dependencies_only():
            return [*groups, *(f"--extra={name}" for name in self.options["extras"]), "-r", path]
        extras = f"[{','.join(self.options['extras'])}]" if self.options["extras"] else ""
        return [*groups, "-e", f"{os.path.dirname(path)}{extras}"]


def interpreter(name: str) -> str:
    """Path of the interpreter behind a name; the name itself where there is none yet."""
    try:
        return find_python(name)
    except Refusal:
        return name
