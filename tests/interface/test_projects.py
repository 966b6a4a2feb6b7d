"""docs/projects.md shows the values that the scenario gunicorn_app_shapes deploys."""

from __future__ import annotations

import re

import pytest
import yaml
from repository import ROOT, load

BLOCK = re.compile(r"^```yaml\n# sites/(\w+)\.yml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SITES = ROOT / "molecule" / "gunicorn_app_shapes" / "sites"
SHOWN = BLOCK.findall((ROOT / "docs" / "projects.md").read_text(encoding="utf-8"))
# Where things come from is the lab's own.
PLACES = {"gunicorn_app_source", "gunicorn_app_index_url"}


def test_every_site_is_shown():
    assert sorted(name for name, _ in SHOWN) == sorted(path.stem for path in SITES.glob("*.yml"))


@pytest.mark.parametrize(("name", "text"), SHOWN, ids=[name for name, _ in SHOWN])
def test_shown_values_are_those_of_the_scenario(name, text):
    shown, deployed = yaml.safe_load(text), load(SITES / f"{name}.yml")
    assert set(shown) <= set(deployed)
    for key in set(shown) - PLACES:
        assert shown[key] == deployed[key], key
    source = shown.get("gunicorn_app_source", deployed["gunicorn_app_source"])
    # A repository of git stands for a directory of the lab.
    assert {"git": "directory"}.get(source["type"], source["type"]) == deployed["gunicorn_app_source"]["type"]
