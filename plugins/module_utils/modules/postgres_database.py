# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module postgres_database does on the host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import postgres
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.postgres import identifier, literal

ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

READER_CONNECTIONS = 3
"""A dump is one; one that has just ended may still count."""

READER_ATTRIBUTES = (
    "LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS "
    f"CONNECTION LIMIT {READER_CONNECTIONS} PASSWORD NULL"
)
"""Without BYPASSRLS a dump ends at the first table with row security."""

READER_SETTINGS = {
    "default_transaction_read_only": "on",
    # Before version 19 no right lets a role read all large objects; this lets it change them too.
    "lo_compat_privileges": "on",
}

STATE = """
SELECT json_build_object(
  'role', (
    SELECT json_build_object(
      'attributes', rolcanlogin AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls),
      'verifier', rolpassword)
    FROM pg_authid WHERE rolname = {owner}),
  'database', (
    SELECT json_build_object(
      'owner', pg_get_userbyid(datdba),
      'public', EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0))
    FROM pg_database WHERE datname = {name}),
  'readers', (
    SELECT json_object_agg(r.rolname, json_build_object(
      'attributes',
        rolcanlogin AND rolinherit AND rolbypassrls AND rolconnlimit = {connections} AND rolpassword IS NULL
        AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication),
      'owns', EXISTS (
        SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid AND deptype = 'o'),
      'reads', pg_has_role(r.oid, 'pg_read_all_data', 'USAGE'),
      'enters', EXISTS (
        SELECT FROM pg_database, aclexplode(datacl)
        WHERE datname = {name} AND grantee = r.oid AND privilege_type = 'CONNECT'),
      'settings', (SELECT to_json(setconfig) FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = r.oid)))
    FROM pg_authid r WHERE rolname = ANY ({readers})),
  'settings', (
    SELECT to_json(s.setconfig)
    FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole
    WHERE d.datname = {name} AND r.rolname = {owner}));
"""

INSIDE = """
SELECT json_build_object(
  'extensions', (SELECT json_agg(extname) FROM pg_extension),
  'available', (SELECT json_agg(name) FROM pg_available_extensions),
  'creatable', (
    SELECT to_regnamespace('public') IS NULL OR has_schema_privilege(oid, 'public', 'CREATE')
    FROM pg_roles WHERE rolname = {owner}),
  'creatable_by_all', EXISTS (
    SELECT FROM pg_namespace, aclexplode(nspacl)
    WHERE nspname = 'public' AND grantee = 0 AND privilege_type = 'CREATE'));
"""

ARGUMENTS = {
    "version": {"type": "str", "required": True},
    "port": {"type": "int", "default": 5432},
    "name": {"type": "str", "required": True},
    "owner": {"type": "str", "required": True},
    "password": {"type": "str", "default": "", "no_log": True},
    "locale": {"type": "str", "default": "C.UTF-8"},
    "extensions": {"type": "list", "elements": "str", "default": []},
    "settings": {"type": "dict", "default": {}},
    "readers": {"type": "list", "elements": "str", "default": []},
}
"""Options of the module."""


