"""The system user of a site."""

from __future__ import annotations

import grp
import pwd

import pytest
from ansible_collections.groundwork.django.plugins.module_utils.modules import site_account

HOME = "/var/lib/forge"


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Return the users and groups of a made-up host: {"users": {...}, "groups": {...}}."""
    found: dict = {"users": {}, "groups": {}}
    monkeypatch.setattr(site_account, "found_user", lambda name: found["users"].get(name))
    monkeypatch.setattr(site_account, "found_group", lambda name: found["groups"].get(name))
    return found


def user(name: str, number: int, group: int, home: str = HOME, shell: str = site_account.SHELL) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", number, group, "", home, shell))


def group(name: str, number: int, *members: str) -> grp.struct_group:
    return grp.struct_group((name, "x", number, list(members)))


def plan(members: tuple[str, ...] = ()) -> list[str]:
    return [what for what, _command in site_account.plan("forge", HOME, list(members))]


def test_user_and_group_are_made_without_shell_and_home(accounts):
    steps = site_account.plan("forge", HOME, [])
    assert [what for what, _command in steps] == ["group forge: add", "user forge: add"]
    assert "--no-create-home" in steps[1][1] and site_account.SHELL in steps[1][1]


def test_what_is_as_it_shall_be_stays(accounts):
    accounts["users"] = {"forge": user("forge", 990, 991), "www-data": user("www-data", 33, 33)}
    accounts["groups"] = {"forge": group("forge", 991, "www-data")}
    assert plan(("www-data",)) == []


def test_shell_home_and_group_are_put_right(accounts):
    accounts["users"] = {"forge": user("forge", 990, 100, home="/", shell="/bin/sh")}
    accounts["groups"] = {"forge": group("forge", 991)}
    ((what, command),) = site_account.plan("forge", HOME, [])
    assert what == "user forge: change"
    assert command == ["usermod", "--home", HOME, "--shell", site_account.SHELL, "--gid", "forge", "forge"]


def test_members_join_where_they_exist(accounts):
    accounts["users"] = {"forge": user("forge", 990, 991), "www-data": user("www-data", 33, 33)}
    accounts["groups"] = {"forge": group("forge", 991)}
    assert plan(("www-data", "nobody-here")) == ["group forge: add member www-data"]


@pytest.mark.parametrize("number", [0, 1000, 2345])
def test_account_of_a_person_or_root_is_refused(accounts, number):
    accounts["users"] = {"forge": user("forge", number, number)}
    with pytest.raises(ValueError, match="is not a system account"):
        plan()
