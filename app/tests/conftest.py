import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import django
import pytest

from .servers import Relay, wait_until

APP = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Choose the settings here, so that a developer's own environment does not reach the tests."""
    known = ("APP_", "CSP_", "HEALTH_", "LOGIN_", "LOG_", "PROMETHEUS_", "READ_ONLY", "REDIS_", "SENTRY_")
    for name in [name for name in os.environ if name.startswith(known)]:
        del os.environ[name]
    os.environ.update(DJANGO_ENV="test", DJANGO_SETTINGS_MODULE="config.settings")
    django.setup()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the database of the run.

    pytest-django keeps all others from it: they give the same on each, in processes with a database of their own too.
    """
    for item in items:
        if item.get_closest_marker("django_db") or "db" in item.fixturenames:
            item.add_marker("database")


def inherited() -> dict[str, str]:
    """What a process of its own needs: where programs are, and who measures the coverage."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR") or "COVERAGE" in name}


Manage = Callable[..., subprocess.CompletedProcess[str]]
Environment = dict[str, str]


@pytest.fixture(autouse=True)
def nothing_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see what another one counted, nor what a developer syncs from."""
    for name in [name for name in os.environ if name.startswith("FORGE_")]:
        monkeypatch.delenv(name)
    forget_counts()


@pytest.fixture
def staff(django_user_model):
    return django_user_model.objects.create_superuser("ann", password="right")


def forget_counts() -> None:
    from axes.handlers.proxy import AxesProxyHandler
    from django.core.cache import cache

    cache.clear()
    # It keeps the cache that it was started with.
    AxesProxyHandler.get_implementation(force=True)


@pytest.fixture(scope="session")
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


def site_in(folder: Path) -> Environment:
    """Return the environment of a real site below a folder, with a database that nobody needs to start."""
    (folder / "media").mkdir(exist_ok=True)
    return {
        "DJANGO_ENV": "production",
        "SECRET_KEY": "".join(chr(ord("!") + number) for number in range(64)),
        "ALLOWED_HOSTS": "forge.example.org,www.forge.example.org",
        "CSRF_TRUSTED_ORIGINS": "https://forge.example.org",
        "DATABASE_URL": f"sqlite:///{folder}/forge.sqlite3",
        "STATIC_ROOT": str(folder / "static"),
        "MEDIA_ROOT": str(folder / "media"),
        "APP_VERSION": "1.2.3",
    }


@pytest.fixture
def production(tmp_path: Path) -> Environment:
    return site_in(tmp_path)


@pytest.fixture(scope="session")
def fresh_database(manage: Manage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database that has its tables: migrated once, to be copied and not to be changed."""
    folder = tmp_path_factory.mktemp("database")
    result = manage("migrate", "-v0", **site_in(folder))
    assert result.returncode == 0, result.stderr
    return folder / "forge.sqlite3"


@pytest.fixture(scope="session")
def static_files(manage: Manage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static files of a real site: collected once, to be read and not to be changed."""
    folder = tmp_path_factory.mktemp("static")
    result = manage("collectstatic", "--noinput", "-v0", **site_in(folder))
    assert result.returncode == 0, result.stderr
    return folder / "static"


@pytest.fixture
def migrated_production(production: Environment, fresh_database: Path, tmp_path: Path) -> Environment:
    """The environment of a real site that has its tables."""
    shutil.copy(fresh_database, tmp_path / "forge.sqlite3")
    return production


@pytest.fixture
def ready_production(migrated_production: Environment, static_files: Path) -> Environment:
    """The environment of a real site that has its tables and its static files."""
    return {**migrated_production, "STATIC_ROOT": str(static_files)}


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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis with a user and a password: the one of TEST_REDIS_URL, or one that is started here."""
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    program = shutil.which("redis-server")
    if not program:
        pytest.fail("TEST_REDIS_URL is not set and there is no redis-server: run lab/services.py pytest.")
    folder = tmp_path_factory.mktemp("redis")
    settings = f'port 0\nunixsocket {folder}/server.sock\nsave ""\nuser default off\nuser tests on >s3cret ~* &* +@all'
    server = subprocess.Popen([program, "-"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    server.stdin.write(settings)
    server.stdin.close()
    wait_until((folder / "server.sock").exists)
    yield f"unix://tests:s3cret@{folder}/server.sock"
    server.terminate()
    server.wait()


@pytest.fixture
def relay(redis_url: str, tmp_path: Path) -> Iterator[Relay]:
    """A unix socket that leads to Redis as long as the test wants."""
    parts = urlsplit(redis_url)
    target = parts.path if parts.scheme == "unix" else (parts.hostname, parts.port)
    relay = Relay(tmp_path / "relay.sock", target, f"{parts.username}:{parts.password}")
    relay.live()
    yield relay
    relay.die()


@pytest.fixture
def with_redis(relay: Relay, settings) -> Relay:
    """Let the site use Redis as it does in production, and forget an outage at once."""
    from config import cache as cache_settings

    settings.REDIS_URL = relay.url
    settings.CACHES = {
        "default": cache_settings.from_url(relay.url, "test", timeout_milliseconds=2000, pause_seconds=0)
    }
    settings.SESSION_ENGINE = "config.sessions.cached_db"
    forget_counts()
    return relay
