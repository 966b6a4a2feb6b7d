"""docs/tags.md lists the tags of the site's play, all of them and no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from repository import ROOT

#: in every play, or of no use to a user on the command line
NOT_LISTED = {"always"}


def tags_of_the_play() -> set[str]:
    """The tags that `ansible-playbook site.yml --list-tags` names."""
    listed = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "site.yml", "--list-tags"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    found = set()
    for tags in re.findall(r"TASK TAGS: \[(.*)\]", listed.stdout):
        found |= set(tags.split(", "))
    return found - NOT_LISTED


def tags_of_the_page() -> list[str]:
    """The first column of every table in docs/tags.md."""
    text = (ROOT / "docs" / "tags.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_page_lists_the_tags_of_the_play():
    page = tags_of_the_page()
    # a tag nobody bears: it runs the checks, which are tagged always
    assert sorted(page) == sorted(tags_of_the_play() | {"validate"})
