"""The documentation of the modules that every role uses says what their argument specifications say."""

from importlib import import_module

import pytest
import yaml

MODULES = "ansible_collections.groundwork.django.plugins.modules."
UNDOCUMENTED = {"payload"}


class Seen(BaseException):
    """Carries an argument specification out of main()."""


def spec_of(module, monkeypatch) -> dict:
    def stop(**options):
        raise Seen(options["argument_spec"])

    monkeypatch.setattr(module, "AnsibleModule", stop)
    with pytest.raises(Seen) as seen:
        module.main()
    return seen.value.args[0]


def compare(documented: dict, spec: dict, where: str) -> None:
    assert set(documented) == set(spec) - UNDOCUMENTED, where
    for name, option in documented.items():
        place = f"{where}.{name}"
        assert option["description"], place
        for key in ("type", "elements", "default", "choices"):
            assert option.get(key) == spec[name].get(key), f"{place}: {key}"
        assert bool(option.get("required")) == bool(spec[name].get("required")), place
        compare(option.get("suboptions", {}), spec[name].get("options", {}), place)


@pytest.mark.parametrize("name", ["template_tree", "service", "virtualenv"])
def test_documentation_and_specification_agree(name, monkeypatch):
    module = import_module(MODULES + name)
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == name
    compare(documentation["options"], spec_of(module, monkeypatch), name)
    assert all("groundwork.django." + name in task for task in yaml.safe_load(module.EXAMPLES))
    assert all({"description", "returned", "type"} <= set(value) for value in yaml.safe_load(module.RETURN).values())


def test_the_action_knows_the_options_of_the_module(monkeypatch):
    action = import_module("ansible_collections.groundwork.django.plugins.action.template_tree")
    module = import_module(MODULES + "template_tree")
    spec = spec_of(module, monkeypatch)
    assert set(spec) - UNDOCUMENTED == action.OPTIONS
    assert set(spec["files"]["options"]) == action.FILE_KEYS
    assert set(spec["directories"]["options"]) == action.DIRECTORY_KEYS
