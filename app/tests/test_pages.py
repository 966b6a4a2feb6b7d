from html.parser import HTMLParser

import pytest
from django.views.defaults import server_error

from forge.models import Template

PAGES = ["/", "/?phase=plan", "/templates/name-a-thing/", "/login/", "/missing"]


ELSEWHERE = ("http:", "https:", "//", "data:", "javascript:")


class Audit(HTMLParser):
    """Collects what a Content-Security-Policy of default-src 'self' would block, and the headings."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: list[str] = []
        self.headings: list[str] = []
        self.images_without_alt = 0

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in attributes):
            self.blocked.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.blocked.append(f"{tag} {name}")
            if name in ("src", "href", "action") and (value or "").startswith(
                ("http:", "https:", "//", "data:", "javascript:")
            ):
                self.blocked.append(f"{tag} {name}={value}")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag == "img" and "alt" not in attributes:
            self.images_without_alt += 1


@pytest.fixture
def staff(django_user_model):
    return django_user_model.objects.create_superuser("ann", password="right")


def test_fresh_site_shows_the_examples(client, db):
    response = client.get("/")
    assert response.status_code == 200
    assert "Sort a bug report" in response.text
    assert Template.objects.count() == 6


@pytest.mark.parametrize("path", PAGES)
def test_page_is_clean(client, template, path):
    audit = Audit()
    response = client.get(path)
    audit.feed(response.text)
    assert audit.blocked == []
    assert audit.headings.count("h1") == 1
    assert audit.images_without_alt == 0
    assert '<html lang="en">' in response.text
    assert "width=device-width" in response.text


@pytest.mark.parametrize("path", ["", "forge/template/", "forge/template/add/", "auth/user/add/", "password_change/"])
def test_admin_page_has_nothing_that_the_policy_would_block(admin_client, db, path):
    audit = Audit()
    response = admin_client.get(f"/admin/{path}")
    assert response.status_code == 200
    audit.feed(response.text)
    assert audit.blocked == []


@pytest.mark.parametrize(
    ("path", "count"), [("/", 2), ("/?phase=plan", 2), ("/templates/name-a-thing/", 1), ("/login/", 0)]
)
def test_query_count_of_a_visitor(client, template, django_assert_num_queries, path, count):
    for number in range(20):
        Template.objects.create(title=f"Plan {number}", slug=f"plan-{number}", workflow_phase="plan", body="{{ a }}")
    with django_assert_num_queries(count):
        client.get(path)


@pytest.mark.parametrize(("path", "count"), [("/", 4), ("/templates/name-a-thing/", 3)])
def test_query_count_of_who_is_signed_in(client, staff, template, django_assert_num_queries, path, count):
    client.force_login(staff)
    with django_assert_num_queries(count):
        client.get(path)


def test_list_can_be_narrowed_to_a_phase(client, template):
    titles = [entry.title for entry in client.get("/?phase=plan").context["page_obj"]]
    assert titles == ["Name a thing", "Plan a change in small steps"]
    assert client.get("/?phase=nonsense").status_code == 404


def test_list_has_pages_that_keep_the_phase(client, db):
    for number in range(30):
        Template.objects.create(title=f"Plan {number}", slug=f"plan-{number}", workflow_phase="plan", body="x")
    assert "?phase=plan&amp;page=2" in client.get("/?phase=plan").text
    assert client.get("/?phase=plan&page=2").status_code == 200
    assert client.get("/?page=99").status_code == 404


def test_empty_list(client, db):
    Template.objects.all().delete()
    assert "No template here yet" in client.get("/").text


def test_variables_are_marked_and_text_is_escaped(client, template):
    page = client.get(template.get_absolute_url()).text
    assert "Name <mark>thing</mark> for <mark>people</mark>." in page
    assert "&lt;b&gt;<mark>thing</mark>&lt;/b&gt;" in page


def test_inactive_template_is_for_staff_only(client, staff, template):
    Template.objects.filter(pk=template.pk).update(active=False)
    assert client.get(template.get_absolute_url()).status_code == 404
    assert template.title not in client.get("/").text
    client.force_login(staff)
    assert client.get(template.get_absolute_url()).status_code == 200
    assert "inactive" in client.get("/?phase=plan").text


def test_sign_in_and_out(client, staff):
    response = client.post("/login/", {"username": "ann", "password": "right"}, follow=True)
    assert response.redirect_chain == [("/", 302)]
    assert "Sign out" in response.text
    assert client.get("/login/").status_code == 302
    response = client.post("/logout/", follow=True)
    assert "Sign in" in response.text


def test_wrong_password_is_said(client, db):
    response = client.post("/login/", {"username": "ann", "password": "wrong"})
    assert response.status_code == 200
    assert 'role="alert"' in response.text


def test_sign_in_does_not_lead_to_another_site(client, staff):
    response = client.post("/login/?next=https://evil.example/", {"username": "ann", "password": "right"})
    assert response["Location"] == "/"


def test_version_is_in_the_footer(client, db, settings):
    settings.APP_VERSION = "1.2.3"
    assert "version 1.2.3" in client.get("/").text


def test_error_page_needs_no_database(rf):
    response = server_error(rf.get("/"))
    assert response.status_code == 500
    assert b"Something broke" in response.content


def test_no_superuser_is_made(django_user_model, db):
    assert not django_user_model.objects.exists()
