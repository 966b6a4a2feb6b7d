from html.parser import HTMLParser

import pytest
from django.views.defaults import server_error

from forge.models import Template

PAGES = [
    "/",
    "/?phase=plan",
    "/?q=name",
    "/?q=nothing-like-it",
    "/templates/name-a-thing/",
    "/templates/name-a-thing/versions/1/",
    "/favourites/",
    "/api/docs/",
    "/login/",
    "/missing",
]

ELSEWHERE = ("http:", "https:", "//", "data:", "javascript:")


class Audit(HTMLParser):
    """Collects what a Content-Security-Policy of default-src 'self' would block, and the headings."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: list[str] = []
        self.headings: list[str] = []
        self.images_without_alt = 0
        self.ids: list[str] = []
        self.fields: list[str] = []
        self.labelled: list[str] = []

    def unlabelled(self) -> list[str]:
        """Return the fields that no label names, and ids that stand twice."""
        repeated = [name for name in set(self.ids) if self.ids.count(name) > 1]
        return repeated + [name for name in self.fields if name not in self.labelled]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "label":
            self.labelled.append(attributes.get("for", ""))
        if tag in ("input", "select", "textarea") and attributes.get("type") != "hidden":
            self.fields.append(attributes.get("id", tag))
        if tag == "style" or (tag == "script" and "src" not in attributes):
            self.blocked.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.blocked.append(f"{tag} {name}")
            if name in ("src", "href", "action") and (value or "").startswith(ELSEWHERE):
                self.blocked.append(f"{tag} {name}={value}")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag == "img" and "alt" not in attributes:
            self.images_without_alt += 1


def test_fresh_site_shows_the_examples(client, db):
    response = client.get("/")
    assert response.status_code == 200
    assert "Sort a bug report" in response.text
    assert Template.objects.count() == 6


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("signed_in", [False, True])
def test_page_is_clean(client, staff, template, path, signed_in):
    if signed_in:
        client.force_login(staff)
    audit = Audit()
    response = client.get(path, follow=True)
    audit.feed(response.text)
    assert audit.blocked == []
    assert audit.unlabelled() == []
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
    thing = '<mark data-variable="thing">{{ thing }}</mark>'
    assert f'Name {thing} for <mark data-variable="people">{{{{ people }}}}</mark>.' in page
    assert f"&lt;b&gt;{thing}&lt;/b&gt;" in page


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
