"""The API reads: active templates for everybody, the schema for who is signed in."""

import pytest

from forge.api.throttles import UserThrottle, VisitorThrottle
from forge.models import Template


def test_list_has_what_a_page_shows(client, template):
    entry = client.get("/api/templates/?role=Namer").json()["results"][0]
    assert entry["slug"] == "name-a-thing"
    assert entry["variables"] == ["thing", "people"]
    assert entry["page"] == "http://testserver/templates/name-a-thing/"
    assert "body" not in entry


def test_template_has_its_body_and_version(client, template):
    template.body = "New"
    template.save()
    entry = client.get("/api/templates/name-a-thing/").json()
    assert (entry["body"], entry["version"], entry["attachment"]) == ("New", 2, None)


def test_inactive_template_is_nobodys(client, staff, template):
    client.force_login(staff)
    Template.objects.filter(pk=template.pk).update(active=False)
    assert client.get("/api/templates/name-a-thing/").status_code == 404
    assert client.get("/api/templates/?role=Namer").json()["results"] == []


def test_filters_and_search(client, template):
    def slugs(query: str) -> list[str]:
        return [entry["slug"] for entry in client.get(f"/api/templates/?{query}").json()["results"]]

    assert slugs("phase=plan") == ["name-a-thing", "plan-a-change-in-small-steps"]
    assert slugs("phase=plan&q=thing") == ["name-a-thing"]
    assert slugs("role=Nobody") == []


@pytest.mark.parametrize("query", ["phase=x", "q=%00", f"q={'x' * 201}", "cursor=cD0lMDA%3D"])
def test_wrong_parameter_is_a_400_that_names_it(client, template, query):
    response = client.get(f"/api/templates/?{query}")
    assert response.status_code == 400
    assert list(response.json()) == [query.partition("=")[0]]


def test_cursors_reach_every_template_once(client, db):
    for number in range(25):
        Template.objects.create(title="Same", slug=f"s-{number}", agent_role="x", workflow_phase="plan", body="x")
    slugs, url = [], "/api/templates/?limit=7"
    while url:
        page = client.get(url).json()
        assert len(page["results"]) <= 7
        slugs += [entry["slug"] for entry in page["results"]]
        url = page["next"]
    assert sorted(slugs) == sorted(Template.objects.values_list("slug", flat=True))


def test_limit_has_a_limit(client, db):
    for number in range(101):
        Template.objects.create(title="x", slug=f"s-{number}", agent_role="x", workflow_phase="plan", body="x")
    assert len(client.get("/api/templates/?limit=1000").json()["results"]) == 100


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_api_cannot_write(admin_client, template, method):
    response = getattr(admin_client, method)("/api/templates/name-a-thing/", {}, content_type="application/json")
    assert response.status_code == 405
    assert Template.objects.filter(pk=template.pk).exists()


def test_too_many_requests_are_refused_by_the_clients_address(client, template, monkeypatch):
    monkeypatch.setattr(VisitorThrottle, "THROTTLE_RATES", {"anon": "2/min"})

    def ask(address: str) -> int:
        # As it comes from the proxy, over a unix socket.
        return client.get("/api/templates/", REMOTE_ADDR="", headers={"x-forwarded-for": address})

    assert [ask("203.0.113.1").status_code for _ in range(3)] == [200, 200, 429]
    assert int(ask("203.0.113.1")["Retry-After"]) <= 60
    assert ask("203.0.113.2").status_code == 200


def test_who_is_signed_in_is_counted_by_name_and_visitors_are_not(client, staff, template, monkeypatch):
    monkeypatch.setattr(UserThrottle, "THROTTLE_RATES", {"user": "2/min"})
    assert [client.get("/api/templates/").status_code for _ in range(3)] == [200, 200, 200]
    client.force_login(staff)
    assert [client.get("/api/templates/").status_code for _ in range(3)] == [200, 200, 429]


def test_schema_and_docs_need_a_login(client, staff):
    assert client.get("/api/schema/").status_code == 403
    assert client.get("/api/docs/")["Location"] == "/login/?next=/api/docs/"
    client.force_login(staff)
    schema = client.get("/api/schema/").json()
    assert list(schema["paths"]) == ["/api/templates/", "/api/templates/{slug}/"]
    docs = client.get("/api/docs/").text
    assert "GET /api/templates/{slug}/" in docs
    assert "One of build, discover" in docs


def test_schema_is_open_where_forge_is_developed(client, db, settings):
    settings.DEBUG = True
    assert client.get("/api/schema/").status_code == 200
    assert client.get("/api/docs/").status_code == 200


def test_schema_has_no_warning(manage):
    result = manage("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null")
    assert result.returncode == 0, result.stderr
