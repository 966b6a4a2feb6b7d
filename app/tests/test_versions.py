"""Every saved change of what a template says leaves a version, whoever saves it."""

import pytest

from forge.models import Template, TemplateVersion

ADMIN_FORM = {"title": "Name a thing", "slug": "name-a-thing", "agent_role": "Namer", "workflow_phase": "plan"}


def numbers(template: Template) -> list[int]:
    return [version.number for version in template.versions.all()]


def test_new_template_has_version_one(template):
    assert numbers(template) == [1]
    assert template.versions.get().wording == template.wording


@pytest.mark.parametrize(
    ("field", "value"),
    [("title", "Other"), ("agent_role", "Poet"), ("workflow_phase", "build"), ("body", "Other {{ thing }}")],
)
def test_change_of_the_wording_makes_a_version(template, field, value):
    setattr(template, field, value)
    template.save()
    assert numbers(template) == [2, 1]
    assert getattr(template.versions.first(), field) == value


def test_change_of_anything_else_makes_none(template):
    template.active = False
    template.slug = "other"
    template.save()
    assert numbers(template) == [1]


def test_admin_edit_makes_a_version_with_its_editor(admin_client, template):
    url = f"/admin/forge/template/{template.pk}/change/"
    response = admin_client.post(url, {**ADMIN_FORM, "body": "New {{ text }}", "active": "on"})
    assert response.status_code == 302
    version = template.versions.first()
    assert (version.number, version.body, version.editor.username) == (2, "New {{ text }}", "admin")
    page = admin_client.get(template.get_absolute_url()).text
    assert "Version 2" in page
    assert "admin" in page[page.index("Version 2") : page.index("Version 1")]


def test_only_staff_see_who_edited(client, staff, django_user_model, template):
    editor = django_user_model.objects.create_user("edith")
    version = template.versions.get()
    version.editor = editor
    version.save()
    pages = (template.get_absolute_url(), version.get_absolute_url())
    assert not any("edith" in client.get(page).text for page in pages)
    client.force_login(django_user_model.objects.create_user("bob"))
    assert not any("edith" in client.get(page).text for page in pages)
    client.force_login(staff)
    assert all("edith" in client.get(page).text for page in pages)


def test_admin_form_that_is_saved_unchanged_makes_no_version(admin_client, template):
    url = f"/admin/forge/template/{template.pk}/change/"
    admin_client.post(url, {**ADMIN_FORM, "body": template.body.replace("\n", "\r\n"), "active": "on"})
    assert numbers(template) == [1]


def test_admin_refuses_more_variables_than_a_form_has_room_for(admin_client, template):
    body = " ".join(f"{{{{ v{number} }}}}" for number in range(51))
    response = admin_client.post(f"/admin/forge/template/{template.pk}/change/", {**ADMIN_FORM, "body": body})
    assert "The body has 51 variables" in response.text
    assert numbers(template) == [1]


def test_older_version_can_be_read(client, template):
    template.body = "Second {{ text }}"
    template.save()
    first = client.get(template.versions.last().get_absolute_url())
    assert "Name <mark>thing</mark>" in first.text
    assert "version 1 of 2" in first.text
    assert f"{template.get_absolute_url()}versions/2/" in first.text
    second = client.get(template.versions.first().get_absolute_url()).text
    assert "Second <mark>text</mark>" in second
    assert "Newer" not in second


@pytest.mark.parametrize("number", ["0", "2", "99999999999999999999"])
def test_version_that_does_not_exist_is_not_found(client, template, number):
    assert client.get(f"{template.get_absolute_url()}versions/{number}/").status_code == 404


def test_versions_of_an_inactive_template_are_for_staff_only(client, staff, template):
    Template.objects.filter(pk=template.pk).update(active=False)
    url = template.versions.get().get_absolute_url()
    assert client.get(url).status_code == 404
    client.force_login(staff)
    assert client.get(url).status_code == 200


def test_page_lists_the_newest_ten_and_the_others_are_reached_from_there(client, template):
    for number in range(12):
        template.body = f"Body {number}"
        template.save()
    page = client.get(template.get_absolute_url()).text
    assert "Version 13<" in page
    assert "Version 4<" in page
    assert "Version 3<" not in page
    assert "Older" in client.get(f"{template.get_absolute_url()}versions/4/").text


def test_version_outlives_its_editor(template, staff):
    template.body = "x"
    template.save(editor=staff)
    staff.delete()
    assert template.versions.first().editor is None
    assert str(template.versions.first()) == "Name a thing, version 2"


def test_a_failed_version_takes_the_edit_back(template, monkeypatch):
    def fail(**kwargs):
        raise RuntimeError

    template.body = "lost"
    monkeypatch.setattr(TemplateVersion.objects._queryset_class, "create", lambda self, **kwargs: fail())
    with pytest.raises(RuntimeError):
        template.save()
    assert Template.objects.get(pk=template.pk).body != "lost"


@pytest.mark.django_db
def test_templates_of_the_release_before_get_their_first_version():
    from importlib import import_module

    from django.apps import apps

    TemplateVersion.objects.all().delete()
    migration = import_module("forge.migrations.0004_first_versions")
    migration.BATCH = 4
    migration.add_first_versions(apps, None)
    assert list(TemplateVersion.objects.values_list("number", flat=True)) == [1] * Template.objects.count()
    version = TemplateVersion.objects.select_related("template").first()
    assert (version.wording, version.created) == (version.template.wording, version.template.updated)
