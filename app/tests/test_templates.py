import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import IntegrityError

from forge.models import ATTACHMENT_MAX_MEGABYTES, Template
from forge.prompts import Segment, split


def test_body_is_split_at_its_variables():
    assert split("a {{ b }}{{c}} {{ d e }} {{\nf\n}}") == [
        Segment("a ", False),
        Segment("b", True),
        Segment("c", True),
        Segment(" {{ d e }} ", False),
        Segment("f", True),
    ]
    assert split("") == []


def test_variables_are_listed_once_in_order():
    assert Template(body="{{ b }} {{ a }} {{ b }}").variables == ["b", "a"]


def test_preview_is_the_beginning():
    assert "".join(segment.text for segment in Template(body="x" * 1000).preview) == "x" * 240


def test_slug_is_unique(template):
    with pytest.raises(IntegrityError):
        Template.objects.create(title="Other", slug=template.slug, body="x")


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("page.html", 10, "not allowed"),
        ("image.svg", 10, "not allowed"),
        ("notes.md", ATTACHMENT_MAX_MEGABYTES * 1024 * 1024 + 1, "larger than 5 MB"),
    ],
)
def test_attachment_that_is_refused(template, name, size, reason):
    template.attachment = SimpleUploadedFile(name, b"x" * size)
    with pytest.raises(ValidationError, match=reason):
        template.full_clean()


def test_attachment_is_readable_for_the_web_server_whatever_the_umask(template, settings, tmp_path, client):
    import os

    settings.MEDIA_ROOT = tmp_path
    umask = os.umask(0o077)
    try:
        template.attachment.save("notes.md", SimpleUploadedFile("notes.md", b"hello"))
    finally:
        os.umask(umask)
    file = tmp_path / template.attachment.name
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o755
    assert template.attachment.url in client.get(template.get_absolute_url()).text


def test_admin(admin_client, template):
    assert template.title in admin_client.get("/admin/forge/template/?q=thing").text
    assert admin_client.get(f"/admin/forge/template/{template.pk}/change/").status_code == 200
    response = admin_client.post(
        "/admin/forge/template/add/",
        {"title": "New", "slug": "new", "agent_role": "Namer", "workflow_phase": "plan", "body": "x", "active": "on"},
    )
    assert response.status_code == 302
    assert Template.objects.filter(slug="new").exists()


@pytest.mark.django_db
def test_no_migration_is_missing():
    call_command("makemigrations", "--check", "--dry-run", "-v0")


@pytest.mark.django_db
def test_examples_are_put_into_an_empty_library_only(template):
    from importlib import import_module

    from django.apps import apps

    add_examples = import_module("forge.migrations.0002_example_templates").add_examples
    before = Template.objects.count()
    add_examples(apps, None)
    assert Template.objects.count() == before
