"""The database module against a server that only remembers what it is asked."""

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import postgres
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import postgres_database

PARAMS = {
    "name": "forge",
    "owner": "forge",
    "password": "",
    "locale": "C.UTF-8",
    "extensions": [],
    "settings": {},
    "readers": [],
}
GOOD = {
    "role": {"attributes": True, "verifier": None},
    "database": {"owner": "forge", "public": False},
    "readers": None,
    "settings": None,
}
READER = {
    "attributes": True,
    "owns": False,
    "reads": True,
    "enters": True,
    "settings": ["default_transaction_read_only=on", "lo_compat_privileges=on"],
}
INSIDE = {"extensions": ["plpgsql"], "available": ["plpgsql", "pg_trgm"], "creatable": True, "creatable_by_all": False}


class Server:
    """Answers the two questions of the module and keeps the statements."""

    def __init__(self, state=None, inside=INSIDE):
        self.state = state
        self.inside = inside
        self.statements = []

    def ask(self, sql, database="postgres"):
        if self.state is None:
            raise postgres.Unreachable("PostgreSQL cannot be reached")
        return self.inside if database == "forge" else self.state

    def run(self, sql, database="postgres"):
        self.statements.append((database, sql))
        return ""


def keep(server, check=False, **changed):
    keeper = postgres_database.Keeper({**PARAMS, **changed}, server, check)
    keeper.keep()
    return keeper.actions


def test_nothing_is_done_where_everything_is_right():
    server = Server(GOOD)
    assert keep(server) == [] and server.statements == []


def test_a_new_site_gets_role_database_and_extension_in_that_order():
    server = Server({"role": None, "database": None, "readers": None, "settings": None})
    actions = keep(server, extensions=["pg_trgm"], settings={"lock_timeout": "5s"})
    assert actions == [
        "create role forge",
        "create database forge",
        "close database forge to others",
        "set lock_timeout of role forge",
        "create extension pg_trgm in forge",
    ]
    assert "TEMPLATE template0 ENCODING 'UTF8'" in server.statements[1][1]
    assert server.statements[-1][0] == "forge"


def test_check_mode_runs_no_statement():
    server = Server({"role": None, "database": None, "readers": None, "settings": None})
    assert keep(server, check=True, extensions=["pg_trgm"])[-1] == "create extension pg_trgm in forge"
    assert server.statements == []


def test_check_mode_without_a_server_counts_everything():
    assert keep(Server(), check=True)[:2] == ["create role forge", "create database forge"]


def test_without_a_server_it_fails():
    with pytest.raises(Refusal, match="cannot be reached"):
        keep(Server())


def test_an_interrupted_run_is_completed():
    server = Server({**GOOD, "database": {"owner": "forge", "public": True}})
    assert keep(server) == ["close database forge to others"]


def test_an_unchanged_password_is_no_change():
    verifier = postgres.scram_verifier("salt and pepper")
    server = Server({**GOOD, "role": {"attributes": True, "verifier": verifier}})
    assert keep(server, password="salt and pepper") == []


def test_a_new_password_travels_as_its_verifier_only():
    server = Server(GOOD)
    assert keep(server, password="sentinel-value") == ["set the password of role forge"]
    assert "sentinel-value" not in server.statements[0][1]
    assert "SCRAM-SHA-256$4096:" in server.statements[0][1]


def test_a_local_site_loses_its_password():
    server = Server({**GOOD, "role": {"attributes": True, "verifier": "md5abc"}})
    assert keep(server) == ["take the password from role forge"]


def test_too_many_rights_are_taken():
    server = Server({**GOOD, "role": {"attributes": False, "verifier": None}})
    assert keep(server) == ["take rights from role forge"]
    assert "NOSUPERUSER" in server.statements[0][1]


def test_a_database_of_another_owner_is_given_over():
    server = Server({**GOOD, "database": {"owner": "postgres", "public": False}}, {**INSIDE, "creatable": False})
    assert keep(server) == [
        "give database forge to forge",
        "let the owner of forge, and nobody else, create in schema public",
    ]


def test_settings_are_compared_set_and_reset():
    server = Server({**GOOD, "settings": ["lock_timeout=5s", "jit=off", "work_mem=8MB"]})
    actions = keep(server, settings={"lock_timeout": "5s", "jit": True, "work_mem": None, "timezone": None})
    assert actions == ["set jit of role forge", "reset work_mem of role forge"]


def test_schema_public_is_closed_to_everybody_but_the_owner():
    server = Server(GOOD, {**INSIDE, "creatable_by_all": True})
    assert keep(server) == ["let the owner of forge, and nobody else, create in schema public"]
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in server.statements[0][1]


def test_a_reader_gets_what_a_dump_needs_and_nothing_else():
    server = Server(GOOD)
    assert keep(server, readers=["forge_backup"]) == [
        "create role forge_backup",
        "let role forge_backup read all data",
        "let role forge_backup into database forge",
        "set default_transaction_read_only of role forge_backup",
        "set lo_compat_privileges of role forge_backup",
    ]
    created = server.statements[0][1]
    assert "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS" in created and "PASSWORD NULL" in created
    assert keep(Server({**GOOD, "readers": {"forge_backup": READER}}), readers=["forge_backup"]) == []


def test_a_reader_is_brought_back_to_that():
    changed = {**READER, "attributes": False, "enters": False, "settings": ["lo_compat_privileges=on"]}
    actions = keep(Server({**GOOD, "readers": {"forge_backup": changed}}), readers=["forge_backup"])
    assert actions == [
        "give role forge_backup the rights of a reader only",
        "let role forge_backup into database forge",
        "set default_transaction_read_only of role forge_backup",
    ]


def test_a_role_that_owns_something_is_no_reader():
    owner = {**READER, "owns": True, "attributes": False}
    server = Server({**GOOD, "readers": {"annex": owner}})
    with pytest.raises(Refusal, match=r'"annex" owns.*backups_database_role'):
        keep(server, readers=["annex"])
    assert server.statements == []


def test_an_extension_that_is_not_installed_is_named():
    with pytest.raises(Refusal, match=r"postgis.*postgres_extra_packages"):
        keep(Server(GOOD), extensions=["postgis"])


def test_names_and_texts_are_quoted():
    assert postgres.literal("it's") == "'it''s'"
    assert postgres.identifier('a"b') == '"a""b"'
    with pytest.raises(Refusal):
        postgres.literal("a\0b")


def test_verifier_of_rfc_7677():
    # The example of RFC 7677: user "user", password "pencil", this salt, 4096 rounds.
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    stored, server = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=", "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    expected = f"SCRAM-SHA-256$4096:{salt}${stored}:{server}"
    assert postgres.scram_matches("pencil", expected)
    assert not postgres.scram_matches("pencils", expected)
    assert not postgres.scram_matches("pencil", None)
    assert not postgres.scram_matches("pencil", "md5a3556571e93b0d20722ba62be61e8c2d")
