"""What a failed command's output comes down to, and what stands beside the source of a release."""

from __future__ import annotations

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import build, probe
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

CHECK = """\
SystemCheckError: System check identified some issues:

ERRORS:
?: (minimal.E001) the fixture is broken

WARNINGS:
?: (security.W004) You have not set a value for the SECURE_HSTS_SECONDS setting.

System check identified 2 issues (0 silenced).
"""
SYNTAX = """\
Traceback (most recent call last):
  File "/srv/forge/releases/x/source/minimal/urls.py", line 26
    def broken(:
               ^
SyntaxError: invalid syntax
"""
JOURNAL = """\
[1] [ERROR] Exception in worker process
Traceback (most recent call last):
  File "/srv/forge/slots/blue/source/minimal/wsgi.py", line 6, in <module>
    raise RuntimeError('it does not start')
RuntimeError: it does not start
[1] [ERROR] Worker (pid:2) exited with code 3
[1] [ERROR] Shutting down: Master
"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (CHECK, "?: (minimal.E001) the fixture is broken"),
        (SYNTAX, 'SyntaxError: invalid syntax (File "/srv/forge/releases/x/source/minimal/urls.py", line 26)'),
        (JOURNAL, "RuntimeError: it does not start"),
        ("first\n\nlast\n\n", "last"),
        ("django.db.utils.OperationalError: no such table\n", "django.db.utils.OperationalError: no such table"),
        ("", ""),
    ],
)
def test_telling_line_says_why(output, line):
    assert build.telling_line(output) == line


def test_warnings_of_check_are_found_and_errors_are_not_among_them():
    assert [line.split()[1] for line in build.warnings(CHECK)] == ["(security.W004)"]


@pytest.mark.parametrize(
    ("status", "ranges", "good"),
    [(200, ["200-399"], True), (302, ["200"], False), (404, ["200", "404"], True), (500, ["200-399"], False)],
)
def test_statuses_are_numbers_and_ranges(status, ranges, good):
    assert probe.accepted(status, ranges) is good


def test_excerpt_of_a_page_is_its_title():
    assert probe.excerpt("<html><title>Server\n Error (500)</title><body>x</body></html>") == "Server Error (500)"
    assert probe.excerpt("plain\ntext") == "plain text"
    assert probe.excerpt("x" * 300) == "x" * 200 + "..."


def test_no_answer_says_why(tmp_path):
    health = {"path": "/", "host": "", "headers": {}, "status": ["200"], "contains": "", "timeout_seconds": 1}
    reason = probe.ask(str(tmp_path / "none.sock"), health, "forge.test")
    assert reason == "GET / (Host forge.test) got no answer (No such file or directory)"


@pytest.fixture
def builder(tmp_path):
    """The builder of a release of a site of root's, whose source has one file and one directory."""
    site = Site(
        {
            "name": "forge",
            "user": "root",
            "directory": str(tmp_path),
            "run_directory": "/run/forge",
            "static_directory": str(tmp_path / "static"),
            "log_directory": str(tmp_path / "logs"),
        }
    )
    for name in ("releases", "logs"):
        (tmp_path / name).mkdir()
    found = build.Builder(site, "a")
    found.make()
    (tmp_path / "releases/a/source/data").mkdir()
    (tmp_path / "releases/a/source/data/seed.txt").write_text("seed", encoding="utf-8")
    return found


def test_files_are_put_into_the_source(builder, tmp_path):
    builder.place_files([{"dest": "conf/live.py", "content": "DEBUG = False\n", "mode": "0640"}])
    path = tmp_path / "releases/a/source/conf/live.py"
    assert path.read_text(encoding="utf-8") == "DEBUG = False\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_of_the_source_leads_no_file_outside(builder, tmp_path):
    (tmp_path / "releases/a/source/conf").symlink_to(tmp_path)
    with pytest.raises(Refusal, match=r"conf/live.py, which gunicorn_app_files names, lies outside of the source"):
        builder.place_files([{"dest": "conf/live.py", "content": "", "mode": "0640"}])
    assert not (tmp_path / "live.py").exists()


def test_a_shared_path_is_seeded_once_and_kept(builder, tmp_path):
    builder.share(["data", "cache/thumbs"], str(tmp_path / "shared"))
    source, shared = tmp_path / "releases/a/source", tmp_path / "shared"
    assert (source / "data/seed.txt").read_text(encoding="utf-8") == "seed"
    assert (source / "cache/thumbs").is_dir()
    (source / "data/seed.txt").write_text("changed by the site", encoding="utf-8")
    builder.make()
    (source / "data").mkdir()
    (source / "data/seed.txt").write_text("seed", encoding="utf-8")
    builder.share(["data"], str(shared))
    assert (source / "data/seed.txt").read_text(encoding="utf-8") == "changed by the site"
    assert sorted(path.name for path in shared.iterdir()) == ["cache", "data"]


def test_what_is_left_of_failed_releases_makes_room_for_the_next_one(builder, tmp_path):
    for name in ("failed", "in-a-slot", "whole"):
        (tmp_path / "releases" / name / "source").mkdir(parents=True)
    (tmp_path / "slots").mkdir()
    builder.site.put_into("blue", "in-a-slot")
    whole = tmp_path / "releases" / "whole"
    (whole / "env").touch()
    (whole / "venv" / "bin").mkdir(parents=True)
    (whole / "venv" / "bin" / "python").touch()
    builder.site.note("whole", complete=True)
    build.Builder(builder.site, "b").make()
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["b", "in-a-slot", "whole"]


def test_the_log_of_a_command_holds_no_secret(builder, tmp_path):
    runner = tmp_path / "run"
    runner.write_text("#!/bin/sh\necho 'the key is s3cr3t-key' >> \"$LOG\"; exit 1\n", encoding="utf-8")
    runner.chmod(0o755)
    builder.site.hidden = {"s3cr3t-key"}
    runner.write_text(runner.read_text(encoding="utf-8").replace("$LOG", builder.site.log("a")), encoding="utf-8")
    code, output = build.Command(builder.site, str(runner), "a", "check").run({"command": "echo s3cr3t-key"})
    assert (code, output) == (1, "the key is ********\n")
    log = (tmp_path / "logs" / "a.log").read_text(encoding="utf-8")
    assert "== check: echo ********" in log
    assert "s3cr3t" not in log
