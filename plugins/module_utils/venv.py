# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Virtualenvs made by uv, and uv itself; used by the modules virtualenv and those that install a project."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator

from ansible_collections.groundwork.django.plugins.module_utils.commands import SYSTEM_PATH, run, sync_file_system
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_json, write_json

STAMP = ".groundwork.json"
LOCK = "/run/groundwork/virtualenv.lock"
PARTS = {"bin", "include", "lib", "lib64", "share", "pyvenv.cfg", ".gitignore", ".lock", "CACHEDIR.TAG", STAMP}
UNWANTED = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME")
REQUIREMENT = re.compile(r"^[A-Za-z0-9][^\s;\\]*")


def remove_tree(path: str) -> None:
    """Remove a directory and all that is in it; one that is missing is fine."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def digest_of(*parts: object) -> str:
    """One digest of several texts or lists."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def pinned(text: str) -> list[str]:
    """The requirements of a requirements file without hashes, markers and comments, for people to read."""
    return sorted(match.group(0) for match in map(REQUIREMENT.match, text.splitlines()) if match)


def find_python(name: str) -> str:
    """Path of an interpreter, given as a path, a command or a version such as "3.12". Raises Refusal."""
    for candidate in (name, f"python{name}"):
        found = shutil.which(candidate, path=SYSTEM_PATH)
        if found:
            return os.path.realpath(found)
    raise Refusal(f"There is no Python interpreter {name} on the host.")


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let only one run at a time build on a host."""
    os.makedirs(os.path.dirname(LOCK), mode=0o755, exist_ok=True)
    with open(LOCK, "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def run_tool(command: list[str], what: str, environment: dict[str, str] | None = None, given: str | None = None) -> str:
    """Run a tool and return its output.

    what: what it does, for the sentence of a failure. given: text for its standard input.
    Raises Refusal with the last 15 lines of what the tool said.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    code, output, errors = run(command, given=given, inherited=inherited, NO_COLOR="1", **(environment or {}))
    if code != 0:
        said = (errors.rstrip() or output.rstrip()).splitlines()[-15:]
        raise Refusal(f"{what} failed (exit {code}):\n" + "\n".join(said))
    return output


class Uv:
    """The uv of a host.

    place: a virtualenv that holds uv (made when missing), or the path of a uv executable.
    cache_dir: directory of its cache. index_url: package index, empty for the default of the tool.
    """

    def __init__(self, place: str, cache_dir: str, index_url: str = "") -> None:
        self.place = place
        self.own = not os.path.isfile(place)
        self.binary = os.path.join(place, "bin", "uv") if self.own else place
        self.environment = {
            "UV_CACHE_DIR": cache_dir,
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        self.index_url = index_url
        if index_url:
            self.environment["UV_DEFAULT_INDEX"] = index_url

    def ensure(self, requirements: str, python: str = "python3") -> bool:
        """Install the uv that the hashed requirements name, unless it is there. Returns whether something was done."""
        if not self.own:
            return False
        interpreter = find_python(python)
        digest = digest_of(requirements)
        stamp = os.path.join(self.place, STAMP)
        if read_json(stamp).get("digest") == digest and os.access(self.binary, os.X_OK):
            return False
        if not requirements:
            raise Refusal(f"There is no uv in {self.place}, and no requirements to install it from.")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stamp)
        try:
            run_tool([interpreter, "-m", "venv", "--clear", self.place], f"Making the virtualenv {self.place}")
        except Refusal as refusal:
            if run([interpreter, "-c", "import ensurepip"])[0] != 0:
                raise Refusal(
                    f"{interpreter} cannot make a virtualenv without ensurepip: install the package python3-venv."
                ) from refusal
            raise
        pip = [os.path.join(self.place, "bin", "python"), "-m", "pip", "--disable-pip-version-check", "install"]
        run_tool(
            [*pip, "--quiet", "--no-cache-dir", "--only-binary=:all:", "--require-hashes", "-r", "/dev/stdin"],
            f"Installing uv into {self.place}",
            {"PIP_INDEX_URL": self.index_url} if self.index_url else None,
            requirements,
        )
        sync_file_system(self.place)
        write_json(stamp, {"digest": digest, "packages": pinned(requirements)}, 0o644)
        return True

    def run(self, arguments: list[str], what: str, given: str | None = None, **variables: str) -> str:
        """Run uv, with further variables of the environment; see `run_tool` for what it raises."""
        return run_tool([self.binary, *arguments], what, {**self.environment, **variables}, given)


