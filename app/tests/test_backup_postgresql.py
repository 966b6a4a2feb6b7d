import os
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg2
import pytest

from .conftest import Environment, site_in


@pytest.fixture(scope="session")
def server() -> str:
    """The URL of a PostgreSQL on which databases and roles may be made."""
    url = os.environ.get("TEST_DATABASE_URL", "")
    if not url.startswith("postgres"):
        pytest.fail("TEST_DATABASE_URL names no PostgreSQL: run lab/services.py pytest.")
    return url


def ask(url: str, statement: str, *values) -> list[tuple]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows


def drop(server: str, name: str) -> None:
    """Drop a database, and what a restore has left beside it."""
    for (database,) in ask(server, "SELECT datname FROM pg_database WHERE datname LIKE %s", f"{name}%"):
        ask(server, f"DROP DATABASE {database} WITH (FORCE)")


@dataclass(frozen=True)
class Role:
    """The role that all sites of these tests have in common, with the rights that a test gives it."""

    server: str
    name: str
    password: str

    def url(self, database: str) -> str:
        parts = urlsplit(self.server)
        address = f"{parts.hostname}:{parts.port or 5432}"
        return f"postgresql://{self.name}:{quote(self.password)}@{address}/{database}"

    def own_database(self, template: str) -> str:
        name = f"forge_{secrets.token_hex(4)}"
        ask(self.server, f"CREATE DATABASE {name} OWNER {self.name} TEMPLATE {template}")
        return name


@pytest.fixture(scope="module")
def role(server) -> Iterator[Role]:
    role = Role(server, f"forge_{secrets.token_hex(4)}", f"p@ss {secrets.token_hex(8)}")
    ask(server, f"CREATE ROLE {role.name} LOGIN PASSWORD %s", role.password)
    yield role
    ask(server, f"DROP ROLE {role.name}")


@pytest.fixture(scope="module")
def fresh(role, manage, tmp_path_factory) -> Iterator[Environment]:
    """A site that has its tables: migrated once, to be copied and not to be changed."""
    name = role.own_database(template="template1")
    site = {**site_in(tmp_path_factory.mktemp("fresh")), "DATABASE_URL": role.url(name)}
    result = manage("migrate", "-v0", **site)
    assert result.returncode == 0, result.stderr
    yield site
    drop(role.server, name)


