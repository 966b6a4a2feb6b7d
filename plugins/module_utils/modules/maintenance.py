# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module maintenance does on the host."""

from __future__ import annotations

import contextlib
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import postgres
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text, write_atomically
from ansible_collections.groundwork.django.plugins.module_utils.slots import link

PASSING = "/run/groundwork/passing"
"""What closes a site in passing: a host that is started again knows nothing of it."""
CLOSED = f"{PASSING}/closed"
DATABASE = f"{PASSING}/postgres.conf"
"""The role postgres has the server read it where it is there."""
SETTING = "default_transaction_read_only = on\n"
TAKE_OVER_SECONDS = 15

ARGUMENTS = {
    "mode": {"type": "str", "choices": ["on", "read_only", "off"], "required": True},
    "passing": {"type": "bool", "default": False},
    "flags": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "modes": {"type": "list", "elements": "str", "choices": ["on", "read_only"], "required": True},
        },
    },
    "database": {
        "type": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
        },
    },
    "pool": {
        "type": "dict",
        "options": {
            "socket_directory": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "stamp": {"type": "path", "required": True},
        },
    },
}
"""Options of the module."""


def set_flag(path: str, wanted: bool, check: bool, passing: bool = False) -> str:
    """Make or remove a file. Returns what was done, empty where nothing had to be. Raises Refusal.

    passing: make a link to one that the next start of the host takes away.
    """
    # A link whose file is gone is no flag any more.
    there = os.path.exists(path) and os.path.islink(path) == passing if wanted else os.path.lexists(path)
    if there == wanted:
        return ""
    if wanted and not os.path.isdir(os.path.dirname(path)):
        raise Refusal(f"{os.path.dirname(path)} is not on the host: apply the whole site once first.")
    if not check:
        if not wanted:
            os.unlink(path)
        elif passing:
            write_atomically(CLOSED, b"", 0o644)
            link(CLOSED, path)
        else:
            write_atomically(path, b"", 0o644)
    return f"{'make' if wanted else 'remove'} {path}"


def server_of(database: dict) -> postgres.Server:
    """The server of a database."""
    versions = postgres.installed_versions()
    return postgres.Server(versions[-1] if versions else "", database["port"])


def set_database(database: dict, read_only: bool, check: bool) -> str:
    """Have a role read only, or write again, in sessions from now on. Returns what was done. Raises Refusal."""
    server = server_of(database)
    name, user = postgres.literal(database["name"]), postgres.literal(database["user"])
    found = server.ask(f"""
        SELECT json_build_object('read_only', EXISTS (
            SELECT FROM pg_db_role_setting s
            JOIN pg_roles r ON r.oid = s.setrole
            JOIN pg_database d ON d.oid = s.setdatabase
            WHERE r.rolname = {user} AND d.datname = {name}
                AND 'default_transaction_read_only=on' = ANY (s.setconfig)));
    """)
    if found["read_only"] == read_only:
        return ""
    if not check:
        role = f"{postgres.identifier(database['user'])} IN DATABASE {postgres.identifier(database['name'])}"
        action = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
        # A session keeps what it began with. Django replaces one that was ended between two requests.
        server.run(f"""
            ALTER ROLE {role} {action};
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE usename = {user} AND datname = {name} AND state = 'idle';
        """)
    return f"{'keep' if read_only else 'let'} {database['user']} {'from writing' if read_only else 'write'}"


def set_server(database: dict, read_only: bool, check: bool) -> str:
    """Have nobody write to the server of a database in transactions from now on, or let them, until the host starts
    again. Returns what was done. Raises Refusal.

    It is the server and not the role, so that a copy that takes its place is read only too.
    """
    server = server_of(database)
    if read_text(DATABASE) == SETTING and has_read(server) if read_only else not os.path.exists(DATABASE):
        return ""
    if not check:
        # An empty one is read before it goes: a run that is lost in between finds that there is something to do.
        write_atomically(DATABASE, SETTING.encode() if read_only else b"", 0o644)
        have_read(server, int(read_only))
        if not read_only:
            os.unlink(DATABASE)
    return f"{'keep everybody from writing' if read_only else 'let everybody write'} to PostgreSQL"


