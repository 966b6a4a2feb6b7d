"""The programs that roles place on hosts, as modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROLES = Path(__file__).parents[3] / "roles"


@pytest.fixture(scope="session")
def load() -> Callable[[str, str], ModuleType]:
    """Return `load(role, name)`: a program of a role, which finds those beside it."""

    def module(role: str, name: str) -> ModuleType:
        folder = ROLES / role / "templates/usr/local/lib/groundwork"
        sys.path.insert(0, str(folder))
        try:
            spec = importlib.util.spec_from_file_location(f"groundwork_{name}", folder / f"{name}.py")
            found = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = found
            spec.loader.exec_module(found)
        finally:
            sys.path.remove(str(folder))
        return found

    return module
