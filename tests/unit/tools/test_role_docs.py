"""The tables of variables that tools/role_docs.py writes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[3] / "tools" / "role_docs.py"
SPEC = """
argument_specs:
  main:
    options:
      thing_name:
        type: str
        required: true
        description: Name of the C(thing).
      thing_mode:
        type: str
        default: "a|b"
        choices: [a|b, c]
        description:
          - How it works.
          - Either way.
      thing_users:
        type: list
        elements: dict
        default: []
        description: Who may use it.
        options:
          name:
            type: str
            required: true
            description: Login name.
      thing_url:
        type: str
        default: "https://{{ a_name_that_is_long }}/and/a/path/that/is/longer/than/the/table/likes"
        description: Where it is.
      thing_enabled:
        type: bool
        default: false
        description: Whether it is on.
"""
ROWS = [
    "| `thing_name` | str | **required** | Name of the `thing`. |",
    '| `thing_mode` | str | `"a\\|b"` | How it works. Either way. One of `a\\|b`, `c`. |',
    "| `thing_users` | list of dict | `[]` | Who may use it. |",
    "| `thing_users[].name` | str | **required** | Login name. |",
    "| `thing_url` | str | see [defaults](defaults/main.yml) | Where it is. |",
    "| `thing_enabled` | bool | `false` | Whether it is on. |",
]


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The tool, in a repository with one role."""
    loaded = importlib.util.spec_from_file_location("role_docs", TOOL)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    role = tmp_path / "roles" / "thing"
    (role / "meta").mkdir(parents=True)
    (role / "meta" / "argument_specs.yml").write_text(SPEC, encoding="utf-8")
    (role / "README.md").write_text(f"# thing\n\n{module.BEGIN}\nold\n{module.END}\n\n## Tags\n", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    for name, path in (("ROOT", ""), ("ROLES", "roles"), ("PAGE", "docs/variables.md")):
        monkeypatch.setattr(module, name, tmp_path / path)
    return module


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["role_docs.py", *arguments])
    return tool.main()


def test_table_names_type_default_and_meaning(tool, monkeypatch):
    assert run(tool, monkeypatch) == 0
    text = (tool.ROLES / "thing" / "README.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("| `")] == ROWS
    assert text.startswith("# thing\n") and text.endswith("## Tags\n") and "old" not in text


def test_check_names_what_is_stale_and_writes_nothing(tool, monkeypatch, capsys):
    assert run(tool, monkeypatch, "--check") == 1
    assert capsys.readouterr().err == (
        "docs/variables.md is not up to date: run tools/role_docs.py\n"
        "roles/thing/README.md is not up to date: run tools/role_docs.py\n"
    )
    assert not tool.PAGE.exists()
    assert run(tool, monkeypatch) == 0
    assert run(tool, monkeypatch, "--check") == 0


def test_readme_without_marks_is_named(tool, monkeypatch, capsys):
    (tool.ROLES / "thing" / "README.md").write_text("# thing\n", encoding="utf-8")
    assert run(tool, monkeypatch, "thing") == 1
    assert "roles/thing/README.md: it has no lines" in capsys.readouterr().err


def test_page_links_to_the_roles(tool, monkeypatch):
    run(tool, monkeypatch)
    page = tool.PAGE.read_text(encoding="utf-8")
    assert "## [thing](../roles/thing/README.md)" in page
    assert "see [defaults](../roles/thing/defaults/main.yml)" in page
