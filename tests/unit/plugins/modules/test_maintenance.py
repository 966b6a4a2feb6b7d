"""Flags that the web server and the site look for; the database is tested on a real host."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import maintenance


def test_a_flag_is_made_and_removed_once(tmp_path):
    flag = tmp_path / "read_only"
    assert maintenance.set_flag(str(flag), True, False) == f"make {flag}"
    assert flag.is_file()
    assert maintenance.set_flag(str(flag), True, False) == ""
    assert maintenance.set_flag(str(flag), False, False) == f"remove {flag}"
    assert not flag.exists()
    assert maintenance.set_flag(str(flag), False, False) == ""


def test_check_mode_says_the_same_and_does_nothing(tmp_path):
    flag = tmp_path / "read_only"
    assert maintenance.set_flag(str(flag), True, True) == f"make {flag}"
    assert not flag.exists()


def test_a_site_that_is_not_there_is_not_closed():
    missing = Path("/nowhere/at/all/read_only")
    with pytest.raises(Refusal, match="is not on the host: apply the whole site once first"):
        maintenance.set_flag(str(missing), True, False)
    assert maintenance.set_flag(str(missing), False, False) == ""
