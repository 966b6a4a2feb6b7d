"""What comes of the rows of an SQLite file in another database, with a real project and two databases of SQLite."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import django_import
from ansible_collections.groundwork.django.plugins.module_utils.sqlite_import import program

MANAGE = """
import os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""
SETTINGS = """
import json, os

SECRET_KEY = "of no worth"
USE_TZ = True
INSTALLED_APPS = ["shop", *(f"django.contrib.{name}" for name in ("contenttypes", "auth", "sessions", "sites"))]
SITE_ID = 1
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
"""
MODELS = """
import uuid

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.signals import post_save


class Shelf(models.Model):
    name = models.CharField(max_length=20, unique=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    made = models.DateTimeField(auto_now_add=True)


class Part(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    shelf = models.ForeignKey(Shelf, models.CASCADE)
    price = models.DecimalField(max_digits=9, decimal_places=2)
    made = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)
    data = models.JSONField(default=dict)
    nothing = models.JSONField()
    picture = models.BinaryField(default=bytes)
    length = models.DurationField(null=True)
    file = models.FileField(max_length=30)
    labels = models.ManyToManyField("Label")


class Label(models.Model):
    slug = models.SlugField(primary_key=True, max_length=10)


class Screw(Shelf):
    pitch = models.FloatField()


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    about = GenericForeignKey()
    text = models.TextField()

    class Meta:
        ordering = ["text"]


class Trace(models.Model):
    text = models.TextField()


def leave_a_trace(sender, instance, **kwargs):
    Trace.objects.create(text=str(instance.pk))


post_save.connect(leave_a_trace, sender=Shelf)
"""
ROWS = r"""
import datetime, decimal, uuid
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.contrib.sites.models import Site
from django.db.models import JSONField, Value
from django.utils import timezone
from shop.models import *

# Numbers that differ from those of the other database.
for stale in ("gone", "forgotten"):
    ContentType.objects.create(app_label="shop", model=stale)
last = ContentType.objects.get(app_label="shop", model="note")
ContentType.objects.filter(pk=last.pk).update(model="elsewhere")
last = ContentType.objects.create(app_label="shop", model="note")
Permission.objects.filter(codename__endswith="_note").update(content_type=last)
ada = User.objects.create_user("ada", password="x", first_name="Ädä \U0001F40D")
group = Group.objects.create(name="keepers")
group.permissions.set(Permission.objects.filter(codename="change_note"))
group.permissions.add(Permission.objects.create(content_type=last, codename="borrow", name="May borrow"))
ada.groups.add(group)
ada.user_permissions.set(Permission.objects.filter(codename="add_part"))
shelf = Shelf.objects.create(id=7, name="upper")
Shelf.objects.create(id=3, name="lower", parent=shelf)
Screw.objects.create(name="screws", pitch=0.5)
Label.objects.bulk_create([Label("red"), Label("blue")])
part = Part.objects.create(
    pk=uuid.UUID(int=5), shelf=shelf, price=decimal.Decimal("1234567.89"), data={"a": [1, None, "ü"], "b": 1.5},
    picture=b"\x00\xff\x00", nothing=Value(None, JSONField()),
    length=datetime.timedelta(days=2, microseconds=3), file="a/b.txt",
)
Part.objects.update(
    made=datetime.datetime(2001, 2, 3, 4, 5, 6, 7, datetime.timezone.utc),
    changed=datetime.datetime(2002, 2, 3, 4, 5, 6, 7, datetime.timezone.utc),
)
part.labels.add("red", "blue")
Note.objects.create(about=shelf, text="on a shelf")
Note.objects.create(content_type=ContentType.objects.get(model="gone"), object_id=1, text="on what is gone")
Note.objects.bulk_create([Note(about=shelf, text=f"note {number}") for number in range(1500)])
Session.objects.create(session_key="a", session_data="b", expire_date=timezone.now())
Site.objects.update(domain="forge.example.org")
"""
SHOWN = r"""
import json
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sites.models import Site
from shop.models import *
part, ada = Part.objects.get(), User.objects.get()
made, changed = part.made.isoformat(), part.changed.isoformat()
print("SHOWN" + json.dumps({
    "ada": [ada.first_name, ada.check_password("x"), sorted(ada.get_all_permissions())],
    "part": [part.pk.int, part.shelf_id, str(part.price), made, changed, part.data, bytes(part.picture).hex()],
    "nothing": Part.objects.filter(nothing=None).count(),
    "more": [str(part.length), part.file.name, sorted(part.labels.values_list("pk", flat=True))],
    "shelves": sorted(Shelf.objects.values_list("id", "name", "parent_id")),
    "screws": list(Screw.objects.values_list("name", "pitch")),
    "notes": sorted(Note.objects.values_list("text", "object_id", "content_type__model"))[:3],
    "first": Note.objects.order_by("pk").first().about.name,
    "counts": [Note.objects.count(), Trace.objects.count(), User.groups.through.objects.count()],
    "site": [site.domain for site in Site.objects.all()],
}))
"""


