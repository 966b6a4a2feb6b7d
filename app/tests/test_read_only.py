from collections.abc import Callable, Iterator

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import URLResolver, get_resolver

from forge.models import Favourite

WRITES = ("INSERT", "UPDATE", "DELETE", "SAVEPOINT")


def writes(queries) -> list[str]:
    return [query["sql"] for query in queries.captured_queries if query["sql"].startswith(WRITES)]


@pytest.fixture
def lock(settings, tmp_path):
    settings.READ_ONLY_FILE = tmp_path / "read-only"
    return settings.READ_ONLY_FILE


@pytest.fixture
def ann(django_user_model, db):
    return django_user_model.objects.create_user("ann", password="right")


def test_lock_file_counts_at_once_and_so_does_its_removal(client, ann, lock):
    lock.touch()
    refused = client.post("/login/", {"username": "ann", "password": "right"})
    assert refused.status_code == 503
    assert refused["Retry-After"] == "300"
    assert "Read-only at the moment" in refused.text
    assert refused["Content-Type"].startswith("text/html")
    lock.unlink()
    assert client.post("/login/", {"username": "ann", "password": "right"}).status_code == 302


def test_environment_starts_it_too(client, ann, settings):
    settings.READ_ONLY = True
    assert client.post("/login/").status_code == 503


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "trace"])
def test_every_other_method_is_refused(client, db, lock, method):
    lock.touch()
    assert getattr(client, method)("/").status_code == 503


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_reading_goes_on(client, template, lock, method):
    lock.touch()
    for path in ("/", template.get_absolute_url(), "/login/"):
        assert getattr(client, method)(path).status_code == 200


def test_health_is_answered_as_ever(client, db, lock):
    lock.touch()
    for path in ("/livez", "/health/"):
        assert client.get(path).status_code == client.head(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "told"), [("", "boat</mark>"), ("prompt.md", "Name boat"), ("prompt.txt", "Name boat")]
)
def test_prompt_is_filled_because_that_changes_nothing(
    client, template, lock, django_assert_max_num_queries, path, told
):
    lock.touch()
    with django_assert_max_num_queries(2) as queries:
        response = client.post(template.get_absolute_url() + path, {"value-thing": "boat"})
    assert response.status_code == 200
    assert told in response.text
    assert writes(queries) == []


def test_prompt_still_needs_its_token(template, lock):
    lock.touch()
    client = Client(enforce_csrf_checks=True)
    path = template.get_absolute_url()
    assert client.post(path, {"value-thing": "boat"}).status_code == 403
    token = client.get(path).context["csrf_token"]
    assert client.post(path, {"value-thing": "boat", "csrfmiddlewaretoken": token}).status_code == 200


def named_views(resolver: URLResolver) -> Iterator[tuple[str, Callable]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from named_views(pattern)
        else:
            yield pattern.name, pattern.callback


def test_no_other_view_may_say_that_it_changes_nothing():
    declared = {name for name, view in named_views(get_resolver()) if hasattr(view, "changes_nothing")}
    assert declared == {"detail", "download_md", "download_txt"}


@pytest.mark.parametrize("path", ["favourite/", "no-such-page/"])
def test_what_is_not_declared_is_refused(client, ann, template, lock, path):
    client.force_login(ann)
    lock.touch()
    response = client.post(template.get_absolute_url() + path, {"keep": "true"})
    assert response.status_code == 503
    assert not Favourite.objects.exists()


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/api/templates/", "*/*"), ("/", "application/json"), ("/", "application/json, text/html;q=0.5")],
)
def test_programs_get_json(client, db, lock, path, accept):
    lock.touch()
    response = client.post(path, headers={"accept": accept})
    assert response.status_code == 503
    assert response.json() == {"detail": "The site is read-only at the moment. Nothing was changed."}
    assert response["Retry-After"] == "300"


def test_login_page_says_so(client, db, lock):
    assert "read-only" not in client.get("/login/").text
    lock.touch()
    assert "The site is read-only at the moment" in client.get("/login/").text


def test_page_of_somebody_signed_in_writes_nothing(ann, lock, django_assert_max_num_queries):
    client = Client()
    client.force_login(ann)
    lock.touch()
    with django_assert_max_num_queries(8) as queries:
        assert "Sign out" in client.get("/").text
    assert writes(queries) == []


@pytest.mark.parametrize("what", ["password", "key"])
def test_session_that_would_be_changed_is_left_alone(ann, lock, settings, django_assert_max_num_queries, what):
    """A changed password ends a session, and a new secret key renews it: both wait until the site may be written."""
    client = Client()
    client.force_login(ann)
    if what == "password":
        ann.set_password("other")
        ann.save()
    else:
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another key, made after the user signed in"
    before = list(Session.objects.values())
    lock.touch()
    with django_assert_max_num_queries(6) as queries:
        response = client.get("/")
    assert response.status_code == 200
    assert ("Sign out" in response.text) is (what == "key")
    assert writes(queries) == []
    assert list(Session.objects.values()) == before
    assert "sessionid" not in response.cookies or not response.cookies["sessionid"].value


def test_file_is_below_the_state_directory_by_default(manage, production, tmp_path):
    script = (
        "from django.conf import settings as s; from config import read_only;"
        "print(s.READ_ONLY_FILE, s.BACKUP_DIRECTORY, read_only.is_active())"
    )
    (tmp_path / "read-only").touch()
    result = manage("shell", "--no-imports", "-c", script, **production)
    assert result.stdout == f"{tmp_path}/read-only {tmp_path}/backups True\n"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(36, "File name too long")])
def test_file_that_cannot_be_looked_for_counts_as_absent(client, db, monkeypatch, error):
    def fail(path):
        raise error

    monkeypatch.setattr("config.read_only.Path.exists", fail)
    assert client.get("/").status_code == 200
