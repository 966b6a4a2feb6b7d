import json
import logging
import os
import sqlite3

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from health import checks

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
        "checks": {name: {"status": "ok"} for name in ("database", "migrations", "cache", "media", "logs", "disk")},
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
    assert set(report["checks"]) == {"database", "migrations", "cache", "media", "logs", "disk"}


@pytest.mark.django_db
def test_pending_migration_is_named(client, media):
    MigrationRecorder(connection).record_unapplied("forge", "0005_search_vector")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "failed"
    assert response.json()["checks"]["migrations"] == {
        "status": "failed",
        "reason": "migrations are pending: run manage.py migrate",
        "detail": "forge.0005_search_vector",
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


@pytest.mark.django_db
def test_media_directory_out_of_reach_is_a_failure_and_no_error(client, settings, monkeypatch, tmp_path):
    def refuse(path, *arguments, **more):
        raise PermissionError(13, "Permission denied", str(path))

    # root may go everywhere, so that no directory of this test could keep it out.
    monkeypatch.setattr("pathlib.Path.stat", refuse)
    monkeypatch.setattr("shutil.disk_usage", refuse)
    settings.MEDIA_ROOT = settings.LOG_DIR = str(tmp_path)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["media"]["reason"] == "the media directory is out of reach"
    assert response.json()["checks"]["disk"] == {"status": "ok"}


@pytest.mark.django_db
def test_check_that_breaks_has_failed_and_the_others_are_told(client, media, monkeypatch):
    def broken():
        raise ZeroDivisionError("at 10.1.2.3")

    monkeypatch.setitem(checks.CHECKS, "cache", broken)
    response = client.get("/readyz", **BEHIND_THE_PROXY)
    assert response.status_code == 503
    assert response.json()["checks"]["cache"] == {"status": "failed", "reason": "the check broke: ZeroDivisionError"}
    assert response.json()["checks"]["disk"] == {"status": "ok"}


@pytest.mark.django_db
@pytest.mark.parametrize("directory", ["missing", "file", "file/below"])
def test_log_directory_that_cannot_be_written_is_told_but_the_site_serves(client, media, settings, tmp_path, directory):
    (tmp_path / "file").touch()
    settings.LOG_DIR = str(tmp_path / directory)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["checks"]["logs"] == {
        "status": "degraded",
        "reason": "a log file cannot be written: only stdout has its lines",
        "detail": str(tmp_path / directory / "app.log"),
    }


@pytest.mark.django_db
def test_log_file_that_cannot_be_written_is_told(client, media, settings, tmp_path, monkeypatch):
    settings.LOG_DIR = str(tmp_path)
    (tmp_path / "security.log").touch()
    assert client.get("/readyz").json()["checks"]["logs"] == {"status": "ok"}
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and access(path, mode))
    assert client.get("/readyz").json()["checks"]["logs"]["detail"] == str(tmp_path / "security.log")


@pytest.mark.django_db
def test_dead_cache_is_told_but_the_site_serves(client, media, with_redis, caplog):
    assert client.get("/readyz").json()["checks"]["cache"] == {"status": "ok"}
    with_redis.die()
    with caplog.at_level(logging.WARNING):
        response = client.get("/readyz")
    assert response.status_code == 200
    report = response.json()
    assert report["status"] == "degraded"
    assert report["checks"]["cache"]["status"] == "degraded"
    assert report["checks"]["cache"]["reason"] == "the cache does not answer: pages come without it"
    assert "relay.sock" in report["checks"]["cache"]["detail"]
    assert "detail" not in client.get("/health/", **BEHIND_THE_PROXY).json()["checks"]["cache"]
    assert "degraded: cache: the cache does not answer" in caplog.text


@pytest.mark.django_db
def test_failure_weighs_more_than_a_dead_cache(client, settings, with_redis, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "missing"
    with_redis.die()
    response = client.get("/health/")
    assert (response.status_code, response.json()["status"]) == (503, "failed")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["MEDIA_ROOT", "LOG_DIR"])
def test_disk_that_is_nearly_full_is_named(client, media, settings, tmp_path, name):
    (tmp_path / "other").mkdir()
    setattr(settings, name, str(tmp_path / "other"))
    assert client.get("/readyz").status_code == 200
    settings.HEALTH_FREE_MEGABYTES = 10**9
    response = client.get("/readyz")
    assert response.status_code == 503
    check = response.json()["checks"]["disk"]
    assert (check["status"], check["reason"]) == ("failed", "the disk is nearly full")
    assert "HEALTH_FREE_MEGABYTES asks for 1000000000" in check["detail"]
    assert "detail" not in client.get("/readyz", **BEHIND_THE_PROXY).json()["checks"]["disk"]


@pytest.mark.django_db
def test_threshold_of_zero_asks_for_nothing(client, media, settings):
    settings.HEALTH_FREE_MEGABYTES = 0
    assert client.get("/readyz").json()["checks"]["disk"] == {"status": "ok"}


def test_command_has_the_same_verdict_and_only_json_on_stdout(manage, production):
    result = manage("health_check", **production)
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert (report["status"], report["app"], report["version"]) == ("failed", "forge", "1.2.3")
    assert "forge.0001_initial" in report["checks"]["migrations"]["detail"]
    assert manage("migrate", "-v0", **production).returncode == 0
    result = manage("health_check", REDIS_URL="unix:///nowhere/redis.sock", **production)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "degraded"
    result = manage("health_check", **production)
    assert (result.returncode, json.loads(result.stdout)["status"]) == (0, "ok")


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
