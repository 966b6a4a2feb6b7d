import pytest
from django.core.exceptions import ImproperlyConfigured

from config.database import from_url


def read(url: str) -> dict:
    return from_url(url, conn_max_age_seconds=60, statement_timeout_seconds=30)


def test_unix_socket():
    settings = read("postgresql://%2Fvar%2Frun%2Fpostgresql/forge")
    assert settings["ENGINE"] == "django.db.backends.postgresql"
    assert (settings["HOST"], settings["NAME"]) == ("/var/run/postgresql", "forge")
    assert not settings["USER"]
    assert not settings["PASSWORD"]


def test_unix_socket_with_user():
    settings = read("postgresql://forge@%2Fvar%2Frun%2Fpostgresql/forge")
    assert (settings["HOST"], settings["USER"]) == ("/var/run/postgresql", "forge")


def test_password_is_decoded_and_query_options_are_kept():
    settings = read("postgresql://forge:p%40ss%2F%25w%3Ard%23@db.example.org:5433/forge?sslmode=verify-full")
    assert settings["PASSWORD"] == "p@ss/%w:rd#"
    assert (settings["HOST"], settings["PORT"], settings["USER"]) == ("db.example.org", 5433, "forge")
    assert settings["OPTIONS"]["sslmode"] == "verify-full"
    assert settings["OPTIONS"]["options"] == "-c statement_timeout=30000"


def test_connections_are_kept_and_checked():
    settings = read("postgresql:///forge")
    assert settings["CONN_MAX_AGE"] == 60
    assert settings["CONN_HEALTH_CHECKS"] is True
    assert settings["OPTIONS"]["connect_timeout"] == 5


def test_no_statement_timeout_sends_no_option():
    settings = from_url("postgresql:///forge", conn_max_age_seconds=0, statement_timeout_seconds=0)
    assert "options" not in settings["OPTIONS"]


def test_behind_a_pool_of_transactions_nothing_stays_with_a_connection():
    settings = from_url(
        "postgresql:///forge", conn_max_age_seconds=60, statement_timeout_seconds=30, pool_mode="transaction"
    )
    assert settings["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert "options" not in settings["OPTIONS"]
    assert read("postgresql:///forge")["DISABLE_SERVER_SIDE_CURSORS"] is False


def test_sqlite_gets_no_option_of_postgresql(tmp_path):
    assert "connect_timeout" not in read(f"sqlite:///{tmp_path}/db").get("OPTIONS", {})


@pytest.mark.parametrize("url", ["forge", "postgrs://db/forge", "postgresql://db", "postgresql://db:port/forge"])
def test_wrong_url(url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL is not a database URL"):
        read(url)
