"""The documentation of every module says what its argument specification says."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from ansible_collections.groundwork.django.plugins.action import batch as batch_action
from ansible_collections.groundwork.django.plugins.plugin_utils import template_plan

COLLECTION = "ansible_collections.groundwork.django.plugins."
ROOT = Path(__file__).resolve().parents[4]
WORK = sorted(path.stem for path in (ROOT / "plugins/module_utils/modules").glob("*.py"))
# What only an action plugin sets.
UNDOCUMENTED = {"template_tree": {"payload"}}


def compare(documented: dict, spec: dict, where: str) -> None:
    assert set(documented) == set(spec) - UNDOCUMENTED.get(where, set()), where
    for name, option in documented.items():
        place = f"{where}.{name}"
        assert option["description"], place
        for key in ("type", "elements", "default", "choices"):
            assert option.get(key) == spec[name].get(key), f"{place}: {key}"
        assert bool(option.get("required")) == bool(spec[name].get("required")), place
        compare(option.get("suboptions", {}), spec[name].get("options", {}), place)


@pytest.mark.parametrize("name", WORK)
def test_documentation_and_specification_agree(name):
    module = import_module(f"{COLLECTION}modules.{name}")
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == name
    compare(documentation["options"], import_module(f"{COLLECTION}module_utils.modules.{name}").ARGUMENTS, name)
    assert all("groundwork.django." + name in task for task in yaml.safe_load(module.EXAMPLES))
    assert all({"description", "returned", "type"} <= set(value) for value in yaml.safe_load(module.RETURN).values())


def test_the_planner_knows_the_options_of_template_tree():
    spec = import_module(f"{COLLECTION}module_utils.modules.template_tree").ARGUMENTS
    assert set(spec) - {"payload"} == template_plan.OPTIONS
    assert set(spec["files"]["options"]) == template_plan.FILE_KEYS
    assert set(spec["directories"]["options"]) == template_plan.DIRECTORY_KEYS
    assert set(spec["assemble"]["options"]) == template_plan.ASSEMBLE_KEYS


def test_every_module_that_a_batch_can_hold_goes_by_way_of_it():
    routing = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["plugin_routing"]["modules"]
    assert routing == {name: {"action_plugin": "groundwork.django.batch"} for name in batch_action.MODULES}
    assert {"release", *batch_action.MODULES} == set(WORK)


def test_all_of_them_are_packed():
    source = (ROOT / "plugins/module_utils/batch.py").read_text()
    packed = source.partition("import (")[2].partition(")")[0].partition("\n")[2]
    assert sorted(word.strip() for word in packed.split(",") if word.strip()) == WORK