class Virtualenv:
    """A virtualenv that holds exactly what it was told to.

    path: where it is. python: interpreter as `find_python` takes it. requirements: text of a requirements file.
    requirements_file: path of one on this host, in place of the text. packages: further specifications.
    arguments: further arguments of `uv pip install`.
    """

    def __init__(
        self,
        path: str,
        python: str = "python3",
        requirements: str = "",
        requirements_file: str = "",
        packages: list[str] | None = None,
        arguments: list[str] | None = None,
        require_hashes: bool = True,
    ) -> None:
        self.path = path
        self.python = find_python(python)
        self.requirements_file = requirements_file
        if requirements_file:
            try:
                with open(requirements_file, encoding="utf-8") as stream:
                    requirements = stream.read()
            except OSError as error:
                raise Refusal(f"The requirements {requirements_file} cannot be read: {error.strerror}.") from error
        self.requirements = requirements
        self.packages = packages or []
        self.arguments = arguments or []
        self.require_hashes = require_hashes

    @property
    def executable(self) -> str:
        return os.path.join(self.path, "bin", "python")

    def stamp(self) -> dict:
        """What a finished virtualenv remembers of itself."""
        return {
            "digest": digest_of(self.requirements, self.packages, self.arguments, self.require_hashes),
            "packages": sorted([*pinned(self.requirements), *self.packages]),
            "python": self.python,
        }

    def found(self) -> dict:
        """What the virtualenv on disk remembers; empty where it is missing, unfinished or without its interpreter."""
        return read_json(os.path.join(self.path, STAMP)) if os.access(self.executable, os.X_OK) else {}

    def is_current(self) -> bool:
        return self.found() == self.stamp()

    def build(self, uv: Uv) -> None:
        """Make it from scratch, in place, because a virtualenv cannot be moved. Raises Refusal.

        The stamp comes last, when the disk has the rest, so that one left unfinished is made again. A finished one that
        stood there before waits beside it, and comes back when the new one cannot be made.
        """
        old = f"{self.path}.previous"
        if os.path.lexists(self.path):
            self._refuse_foreign()
            if os.path.exists(os.path.join(self.path, STAMP)):
                remove_tree(old)
                os.rename(self.path, old)
        try:
            self._make(uv)
        except BaseException:
            remove_tree(self.path)
            if os.path.isdir(old):
                os.rename(old, self.path)
            raise
        remove_tree(old)

    def _refuse_foreign(self) -> None:
        if os.path.islink(self.path) or not os.path.isdir(self.path):
            raise Refusal(f"{self.path} exists and is no directory; it is not replaced.")
        foreign = set(os.listdir(self.path)) - PARTS
        if foreign and not os.path.exists(os.path.join(self.path, "pyvenv.cfg")):
            raise Refusal(
                f"{self.path} exists and is no virtualenv, it holds {sorted(foreign)[0]}; it is not replaced."
            )

    def _make(self, uv: Uv) -> None:
        uv.run(
            ["venv", "--quiet", "--no-project", "--clear", "--python", self.python, self.path],
            f"Making the virtualenv {self.path}",
        )
        self.install(uv)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, ".lock"))
        sync_file_system(self.path)
        write_json(os.path.join(self.path, STAMP), self.stamp(), 0o644)

    @property
    def command(self) -> list[str]:
        """The begin of a command that installs packages into it."""
        return ["pip", "install", "--quiet", "--python", self.executable, *self.arguments]

    def install(self, uv: Uv) -> None:
        """Fill it. Raises Refusal."""
        hashes = ["--require-hashes"] if self.require_hashes else []
        what = f"Installing the packages of {self.path}"
        if self.requirements_file:
            uv.run([*self.command, *hashes, "-r", self.requirements_file], what)
        elif self.requirements.strip():
            uv.run([*self.command, *hashes, "-r", "-"], what, self.requirements)
        if self.packages:
            uv.run([*self.command, "--", *self.packages], what)
