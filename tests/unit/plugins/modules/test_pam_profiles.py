"""Which profiles PAM uses, read from files of a directory."""

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.modules import pam_profiles

PROFILE = """Name: Refuse after too many failures
Default: no
Priority: 1024
Auth-Type: Primary
Auth:
\trequisite\tpam_faillock.so preauth deny=5
\t[success=end default=ignore]\tpam_unix.so  nullok
Account-Type: Primary
Account:
\trequired\tpam_faillock.so
"""
AUTH = (
    "# comment\nauth\trequisite\tpam_faillock.so preauth  deny=5\nauth [success=2 default=ignore] pam_unix.so nullok\n"
)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Directory with a profile and the common files of PAM, which do not use it yet."""
    monkeypatch.setattr(pam_profiles, "PROFILES", str(tmp_path))
    monkeypatch.setattr(pam_profiles, "COMMON", str(tmp_path))
    (tmp_path / "first").write_text(PROFILE)
    (tmp_path / "common-auth").write_text("auth\t[success=1 default=ignore]\tpam_deny.so\n")
    (tmp_path / "common-account").write_text("account\trequired\tpam_permit.so\n")
    return tmp_path


def test_what_a_profile_calls():
    assert pam_profiles.calls(PROFILE) == [
        ("auth", "pam_faillock.so preauth deny=5"),
        ("auth", "pam_unix.so nullok"),
        ("account", "pam_faillock.so"),
    ]


def test_a_profile_that_is_not_used(host):
    assert not pam_profiles.is_there("first")
    assert not pam_profiles.is_complete("first")


def test_a_profile_that_is_used_only_in_part_is_enabled_again(host):
    (host / "common-auth").write_text(AUTH)
    assert pam_profiles.is_there("first")
    assert not pam_profiles.is_complete("first")
    (host / "common-account").write_text("account required pam_faillock.so\n")
    assert pam_profiles.is_complete("first")


def test_a_profile_with_other_arguments_is_enabled_again(host):
    (host / "common-auth").write_text(AUTH.replace("deny=5", "deny=3"))
    (host / "common-account").write_text("account required pam_faillock.so\n")
    assert not pam_profiles.is_complete("first")


def test_a_line_that_is_commented_out_is_not_used(host):
    (host / "common-account").write_text("#account required pam_faillock.so\n")
    assert not pam_profiles.is_there("first")


def test_a_profile_that_is_not_there_is_neither_used_nor_complete(host):
    assert not pam_profiles.is_there("other")
    assert not pam_profiles.is_complete("other")