class Keeper:
    """Compares what is with what shall be; collects statements, and runs them unless only asked to check."""

    def __init__(self, params: dict, server: postgres.Server, check: bool) -> None:
        self.params = params
        self.server = server
        self.check = check
        self.actions: list[str] = []

    def do(self, action: str, sql: str, database: str = "postgres") -> None:
        """Remember an action, and run its statement."""
        self.actions.append(action)
        if not self.check:
            self.server.run(sql, database)

    def keep(self) -> None:
        """Bring everything about, in an order that can be interrupted. Raises Refusal."""
        name, owner = self.params["name"], self.params["owner"]
        readers = f"ARRAY[{', '.join(literal(reader) for reader in self.params['readers'])}]::name[]"
        question = STATE.format(
            name=literal(name), owner=literal(owner), readers=readers, connections=READER_CONNECTIONS
        )
        try:
            state = self.server.ask(question)
        except postgres.Unreachable:
            if not self.check:
                raise
            state = {"role": None, "database": None, "readers": None, "settings": None}
        self.keep_role(owner, state["role"])
        self.keep_database(name, owner, state["database"])
        for reader in self.params["readers"]:
            self.keep_reader(reader, name, (state["readers"] or {}).get(reader))
        self.keep_settings(name, owner, state["settings"] or [])
        there = state["database"] is not None or not self.check
        self.keep_inside(name, self.server.ask(INSIDE.format(owner=literal(owner)), name) if there else {})

    def keep_role(self, owner: str, role: dict | None) -> None:
        """Role, attributes and password. The password travels as its verifier."""
        password = self.params["password"]
        role_name = identifier(owner)
        if role is None:
            self.do(f"create role {owner}", f"CREATE ROLE {role_name} {ATTRIBUTES};")
            role = {"attributes": True, "verifier": None}
        if not role["attributes"]:
            self.do(f"take rights from role {owner}", f"ALTER ROLE {role_name} {ATTRIBUTES};")
        if password and not postgres.scram_matches(password, role["verifier"]):
            verifier = literal(postgres.scram_verifier(password))
            self.do(f"set the password of role {owner}", f"ALTER ROLE {role_name} PASSWORD {verifier};")
        if not password and role["verifier"] is not None:
            self.do(f"take the password from role {owner}", f"ALTER ROLE {role_name} PASSWORD NULL;")

    def keep_database(self, name: str, owner: str, database: dict | None) -> None:
        """Database, owner, and nothing for everybody."""
        if database is None:
            locale = literal(self.params["locale"])
            self.do(
                f"create database {name}",
                f"CREATE DATABASE {identifier(name)} OWNER {identifier(owner)} TEMPLATE template0 ENCODING 'UTF8' "
                f"LC_COLLATE {locale} LC_CTYPE {locale};",
            )
            database = {"owner": owner, "public": True}
        if database["owner"] != owner:
            self.do(
                f"give database {name} to {owner}", f"ALTER DATABASE {identifier(name)} OWNER TO {identifier(owner)};"
            )
        if database["public"]:
            self.do(f"close database {name} to others", f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC;")

    def keep_reader(self, reader: str, database: str, role: dict | None) -> None:
        """A role that reads everything in the database; PostgreSQL's own role for that has the rights."""
        role_name = identifier(reader)
        if role is None:
            self.do(f"create role {reader}", f"CREATE ROLE {role_name} {READER_ATTRIBUTES};")
            role = {"attributes": True, "owns": False, "reads": False, "enters": False, "settings": None}
        if role["owns"]:
            raise Refusal(
                f'The role "{reader}" owns a database, a table or another object, and shall only read: give it another '
                f"name (backups_database_role, where it is for the backups)."
            )
        if not role["attributes"]:
            self.do(f"give role {reader} the rights of a reader only", f"ALTER ROLE {role_name} {READER_ATTRIBUTES};")
        if not role["reads"]:
            self.do(f"let role {reader} read all data", f"GRANT pg_read_all_data TO {role_name};")
        if not role["enters"]:
            sql = f"GRANT CONNECT ON DATABASE {identifier(database)} TO {role_name};"
            self.do(f"let role {reader} into database {database}", sql)
        values = dict(item.split("=", 1) for item in role["settings"] or [])
        for key, value in READER_SETTINGS.items():
            if values.get(key) != value:
                sql = f"ALTER ROLE {role_name} SET {identifier(key)} TO {literal(value)};"
                self.do(f"set {key} of role {reader}", sql)

    def keep_settings(self, name: str, owner: str, present: list[str]) -> None:
        """Settings of the role in the database."""
        values = dict(item.split("=", 1) for item in present)
        start = f"ALTER ROLE {identifier(owner)} IN DATABASE {identifier(name)}"
        for key, value in sorted(self.params["settings"].items()):
            if value is None:
                if key in values:
                    self.do(f"reset {key} of role {owner}", f"{start} RESET {identifier(key)};")
            elif values.get(key) != as_text(value):
                self.do(f"set {key} of role {owner}", f"{start} SET {identifier(key)} TO {literal(as_text(value))};")

    def keep_inside(self, name: str, inside: dict) -> None:
        """What is in the database: the owner's right to the schema, and extensions."""
        if inside.get("creatable") is False or inside.get("creatable_by_all"):
            # Only a database of version 14, or one that came from it: since 15, its owner has the right by this role.
            self.do(
                f"let the owner of {name}, and nobody else, create in schema public",
                "ALTER SCHEMA public OWNER TO pg_database_owner; REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
                name,
            )
        for extension in self.params["extensions"]:
            if extension in (inside.get("extensions") or []):
                continue
            if inside and extension not in inside["available"]:
                raise Refusal(
                    f'The extension "{extension}" is not installed on the host: add its package to '
                    f"postgres_extra_packages."
                )
            self.do(
                f"create extension {extension} in {name}",
                # Where its objects go, unless it says so itself.
                f"SET search_path = public; CREATE EXTENSION IF NOT EXISTS {identifier(extension)} CASCADE;",
                name,
            )


def as_text(value: object) -> str:
    """A value of a setting as PostgreSQL keeps it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    server = postgres.Server(module.params["version"], module.params["port"])
    keeper = Keeper(module.params, server, module.check_mode)
    try:
        if module.params["owner"] == "postgres":
            raise Refusal("The role postgres is the superuser: give the database an owner of its own.")
        keeper.keep()
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    lines = "".join(f"{action}\n" for action in keeper.actions)
    module.exit_json(changed=bool(keeper.actions), actions=keeper.actions, diff={"before": "", "after": lines})