class Project:
    """A project whose databases are files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Write the code, fill the source, and migrate the target."""
        folder = self.folder
        (folder / "shop" / "migrations").mkdir(parents=True)
        (folder / "shop" / "migrations" / "__init__.py").touch()
        (folder / "shop" / "__init__.py").touch()
        for name, text in (("manage", MANAGE), ("shop/settings", SETTINGS), ("shop/models", MODELS)):
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        self.manage("source", "makemigrations", "shop")
        self.manage("source", "migrate")
        self.shell("source", ROWS)
        self.manage("target", "migrate")

    def manage(self, database: str, *words: str) -> str:
        """Run a management command with one of the databases. The target may be another one than a file."""
        engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.folder / f"{database}.sqlite3")}
        given = os.environ.get("IMPORT_TARGET") if database == "target" else None
        environment = {**os.environ, "DATABASE": given or json.dumps(engine)}
        command = [sys.executable, "-B", "manage.py", *words, "--verbosity", "0"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shell(self, database: str, text: str) -> str:
        return self.manage(database, "shell", "-c", text)

    def shown(self, database: str) -> dict:
        """What the code of the project sees in a database."""
        return json.loads(self.shell(database, SHOWN).rpartition("SHOWN")[2])

    def bring(self, replace: bool = False, dry: bool = False) -> dict:
        """Import the source into the target, whatever that is."""
        text = program(str(self.folder / "source.sqlite3"), replace, dry)
        # The other database of these tests is SQLite too.
        text = text.replace('target.vendor != "postgresql"', "not target.vendor")
        return json.loads(self.shell("target", text).rpartition(django_import.IMPORT_MARK)[2])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project as every test gets it."""
    folder = tmp_path_factory.mktemp("made")
    Project(folder).make()
    return folder


@pytest.fixture
def project(made, tmp_path):
    """A copy of the project, for one test."""
    copied = Project(tmp_path / "project")
    shutil.copytree(made, copied.folder)
    return copied


def test_all_rows_arrive_as_they_were_and_only_once(project):
    looked = project.bring(dry=True)
    assert looked["rows"]["shop.Note"] == 1502
    assert "0" in project.shell("target", "from shop.models import Note; print(Note.objects.count())")

    said = project.bring()
    assert said["rows"] == looked["rows"] and said["left_out"] == []
    before, after = project.shown("source"), project.shown("target")
    assert after == before
    # No signal has left a trace, and nothing was renewed: what Django does as it saves has been done in the file.
    assert after["counts"] == [1502, 2, 1]
    assert after["part"][3:5] == ["2001-02-03T04:05:06.000007+00:00", "2002-02-03T04:05:06.000007+00:00"]
    assert "shop.borrow" in after["ada"][2] and "shop.change_note" in after["ada"][2]
    assert after["site"] == ["forge.example.org"]
    sessions = "from django.contrib.sessions.models import Session; print('SESSIONS', Session.objects.count())"
    assert "SESSIONS 0" in project.shell("target", sessions)
    assert project.bring()["refused"] == "The site's database has all rows of the file already"
    # A new row gets a number that no other has.
    project.shell("target", "from shop.models import *; Shelf.objects.create(name='new'); Note(about=Shelf(8)).save()")

    again = project.bring()
    assert "has rows that the file has not" in again["refused"] and "shop.Note 1503" in again["refused"]
    replaced = project.bring(replace=True)
    assert "shop.Note" in replaced["replaced"]
    assert project.shown("target") == before


def test_rows_of_the_target_are_named_and_kept(project):
    project.shell("target", "from shop.models import *; Label.objects.create(slug='green')")
    said = project.bring()
    assert "(shop.Label 1)" in said["refused"]
    assert "('green',)" in project.shell(
        "target", "from shop.models import *; print(list(Label.objects.values_list()))"
    )


def test_a_row_that_a_migration_has_made_in_both_is_no_obstacle_and_has_the_time_of_the_file(project):
    project.shell("source", "from shop.models import *; Shelf.objects.update(made='2001-01-01T00:00Z')")
    rows = "Label(slug='red').save(); Shelf.objects.bulk_create([Shelf(id=7, name='upper')])"
    project.shell("target", f"from shop.models import *; {rows}")
    assert project.bring()["replaced"] == ["shop.Shelf", "shop.Label", "sites.Site"]
    assert "2001" in project.shell("target", "from shop.models import *; print(Shelf.objects.get(id=7).made)")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "Note.objects.filter(text='on a shelf').update(text='a\\0b')",
            "shop.Note 1: text has a zero byte, which PostgreSQL takes in no text; change the row in the file",
        ),
        ("Part.objects.update(data={'a': ['\\0']})", "data has a zero byte"),
        (
            "Shelf.objects.filter(pk=7).update(name='u' * 21)",
            "shop.Shelf 7: name has 21 characters, and 20 fit; change the row in the file",
        ),
        ("Part.objects.update(file='f' * 31)", "file has 31 characters, and 30 fit"),
        (
            "connection.cursor().execute(\"UPDATE shop_part SET made = 'yesterday'\")",
            "shop.Part: 1 values of made cannot be read; change them in the file",
        ),
        (
            "connection.cursor().execute(\"UPDATE shop_part SET price = 'dear'\")",
            "shop.Part: the first row cannot be read from the file (",
        ),
        (
            "c = connection.cursor(); c.execute('PRAGMA foreign_keys = off'); c.execute('DELETE FROM shop_shelf')",
            "The file has references to rows that are not there (shop_",
        ),
        (
            "connection.cursor().execute(\"INSERT INTO django_migrations VALUES (99, 'shop', '0009_later', 'now')\")",
            "The file has migrations that the release has not (shop.0009_later)",
        ),
        (
            "connection.cursor().execute(\"DELETE FROM django_migrations WHERE app = 'sites'\")",
            "The file lacks migrations of the release (sites.0001_initial, sites.0002_alter_domain_unique)",
        ),
        (
            "connection.cursor().execute('DROP TABLE django_migrations')",
            "The file has no table django_migrations: it is not the database of a Django project",
        ),
    ],
)
def test_what_postgresql_would_not_take_is_one_sentence_and_nothing_is_imported(project, change, sentence):
    project.shell("source", f"from django.db import connection; from shop.models import *; {change}")
    for dry in (True, False):
        said = project.bring(dry=dry)
        assert sentence in said["refused"]
    counts = "from shop.models import *; print('COUNTS', Shelf.objects.count(), Note.objects.count())"
    assert "COUNTS 0 0" in project.shell("target", counts)


def test_a_row_that_the_database_refuses_is_named_and_nothing_is_imported(project):
    # The target has a rule that the file does not keep to.
    rule = "CREATE UNIQUE INDEX only_one ON shop_note (object_id)"
    project.shell("target", f"from django.db import connection as c; c.cursor().execute('{rule}')")
    said = project.bring()
    assert "shop.Note " in said["refused"] and "is not taken by the site's database (" in said["refused"]
    assert "0" in project.shell("target", "from shop.models import *; print(Shelf.objects.count())")


def test_a_model_without_a_table_is_no_obstacle_unless_the_file_has_rows_of_it(project):
    drop = "from django.db import connection as c; c.cursor().execute('DROP TABLE shop_trace')"
    project.shell("target", drop)
    assert project.bring()["refused"] == "The site's database has no table for rows of the file (shop_trace)"
    project.shell("source", drop)
    assert "shop.Trace" not in project.bring()["rows"]


def test_tables_of_the_file_that_no_model_stands_for_are_named(project):
    project.shell("source", "from django.db import connection as c; c.cursor().execute('CREATE TABLE old AS SELECT 1')")
    project.shell("source", "from django.db import connection as c; c.cursor().execute('CREATE TABLE bare (a int)')")
    assert project.bring()["left_out"] == ["old"]


def test_a_database_that_is_not_postgresql_is_refused(project):
    text = program(str(project.folder / "source.sqlite3"), False, False)
    said = json.loads(project.shell("target", text).rpartition(django_import.IMPORT_MARK)[2])
    assert said["refused"].startswith("The release's database is not PostgreSQL")


def test_the_program_stands_by_itself():
    assert "ansible" not in inspect.getsource(django_import).replace("ansible-test", "")
    compile(program("/a b", True, False), "program", "exec")
