"""Source directories: what travels, and that the same files are the same everywhere."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.plugin_utils import source_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, text in {
        "manage.py": "#!/usr/bin/env python\n",
        "site/settings.py": "DEBUG = False\n",
        "site/media/logo.svg": "<svg/>",
        "site/.env": "SECRET_KEY=sentinel",
        ".env": "SECRET_KEY=sentinel",
        ".env.production": "SECRET_KEY=sentinel",
        ".git/config": "[core]",
        "db.sqlite3": "data",
        "db.sqlite3-journal": "data",
        "media/upload.png": "data",
        "staticfiles/site.css": "data",
        "front/node_modules/x/index.js": "data",
        "site/__pycache__/settings.pyc": "data",
        "env/pyvenv.cfg": "home = /usr/bin",
        "env/bin/python": "data",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "manage.py").chmod(0o755)
    return root


def names(root: Path, exclude: list[str] | None = None) -> list[str]:
    return [path for path, _info in source_tree.entries(str(root), exclude or [])]


def test_secrets_data_and_what_is_made_from_the_source_stay_behind(tree):
    assert names(tree) == ["manage.py", "site/media/logo.svg", "site/settings.py"]


def test_excludes_add_patterns_and_take_them_back(tree):
    assert names(tree, ["settings.py", "!/staticfiles"]) == ["manage.py", "site/media/logo.svg", "staticfiles/site.css"]
    assert names(tree, ["/site"]) == ["manage.py"]


def test_digest_tells_contents_names_and_executable_bits_apart_but_not_times(tree):
    first = source_tree.digest(str(tree), [])
    os.utime(tree / "manage.py", (0, 0))
    (tree / "site" / "settings.py").chmod(0o600)
    (tree / ".env").write_text("OTHER=1", encoding="utf-8")
    assert source_tree.digest(str(tree), []) == first
    (tree / "manage.py").chmod(0o644)
    second = source_tree.digest(str(tree), [])
    (tree / "site" / "settings.py").write_text("DEBUG = True\n", encoding="utf-8")
    third = source_tree.digest(str(tree), [])
    (tree / "site" / "settings.py").rename(tree / "site" / "setting.py")
    assert len({first, second, third, source_tree.digest(str(tree), [])}) == 4


def test_archives_of_the_same_files_are_the_same(tree, tmp_path):
    archives = [tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"]
    for archive in archives:
        source_tree.archive(str(tree), [], str(archive))
        os.utime(tree / "manage.py", (1, 1))
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert sorted(members) == names(tree)
    assert (members["manage.py"].mode, members["site/settings.py"].mode) == (0o755, 0o644)
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, source_tree.MTIME)}


def test_link_inside_travels_and_link_that_leads_out_is_refused(tree):
    (tree / "link.py").symlink_to("site/settings.py")
    assert "link.py" in names(tree)
    (tree / "out").symlink_to("/etc/passwd")
    with pytest.raises(source_tree.SourceError, match="leads out of the source"):
        names(tree)
    (tree / "out").unlink()
    (tree / "site" / "up").symlink_to("../../other")
    with pytest.raises(source_tree.SourceError, match="leads out of the source"):
        names(tree)


def test_source_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(source_tree.SourceError, match="not a directory on the controller"):
        source_tree.digest(str(tmp_path / "none"), [])
    with pytest.raises(source_tree.SourceError, match="no file that could be released"):
        source_tree.digest(str(tmp_path), [])
