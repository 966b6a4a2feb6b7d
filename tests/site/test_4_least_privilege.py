"""What somebody can do who has got hold of the site's processes: nothing but what the site needs."""

from __future__ import annotations

import json
import shlex

import pytest

# Runs each piece of code of a JSON object, and prints what became of it: "done", or the error.
TRY = """
import json
found = {}
for what, code in json.loads(CODES).items():
    try:
        exec(code, {})
        found[what] = "done"
    except Exception as error:
        found[what] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""

WRITES = {
    "a file of its code": "open('/srv/forge/live/project/manage.py', 'a')",
    "a new file beside its code": "open('/srv/forge/live/project/more.py', 'w')",
    "its virtualenv": "open('/srv/forge/live/venv/more.py', 'w')",
    "its environment": "open('/srv/forge/live/env', 'a')",
    "its static files": "open('/srv/forge/static/more.js', 'w')",
    "which release is live": "import os; os.symlink('/tmp', '/srv/forge/slots/red')",
    "a unit of systemd": "open('/etc/systemd/system/more.service', 'w')",
    "a job of cron": "open('/etc/cron.d/more', 'w')",
}
READS = {
    "the environment of another site": "open('/srv/annex/live/env').read()",
    "the code of another site": "import os; os.listdir('/srv/annex/live/project')",
    "the media of another site": "import os; os.listdir('/var/lib/annex/media')",
    "the socket of another site": "import socket; socket.socket(socket.AF_UNIX).connect('/srv/annex/live.sock')",
    "the backups": "import os; os.listdir('/var/backups/groundwork/forge')",
    "the settings of the backups": "import os; [open(e).read() for e in os.scandir('/etc/groundwork/backups')]",
    "the key of its certificate": "open('/etc/nginx/tls/forge/current/privkey.pem').read()",
    "the passwords of the host": "open('/etc/shadow').read()",
    "the files of PostgreSQL": "import os; os.listdir('/var/lib/postgresql/17/main')",
}
# By peer authentication and by a password that it does not know, over the socket and over TCP.
CONNECTS = {
    f"{role} to {base} {way}": f"import psycopg2; psycopg2.connect('dbname={base} user={role} {options}')"
    for role, base in (("postgres", "postgres"), ("annex", "annex"), ("annex", "forge"))
    for way, options in (
        ("over the socket", "host=/run/postgresql"),
        ("over TCP", "host=127.0.0.1 password=guessed connect_timeout=5"),
    )
} | {"forge to annex": "import psycopg2; psycopg2.connect('dbname=annex user=forge host=/run/postgresql')"}
LISTENS = {
    f"{family} {address} {port}": f"import socket; s = socket.socket(socket.{family}); s.bind(({address!r}, {port}))"
    for family, address in (("AF_INET", "0.0.0.0"), ("AF_INET", "127.0.0.1"), ("AF_INET6", "::"))
    for port in (0, 8099)
}
STEPS_UP = {
    "sudo": "import subprocess; subprocess.run(['sudo', '-n', 'true'], check=True, capture_output=True)",
    "another user": "import os; os.setuid(33)",
    "a namespace": "import os; os.unshare(os.CLONE_NEWUSER)",
    "another process": "import os; os.kill(1, 0)",
    "a table of cron": "import subprocess as s; s.run(['crontab', '-'], input=b'', check=True, capture_output=True)",
}


@pytest.fixture(scope="module")
def hosted(converged):
    """A host with two sites."""
    converged.play("annex")
    return converged


def tried(machine, codes: dict[str, str], by: str) -> dict[str, str]:
    """What becomes of each piece of code when the site's user runs it, by the site's own command or as bare user."""
    script = f"CODES = {json.dumps(json.dumps(codes))}\n{TRY}"
    commands = {
        "sandbox": f"forge-manage shell -c {shlex.quote(script)}",
        "user": f"cd / && runuser -u forge -- /srv/forge/live/venv/bin/python -c {shlex.quote(script)}",
    }
    return json.loads(machine.shell(commands[by]).splitlines()[-1])


@pytest.mark.parametrize("by", ["sandbox", "user"])
@pytest.mark.parametrize("codes", [WRITES, READS, CONNECTS], ids=["writes", "reads", "connects"])
def test_the_site_cannot(hosted, codes, by):
    found = tried(hosted, codes, by)
    assert len(found) == len(codes)
    assert [what for what, answer in found.items() if answer == "done"] == []
    # Refused, and not missing: what is not there would prove nothing.
    assert [f"{what}: {answer}" for what, answer in found.items() if "NotFound" in answer] == []


def test_the_site_cannot_listen_to_the_network_or_get_more_rights(hosted):
    for codes in (LISTENS, STEPS_UP):
        found = tried(hosted, codes, "sandbox")
        assert [what for what, answer in found.items() if answer == "done"] == [], found


# Functions that a server's own tools would call by a name without a schema, and find first.
TRAP = """
CREATE TABLE caught (by text);
CREATE FUNCTION trap(what text) RETURNS text LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.caught VALUES (current_user || what); RETURN what; END';
CREATE FUNCTION format(text, name, name) RETURNS text LANGUAGE sql AS 'SELECT public.trap($1)';
CREATE FUNCTION has_schema_privilege(oid, text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap($2) = $2';
CREATE FUNCTION to_regnamespace(unknown text) RETURNS regnamespace LANGUAGE sql AS
  'SELECT public.trap($1)::pg_catalog.regnamespace';
ALTER DATABASE forge SET search_path = public, pg_catalog;
"""
GONE = """
ALTER DATABASE forge RESET search_path;
DROP FUNCTION format(text, name, name), has_schema_privilege(oid, text, text), to_regnamespace(text), trap(text);
DROP TABLE caught;
"""


def test_the_superuser_runs_no_function_of_the_site(hosted):
    def ask(sql: str) -> str:
        command = ["runuser", "-u", "forge", "--", "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", "forge", "-c", sql]
        return hosted.shell(f"cd / && {shlex.join(command)}").strip()

    ask(TRAP)
    try:
        assert ask("SELECT format('a', 'b'::name, 'c'::name)") == "a"
        assert ask("SELECT by FROM caught") == "forgea", "the trap works"
        ask("DELETE FROM caught")
        hosted.play("forge")
        for unit in ("forge-backup", "groundwork-backup-full", "groundwork-drill", "groundwork-database-report"):
            hosted.shell(f"! systemctl cat {unit}.service >/dev/null 2>&1 || systemctl start {unit}.service")
        assert ask("SELECT by FROM caught") == ""
    finally:
        ask(GONE)


def test_the_site_can_do_what_it_needs(hosted):
    """The same ways of asking say yes where yes is right, so that a no above means no."""
    needed = {
        "media": "open('/var/lib/forge/media/proof', 'w'); import os; os.remove('/var/lib/forge/media/proof')",
        "code": "open('/srv/forge/live/project/manage.py').read()",
        "database": "import psycopg2; psycopg2.connect('dbname=forge user=forge host=/run/postgresql')",
    }
    for by in ("sandbox", "user"):
        assert set(tried(hosted, needed, by).values()) == {"done"}


def test_the_running_site_has_no_shell_and_no_capability(hosted):
    assert hosted.shell("getent passwd forge").strip().endswith("/nologin")
    pids = hosted.shell("pgrep -u forge -f gunicorn").split()
    assert pids
    for pid in pids:
        status = hosted.shell(f"cat /proc/{pid}/status")
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert f"{kind}:\t{'0' * 16}" in status
        assert "NoNewPrivs:\t1" in status


def test_the_web_server_sees_a_host_that_it_cannot_change(hosted):
    [pid] = hosted.shell("cat /run/nginx.pid").split()
    assert "NoNewPrivs:\t1" in hosted.shell(f"cat /proc/{pid}/status")
    for path in ("/etc/nginx/more.conf", "/usr/local/bin/more", "/root/more"):
        tried = hosted.shell(f"nsenter --target {pid} --mount touch {path} 2>&1 || true")
        assert "Read-only file system" in tried, tried


def test_the_database_role_is_nothing_but_the_owner_of_its_database(hosted):
    sql = (
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,"
        " (SELECT count(*) FROM pg_auth_members WHERE member = r.oid)"
        " FROM pg_roles r WHERE rolname IN ('forge', 'annex')"
    )
    rows = hosted.shell(f'runuser -u postgres -- psql -Atc "{sql}"').split()
    assert rows == ["f|f|f|f|f|0"] * 2
