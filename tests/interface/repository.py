"""What the interface tests know about the repository: its roles, what they declare, its tracked files."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
SETTINGS = "site_settings"


@functools.cache
def load(path: Path):
    """The content of a YAML file; None when it is empty."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, dict]:
    """The options of the role's entry point main, in the order of its spec."""
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options") or {}


def defaults(role: Path) -> dict[str, object]:
    """The role's defaults, in their order."""
    return load(role / "defaults" / "main.yml") or {}


def tasks_in(path: Path) -> Iterator[dict]:
    """Every task of a task file, those in blocks and batches included."""

    def walk(tasks):
        for task in tasks or []:
            yield task
            for part in ("block", "rescue", "always"):
                yield from walk(task.get(part))
            yield from walk(task.get("groundwork.django.batch", {}).get("tasks"))

    return walk(load(path))


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """The text files that git tracks or is about to, without links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    paths = (ROOT / name for name in listed if name)
    return tuple(
        path for path in paths if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes()[:4096]
    )
