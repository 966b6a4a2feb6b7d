"""Environment files for systemd."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.groundwork.django.plugins.filter.systemd_environment import systemd_environment

SPECIAL = '"\\`$'


def read_back(text: str) -> dict[str, str]:
    """What systemd makes of the file: its rules for a value in double quotes."""
    values, rest = {}, text
    while rest:
        name, _, rest = rest.partition('="')
        value = []
        while not rest.startswith('"'):
            if rest[0] == "\\" and rest[1] in SPECIAL:
                rest = rest[1:]
            value.append(rest[0])
            rest = rest[1:]
        assert rest.startswith('"\n')
        values[name] = "".join(value)
        rest = rest[2:]
    return values


@pytest.mark.parametrize(
    "value",
    [
        "",
        "plain",
        "  blanks around  ",
        '{"a": "b\\"c", "d": [1, "e,f"]}',
        "$HOME ${HOME} `id` $(id)",
        "100% # no comment; = &|'",
        "back\\slash \\n \\\\ at the end \\",
        "-----BEGIN KEY-----\nMIIB+/=\n-----END KEY-----\n",
        "a tab\there",
        "Grüße 日本語 \U0001f40d",
        '"',
    ],
)
def test_a_value_is_read_back_as_it_was(value):
    assert read_back(systemd_environment({"NAME": value, "OTHER": "x"})) == {"NAME": value, "OTHER": "x"}


def test_booleans_and_numbers_have_the_form_of_python():
    assert systemd_environment({"A": True, "B": False, "C": 3, "D": 0.5}) == 'A="True"\nB="False"\nC="3"\nD="0.5"\n'


def test_names_are_sorted_so_that_the_file_stays_the_same():
    assert systemd_environment({"B": "1", "A": "2"}) == systemd_environment({"A": "2", "B": "1"})


@pytest.mark.parametrize("name", ["1A", "A-B", "A B", "", "Ä", "A\n"])
def test_a_name_that_systemd_would_drop_is_refused(name):
    with pytest.raises(AnsibleFilterError, match="not the name of a variable"):
        systemd_environment({name: "x"})


@pytest.mark.parametrize("value", ["a\r\nb", "a\x00b", "\x1b[0m", "\x7f", "\ufffe", "\ufdd0"])
def test_a_value_that_systemd_would_drop_is_refused_and_not_shown(value):
    with pytest.raises(AnsibleFilterError, match="The environment variable KEY") as caught:
        systemd_environment({"KEY": f"sentinel{value}"})
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize("value", [None, ["a"], {"a": "b"}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(AnsibleFilterError, match=r"KEY is .* not text"):
        systemd_environment({"KEY": value})
