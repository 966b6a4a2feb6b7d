"""Versions of Python and what a project asks for; the cases are those of PEP 440."""

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.python_version import obstacle


@pytest.mark.parametrize(
    ("version", "requirement", "found"),
    [
        ("3.13.5", ">=3.11", ""),
        ("3.10.12", ">=3.11", ">=3.11"),
        ("3.13.5", ">=3.10,<3.13", "<3.13"),
        ("3.12.9", ">=3.10, <3.13", ""),
        ("3.11.2", "~=3.11", ""),
        ("4.0.0", "~=3.11", "~=3.11"),
        ("3.12.1", "~=3.11.0", "~=3.11.0"),
        ("3.12.1", "==3.12.*", ""),
        ("3.13.0", "==3.12.*", "==3.12.*"),
        ("3.12.4", "!=3.12.4", "!=3.12.4"),
        ("3.12.5", "!=3.12.4", ""),
        ("3.12.0", ">3.12", ">3.12"),
        ("3.12.1", ">3.12", ""),
        ("3.12.0", "<=3.12", ""),
        ("3.13.0rc1", ">=3.13", ""),
        ("3.12.0", "", ""),
        ("3.12.0", "^3.11", ""),
    ],
)
def test_the_first_specifier_that_is_not_satisfied_is_named(version, requirement, found):
    assert obstacle(version, requirement) == found