@pytest.fixture(scope="module")
def fresh_copy(fresh, manage, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("copy") / "copy.dump"
    result = manage("backup_database", str(file), **fresh)
    assert result.returncode == 0, result.stderr
    return file


@pytest.fixture
def make(role, fresh, production) -> Iterator[Callable[..., Environment]]:
    """Make a database of a role with the given rights, and return the environment of a site there."""
    made: list[str] = []

    def make(rights: str = "NOCREATEDB") -> Environment:
        ask(role.server, f"ALTER ROLE {role.name} {rights}")
        made.append(role.own_database(template=database_of(fresh)))
        return {**production, "DATABASE_URL": role.url(made[-1])}

    yield make
    for name in made:
        drop(role.server, name)


@pytest.fixture(params=["NOCREATEDB", "CREATEDB"], ids=["one transaction", "beside and renamed"])
def site(request, make) -> Environment:
    """A site whose role may make no database, and one whose role may."""
    return make(request.param)


@pytest.fixture
def copy(fresh_copy, tmp_path) -> Path:
    return Path(shutil.copy(fresh_copy, tmp_path))


def database_of(site: Environment) -> str:
    return urlsplit(site["DATABASE_URL"]).path.strip("/")


def titles(site: Environment) -> list[str]:
    return [title for (title,) in ask(site["DATABASE_URL"], "SELECT title FROM forge_template ORDER BY title")]


def others(site: Environment) -> list[str]:
    """The databases that a restore has left beside the site's."""
    return ask(site["DATABASE_URL"], "SELECT datname FROM pg_database WHERE datname LIKE %s", f"{database_of(site)}_%")


def refused(result, sentence: str) -> None:
    assert result.returncode == 1
    assert re.fullmatch(f"CommandError: {sentence}\n", result.stderr), result.stderr


def test_copy_is_whole_and_nobody_else_may_read_it(manage, make, tmp_path):
    result = manage("backup_database", **make())
    assert result.returncode == 0, result.stderr
    (file,) = (tmp_path / "backups").iterdir()
    assert re.fullmatch(r"forge_\d{8}_\d{6}\.dump", file.name)
    assert result.stdout == f"{file}: {file.stat().st_size} bytes, verified\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_restore_puts_everything_back(manage, site, copy):
    before = titles(site)
    url = site["DATABASE_URL"]
    ask(url, "TRUNCATE forge_template CASCADE")
    # A newer release has more, and it hangs together with what is replaced.
    ask(url, "CREATE TABLE later (id int, author_id int REFERENCES auth_user)")
    ask(url, "CREATE VIEW shown AS SELECT title FROM forge_template")
    result = manage("restore_database", str(copy), "--replace", "--yes", **site)
    assert result.returncode == 0, result.stderr
    assert titles(site) == before
    assert ask(url, "SELECT to_regclass('later'), to_regclass('shown')") == [(None, None)]
    # The ids go on where they were.
    ask(url, "INSERT INTO django_content_type (app_label, model) VALUES ('a', 'b')")
    assert others(site) == []
    assert manage("health_check", **site).returncode == 0


def test_migrations_and_copies_go_past_a_pool(manage, site, tmp_path):
    before = titles(site)
    way = {"DATABASE_URL": f"postgresql://%2Fnowhere/{database_of(site)}", "DATABASE_POOL_MODE": "transaction"}
    pooled = {**site, **way, "DATABASE_DIRECT_URL": site["DATABASE_URL"]}
    copy = str(tmp_path / "copy")
    for command in (
        ["migrate"],
        ["backup_database", copy],
        ["restore_database", copy, "--replace", "--yes", "--migrate"],
    ):
        result = manage(*command, **pooled)
        assert result.returncode == 0, result.stderr
    assert titles(site) == before
    assert others(site) == []


def test_restore_while_the_site_is_connected(manage, site, copy):
    ask(site["DATABASE_URL"], "TRUNCATE forge_template CASCADE")
    connection = psycopg2.connect(site["DATABASE_URL"])
    connection.autocommit = True
    connection.cursor().execute("SELECT 1")
    result = manage("restore_database", str(copy), "--replace", "--yes", **site)
    connection.close()
    assert result.returncode == 0, result.stderr
    assert len(titles(site)) == 6


def test_restore_into_nothing_with_migrations(manage, site, copy):
    url = site["DATABASE_URL"]
    ask(url, "DROP SCHEMA public CASCADE")
    ask(url, "CREATE SCHEMA public")
    result = manage("restore_database", str(copy), "--migrate", "--yes", **site)
    assert result.returncode == 0, result.stderr
    assert len(titles(site)) == 6
    assert "No migrations to apply" in result.stdout


def test_extension_of_the_administrator_stays(manage, site, server, tmp_path):
    administrator = f"{server.rpartition('/')[0]}/{database_of(site)}"
    ask(administrator, "CREATE EXTENSION pg_trgm")
    file = tmp_path / "with-extension.dump"
    assert manage("backup_database", str(file), **site).returncode == 0
    result = manage("restore_database", str(file), "--replace", "--yes", **site)
    assert result.returncode == 0, result.stderr
    assert ask(administrator, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'") == [(1,)]


@pytest.mark.parametrize(
    ("app", "reason"), [("sessions", "already exists"), ("auth", "Migration .* is applied before its dependency .*")]
)
def test_migration_that_fails_is_one_sentence(manage, site, copy, tmp_path, app, reason):
    ask(site["DATABASE_URL"], "DELETE FROM django_migrations WHERE app = %s", app)
    file = tmp_path / "old.dump"
    assert manage("backup_database", str(file), **site).returncode == 0
    ask(site["DATABASE_URL"], "TRUNCATE forge_template CASCADE")
    result = manage("restore_database", str(file), "--replace", "--yes", "--migrate", **site)
    put_back, not_changed = "copy was put back, but its", "database was not changed, since the migrations of the copy"
    refused(result, f"the ({put_back} migrations|{not_changed}) failed: .*{reason}.")
    assert others(site) == []
    # Beside, the migrations are part of it; in one transaction they come after.
    assert len(titles(site)) == (0 if "was not changed" in result.stderr else 6)


def test_process_that_is_asked_to_end_leaves_nothing_behind(manage, site, copy, monkeypatch, tmp_path):
    ask(site["DATABASE_URL"], "TRUNCATE forge_template CASCADE")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "psql").write_text("#!/bin/sh\nkill $PPID\ncat >/dev/null\n")
    (programs / "psql").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    result = manage("restore_database", str(copy), "--replace", "--yes", **site)
    assert (result.returncode, result.stderr) == (128 + signal.SIGTERM, "")
    assert others(site) == []
    assert titles(site) == []


def test_database_of_something_else_is_not_put_back(manage, make, server, role, tmp_path):
    site = make()
    other = {**site, "DATABASE_URL": role.url(f"{database_of(site)}_other")}
    ask(server, f"CREATE DATABASE {database_of(other)} OWNER {role.name}")
    ask(other["DATABASE_URL"], "CREATE TABLE bookmarks (id int)")
    file = tmp_path / "other.dump"
    assert manage("backup_database", str(file), **other).returncode == 0
    result = manage("restore_database", str(file), "--replace", "--yes", **site)
    refused(result, ".*/other.dump is no copy of a site: it has no table django_migrations.")
    assert len(titles(site)) == 6


def test_database_with_tables_is_kept_unless_told(manage, site, copy):
    ask(site["DATABASE_URL"], "TRUNCATE forge_template CASCADE")
    result = manage("restore_database", str(copy), "--yes", **site)
    refused(result, r".* has \d+ tables, and nothing was changed: say --replace if what they hold may go.")
    assert titles(site) == []


def test_copy_that_ends_early_is_not_put_back(manage, site, copy):
    ask(site["DATABASE_URL"], "TRUNCATE forge_template CASCADE")
    copy.write_bytes(copy.read_bytes()[:-20_000])
    refused(manage("restore_database", str(copy), "--replace", "--yes", **site), "pg_restore failed: .*")
    assert titles(site) == []


def test_copy_that_breaks_on_the_way_changes_nothing(manage, site, copy, monkeypatch, tmp_path):
    """A program that stops in the middle of the data, as a killed one does."""
    ask(site["DATABASE_URL"], "TRUNCATE forge_template CASCADE")
    programs = tmp_path / "programs"
    programs.mkdir()
    real = next(
        Path(folder) / "pg_restore"
        for folder in os.environ["PATH"].split(":")
        if (Path(folder) / "pg_restore").exists()
    )
    script = programs / "pg_restore"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *--file=-*) '
        f'{real} "$@" | head -c 30000; echo \'pg_restore: error: killed\' >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    result = manage("restore_database", str(copy), "--replace", "--yes", **site)
    refused(result, "the database was not changed: .*")
    assert titles(site) == []
    assert others(site) == []


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore", "psql"])
def test_missing_program_is_one_sentence(manage, make, copy, tmp_path, monkeypatch, program):
    site = make()
    programs = tmp_path / "programs"
    programs.mkdir()
    for other in {"pg_dump", "pg_restore", "psql", "docker", "sh"} - {program}:
        if found := shutil.which(other):
            (programs / other).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    arguments = ["backup_database"] if program == "pg_dump" else ["restore_database", str(copy), "--yes", "--replace"]
    refused(manage(*arguments, **site), f"the program {program} is missing: install the package postgresql-client.")


