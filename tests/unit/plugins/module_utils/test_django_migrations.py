"""What migrations do to code from before them, judged by the real operations of Django."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import django
import pytest
from ansible_collections.groundwork.django.plugins.module_utils import build, django_migrations, migrations
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from django.conf import settings

if not settings.configured:
    settings.configure(DEFAULT_AUTO_FIELD="django.db.models.AutoField")
    django.setup()

from django.contrib.postgres.operations import TrigramExtension
from django.db import migrations as m
from django.db import models
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.functions import Now

APP = Path(__file__).resolve().parents[4] / "app"


@pytest.fixture
def state() -> ProjectState:
    made = ProjectState()
    fields = [
        ("id", models.AutoField(primary_key=True)),
        ("title", models.CharField(max_length=50)),
        ("note", models.TextField(null=True)),
    ]
    made.add_model(ModelState("forge", "Template", fields))
    return made


HARMLESS = {
    "a new model": m.CreateModel("Other", []),
    "a nullable column": m.AddField("template", "more", models.TextField(null=True)),
    "a column with a default of the database": m.AddField("template", "at", models.DateTimeField(db_default=Now())),
    "a relation of many to many": m.AddField("template", "friends", models.ManyToManyField("forge.Template")),
    "a longer column": m.AlterField("template", "title", models.CharField(max_length=80)),
    "a column that may be empty now": m.AlterField("template", "title", models.CharField(max_length=50, null=True)),
    "another help text": m.AlterField("template", "title", models.CharField(max_length=50, help_text="Short.")),
    "an index": m.AddIndex("template", models.Index(fields=["title"], name="titles")),
    "another name in the admin": m.AlterModelOptions("template", {"verbose_name": "prompt"}),
    "code": m.RunPython(m.RunPython.noop),
    "an extension": TrigramExtension(),
    "a change of the state only": m.SeparateDatabaseAndState(state_operations=[m.RemoveField("template", "title")]),
}
HARMFUL = {
    "adds template.more": m.AddField("template", "more", models.TextField(default="")),
    "removes template.title": m.RemoveField("template", "title"),
    "renames template.title": m.RenameField("template", "title", "name"),
    "removes the model Template": m.DeleteModel("Template"),
    "renames the model Template": m.RenameModel("Template", "Prompt"),
    "renames the table of template": m.AlterModelTable("template", "prompts"),
    "alters template.title": m.AlterField("template", "title", models.CharField(max_length=20)),
    "alters template.note": m.AlterField("template", "note", models.TextField()),
    "adds the constraint once": m.AddConstraint("template", models.UniqueConstraint(fields=["title"], name="once")),
    "adds a constraint to template": m.AlterUniqueTogether("template", {("title", "note")}),
    "runs SQL of its own": m.RunSQL("SELECT 1"),
    "alters template.gone": m.SeparateDatabaseAndState([m.AlterField("template", "gone", models.TextField(null=True))]),
    "alters lost.title": m.SeparateDatabaseAndState([m.AlterField("lost", "title", models.TextField(null=True))]),
    "removes template.note": m.SeparateDatabaseAndState([m.RemoveField("template", "note")]),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_older_code_lives_with(state, kind):
    assert django_migrations.misfits(HARMLESS[kind], "forge", state) == []


@pytest.mark.parametrize("words", HARMFUL)
def test_older_code_cannot_live_with_one_that(state, words):
    [(_model, said)] = django_migrations.misfits(HARMFUL[words], "forge", state)
    assert said.startswith(words)


def test_an_operation_of_another_kind_is_not_taken_for_harmless(state):
    class Exotic(m.operations.base.Operation):
        pass

    [(_model, said)] = django_migrations.misfits(Exotic(), "forge", state)
    assert said == "does something that is not known to be harmless (Exotic)"


def test_a_real_project_says_it_in_its_shell(tmp_path):
    environment = {**os.environ, "DJANGO_ENV": "test", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", migrations.question()]
    done = subprocess.run(command, cwd=APP, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = migrations.answer(done.stdout)
    assert "forge.0001_initial" in said["known"]
    assert said["applied"] == []
    assert said["pending"]["forge.0001_initial"] == {"creates": ["forge.template"], "misfits": []}


MANAGE = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(INSTALLED_APPS=["shop"], DEFAULT_AUTO_FIELD="django.db.models.AutoField", DATABASES=%s)
execute_from_command_line(sys.argv)
"""
SQLITE = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
MODEL = "migrations.CreateModel('Shelf', [('id', models.AutoField(primary_key=True))])"
FIELD = "migrations.AddField('shelf', 'note', models.TextField(null=True))"


