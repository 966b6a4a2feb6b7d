"""Requirements of a release, and what a failed command's output comes down to."""

from __future__ import annotations

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import build, probe
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

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


def test_requirements_are_read_with_those_they_include(tmp_path):
    (tmp_path / "base.txt").write_text("Django==5.2 \\\n    --hash=sha256:1\nzope.interface\n", encoding="utf-8")
    (tmp_path / "all.txt").write_text("-r base.txt\n-r all.txt\n# note\nGunicorn[gthread]>=23\n", encoding="utf-8")
    found = build.Requirements([str(tmp_path / "all.txt")])
    assert found.names() == {"django", "zope-interface", "gunicorn"}
    assert not found.is_local()


@pytest.mark.parametrize("line", ["-e .", ".", "./lib", "--editable=lib", "lib @ file:///srv/lib", "-f wheels"])
def test_requirement_from_the_source_itself_is_noticed(tmp_path, line):
    (tmp_path / "all.txt").write_text(f"{line}\n", encoding="utf-8")
    assert build.Requirements([str(tmp_path / "all.txt")]).is_local()


def test_missing_requirements_file_is_named(tmp_path):
    with pytest.raises(Refusal, match=r"the source has no deps/all.txt, which gunicorn_app_requirements names"):
        build.Requirements([str(tmp_path / "source" / "deps" / "all.txt")])


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
