import json

import pytest

SHOW = "import json; from django.conf import settings as s; print(json.dumps([s.DJANGO_ENV, s.DEBUG, s.MIDDLEWARE]))"


def test_development_is_the_default_and_needs_nothing(manage):
    result = manage("shell", "--no-imports", "-c", SHOW)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[:2] == ["development", True]


def test_production(manage, production):
    result = manage("shell", "--no-imports", "-c", SHOW, **production)
    assert result.returncode == 0, result.stderr
    environment, debug, middleware = json.loads(result.stdout)
    assert (environment, debug) == ("production", False)
    assert middleware[0] == "health.middleware.HealthMiddleware"
    assert "whitenoise.middleware.WhiteNoiseMiddleware" in middleware


def test_unknown_environment_is_one_sentence(manage):
    result = manage("check", DJANGO_ENV="staging")
    assert result.returncode == 1
    assert result.stderr == (
        "forge: DJANGO_ENV is 'staging', which is unknown: set it to one of development, production, test.\n"
    )


@pytest.mark.parametrize("name", ["SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "STATIC_ROOT", "MEDIA_ROOT"])
def test_what_production_misses_is_one_sentence_that_names_it(manage, production, name):
    del production[name]
    result = manage("check", **production)
    assert result.returncode == 1
    assert result.stderr.startswith(f"forge: {name} is not set: ")
    assert result.stderr.count("\n") == 1


def test_secrets_may_come_from_files(manage, production, tmp_path):
    key = tmp_path / "key"
    key.write_text(production.pop("SECRET_KEY"))
    result = manage("check", "--deploy", "--fail-level", "WARNING", SECRET_KEY_FILE=str(key), **production)
    assert result.returncode == 0, result.stderr


def test_deployment_check_has_no_warning(manage, production):
    production["DATABASE_URL"] = "postgresql://%2Fvar%2Frun%2Fpostgresql/forge"
    result = manage("check", "--deploy", "--fail-level", "WARNING", **production)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "a" * 49),
        ("ALLOWED_HOSTS", "https://forge.test"),
        ("CSRF_TRUSTED_ORIGINS", "forge.test"),
        ("STATIC_ROOT", "rel"),
        ("STATIC_PUBLISHED", "rel"),
        ("MEDIA_ROOT", "rel"),
        ("BACKUP_DIRECTORY", "rel"),
        ("READ_ONLY_FILE", f"/{'a' * 300}"),
        ("LOGIN_BLOCK_SECONDS", "99999999999999"),
        ("DATABASE_STATEMENT_TIMEOUT_SECONDS", "2147484"),
        ("DATABASE_POOL_MODE", "session"),
        ("CSP_REPORT_URI", "https://x;script-src *"),
    ],
)
def test_wrong_value_stops_every_command_with_one_sentence(manage, production, name, value):
    result = manage("check", **{**production, name: value})
    assert result.returncode == 1
    assert result.stderr.startswith(f"forge: {name} is ")
    assert result.stderr.count("\n") == 1
    assert "aaaa" not in result.stderr or name != "SECRET_KEY"


def test_wrong_direct_url_is_named(manage, production):
    result = manage("check", **{**production, "DATABASE_DIRECT_URL": "postgrs://forge:s3cret@db/forge"})
    assert result.returncode == 1
    assert result.stderr.startswith("forge: DATABASE_DIRECT_URL is not a database URL: ")
    assert "s3cret" not in result.stderr


def test_wrong_database_url_does_not_show_its_password(manage, production):
    production["DATABASE_URL"] = "postgrs://forge:s3cret@db/forge"
    result = manage("check", **production)
    assert result.stderr.startswith("forge: DATABASE_URL is not a database URL: ")
    assert "s3cret" not in result.stderr + result.stdout
