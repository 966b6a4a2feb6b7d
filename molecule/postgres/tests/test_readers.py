"""A role that reads all of the site's database and nothing else, as the backups need it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

AS_SITE = "setpriv --reuid=forge --regid=forge --init-groups"
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups"
PSQL = "psql -XAtq -v ON_ERROR_STOP=1"

# What a site may have, and a plain role would not read: rows that are hidden from everybody, and a schema of its own.
CONTENTS = """
CREATE EXTENSION IF NOT EXISTS citext;
SET ROLE forge;
CREATE SCHEMA private;
CREATE TABLE private.visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, page citext NOT NULL);
INSERT INTO private.visits (page) SELECT 'page ' || n FROM generate_series(1, 500) n;
CREATE INDEX visits_page ON private.visits USING gin ((page::text) public.gin_trgm_ops);
CREATE TABLE notes (id serial PRIMARY KEY, author name NOT NULL, secret text NOT NULL);
INSERT INTO notes (author, secret) VALUES ('ada', 'sentinel-of-ada'), ('bob', 'sentinel-of-bob');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (author = current_user);
CREATE VIEW pages AS SELECT page FROM private.visits;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS visits FROM private.visits;
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
CREATE PUBLICATION of_visits FOR TABLE private.visits;
ALTER DEFAULT PRIVILEGES IN SCHEMA private GRANT SELECT ON TABLES TO pg_monitor;
COMMENT ON TABLE notes IS 'nobody sees them all';
SELECT lo_from_bytea(424242, 'a large object');
"""
REMOVAL = """
SET ROLE forge;
DROP SCHEMA IF EXISTS private CASCADE;
DROP TABLE IF EXISTS notes;
DROP FUNCTION IF EXISTS twice(integer);
DROP PUBLICATION IF EXISTS of_visits;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata;
RESET ROLE;
"""


def converge(**values):
    """Apply the role once more with further values, and return what it said."""
    playbook = Path(__file__).parents[2] / "shared" / "converge.yml"
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    command = ["ansible-playbook", "--inventory", inventory, "--extra-vars", json.dumps(values), playbook]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def sql(host):
    """Function that runs statements as the superuser and returns what they print."""

    def run(statements, database="forge"):
        return host.check_output(f"{AS_POSTGRES} {PSQL} -d {database} -c %s", statements)

    return run


@pytest.fixture
def read(host):
    """Function that runs statements as the reader and returns the finished command."""

    def run(statements, database="forge", become=""):
        return host.run(f"{become} {PSQL} -U forge_backup -d {database} -c %s", statements)

    return run


@pytest.fixture
def contents(host, sql):
    """A database that has of everything."""
    host.run("id forge >/dev/null 2>&1 || useradd --system --user-group --shell /usr/sbin/nologin forge")
    # A run that was ended may have left it.
    sql(REMOVAL + CONTENTS)
    yield
    sql(REMOVAL)


def test_it_has_no_right_but_to_read(sql):
    rights = "rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit"
    assert sql(f"SELECT {rights}, rolpassword IS NULL FROM pg_authid WHERE rolname = 'forge_backup'") == (
        "t|f|f|f|f|t|3|t"
    )
    member = "SELECT roleid::regrole FROM pg_auth_members WHERE member = 'forge_backup'::regrole"
    assert sql(member) == "pg_read_all_data"
    assert sql("SELECT count(*) FROM pg_shdepend WHERE refobjid = 'forge_backup'::regrole AND deptype = 'o'") == "0"


def test_only_root_comes_in_as_it_and_as_nobody_else(host, read):
    assert read("SELECT current_user").stdout.strip() == "forge_backup"
    host.run("id forge >/dev/null 2>&1 || useradd --system --user-group --shell /usr/sbin/nologin forge")
    host.run("id stranger >/dev/null 2>&1 || useradd --system --user-group stranger")
    for user in ("forge", "postgres", "stranger"):
        refused = read("SELECT 1", become=f"setpriv --reuid={user} --regid={user} --init-groups")
        assert refused.rc == 2 and "Peer authentication failed" in refused.stderr, refused.stderr
    for role in ("forge", "postgres"):
        refused = host.run(f"{PSQL} -U {role} -d forge -c 'SELECT 1'")
        assert refused.rc == 2 and "Peer authentication failed" in refused.stderr, refused.stderr


def test_it_comes_into_no_other_database(read, sql):
    sql("CREATE DATABASE annex TEMPLATE template0", "postgres")
    sql("REVOKE ALL ON DATABASE annex FROM PUBLIC", "postgres")
    try:
        for database in ("annex", "postgres", "template1"):
            refused = read("SELECT 1", database=database)
            assert refused.rc == 2 and "no pg_hba.conf entry" in refused.stderr, refused.stderr
        assert sql("SELECT has_database_privilege('forge_backup', 'annex', 'CONNECT')") == "f"
    finally:
        sql("DROP DATABASE annex", "postgres")


def test_it_reads_everything(read, contents):
    assert read("SELECT count(*) FROM private.visits").stdout.strip() == "500"
    assert read("SELECT secret FROM notes ORDER BY id").stdout.split() == ["sentinel-of-ada", "sentinel-of-bob"]
    assert read("SELECT last_value FROM notes_id_seq").stdout.strip() == "2"
    assert read("SELECT convert_from(lo_get(424242), 'UTF8')").stdout.strip() == "a large object"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO notes (author, secret) VALUES ('eve', '')",
        "UPDATE notes SET secret = ''",
        "DELETE FROM private.visits",
        "TRUNCATE private.visits",
        "SELECT nextval('notes_id_seq')",
        "DROP VIEW pages",
        "REFRESH MATERIALIZED VIEW counted",
        "CREATE TABLE mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "SET ROLE forge",
        "SET ROLE postgres",
        "ALTER ROLE forge_backup SUPERUSER",
        "COPY notes TO PROGRAM 'cat'",
        "COPY notes TO '/tmp/notes'",
        "SELECT pg_read_file('/etc/passwd')",
        "UPDATE pg_authid SET rolpassword = NULL",
        "ALTER SYSTEM SET work_mem = '8MB'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'postgres'",
    ],
)
def test_it_changes_nothing_even_where_it_says_that_it_wants_to(host, sql, contents, statement):
    # The site's own role has a session at the time, and so has the superuser.
    host.check_output(f"{AS_POSTGRES} setsid -f {PSQL} -d forge -c 'SELECT pg_sleep(2)' > /dev/null 2>&1; sleep 0.2")
    command = f"{PSQL} -U forge_backup -d forge -c 'SET default_transaction_read_only = off' -c %s"
    refused = host.run(command, statement)
    assert refused.rc != 0, refused.stdout
    assert "permission denied" in refused.stderr or "must be" in refused.stderr, refused.stderr


def test_its_transactions_only_read_unless_they_say_otherwise(read, contents):
    refused = read("CREATE TABLE mine ()")
    assert refused.rc != 0 and "read-only transaction" in refused.stderr


def test_a_dump_that_it_makes_is_that_of_the_superuser(host, contents):
    host.check_output("pg_dump --username=forge_backup --format=custom --file=/root/reader.dump forge")
    host.check_output(f"{AS_POSTGRES} pg_dump --format=custom forge > /root/superuser.dump")
    texts = []
    for name in ("reader", "superuser"):
        text = host.check_output(f"pg_restore --create --file=- /root/{name}.dump")
        # A word at random that protects psql.
        texts.append([line for line in text.splitlines() if not line.startswith(("\\restrict ", "\\unrestrict "))])
    assert texts[0] == texts[1]
    for words in ("sentinel-of-ada", "page 500", "lo_create('424242')", "CREATE POLICY own", "CREATE PUBLICATION"):
        assert any(words in line for line in texts[0]), words


def test_a_host_without_it_gets_it_in_one_run(host, sql, read):
    converge(postgres_role_readers=[])
    refused = read("SELECT 1")
    assert refused.rc == 2 and "no pg_hba.conf entry" in refused.stderr
    sql("REVOKE CONNECT ON DATABASE forge FROM forge_backup; DROP ROLE forge_backup")
    assert "changed=0" not in converge()
    assert read("SELECT current_user").stdout.strip() == "forge_backup"
    assert "changed=0" in converge()


def test_only_the_owner_creates_in_schema_public(host, sql):
    # As version 14 has it, and every database that came from it.
    sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    sql("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    assert sql("SELECT has_schema_privilege('stranger', 'public', 'CREATE')") == "t"
    converge()
    assert sql("SELECT has_schema_privilege('stranger', 'public', 'CREATE')") == "f"
    assert sql("SELECT has_schema_privilege('forge', 'public', 'CREATE')") == "t"
    sql("DROP ROLE stranger")
    assert "changed=0" in converge()


def test_a_wrong_user_is_refused_by_the_server_before_a_reload(host):
    version = host.check_output("ls /etc/postgresql").strip()
    users = f"/etc/postgresql/{version}/main/pg_ident.conf"
    file = host.file(users)
    assert (file.user, file.group, file.mode) == ("root", "postgres", 0o640)
    kept = file.content_string
    host.run(f"echo 'forge_backup root' >> {users}")
    refused = host.run(f"/usr/local/lib/groundwork/postgres-check {version} 5432")
    host.run("printf %s > " + users, kept)
    assert refused.rc == 1 and "pg_ident.conf is wrong, line" in refused.stderr
    assert host.run(f"/usr/local/lib/groundwork/postgres-check {version} 5432").rc == 0