def has_read(server: postgres.Server) -> bool:
    """Whether a server has read its settings since they changed; one that does not run reads them when it starts."""
    try:
        written = os.stat(DATABASE).st_mtime
        return server.run(f"SELECT pg_conf_load_time() >= to_timestamp({written});").strip() == "t"
    except postgres.Unreachable:
        return True


def have_read(server: postgres.Server, settings: int) -> None:
    """Have a server read its settings, and wait until new sessions begin with them. Raises Refusal.

    settings: how many of them it has to take from the file.
    """
    taken = f"SELECT count(*) FROM pg_file_settings WHERE applied AND sourcefile = {postgres.literal(DATABASE)};"
    with contextlib.suppress(postgres.Unreachable):
        server.run("SELECT pg_reload_conf();")
        end = time.monotonic() + TAKE_OVER_SECONDS
        while not has_read(server):
            if time.monotonic() > end:
                raise Refusal(f"PostgreSQL has not read {DATABASE} within {TAKE_OVER_SECONDS} s.")
            time.sleep(0.1)
        if server.run(taken).strip() != str(settings):
            raise Refusal(f"PostgreSQL does not read {DATABASE}: apply the whole site first, and its role postgres.")


def renew_pool(pool: dict, read_only: bool, check: bool) -> str:
    """Have a pool replace its connections, those lent once they are given back. Returns what was done. Raises Refusal.

    The stamp says what the connections began with; without one nobody knows, and they are replaced.
    """
    socket = os.path.join(pool["socket_directory"], ".s.PGSQL.5432")
    wanted = b"read only\n" if read_only else b"writable\n"
    try:
        with open(pool["stamp"], "rb") as stream:
            known = stream.read()
    except FileNotFoundError:
        known = b""
    # A pool that does not run has no connections.
    if known == wanted or not os.path.exists(socket):
        return ""
    if not check:
        command = ["setpriv", f"--reuid={pool['user']}", f"--regid={pool['user']}", "--init-groups", "psql"]
        command += ["--no-psqlrc", "--quiet", f"--host={pool['socket_directory']}", "--port=5432"]
        command += ["--username=pgbouncer", "--dbname=pgbouncer", "--command=RECONNECT"]
        code, _output, errors = run(command, timeout=30)
        if code != 0:
            raise Refusal(f"the pool at {socket} did not replace its connections: {errors.strip()}")
        write_atomically(pool["stamp"], wanted, 0o644)
    return f"replace the connections of the pool at {pool['socket_directory']}"


def forget_pool(pool: dict, check: bool) -> str:
    """Have the next call replace the connections of a pool. Returns what was done."""
    if not os.path.exists(pool["stamp"]):
        return ""
    if not check:
        os.unlink(pool["stamp"])
    return f"have the connections of the pool at {pool['socket_directory']} replaced later"


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    mode, passing, database, pool = (module.params[name] for name in ("mode", "passing", "database", "pool"))
    check, read_only = module.check_mode, mode == "read_only"
    # The connections of a pool are as the server is; what a copy in its place made of them nobody knows.
    by_the_server = read_only and passing
    try:
        actions = [set_flag(flag["path"], mode in flag["modes"], check, passing) for flag in module.params["flags"]]
        if database:
            if not by_the_server:
                actions.append(set_database(database, read_only, check))
            actions.append(set_server(database, by_the_server, check))
        if pool:
            actions.append(forget_pool(pool, check) if by_the_server else renew_pool(pool, read_only, check))
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    done = [action for action in actions if action]
    result = {"changed": bool(done), "actions": done}
    if module._diff:
        listed = "".join(f"{action}\n" for action in done)
        result["diff"] = {"before_header": "maintenance", "after_header": "maintenance", "before": "", "after": listed}
    module.exit_json(**result)
