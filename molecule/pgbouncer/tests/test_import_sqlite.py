"""The data of a project that ran with SQLite, brought into the site's PostgreSQL through its pool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLAYBOOK = ROOT / "playbooks" / "import_sqlite.yml"
FILL = """
import datetime
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from forge.models import Favourite, Template
ContentType.objects.create(app_label="forge", model="gone")
ada = User.objects.create_user("ada", first_name="Ädä 🐍")
keepers = Group.objects.create(name="keepers")
keepers.permissions.set(Permission.objects.filter(codename="change_template"))
ada.groups.add(keepers)
kept = dict(agent_role="Keeper", workflow_phase=Template.objects.first().workflow_phase)
for number in range(1200):
    Template(title=f"Template {number}", slug=f"template-{number}", body="Say {{ what }} to ünïcode", **kept).save()
Favourite.objects.create(user=ada, template=Template.objects.get(slug="template-7"))
Template.objects.update(created=datetime.datetime(2001, 2, 3, 4, 5, 6, 7, datetime.timezone.utc))
"""
SHOWN = """
import json
from django.contrib.auth.models import User
from forge.models import Favourite, Template
ada = User.objects.get(username="ada")
print("SHOWN" + json.dumps([
    ada.first_name, sorted(ada.get_group_permissions()), Favourite.objects.get().template.slug,
    Template.objects.count(), list(Template.objects.order_by("pk").values_list("pk", "title", "body"))[-3:],
    [str(created) for created in Template.objects.values_list("created", flat=True).order_by().distinct()],
]))
"""
COUNT = "from forge.models import *; print('COUNT', Template.objects.count(), Favourite.objects.count())"


class Source:
    """The reference app with a database in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manage("migrate")
        self.shell(FILL)

    def manage(self, *words: str) -> str:
        url = f"sqlite:///{self.path}"
        environment = {**os.environ, "DJANGO_ENV": "test", "TEST_DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "manage.py", *words, "--verbosity", "0"]
        done = subprocess.run(command, cwd=ROOT / "app", env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shell(self, text: str) -> str:
        return self.manage("shell", "-c", text)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Source(tmp_path_factory.mktemp("source") / "db.sqlite3")


@pytest.fixture
def bring(host):
    """Function that runs the playbook and returns the finished process. No copy of the file may be left behind."""

    def run(path, *arguments):
        inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
        command = ["ansible-playbook", "-i", inventory, "-e", f"import_sqlite_file={path}", *arguments, PLAYBOOK]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        left = host.run(
            "find / -xdev \\( -name db.sqlite3 -o -path '*/.ansible/tmp/*/source' -o -path /srv/forge/import \\)"
        )
        assert left.stdout == ""
        return done

    return run


def one_line(done) -> str:
    """What a run said, whatever the width of its lines."""
    return " ".join((done.stdout + done.stderr).split())


def test_a_file_that_postgresql_would_not_take_is_refused_by_the_name_of_the_row(host, source, bring, tmp_path):
    before = host.check_output("forge-manage shell -c %s", COUNT)
    wrong = tmp_path / "wrong.sqlite3"
    wrong.write_bytes(source.path.read_bytes())
    other = Source.__new__(Source)
    other.path = wrong
    other.shell("from forge.models import *; Template.objects.filter(slug='template-9').update(body='a\\0b')")
    pk = other.shell("from forge.models import *; print('PK', Template.objects.get(slug='template-9').pk)").split()[-1]
    for arguments in ((), ("--check",)):
        done = bring(wrong, *arguments)
        assert done.returncode != 0
        assert f"forge.Template {pk}: body has a zero byte, which PostgreSQL takes in no text" in one_line(done)
    assert host.check_output("forge-manage shell -c %s", COUNT) == before


def test_check_mode_says_what_it_would_import_and_changes_nothing(host, source, bring):
    before = host.check_output("forge-manage shell -c %s", COUNT)
    done = bring(source.path, "--check")
    assert done.returncode == 0 and "changed=1" in done.stdout, done.stdout
    assert host.check_output("forge-manage shell -c %s", COUNT) == before


def test_all_rows_arrive_and_only_once(host, source, bring):
    done = bring(source.path)
    assert done.returncode == 0 and "changed=1" in done.stdout, done.stdout
    shown = host.check_output("forge-manage shell -c %s", SHOWN).rpartition("SHOWN")[2]
    assert json.loads(shown) == json.loads(source.shell(SHOWN).rpartition("SHOWN")[2])
    # Its number is above all others, and the search finds it.
    new = "Template(title='New', slug='new', agent_role='a', workflow_phase='plan', body='b').save()"
    host.check_output("forge-manage shell -c %s", f"from forge.models import *; {new}")

    again = bring(source.path)
    assert again.returncode != 0
    assert "has rows that the file has not (forge.Template" in one_line(again)
    replaced = bring(source.path, "-e", "import_sqlite_replace=true")
    assert replaced.returncode == 0, replaced.stdout
    assert host.check_output("forge-manage shell -c %s", SHOWN).rpartition("SHOWN")[2] == shown


def test_a_file_that_is_none_is_one_sentence(bring, tmp_path):
    (tmp_path / "text.sqlite3").write_text("no database")
    done = bring(tmp_path / "text.sqlite3")
    assert done.returncode != 0 and "text.sqlite3 is not a database of SQLite." in one_line(done)
