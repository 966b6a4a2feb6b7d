"""Values in a file of the distribution, on files of a directory."""

import os

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import file_settings

TEXT = "# UMASK is the umask\n#UMASK 077\nUMASK\t\t022\nPASS_MAX_DAYS 99999 \n"


def test_the_value_changes_and_all_else_stays():
    changed = file_settings.with_settings(TEXT, {"UMASK": "027"})
    assert changed == TEXT.replace("UMASK\t\t022", "UMASK\t027")


def test_a_value_that_is_right_stays_as_it_is_written():
    assert file_settings.with_settings(TEXT, {"UMASK": "022", "PASS_MAX_DAYS": "99999"}) == TEXT


def test_names_and_values_may_be_parted_by_another_sign():
    text = "# a = 0\na = SUSPEND\nb=1\nc = a = b\n"
    wanted = {"a": "SYSLOG", "b": "1", "d": "2"}
    assert file_settings.with_settings(text, wanted, " = ") == text.replace("SUSPEND", "SYSLOG") + "d = 2\n"


def test_what_is_only_in_a_comment_is_added():
    assert file_settings.with_settings("#UMASK 077", {"UMASK": "027"}) == "#UMASK 077\nUMASK\t027\n"


def test_of_a_name_that_is_there_twice_one_line_is_left():
    assert file_settings.with_settings("A 1\nB 2\nA 3\n", {"A": "3"}) == "A\t3\nB 2\n"


def test_a_name_without_a_value_gets_one():
    assert file_settings.with_settings("A\n", {"A": "1"}) == "A\t1\n"


@pytest.mark.parametrize("settings", [{"UM ASK": "1"}, {"UMASK": ""}, {"UMASK": "0\nPASS_MAX_DAYS 1"}, {"#A": "1"}])
def test_what_would_not_be_one_line_is_refused(settings):
    with pytest.raises(Refusal, match="one word and a value of one line"):
        file_settings.checked(settings)


def test_owner_and_mode_are_kept_and_nothing_is_left_behind(tmp_path):
    path = tmp_path / "login.defs"
    path.write_text(TEXT)
    path.chmod(0o640)
    file_settings.write(str(path), b"UMASK 027\n", os.lstat(path))
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("UMASK 027\n", 0o640)
    assert [entry.name for entry in tmp_path.iterdir()] == ["login.defs"]
