import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import django
import pytest

APP = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Choose the settings here, so that a developer's own environment does not reach the tests."""
    for name in ("APP_VERSION", "LOG_DIR", "LOG_LEVEL"):
        os.environ.pop(name, None)
    os.environ.update(DJANGO_ENV="test", DJANGO_SETTINGS_MODULE="config.settings")
    django.setup()


def inherited() -> dict[str, str]:
    """What a process of its own needs: where programs are, and who measures the coverage."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR") or "COVERAGE" in name}


Manage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """Let no test see what another has counted."""
    from django.core.cache import cache

    cache.clear()


@pytest.fixture
def manage() -> Manage:
    """Run manage.py in a process of its own that has only the given environment."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=APP,
            env={**inherited(), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """The environment of a real site, with a database that nobody needs to start."""
    (tmp_path / "media").mkdir()
    return {
        "DJANGO_ENV": "production",
        "SECRET_KEY": "".join(chr(ord("!") + number) for number in range(64)),
        "ALLOWED_HOSTS": "forge.example.org,www.forge.example.org",
        "CSRF_TRUSTED_ORIGINS": "https://forge.example.org",
        "DATABASE_URL": f"sqlite:///{tmp_path}/forge.sqlite3",
        "STATIC_ROOT": str(tmp_path / "static"),
        "MEDIA_ROOT": str(tmp_path / "media"),
        "APP_VERSION": "1.2.3",
    }


@pytest.fixture
def template(db):
    from forge.models import Template

    return Template.objects.create(
        title="Name a thing",
        slug="name-a-thing",
        agent_role="Namer",
        workflow_phase="plan",
        body="Name {{ thing }} for {{  people }}.\n<b>{{ thing }}</b>",
    )
