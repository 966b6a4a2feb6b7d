import logging

import pytest


@pytest.fixture
def entries(caplog):
    """What was logged about requests."""
    caplog.set_level(logging.INFO, "forge.access")
    return lambda: [record for record in caplog.records if record.name == "forge.access"]


@pytest.mark.django_db
def test_request_is_one_line(client, template, entries, django_user_model):
    user = django_user_model.objects.create_user("ann")
    client.force_login(user)
    client.get("/?phase=plan&token=hunter2", HTTP_X_FORWARDED_FOR="203.0.113.9")
    (entry,) = entries()
    assert entry.getMessage() == "GET / 200"
    assert (entry.method, entry.path, entry.status) == ("GET", "/", 200)
    assert (entry.user_id, entry.client) == (user.pk, "203.0.113.9")
    assert 0 < entry.duration_ms < 10_000
    assert "hunter2" not in str(vars(entry))


@pytest.mark.django_db
def test_visitor_has_no_id_and_costs_no_query(client, entries, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get("/login/", REMOTE_ADDR="")
    (entry,) = entries()
    assert (entry.user_id, entry.client) == (None, "-")


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/admin/", 302)])
def test_other_answers_are_logged_too(client, entries, path, status):
    client.get(path)
    assert [entry.status for entry in entries()] == [status]


def test_request_that_breaks_is_logged_as_500(client, entries, monkeypatch):
    monkeypatch.setattr("forge.views.TemplateListView.get_queryset", lambda view: 1 / 0)
    client.raise_request_exception = False
    assert client.get("/").status_code == 500
    assert [entry.status for entry in entries()] == [500]


def test_probes_are_not_logged(client, db, entries):
    for path in ("/livez", "/readyz", "/health/", "/metrics"):
        client.get(path)
    assert entries() == []
