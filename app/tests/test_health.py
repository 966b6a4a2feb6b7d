import json
import logging
import sqlite3

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

BEHIND_THE_PROXY = {"HTTP_X_FORWARDED_FOR": "203.0.113.9"}


@pytest.fixture
def media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def test_livez_needs_no_database(client):
    response = client.get("/livez")
    assert (response.status_code, response.content) == (200, b"ok")
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Length"] == "2"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health/", "/health"])
@override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["forge.example.org"])
def test_answered_before_host_validation_and_https_redirect(client, media, path):
    assert client.get(path, headers={"host": "10.0.0.5"}).status_code == 200
    assert client.get(path, headers={"host": "not a host!"}).status_code == 200
    assert client.get("/", headers={"host": "10.0.0.5"}).status_code == 400


@pytest.mark.django_db
def test_readyz(client, media):
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {name: {"status": "ok"} for name in ("database", "migrations", "cache", "media", "disk")},
    }


@pytest.mark.django_db
def test_readyz_query_count(client, media, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):
        client.get("/readyz")


@pytest.mark.django_db
def test_health_names_the_app_and_its_version(client, media, settings):
    settings.APP_VERSION = "1.2.3"
    report = client.get("/health/").json()
    assert (report["status"], report["app"], report["version"]) == ("ok", "forge", "1.2.3")
    assert set(report["checks"]) == {"database", "migrations", "cache", "media", "disk"}


@pytest.mark.django_db
def test_pending_migration_is_named(client, media):
    MigrationRecorder(connection).record_unapplied("forge", "0002_example_templates")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "failed"
    assert response.json()["checks"]["migrations"] == {
        "status": "failed",
        "reason": "migrations are pending: run manage.py migrate",
        "detail": "forge.0002_example_templates",
    }
    assert response.json()["checks"]["database"] == {"status": "ok"}


@pytest.mark.django_db
def test_migration_of_a_newer_release_does_not_stop_the_old_one(client, media):
    MigrationRecorder(connection).record_applied("forge", "9999_from_the_next_release")
    assert client.get("/readyz").status_code == 200


@pytest.mark.django_db
def test_broken_database_is_named_and_migrations_are_not_tried(client, media, monkeypatch, caplog):
    def refuse(*arguments):
        raise OperationalError("connection to server at 10.1.2.3 refused")

    monkeypatch.setattr(connection, "cursor", refuse)
    with caplog.at_level(logging.ERROR):
        response = client.get("/readyz")
    assert response.status_code == 503
    checks = response.json()["checks"]
    assert checks["database"]["reason"] == "the database does not answer"
    assert "10.1.2.3" in checks["database"]["detail"]
    assert checks["migrations"]["reason"] == "not checked: the database does not answer"
    assert checks["media"] == {"status": "ok"}
    assert "10.1.2.3" in caplog.text
    assert client.get("/livez").status_code == 200


@pytest.mark.django_db
def test_details_stay_on_the_host(client, media, monkeypatch):
    def refuse(*arguments):
        raise OperationalError("connection to server at 10.1.2.3 refused")

    monkeypatch.setattr(connection, "cursor", refuse)
    for extra in (BEHIND_THE_PROXY, {"REMOTE_ADDR": "198.51.100.7"}):
        response = client.get("/readyz", **extra)
        assert response.json()["checks"]["database"]["reason"] == "the database does not answer"
        assert b"10.1.2.3" not in response.content
    assert b"10.1.2.3" in client.get("/readyz", REMOTE_ADDR="").content


@pytest.mark.django_db
def test_missing_media_directory(client, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "missing"
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["media"]["reason"] == "the media directory is missing"


@pytest.mark.django_db
def test_media_directory_that_is_not_writable(client, media, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert client.get("/readyz").json()["checks"]["media"]["reason"] == "the media directory is not writable"


def test_other_methods_are_refused(client):
    assert client.post("/livez").status_code == 405
    assert client.head("/livez").status_code == 200


def test_other_paths_are_not_touched(client, db):
    assert client.get("/livez/more").status_code == 404


def test_database_without_tables_is_not_ready(manage, production, tmp_path):
    sqlite3.connect(tmp_path / "forge.sqlite3").close()
    script = (
        "from django.test import Client;"
        "r = Client().get('/readyz', headers={'host': '10.0.0.5'});"
        "print(r.status_code); print(r.content.decode())"
    )
    result = manage("shell", "--no-imports", "-c", script, **production)
    lines = result.stdout.splitlines()
    assert "503" in lines
    assert "forge.0001_initial" in json.loads(lines[-1])["checks"]["migrations"]["detail"]
