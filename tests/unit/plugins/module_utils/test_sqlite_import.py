"""Where an SQLite file lies while it is imported, and what is told of it."""

import json
import os
import stat

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import django_import, sqlite_import
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

SAID = {"rows": {"forge.Note": 2, "auth.User": 1}, "replaced": [], "left_out": []}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site whose user is the one that runs the tests."""
    monkeypatch.setattr(sqlite_import, "user_id", lambda _name: os.getuid())
    monkeypatch.setattr(sqlite_import, "group_id", lambda _name: os.getgid())
    names = ("directory", "run_directory", "static_directory", "log_directory")
    return Site({"name": "forge", "user": "forge", **dict.fromkeys(names, str(tmp_path))})


@pytest.mark.parametrize("failing", [False, True])
def test_only_the_site_can_read_the_file_and_it_is_gone_at_the_end(site, tmp_path, failing):
    (tmp_path / "sent").write_text("rows")
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "of a killed run").touch()
    try:
        with sqlite_import.placed(site, str(tmp_path / "sent")) as path:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert os.listdir(os.path.dirname(path)) == ["db.sqlite3"]
            if failing:
                raise Refusal("it fails")
    except Refusal:
        assert failing
    assert os.listdir(tmp_path) == []


def test_the_last_answer_counts_and_a_refusal_is_raised():
    said = f"a warning\n{django_import.IMPORT_MARK}{json.dumps(SAID)}\nmore"
    assert sqlite_import.answer(said) == SAID
    with pytest.raises(Refusal, match="rows are wrong"):
        sqlite_import.answer(django_import.IMPORT_MARK + '{"refused": "rows are wrong"}')
    with pytest.raises(Refusal, match="did not say"):
        sqlite_import.answer("Traceback")


def test_what_would_be_and_what_is_are_told_apart():
    assert sqlite_import.telling(SAID, "forge", True).startswith("3 rows of 2 models would be in the database of forge")
    assert sqlite_import.telling(SAID, "forge", False).startswith("3 rows of 2 models are in the database of forge")
