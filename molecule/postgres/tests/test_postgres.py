"""The promises of the role's README, on a real server."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def version(host):
    """Major version of the only cluster."""
    return host.check_output("ls /etc/postgresql").strip()


@pytest.fixture
def converge():
    """Function that applies the role once more with further values, and returns the finished process."""

    def run(**values):
        playbook = Path(__file__).parents[2] / "shared" / "converge.yml"
        inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
        command = ["ansible-playbook", "--inventory", inventory, "--extra-vars", json.dumps(values), playbook]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def sql(host):
    """Function that runs one statement as a user of the system and returns what it prints."""

    def run(statement, user="postgres", database="postgres", check=True):
        as_user = f"setpriv --reuid={user} --regid={user} --init-groups"
        done = host.run(f"{as_user} psql -XAtq -v ON_ERROR_STOP=1 -d {database} -c %s", statement)
        assert done.rc == 0 or not check, done.stderr
        return done.stdout.strip() if check else done

    return run


@pytest.fixture
def site_user(host):
    """The system user of the site, as the role gunicorn_app makes it."""
    host.run("id forge >/dev/null 2>&1 || useradd --system --user-group --shell /usr/sbin/nologin forge")
    return "forge"


def test_the_server_runs_with_the_configuration_on_disk(host, sql, version):
    assert host.service(f"postgresql@{version}-main").is_running
    assert host.service(f"postgresql@{version}-main").is_enabled
    assert sql("SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
    assert sql("SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL") == "0"
    assert sql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == "0"


def test_nobody_can_knock_from_outside(host):
    assert not [socket for socket in host.socket.get_listening_sockets() if socket.endswith(":5432")]
    assert host.file("/var/run/postgresql/.s.PGSQL.5432").is_socket


def test_data_checksums_are_on(sql):
    assert sql("SHOW data_checksums") == "on"


def test_the_server_is_sized_for_its_host(host, sql):
    memory = int(re.search(r"MemTotal:\s+(\d+)", host.file("/proc/meminfo").content_string).group(1)) // 1024
    shared = int(sql("SELECT setting::bigint * 8 / 1024 FROM pg_settings WHERE name = 'shared_buffers'"))
    assert 0.2 * memory - 256 < min(shared, 16384) <= 0.25 * memory + 256
    assert int(sql("SHOW max_connections")) >= 100


def test_further_settings_win(sql):
    assert sql("SHOW deadlock_timeout") == "2s"
    assert sql("SHOW pg_stat_statements.track") == "all"


def test_the_site_enters_its_database_without_a_password(sql, site_user):
    assert sql("SELECT current_user", user=site_user, database="forge") == "forge"
    assert sql("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'forge'") == "t"


def test_the_site_can_create_tables(sql, site_user):
    sql("CREATE TABLE proof (id serial PRIMARY KEY); DROP TABLE proof", user=site_user, database="forge")


def test_the_role_can_log_in_and_nothing_else(sql):
    rights = "rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    assert sql(f"SELECT {rights} FROM pg_roles WHERE rolname = 'forge'") == "t|f|f|f|f|f"


def test_nobody_else_enters_the_database_of_the_site(host, sql):
    host.run("id stranger >/dev/null 2>&1 || useradd --system --user-group stranger")
    sql("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    for database in ("forge", "postgres"):
        refused = sql("SELECT 1", user="stranger", database=database, check=False)
        assert refused.rc == 2 and "no pg_hba.conf entry" in refused.stderr, refused.stderr
    assert sql("SELECT has_database_privilege('stranger', 'forge', 'CONNECT')") == "f"
    sql("DROP ROLE stranger")


def test_the_database_is_utf8_and_its_order_never_changes(sql):
    row = sql("SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = 'forge'")
    assert row == "UTF8|C.UTF-8|C.UTF-8"


def test_extensions_are_there(sql, site_user):
    assert sql("SELECT similarity('groundwork', 'groundworks') > 0.5", user=site_user, database="forge") == "t"


def test_a_forgotten_transaction_ends(sql, site_user):
    assert sql("SHOW idle_in_transaction_session_timeout", user=site_user, database="forge") == "10min"


def test_data_and_rules_are_closed_to_others(host, version):
    data = host.file(f"/var/lib/postgresql/{version}/main")
    assert (data.user, data.mode) == ("postgres", 0o700)
    rules = host.file(f"/etc/postgresql/{version}/main/pg_hba.conf")
    assert (rules.user, rules.group, rules.mode) == ("root", "postgres", 0o640)


def test_a_wrong_line_is_refused_by_the_server_before_a_reload(host, version):
    rules = f"/etc/postgresql/{version}/main/pg_hba.conf"
    assert host.run(f"/usr/local/lib/groundwork/postgres-check {version} 5432").rc == 0
    kept = host.file(rules).content_string
    host.run(f"echo 'local forge forge nonsense' >> {rules}")
    refused = host.run(f"/usr/local/lib/groundwork/postgres-check {version} 5432")
    host.run("printf %s > " + rules, kept)
    assert refused.rc == 1 and "nonsense" in refused.stderr
    assert host.run(f"/usr/local/lib/groundwork/postgres-check {version} 5432").rc == 0


def test_the_log_is_opened_anew_when_logrotate_asks(host, sql, version):
    log = f"/var/log/postgresql/postgresql-{version}-main.log"
    host.run(f"mv {log} {log}.1")
    assert sql("SELECT pg_rotate_logfile()") == "t"
    sql("DO $$ BEGIN RAISE LOG 'after the rotation'; END $$")
    assert host.run(f"timeout 10 sh -c 'until grep -q \"after the rotation\" {log}; do sleep 0.2; done'").rc == 0
    host.run(f"rm {log}.1")


def test_a_server_that_is_killed_comes_back_with_every_row_and_one_that_is_stopped_does_not(
    host, sql, version, wait_until
):
    unit = f"postgresql@{version}-main"
    sql("CREATE TABLE survivor AS SELECT 1 AS n")
    # More often than systemd would start it by itself.
    for _ in range(6):
        process = host.check_output(f"systemctl show -P MainPID {unit}")
        host.check_output(f"kill -KILL {process}")
        wait_until("it is gone", lambda: host.run(f"systemctl is-active --quiet {unit}").rc != 0)
        wait_until("the server is back", lambda: host.run(f"systemctl is-active --quiet {unit}").rc == 0)
    assert sql("SELECT n FROM survivor") == "1"
    sql("DROP TABLE survivor")
    host.check_output(f"systemctl stop {unit}; sleep 3")
    assert host.run(f"systemctl is-active {unit}").stdout.strip() == "inactive"
    host.check_output(f"systemctl start {unit}")


def test_another_version_stops_and_creates_no_empty_cluster(host, version, converge):
    defaults = host.file("/etc/postgresql-common/createcluster.d/groundwork.conf")
    assert defaults.contains("^create_main_cluster = false$")
    other = str(int(version) + 1)
    run = converge(postgres_version=other, postgres_repository_enabled=False)
    assert run.returncode != 0
    assert f"the databases are in cluster {version}/main" in run.stdout
    assert host.check_output("ls /etc/postgresql").strip() == version


def test_a_site_on_another_host_comes_in_with_tls_and_its_password(host, sql, converge, address):
    secret = "correct horse' battery"
    values = {
        "groundwork_database_host": address,
        "groundwork_database_password": secret,
        "postgres_client_networks": [f"{address}/32"],
    }
    first, second = converge(**values), converge(**values)
    assert first.returncode == 0, first.stdout
    assert second.returncode == 0 and "changed=0" in second.stdout, second.stdout
    assert secret not in first.stdout + second.stdout
    assert sql("SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'forge'") == "t"

    def connect(password, mode):
        target = f"host={address} dbname=forge user=forge sslmode={mode}"
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return host.run("PGPASSWORD=%s psql -XAtq -c %s %s", password, query, target)

    assert connect(secret, "require").stdout.strip() == "t"
    assert "no pg_hba.conf entry" in connect(secret, "disable").stderr
    assert "password authentication failed" in connect("guessed", "require").stderr
    assert host.run("grep -r 'battery' /var/log/postgresql /etc/postgresql").rc == 1

    back = converge()
    assert back.returncode == 0, back.stdout
    assert sql("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'forge'") == "t"
    assert not [socket for socket in host.socket.get_listening_sockets() if socket.endswith(":5432")]


def test_a_wrong_setting_is_refused_and_the_server_runs_on(host, sql, converge):
    run = converge(postgres_extra_settings={"wrok_mem": "8MB"})
    assert run.returncode != 0 and "wrok_mem" in run.stdout and "nothing was changed" in run.stdout
    assert sql("SHOW deadlock_timeout") == "2s"
    assert converge().returncode == 0


def test_a_change_that_can_be_reloaded_restarts_nothing(host, sql, converge):
    started = sql("SELECT pg_postmaster_start_time()")
    assert converge(postgres_log_statements_from_milliseconds=750).returncode == 0
    assert sql("SHOW log_min_duration_statement") == "750ms"
    assert converge().returncode == 0
    assert sql("SELECT pg_postmaster_start_time()") == started
