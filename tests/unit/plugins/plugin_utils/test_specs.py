"""The sentences about values that do not fit the argument specs of a role."""

from __future__ import annotations

import pytest
from ansible_collections.groundwork.django.plugins.plugin_utils import specs

USERS = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True, "description": "Login name."},
        "ssh_keys": {"type": "list", "elements": "str", "default": []},
        "group": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"]},
        "quota_megabytes": {"type": "int"},
        "password": {"type": "str"},
    },
}


def sentences(name, spec, value):
    return list(specs.faults(name, spec, value))


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("str", "a"),
        ("str", 5),
        ("int", 5),
        ("int", "5"),
        ("float", "1.5"),
        ("bool", False),
        ("list", []),
        ("dict", {}),
        ("path", "/srv"),
        ("raw", object()),
        ("jsonarg", "{}"),
    ],
)
def test_value_of_its_type_passes(type_name, value):
    assert sentences("role_thing", {"type": type_name}, value) == []


@pytest.mark.parametrize(
    ("type_name", "value", "sentence"),
    [
        ("int", "abc", 'role_thing is "abc", which is not a whole number: write digits only.'),
        ("int", True, "role_thing is true, which is not a whole number: write digits only."),
        ("int", 1.5, "role_thing is 1.5, which is not a whole number: write digits only."),
        ("int", [1], "role_thing is a list, which is not a whole number: write digits only."),
        ("float", "x", 'role_thing is "x", which is not a number: write digits only.'),
        ("bool", "off", 'role_thing is "off", which is not true or false: write one of the two without quotes.'),
        (
            "bool",
            "False",
            'role_thing is "False", which is not true or false: write one of the two without quotes, and after -e as '
            "JSON, '{\"role_thing\": false}'.",
        ),
        ("list", "a,b", 'role_thing is "a,b", which is not a list: write one item for each line, each after a hyphen.'),
        ("dict", [], "role_thing is a list, which is not a mapping: write one key and value for each line."),
        ("str", {"a": 1}, "role_thing is a mapping, which is not text: write it in quotes."),
        ("str", True, "role_thing is true, which is not text: write it in quotes."),
    ],
)
def test_wrong_type_is_named_with_its_value_and_remedy(type_name, value, sentence):
    assert sentences("role_thing", {"type": type_name}, value) == [sentence]


def test_kind_is_checked_and_named():
    assert sentences("nginx_client_max_body_size", {"type": "str"}, "10x") == [
        'nginx_client_max_body_size is "10x", which is not a size: write a number with k, m or g, like "10m".'
    ]


def test_kind_speaks_about_each_element_of_a_list():
    found = sentences("nginx_domains", {"type": "list", "elements": "str"}, ["a.test", "https://b.test"])
    assert found == ['nginx_domains[1] is "https://b.test", which is not a host name: leave out "https://".']


def test_empty_optional_text_is_not_checked_further():
    assert sentences("certbot_email", {"type": "str", "default": ""}, "") == []


@pytest.mark.parametrize("value", [None, "", "  ", [], {}])
def test_empty_required_value_is_not_set(value):
    (found,) = sentences(
        "role_thing", {"type": "raw", "required": True, "description": "Name of it; long story."}, value
    )
    assert found == "role_thing is not set: set it in group_vars (name of it)."


def test_missing_secret_belongs_into_the_vault():
    (found,) = sentences("role_password", {"type": "str", "required": True}, "")
    assert found == "role_password is not set: put it into the vault.yml of the environment, in group_vars."


def test_null_instead_of_a_default_is_refused():
    assert sentences("role_thing", {"type": "int", "default": 5}, None) == [
        "role_thing is null: give it a value, or remove the line to get its default."
    ]
    assert sentences("role_thing", {"type": "int"}, None) == []


def test_choices():
    spec = {"type": "str", "choices": ["acme", "external"]}
    assert sentences("tls_mode", spec, "acme") == []
    assert sentences("tls_mode", spec, "none") == [
        'tls_mode is "none", which is not one of its choices: write one of acme, external.'
    ]
    (found,) = sentences("tls_modes", {"type": "list", "elements": "str", "choices": ["a"]}, ["a", "b"])
    assert found.startswith('tls_modes[1] is "b", which is not one of its choices')


def test_nested_options_are_named_by_their_path():
    value = [
        {"name": "ada", "ssh_keys": ["ssh-ed25519 AAAA"]},
        {"ssh_keys": "ssh-ed25519 AAAA"},
        {"name": "bob", "group": "Wheel", "state": "gone", "quota_megabytes": -1, "shell": "/bin/sh"},
        "carol",
    ]
    assert sentences("base_admin_users", USERS, value) == [
        "base_admin_users[1].name is not set: set it in group_vars (login name).",
        'base_admin_users[1].ssh_keys is "ssh-ed25519 AAAA", which is not a list: write one item for each line, '
        "each after a hyphen.",
        "base_admin_users[2].shell is not known: its keys are name, ssh_keys, group, state, quota_megabytes, password.",
        'base_admin_users[2].group is "Wheel", which is not a Linux user or group name: use at most 31 '
        "lower-case letters, "
        "digits, hyphens and underscores, with a letter first.",
        'base_admin_users[2].state is "gone", which is not one of its choices: write one of present, absent.',
        "base_admin_users[2].quota_megabytes is -1, which is not a whole number of zero or more: write only the "
        "number, "
        "the name has the unit.",
        'base_admin_users[3] is "carol", which is not a mapping: write one key and value for each line.',
    ]


def test_empty_element_is_named():
    assert sentences("role_things", {"type": "list", "elements": "str"}, ["a", None, ""]) == [
        "role_things[1] is empty: write a value or remove the item.",
        "role_things[2] is empty: write a value or remove the item.",
    ]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("groundwork_database_password", True),
        ("gunicorn_app_secrets", True),
        ("gunicorn_app_secret_key", True),
        ("backups_encryption_key", True),
        ("certbot_api_token", True),
        ("password", True),
        ("base_admin_ssh_key", False),
        ("ssh_keys", False),
        ("backups_public_key", False),
        ("nginx_keyboard", False),
    ],
)
def test_secret_is_told_by_the_name(name, secret):
    assert specs.is_secret(name) is secret


@pytest.mark.parametrize(
    ("name", "spec", "value"),
    [
        ("role_password", {"type": "int"}, "sentinel"),
        ("role_secrets", {"type": "dict", "options": {"value": {"type": "int"}}}, {"value": "sentinel"}),
        ("role_users", USERS, [{"name": "a", "password": ["sentinel"]}]),
        ("role_thing", {"type": "int", "no_log": True}, "sentinel"),
        ("role_keys", {"type": "list", "elements": "int"}, ["sentinel"]),
        ("role_url", {"type": "int"}, "https://ada:sentinel@example.org"),
    ],
)
def test_value_of_a_secret_is_never_shown(name, spec, value):
    found = sentences(name, spec, value)
    assert found and "sentinel" not in "".join(found)


def test_long_and_many_line_values_stay_one_short_line():
    (found,) = sentences("role_port", {"type": "int"}, "x\n" * 400)
    assert "\n" not in found and len(found) < 200


def test_options_are_loaded_in_their_order(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "argument_specs.yml").write_text(
        "argument_specs: {main: {options: {b: {type: str}, a: {type: int}}}}", encoding="utf-8"
    )
    assert list(specs.load_options(tmp_path)) == ["b", "a"]


def test_spec_without_a_main_entry_point_is_refused(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "argument_specs.yml").write_text("argument_specs: {}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no argument_specs\.main"):
        specs.load_options(tmp_path)
