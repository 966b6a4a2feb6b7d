"""sync_templates loads Markdown files: all of them or none, and only over what it loaded itself."""

import contextlib
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from forge.management.commands.sync_templates import LIBRARY
from forge.models import Phase, Source, Template, TemplateVersion
from forge.sync import documents

NOBODY = 65534
HEAD = "---\ntitle: {title}\nagent_role: Cook\nworkflow_phase: plan\n---\n{body}\n"


def write(directory: Path, name: str, title: str = "Title", body: str = "Body {{ x }}") -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HEAD.format(title=title, body=body))
    return file


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Let no folder open itself to the tests because root runs them."""
    mine = os.geteuid()
    os.seteuid(mine or NOBODY)
    yield
    os.seteuid(mine)


def sync(*arguments: str, **options) -> str:
    out = StringIO()
    call_command("sync_templates", *arguments, stdout=out, **options)
    return out.getvalue()


pytestmark = pytest.mark.django_db


def test_files_become_templates(tmp_path):
    write(tmp_path, "a.md")
    write(tmp_path, "deep/b.md", title="Bee")
    (tmp_path / "c.md").write_text(
        "---\ntitle: 'Sea'\nslug: see\nagent_role: Cook\nworkflow_phase: build\nactive: false\n---\n\nHello\r\nyou\n"
    )
    output = sync(str(tmp_path))
    assert output.splitlines()[-1] == "3 created, 0 updated, 0 unchanged, 0 deactivated, 0 kept."
    sea = Template.objects.get(slug="see")
    assert (sea.title, sea.workflow_phase, sea.body, sea.active) == ("Sea", "build", "Hello\nyou\n", False)
    assert sea.source == Source.DIRECTORY
    assert Template.objects.get(slug="b").title == "Bee"


def test_second_run_changes_nothing(tmp_path):
    write(tmp_path, "a.md")
    sync(str(tmp_path))
    assert sync(str(tmp_path)) == "0 created, 0 updated, 1 unchanged, 0 deactivated, 0 kept.\n"
    assert TemplateVersion.objects.filter(template__slug="a").count() == 1


def test_change_makes_a_version_without_an_editor(tmp_path):
    write(tmp_path, "a.md")
    sync(str(tmp_path))
    write(tmp_path, "a.md", body="New")
    assert "updated a\n" in sync(str(tmp_path))
    version = Template.objects.get(slug="a").versions.first()
    assert (version.number, version.body, version.editor) == (2, "New\n", None)


def test_vanished_template_is_deactivated_and_comes_back(tmp_path):
    write(tmp_path, "a.md")
    file = write(tmp_path, "b.md")
    sync(str(tmp_path))
    file.unlink()
    assert "deactivated b\n" in sync(str(tmp_path))
    assert not Template.objects.get(slug="b").active
    assert "0 deactivated" in sync(str(tmp_path))
    write(tmp_path, "b.md")
    assert "updated b\n" in sync(str(tmp_path))
    assert Template.objects.get(slug="b").active


def test_templates_of_others_are_not_touched(tmp_path, template):
    write(tmp_path, "name-a-thing.md", body="Overwritten")
    write(tmp_path, "a.md")
    sync()
    library = Template.objects.filter(source=Source.LIBRARY, active=True).count()
    output = sync(str(tmp_path))
    assert "kept name-a-thing\n" in output
    assert Template.objects.get(pk=template.pk).body == template.body
    assert Template.objects.filter(source=Source.LIBRARY, active=True).count() == library == 12


def test_dry_run_says_the_same_and_does_nothing(tmp_path):
    write(tmp_path, "a.md")
    file = write(tmp_path, "b.md")
    sync(str(tmp_path))
    write(tmp_path, "a.md", body="New")
    file.unlink()
    before = list(Template.objects.values_list("slug", "body", "active", "updated"))
    output = sync(str(tmp_path), "--dry-run")
    assert output == "updated a\ndeactivated b\nWould be: 0 created, 1 updated, 0 unchanged, 1 deactivated, 0 kept.\n"
    assert list(Template.objects.values_list("slug", "body", "active", "updated")) == before
    assert TemplateVersion.objects.filter(template__slug="a").count() == 1


def test_readme_and_hidden_files_are_no_templates(tmp_path):
    write(tmp_path, "a.md")
    for name in ("README.md", "deep/README.md", ".git/x.md", ".x.md"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("no template")
    assert "1 created" in sync(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no head", "bad.md has no front matter"),
        ("---\n- a\n---\nx", "bad.md has no front matter"),
        ("---\ntitle: [\n---\nx", "bad.md: the front matter is not YAML in line"),
        ("---\ntitle: a\x01b\n---\nx", "bad.md: the front matter is not YAML"),
        ("---\ntitle: T\nworkflow_phase: plan\n---\nx", "bad.md: agent_role is missing"),
        ("---\ntitle: [12]\n---\nx", "bad.md: title is ['12'], which is not one value"),
        ("---\ntitle: {a: b}\n---\nx", "bad.md: title is {'a': 'b'}, which is not one value"),
        ('---\ntitle: "a\\0b"\n---\nx', "bad.md: title is 'a\\x00b', with a control character"),
        ('---\ntitle: "a\\eb"\n---\nx', "bad.md: title is 'a\\x1bb', with a control character"),
        ('---\nagent_role: "a\\nb"\n---\nx', "bad.md: agent_role is 'a\\nb', with a control character"),
        ('---\ntitle: "\\ud800"\n---\nx', "bad.md: title is '\\ud800', with a control character"),
        ('---\ntitle: "\\UFFFFFFFF"\n---\nx', "bad.md: the front matter is not YAML"),
        (f"---\ntitle: {'[' * 5000}\n---\nx", "bad.md: the front matter is not YAML: maximum recursion depth"),
        (
            "---\ntitle: &a [x]\nslug: *a\n---\nx",
            "bad.md: the front matter is not YAML in line 3: aliases are not read",
        ),
        ("---\n? [a]\n: b\n---\nx", "bad.md: the front matter is not YAML in line 2"),
        ("---\ntitle:\nagent_role: Cook\nworkflow_phase: plan\n---\nx", "bad.md: title: This field cannot be blank"),
        ("---\ntitle: T\nrole: x\n---\nx", "bad.md: 'role' is unknown"),
        ("---\ntitle: T\nactive: maybe\n---\nx", "bad.md: active is 'maybe', which is not true or false"),
        (HEAD.format(title="T", body="x").replace("plan", "dream"), "bad.md: workflow_phase: Value 'dream'"),
        (HEAD.format(title="T", body="x").replace("plan", "z" * 1000), "bad.md: workflow_phase: Value …"),
        ("---\n" + "y" * 1000 + ": x\n---\nx", "bad.md: 'yyyy"),
        (HEAD.format(title="T" * 121, body="x"), "bad.md: title: Ensure this value has at most 120"),
        (HEAD.format(title="T", body="x" * 100_001), "bad.md: body: Ensure this value has at most 100000"),
        (HEAD.format(title="T", body="x" * 500_001), "bad.md has more than 500000 bytes"),
        (HEAD.format(title="T", body=""), "bad.md has no text after the front matter"),
        ("a\x00b", "bad.md holds a NUL character"),
        (HEAD.format(title="T\nslug: a b", body="x"), "bad.md: slug: Enter a valid"),
        (HEAD.format(title="T\nslug: a", body="x"), "a.md and bad.md both have the slug 'a'"),
        (b"\xff\xfe", "bad.md is not UTF-8 text"),
    ],
)
def test_one_wrong_file_stops_all_with_one_sentence(tmp_path, text, reason):
    write(tmp_path, "a.md", body="Good")
    (tmp_path / "bad.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CommandError) as error:
        sync(str(tmp_path))
    assert str(error.value).startswith(reason)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert not Template.objects.filter(slug="a").exists()


def test_directory_without_a_template_deactivates_nothing(tmp_path):
    file = write(tmp_path, "a.md")
    sync(str(tmp_path))
    file.unlink()
    with pytest.raises(CommandError, match="lists no template: nothing was changed"):
        sync(str(tmp_path))
    assert Template.objects.get(slug="a").active


def test_directory_that_is_not_there(tmp_path):
    with pytest.raises(CommandError, match="is not a directory"):
        sync(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    "title", ["2024-99-99", "!!int abc", "!!bool xyz", "!!timestamp abc", "0b_", "9" * 110, "yes", "null", "12", "<<"]
)
def test_title_is_the_text_that_was_written(tmp_path, title):
    """Whatever else YAML may take it for."""
    write(tmp_path, "a.md", title=title)
    sync(str(tmp_path))
    assert Template.objects.get(slug="a").title == title.split()[-1]


@pytest.mark.parametrize(("active", "expected"), [("true", True), ("Yes", True), ("FALSE", False), ("off", False)])
def test_active_is_any_of_the_words_of_yaml(tmp_path, active, expected):
    write(tmp_path, "a.md", title=f"T\nactive: {active}")
    sync(str(tmp_path))
    assert Template.objects.get(slug="a").active is expected


def test_folder_with_the_name_of_a_template_is_a_folder(tmp_path):
    write(tmp_path, "folder.md/a.md")
    assert "created a\n" in sync(str(tmp_path))


def test_link_within_the_directory_is_read(tmp_path):
    write(tmp_path, ".data/a.md")
    (tmp_path / "a.md").symlink_to(".data/a.md")
    assert "created a\n" in sync(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: file.symlink_to("nowhere"), r"bad\.md cannot be read: No such file or directory\."),
        (lambda file: file.symlink_to(file), r"bad\.md cannot be read: Too many levels of symbolic links\."),
        (lambda file: file.symlink_to("/dev/zero"), r"bad\.md leads out of .*: put the file itself there\."),
        (lambda file: file.symlink_to(__file__), r"bad\.md leads out of .*: put the file itself there\."),
        (os.mkfifo, r"bad\.md is not a regular file: remove it\."),
    ],
)
def test_what_is_no_file_of_the_directory_stops_all_with_one_sentence(tmp_path, make, reason):
    write(tmp_path, "a.md")
    make(tmp_path / "bad.md")
    with pytest.raises(CommandError, match=f"^{reason}$"):
        sync(str(tmp_path))
    assert not Template.objects.exclude(source=Source.HAND).exists()


def test_more_files_than_a_sync_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "FILES_MAX", 1)
    write(tmp_path, "a.md")
    write(tmp_path, "b.md")
    with pytest.raises(CommandError, match=r"lists 2 templates: 1 are the most\.$"):
        sync(str(tmp_path))


def test_directory_that_may_not_be_entered_is_one_sentence(tmp_path):
    closed = tmp_path / "closed"
    write(closed, "deep/a.md")
    closed.chmod(0)
    for directory in (closed, closed / "deep"):
        with (
            without_rights(),
            pytest.raises(CommandError, match=r"closed(/deep)? cannot be read: Permission denied\.$"),
        ):
            sync(str(directory))


def test_database_that_fails_keeps_the_state_before(tmp_path, monkeypatch):
    from django.db import DatabaseError

    from forge.sync import apply

    write(tmp_path, "a.md")
    write(tmp_path, "b.md")
    real = apply._changes

    def fail_late(*arguments):
        yield from real(*arguments)
        raise DatabaseError("the disk is full\nCONTEXT: more")

    monkeypatch.setattr(apply, "_changes", fail_late)
    with pytest.raises(CommandError, match=r"nothing was changed: the disk is full\.$"):
        sync(str(tmp_path))
    assert not Template.objects.filter(source=Source.DIRECTORY).exists()


def test_directory_may_come_from_the_environment(tmp_path, monkeypatch):
    write(tmp_path, "a.md")
    monkeypatch.setenv("FORGE_TEMPLATES_DIRECTORY", str(tmp_path))
    assert "created a\n" in sync()
    monkeypatch.setenv("FORGE_SYNC_REPOSITORY", "me/prompts")
    monkeypatch.setenv("FORGE_SYNC_BASE_URL", "https://forge.example/{repository}/{ref}/{path}")
    with pytest.raises(ImproperlyConfigured, match="both set"):
        sync()


@pytest.mark.parametrize("name", ["FORGE_SYNC_BASE_URL", "FORGE_SYNC_TOKEN", "FORGE_SYNC_TOKEN_FILE"])
def test_forge_without_its_repository_is_not_mistaken_for_the_library(monkeypatch, name):
    monkeypatch.setenv(name, "https://forge.example/{repository}/{ref}/{path}")
    with pytest.raises(ImproperlyConfigured, match=f"{name} is set, but FORGE_SYNC_REPOSITORY is not"):
        sync()
    assert not Template.objects.exclude(source=Source.HAND).exists()


def test_library_has_two_useful_templates_for_each_phase():
    sync()
    library = Template.objects.filter(source=Source.LIBRARY)
    assert library.count() == len(list(LIBRARY.glob("*.md"))) == 12
    for phase in Phase:
        assert library.filter(workflow_phase=phase).count() == 2
    assert all(template.variables for template in library)
