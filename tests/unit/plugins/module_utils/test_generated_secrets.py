"""Secrets that a host makes once."""

import stat

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.generated_secrets import GeneratedSecrets, environment


def test_a_secret_is_made_once_and_stays(tmp_path):
    first = GeneratedSecrets("forge", str(tmp_path)).make({"KEY": {"length": 50}})
    second = GeneratedSecrets("forge", str(tmp_path)).make(
        {"KEY": {"length": 20}, "PIN": {"length": 16, "chars": "01"}}
    )
    assert len(first["KEY"]) == 50
    assert second["KEY"] == first["KEY"]
    assert len(second["PIN"]) == 16
    assert set(second["PIN"]) <= {"0", "1"}
    assert GeneratedSecrets("forge", str(tmp_path)).kept() == second


def test_one_that_is_not_wanted_is_kept_and_not_given(tmp_path):
    made = GeneratedSecrets("forge", str(tmp_path)).make({"KEY": {"length": 50}})
    assert GeneratedSecrets("forge", str(tmp_path)).make({}) == {}
    assert GeneratedSecrets("forge", str(tmp_path)).kept() == made


def test_only_its_owner_can_read_the_file(tmp_path):
    GeneratedSecrets("forge", str(tmp_path)).make({"KEY": {"length": 50}})
    assert stat.S_IMODE((tmp_path / "forge.secrets.json").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_read_is_not_replaced(tmp_path):
    (tmp_path / "forge.secrets.json").write_text("{", encoding="utf-8")
    with pytest.raises(Refusal, match=r"restore it from a backup, or remove it"):
        GeneratedSecrets("forge", str(tmp_path)).make({"KEY": {"length": 50}})


def test_lines_of_the_environment_are_quoted():
    assert environment({"B": "x%y", "A": "1"}) == 'A="1"\nB="x%y"\n'
