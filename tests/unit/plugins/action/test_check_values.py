"""Values worked out by the real template engine: what follows from what, what is told once, what is not shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / ".ansible" / "collections"))

from ansible.template import Templar, trust_as_template
from ansible_collections.groundwork.django.plugins.action.check_values import RoleChecks

OPTIONS = {
    "thing_domain": {"type": "str", "required": True, "description": "Name of the thing."},
    "thing_url_domain": {"type": "str", "default": "{{ thing_domain }}"},
    "thing_port": {"type": "int", "default": 80},
    "thing_password": {"type": "str", "default": ""},
    "thing_workers": {"type": "int", "default": 1},
}


def trusted(value):
    """``value`` with every text in it marked as a template, as if it came from a vars file."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


@pytest.fixture
def problems(tmp_path):
    """A function that returns the sentences about the role `thing` for some variables."""
    (tmp_path / "meta").mkdir()
    spec = {"argument_specs": {"main": {"options": OPTIONS}}}
    (tmp_path / "meta" / "argument_specs.yml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")

    def check(rules=(), of_the_host_only=False, **values):
        defaults = {name: option["default"] for name, option in OPTIONS.items() if "default" in option}
        variables = trusted({**defaults, "thing_domain": "a.test", "__thing_rules": list(rules), **values})
        variables = {name: value for name, value in variables.items() if value is not ...}
        checks = RoleChecks(Templar(variables=variables), variables, of_the_host_only)
        checks.add("thing", tmp_path)
        checks.work_out()
        return checks.problems()

    return check


def test_good_values_have_no_problems(problems):
    assert problems() == []


def test_fault_is_told_once_where_it_comes_from(problems):
    assert problems(thing_domain="https://a.test") == [
        'thing_domain is "https://a.test", which is not a host name: leave out "https://".'
    ]


def test_missing_value_is_told_once(problems):
    assert problems(thing_domain=...) == ["thing_domain is not set: set it in group_vars (name of the thing)."]


def test_misspelled_variable_is_pointed_at(problems):
    (sentence,) = problems(thing_domain=..., thing_domian="a.test")
    assert sentence.endswith("; thing_domian is set, did you mean that.")


def test_variable_that_no_role_has_is_told_when_it_is_nearly_one(problems):
    assert problems(thing_worker=3) == [
        "thing_worker is set, but there is no such variable: did you mean thing_workers?"
    ]
    assert problems(thing_of_my_own=3) == []


def test_undefined_variable_behind_a_value_is_named(problems):
    assert problems(thing_password="{{ vault_thing }}") == [
        "thing_password needs vault_thing, which is not defined: put it into the vault.yml of the environment, "
        "in group_vars."
    ]
    assert problems(thing_port="{{ other_port }}") == [
        "thing_port needs other_port, which is not defined: put it into group_vars."
    ]


def test_template_that_fails_is_named(problems):
    (sentence,) = problems(thing_port="{{ 1 + }}")
    assert sentence.startswith("thing_port cannot be worked out from its template: Syntax error")


def test_value_that_needs_facts_waits_for_them(problems):
    assert problems(thing_workers="{{ ansible_facts['processor_nproc'] * 2 }}", ansible_facts={}) == []
    assert problems(thing_workers="{{ cores * 2 }}", cores="{{ ansible_facts.vcpus }}", ansible_facts={}) == []
    facts = {"distribution": "Debian"}
    (sentence,) = problems(thing_workers="{{ ansible_facts['processor_nproc'] * 2 }}", ansible_facts=facts)
    assert sentence.startswith("thing_workers cannot be worked out from its template")


def test_second_check_is_about_what_follows_from_the_host(problems):
    facts = {"processor_nproc": "many"}
    told_before = {"thing_domain": "https://a.test", "thing_worker": 3, "ansible_facts": facts}
    assert problems(of_the_host_only=True, **told_before) == []
    (sentence,) = problems(of_the_host_only=True, thing_workers="{{ ansible_facts.processor_nproc }}", **told_before)
    assert sentence.startswith('thing_workers is "many"')


def test_rule_that_does_not_hold_is_told_in_its_words(problems):
    rule = {"that": "thing_port > 1024", "message": "thing_port is {{ thing_port }}:\n  take a higher one."}
    assert problems([rule], thing_port=8080) == []
    assert problems([rule]) == ["thing_port is 80: take a higher one."]


def test_rule_about_a_faulty_value_is_left_out(problems):
    rule = {"that": "thing_url_domain is match('b')", "message": "No."}
    assert len(problems([rule], thing_domain="https://a.test")) == 1


def test_rule_that_cannot_be_checked_is_told(problems):
    rule = {"that": "nowhere > 1", "message": "No."}
    assert problems([rule]) == ['A rule of role thing cannot be checked (nowhere is not defined): "nowhere > 1".']


@pytest.mark.parametrize(
    "values",
    [
        {"thing_port": "{{ vault_port }}", "vault_port": "sentinel"},
        {"thing_port": "{{ thing_password }}", "thing_password": "sentinel"},
        {"thing_port": "{{ inner }}", "inner": "x{{ thing_password }}", "thing_password": "sentinel"},
        {"thing_port": "{{ thing_password | int('sentinel', 'x') }}", "thing_password": "sentinel"},
    ],
)
def test_value_made_of_a_secret_is_not_shown(problems, values):
    found = problems(**values)
    assert len(found) == 1 and found[0].startswith("thing_port ")
    assert "sentinel" not in found[0]
