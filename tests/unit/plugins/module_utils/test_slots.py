"""Slots: everything is read from the links on the host."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import build, proxy, slots
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("releases", "slots", "static", "venvs", "logs"):
        (tmp_path / name).mkdir()
    return Site(
        {
            "name": "forge",
            "user": "root",
            "directory": str(tmp_path),
            "run_directory": "/run/forge",
            "static_directory": str(tmp_path / "static"),
            "log_directory": str(tmp_path / "logs"),
        }
    )


def release(site: Site, name: str, when: int = 0, **static: str) -> str:
    """Make a release with static files, `when` seconds after the first."""
    path = Path(site.release(name))
    (path / "static").mkdir(parents=True)
    for file, text in static.items():
        (path / "static" / file).write_text(text, encoding="utf-8")
    (path / "source").mkdir()
    (path / "env").touch()
    (path / "venv").symlink_to(f"../../venvs/of-{name}")
    python = Path(site.directory, "venvs", f"of-{name}", "bin", "python")
    python.parent.mkdir(parents=True)
    python.touch()
    site.note(name, complete=True)
    Path(site.log(name)).write_text("log", encoding="utf-8")
    os.utime(path, (1000 + when, 1000 + when))
    return name


def test_first_release_goes_into_blue(site):
    assert (site.live, site.live_release, site.slot_for("a")) == ("", "", "blue")


def test_release_that_was_begun_before_anything_was_live_keeps_its_slot(site):
    site.put_into("green", release(site, "a"))
    assert site.slot_for("a") == "green"


@pytest.mark.parametrize("lost", ["env", "source", "venv", "facts.json"])
def test_a_live_release_that_is_not_whole_counts_as_none(site, lost):
    site.put_into("blue", release(site, "a"))
    site.make_live("blue")
    path = Path(site.release("a", lost))
    path.rename(path.with_name("elsewhere"))
    assert (site.live, site.live_release, site.slot_for("a")) == ("blue", "", "green")


def test_next_release_goes_into_the_slot_that_is_not_live(site):
    site.put_into("blue", release(site, "a"))
    site.make_live("blue")
    assert (site.live, site.live_release, site.slot_for("b")) == ("blue", "a", "green")
    site.put_into("green", release(site, "b"))
    assert site.live_release == "a"
    site.make_live("green")
    assert (site.live, site.live_release, site.slot_for("c")) == ("green", "b", "blue")


def test_live_release_that_is_gone_counts_as_none(site):
    site.put_into("blue", "a")
    site.make_live("blue")
    assert (site.live, site.live_release) == ("blue", "")


def test_release_is_complete_only_when_it_says_so(site):
    release(site, "a")
    site.note("a", complete=False)
    assert not site.is_complete("a")
    site.note("a", complete=False)
    assert not site.is_complete("a")
    site.note("a", complete=True)
    assert site.is_complete("a") and not site.is_complete("") and not site.is_complete("b")


def test_requests_go_where_the_link_leads(site, tmp_path):
    link = tmp_path / "live.sock"
    front = proxy.Proxy(site, {"socket_file": str(link), "proxy_user": "", "proxy_reload_command": []})
    assert front.named() == ""
    front.point_to("green")
    assert (front.named(), os.readlink(link)) == ("green", "/run/forge/green/gunicorn.sock")
    link.unlink()
    link.symlink_to("/run/other/green/gunicorn.sock")
    assert front.named() == ""


def test_a_slot_is_waited_for_while_something_is_open_to_it(site, tmp_path):
    front = proxy.Proxy(site, {"socket_file": str(tmp_path / "l"), "proxy_user": "", "proxy_reload_command": []})
    site.run_directory = str(tmp_path)
    (tmp_path / "blue").mkdir()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(site.socket("blue"))
        server.listen()
        assert front.wait_for_end("blue", 0)
        client.connect(site.socket("blue"))
        with server.accept()[0]:
            assert not front.wait_for_end("blue", 0.2)
        assert front.wait_for_end("blue", 5)


def test_a_slot_runs_with_the_unit_that_its_release_was_made_with(site, tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "UNITS", str(tmp_path))
    template, blue = tmp_path / "forge@.service", tmp_path / "forge@blue.service"
    template.write_text("first")
    site.put_into("blue", release(site, "a"))
    site.keep_unit("a")
    template.write_text("of a release that failed")
    site.keep_unit("a")
    site.place_unit("blue")
    assert blue.read_text() == "first"
    inode = blue.stat().st_ino
    site.place_unit("blue")
    assert blue.stat().st_ino == inode, "a unit that is the same is not written again"


def test_a_release_of_before_runs_with_the_unit_of_all(site, tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "UNITS", str(tmp_path))
    site.put_into("blue", release(site, "a"))
    site.place_unit("blue")
    assert not (tmp_path / "forge@blue.service").exists()


def test_old_releases_go_with_logs_virtualenvs_and_static_files(site):
    for when, name in enumerate("abcd"):
        release(site, name, when, **{f"{name}.css": name, "site.css": "all"})
        build.Builder(site, name).publish_static()
    site.put_into("blue", "a")
    site.put_into("green", "d")
    assert build.prune(site, 3) == ["b"]
    assert sorted(os.listdir(site.static_directory)) == ["a.css", "c.css", "d.css", "site.css"]
    assert sorted(os.listdir(os.path.join(site.directory, "venvs"))) == ["of-a", "of-c", "of-d"]
    assert sorted(os.listdir(site.log_directory)) == ["a.log", "c.log", "d.log"]
    assert build.prune(site, 1) == ["c"]
    assert sorted(os.listdir(os.path.join(site.directory, "releases"))) == ["a", "d"]


def test_releases_that_failed_do_not_take_the_place_of_good_ones(site):
    for when, name in enumerate("abcdef"):
        release(site, name, when)
        if name in "cde":
            site.note(name, complete=False)
            os.utime(site.release(name), (1000 + when, 1000 + when))
    site.put_into("blue", "f")
    assert build.prune(site, 3) == ["e", "d", "c"]


def test_static_file_that_is_the_same_keeps_its_time(site):
    release(site, "a", **{"site.css": "same", "other.css": "old"})
    release(site, "b", **{"site.css": "same", "other.css": "new"})
    build.Builder(site, "a").publish_static()
    published = Path(site.static_directory, "site.css")
    before = published.stat().st_mtime_ns
    build.Builder(site, "b").publish_static()
    assert published.stat().st_mtime_ns == before
    assert Path(site.static_directory, "other.css").read_text(encoding="utf-8") == "new"