def test_server_that_refuses_is_one_sentence_without_the_password(manage, make, tmp_path):
    site = make()
    password = re.search(":([^:@]+)@", site["DATABASE_URL"])[1]
    site["DATABASE_URL"] = site["DATABASE_URL"].replace(password, "wrong")
    refused(manage("backup_database", **site), "pg_dump failed: .*password authentication failed for user .*")
    assert not list((tmp_path / "backups").iterdir())
    (tmp_path / "copy").write_bytes(b"PGDMP")
    refused(manage("restore_database", str(tmp_path / "copy"), **site), "pg_restore failed: .*")


def test_database_that_does_not_answer_is_one_sentence(manage, make, copy):
    site = make()
    site["DATABASE_URL"] = re.sub(":[0-9]+/", ":1/", site["DATABASE_URL"])
    refused(manage("restore_database", str(copy), "--yes", **site), "the database does not answer: .*refused.*")


def test_settings_of_the_database_are_not_lost(manage, make, copy):
    """What an administrator has set for a database would go with it: so it is not exchanged."""
    site = make("CREATEDB")
    ask(site["DATABASE_URL"], f"ALTER DATABASE {database_of(site)} SET work_mem = '7MB'")
    result = manage("restore_database", str(copy), "--yes", "--replace", **site)
    assert result.returncode == 0, result.stderr
    assert ask(site["DATABASE_URL"], "SHOW work_mem") == [("7MB",)]


def test_password_is_on_no_command_line(manage, make, tmp_path, monkeypatch):
    site = make()
    password = re.search(":([^:@]+)@", site["DATABASE_URL"])[1]
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pg_dump").write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/arguments\nexit 1\n')
    (programs / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    refused(manage("backup_database", **site), "pg_dump failed: it said nothing.")
    arguments = (tmp_path / "arguments").read_text()
    assert "--no-password" in arguments
    assert password not in arguments
    assert unquote(password) not in arguments