class Project:
    """A project of one application, of which a test writes the migrations."""

    def __init__(self, folder: Path, databases: dict) -> None:
        self.folder = folder
        self.migrations = folder / "shop" / "migrations"
        self.migrations.mkdir(parents=True)
        for path in (folder / "shop", self.migrations):
            (path / "__init__.py").touch()
        (folder / "manage.py").write_text(MANAGE % databases, encoding="utf-8")

    def write(self, name: str, operations: str, **attributes: list) -> None:
        """Write a migration."""
        lines = [f"    {key} = {value!r}" for key, value in attributes.items()]
        head = ["from django.db import migrations, models", "class Migration(migrations.Migration):"]
        text = "\n".join([*head, *lines, f"    operations = [{operations}]", ""])
        (self.migrations / f"{name}.py").write_text(text, encoding="utf-8")

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """Run a management command, which may fail."""
        command = [sys.executable, "-B", "manage.py", *words]
        return subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )

    def manage(self, *words: str) -> str:
        """Run a management command."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self) -> dict:
        """What the project says of its migrations."""
        return migrations.answer(self.question())

    def question(self, *, migrate: bool = False) -> str:
        """What the project prints when it is asked for its migrations."""
        return self.manage("shell", "--verbosity", "0", "-c", migrations.question(migrate))


def test_migrate_runs_along_with_the_question_only_where_it_changes_nothing(tmp_path):
    project = Project(tmp_path, SQLITE)
    project.write("0001_first", MODEL)
    assert "shop.0001_first" in migrations.answer(project.question(migrate=True))["pending"]
    assert "shop.0001_first" in project.ask()["pending"], "nothing has been migrated"

    project.manage("migrate", "--verbosity", "0")
    output = project.question(migrate=True)
    assert migrations.answer(output)["pending"] == {}
    assert "No migrations to apply." in output

    project.write("0001_all", MODEL, replaces=[("shop", "0001_first")])
    assert "No migrations to apply." not in project.question(migrate=True)
    assert project.ask()["squashed"] == ["shop.0001_all"], "its name is still to be written down"


BROKEN = """
from django.core.checks import Error, register

@register(deploy=True)
def broken(app_configs, **options):
    return [Error("The shop has no door.", id="shop.E001")]
"""


def test_a_project_is_checked_before_it_says_or_migrates_anything(tmp_path):
    project = Project(tmp_path, SQLITE)
    project.write("0001_first", MODEL)
    project.manage("migrate", "--verbosity", "0")
    good = project.run("shell", "--verbosity", "0", "-c", migrations.question(migrate=True, check=True))
    assert good.returncode == 0
    assert migrations.passed(good.stdout)
    assert build.warnings(good.stdout), "what the check warns of can be shown"
    assert "No migrations to apply." in good.stdout

    (tmp_path / "shop" / "models.py").write_text(BROKEN, encoding="utf-8")
    bad = project.run("shell", "--verbosity", "0", "-c", migrations.question(migrate=True, check=True))
    assert bad.returncode != 0
    assert not migrations.passed(bad.stdout)
    assert build.telling_line(bad.stdout) == "?: (shop.E001) The shop has no door."
    assert "No migrations to apply." not in bad.stdout
    with pytest.raises(Refusal):
        migrations.answer(bad.stdout)


def test_a_squashed_migration_is_no_stranger_to_code_that_knows_its_parts_nor_they_to_it(tmp_path):
    project = Project(tmp_path, SQLITE)
    project.write("0001_first", MODEL)
    project.write("0002_second", FIELD, dependencies=[("shop", "0001_first")])
    project.manage("migrate", "--verbosity", "0")
    replaced = [("shop", "0001_first"), ("shop", "0002_second")]
    project.write("0001_squashed", f"{MODEL}, {FIELD}", replaces=replaced)
    said = project.ask()
    assert (said["squashed"], said["pending"]) == (["shop.0001_squashed"], {})
    project.manage("migrate", "--verbosity", "0")
    for name in ("0001_first", "0002_second", "nothing"):
        said = project.ask()
        assert set(said["applied"]) - set(said["known"]) == set(), name
        assert (said["squashed"], len(said["applied"])) == ([], 3)
        (project.migrations / f"{name}.py").unlink(missing_ok=True)


def test_a_site_without_a_database_has_no_migrations(tmp_path):
    said = Project(tmp_path, {}).ask()
    assert said == {"known": [], "applied": [], "squashed": [], "pending": {}}
