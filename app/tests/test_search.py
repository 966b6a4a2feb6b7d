"""Words find templates: by PostgreSQL's full text search, or by the text itself elsewhere."""

import pytest
from django.db import connection

from forge.models import Template


@pytest.fixture
def shelf(db):
    Template.objects.all().delete()
    for slug, title, role, phase, body in [
        ("in-body", "First", "Cook", "plan", "Talk about rollbacks here, and of little else."),
        ("in-title", "Rollback", "Cook", "build", "Nothing."),
        ("in-role", "Second", "Rollback pilot", "plan", "Nothing."),
        ("elsewhere", "Third", "Cook", "plan", "Of schema changes."),
    ]:
        Template.objects.create(slug=slug, title=title, agent_role=role, workflow_phase=phase, body=body)


def found(words: str) -> list[str]:
    return [template.slug for template in Template.objects.search(words)]


def test_word_is_found_in_title_role_and_body(shelf):
    assert set(found("rollback")) == {"in-title", "in-role", "in-body"}
    assert found("ROLLBACK schema") == []
    assert found("schema changes") == ["elsewhere"]


def test_no_words_find_everything(shelf):
    assert len(found("  ")) == 4


@pytest.mark.parametrize("words", ["'", '"', "a & | ! b", "%", "_", "\\", "-", "<->", ":*", "()", "💥", "x" * 5000])
def test_no_words_are_a_mistake(shelf, words):
    assert found(words) == []


def found_by_admin(client, query: str) -> list[str]:
    page = client.get(f"/admin/forge/template/?{query}")
    assert page.status_code == 200
    return [template.slug for template in page.context["cl"].result_list]


def test_admin_finds_the_same_in_the_order_of_its_columns(admin_client, shelf):
    assert found_by_admin(admin_client, "q=rollback") == ["in-body", "in-title", "in-role"]
    # The role is the second column.
    assert found_by_admin(admin_client, "q=rollback&o=-2") == ["in-role", "in-title", "in-body"]
    assert found_by_admin(admin_client, "q=rollback&workflow_phase__exact=build") == ["in-title"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="other databases search the text as it is written")
class TestOnPostgresql:
    def test_title_comes_before_role_before_body(self, shelf):
        assert found("rollback") == ["in-title", "in-role", "in-body"]

    def test_stems_phrases_or_and_without(self, shelf):
        assert found("changing") == ["elsewhere"]
        assert found('"changes schema"') == []
        assert set(found("schema or pilot")) == {"elsewhere", "in-role"}
        assert found("rollback -pilot -talk") == ["in-title"]

    def test_admin_uses_the_index_too(self, admin_client, shelf):
        assert found_by_admin(admin_client, "q=schema+or+pilot") == ["in-role", "elsewhere"]

    def test_index_is_used(self, shelf):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
        assert "template_search" in Template.objects.search("rollback").explain()

    def test_vector_follows_each_change(self, shelf):
        Template.objects.filter(slug="elsewhere").update(body="A zebra.")
        assert found("zebra") == ["elsewhere"]
        assert found("schema") == []

    def test_longest_body_can_be_stored(self, shelf):
        body = "".join(f"{chr(0x4E00 + n % 20000)}{chr(0x4E00 + n // 5)} " for n in range(33_333))
        Template.objects.create(slug="long", title="Long", agent_role="x", workflow_phase="plan", body=body)
        Template.objects.filter(slug="long").update(body=body * 3)


def test_page_searches_within_phase_and_role(client, shelf):
    def slugs(query: str) -> list[str]:
        return sorted(template.slug for template in client.get(f"/?{query}").context["page_obj"])

    assert slugs("q=rollback") == ["in-body", "in-role", "in-title"]
    assert slugs("q=rollback&phase=plan") == ["in-body", "in-role"]
    assert slugs("q=rollback&phase=plan&role=Cook") == ["in-body"]
    assert slugs("role=Cook") == ["elsewhere", "in-body", "in-title"]
    assert slugs("role=Nobody") == []


def test_links_keep_what_was_searched_for(client, shelf):
    page = client.get("/?q=rollback&role=Cook").text
    assert 'href="?q=rollback&amp;role=Cook&amp;phase=plan"' in page
    assert 'value="rollback"' in page
    assert "<option selected>Cook</option>" in page
    assert '<input type="hidden" name="phase" value="plan">' in client.get("/?phase=plan").text


def test_nothing_found_offers_a_way_back(client, shelf):
    page = client.get("/?q=unheardof").text
    assert "Nothing matches" in page
    assert "Show every template" in page


def test_search_that_cannot_be_done_is_said(client, shelf):
    response = client.get(f"/?q={'x' * 201}")
    assert response.status_code == 200
    assert "at most 200" in response.text
    assert "Nothing matches" in response.text


def test_what_is_searched_for_is_escaped(client, shelf):
    assert "<script>alert" not in client.get("/?q=<script>alert(1)</script>&role=<script>alert(2)</script>").text
