"""The promises of the role's README: the whole site with the reference app, and fewer connections than threads."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNIT = "forge-pgbouncer.service"
DIRECTORY = "/run/forge-pgbouncer"
SOCKET = f"{DIRECTORY}/.s.PGSQL.5432"
POOL_SIZE = 3
INVOCATION = f"systemctl show --property=InvocationID --value {UNIT}"
#: what the threads of the site would do to the database, were the pool not there
TOO_MANY = (
    "2 slots x 2 workers x 8 threads + 0 processes + 10 = 42 connections, but postgres_max_connections_count is 25"
)
OFF = {"groundwork_pgbouncer_enabled": False, "gunicorn_app_threads": 2}
#: applies the role and nothing else
ALONE = ROOT / "molecule" / "shared" / "converge.yml"
#: signs that have a meaning in a URL, in PgBouncer and in a shell
PASSWORD = "p@ss/w:rd?#%+ 'of' a \"scenario\" ; x"
#: what is on another host is reached as this is
ELSEWHERE = {
    "groundwork_database_host": "127.0.0.1",
    "groundwork_database_password": PASSWORD,
    "postgres_client_networks": ["127.0.0.1/32"],
}

#: forty clients at a time; prints how many were answered, by how many connections
CLIENTS = """
import threading
from django.db import connection
answered = []
def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid() FROM pg_sleep(0.05)")
        answered.append(cursor.fetchone()[0])
    connection.close()
threads = [threading.Thread(target=ask) for _ in range(40)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(answered), len(set(answered)))
"""
#: reads rows in pieces while others take the connection that the first piece came from
ITERATOR = """
import threading
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = {disabled}
rows = ContentType.objects.order_by("pk").iterator(chunk_size=2)
read = [next(rows).pk]
begun, end = threading.Barrier(3), threading.Event()
def hold():
    with transaction.atomic():
        ContentType.objects.count()
        begun.wait()
        end.wait()
holders = [threading.Thread(target=hold) for _ in range(2)]
[holder.start() for holder in holders]
begun.wait()
try:
    read += [row.pk for row in rows]
    print("whole" if read == sorted(ContentType.objects.values_list("pk", flat=True)) else "not whole")
except Exception as error:
    print(error)
end.set()
"""
#: asks something through the pool, and prints the answer or the error
ASK = """
from django.db import connection
with connection.cursor() as cursor:
    try:
        cursor.execute({statement!r})
        print(cursor.fetchone()[0] if cursor.description else "done")
    except Exception as error:
        print(error)
"""
#: keeps a connection for a transaction until a file is gone
HOLD = """
import pathlib, time
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("SELECT pg_backend_pid()")
    file = pathlib.Path("/var/lib/forge/held")
    file.write_text(str(cursor.fetchone()[0]))
    while file.exists():
        time.sleep(0.1)
"""


@pytest.fixture
def shell(host):
    """Function that runs Python in the live release, as the site, and returns what it prints."""

    def run(code):
        return host.check_output("forge-manage shell --verbosity 0 --command %s", code)

    return run


@pytest.fixture
def ask(shell):
    """Function that runs a statement as the site does and returns its answer."""
    return lambda statement: shell(ASK.format(statement=statement))


@pytest.fixture
def console(host):
    """Function that gives the console a command and returns its rows."""

    def run(command):
        client = f"psql --no-psqlrc --csv --host={DIRECTORY} --username=pgbouncer --dbname=pgbouncer"
        lines = host.check_output(f"runuser -u forge -- {client} --command=%s", command).splitlines()
        names = lines[0].split(",") if lines else []
        return [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]

    return run


@pytest.fixture
def sessions(host):
    """Function that returns the processes of PostgreSQL that serve the site."""

    def run():
        statement = "SELECT pid FROM pg_stat_activity WHERE usename = 'forge' ORDER BY pid"
        return host.check_output("runuser -u postgres -- psql -XAtc %s", statement).split()

    return run


@pytest.fixture
def asked_all_the_time(get):
    """Context in which a page is asked for all the time; it counts the statuses."""

    @contextmanager
    def asking():
        answers, end = Counter(), threading.Event()

        def visit():
            while not end.wait(0.05):
                try:
                    answers[get("/login/").status] += 1
                except OSError as error:
                    answers[str(error)] += 1

        visitors = [threading.Thread(target=visit) for _ in range(2)]
        for visitor in visitors:
            visitor.start()
        try:
            yield answers
        finally:
            end.set()
            for visitor in visitors:
                visitor.join()

    return asking


def wait_until(host, condition, seconds=15):
    done = host.run(f"timeout {seconds} sh -c %s", f"until {condition}; do sleep 0.1; done")
    assert done.rc == 0, host.check_output(f"systemctl status {UNIT} || true; journalctl -n 30 -u {UNIT}")


def values(**given):
    return ("--extra-vars", json.dumps(given))


def test_the_site_goes_through_the_pool(host, get, console):
    environment = host.file("/srv/forge/live/env").content_string
    assert 'DATABASE_URL="postgresql://%2Frun%2Fforge-pgbouncer/forge"' in environment
    assert 'DATABASE_POOL_MODE="transaction"' in environment
    assert get("/login/").status == 200
    assert get("/readyz").status == 200
    assert "forge" in {client["database"] for client in console("SHOW CLIENTS")}


def test_more_clients_than_connections_wait_for_their_turn(shell, sessions):
    answered, connections = map(int, shell(CLIENTS).split())
    assert answered == 40
    assert 1 < connections <= POOL_SIZE
    assert len(sessions()) <= POOL_SIZE


def test_iterator_reads_all_rows(shell):
    assert shell(ITERATOR.format(disabled=True)) == "whole"
    # What it would be without the setting.
    assert "does not exist" in shell(ITERATOR.format(disabled=False))


def test_a_statement_ends_at_the_timeout(ask):
    assert ask("SHOW statement_timeout") == "2s"
    assert "canceling statement due to statement timeout" in ask("SELECT pg_sleep(10)")


@pytest.mark.parametrize(("user", "reason"), [("www-data", "ermission denied"), ("annex", "ermission denied")])
def test_other_users_do_not_even_reach_the_socket(host, user, reason):
    host.run("id annex || useradd --system annex")
    done = host.run(f"runuser -u {user} -- psql --host={DIRECTORY} --username=forge --dbname=forge -c 'SELECT 1'")
    assert done.rc != 0 and reason in done.stderr
    for path, mode in ((DIRECTORY, 0o700), (SOCKET, 0o700)):
        found = host.file(path)
        assert (found.user, found.group, found.mode) == ("forge", "forge", mode)


@pytest.mark.parametrize(
    ("client", "login"), [("root", "forge"), ("forge", "postgres"), ("forge", "annex"), ("root", "pgbouncer")]
)
def test_who_comes_is_asked_of_the_kernel(host, client, login):
    done = host.run(f"runuser -u {client} -- psql --host={DIRECTORY} --username={login} --dbname=forge -c 'SELECT 1'")
    assert done.rc != 0
    assert "FATAL" in done.stderr, done.stderr


def test_nobody_can_knock_from_outside(host):
    assert host.file(SOCKET).is_socket
    listening = host.check_output("ss --tcp --listening --numeric --processes --no-header")
    assert "pgbouncer" not in listening


def test_what_a_lent_connection_would_forget_is_refused(host):
    done = host.run(f"runuser -u forge -- env PGOPTIONS='-c search_path=other' psql -h {DIRECTORY} forge -c 'SELECT 1'")
    assert done.rc != 0
    assert "unsupported startup parameter" in done.stderr


def test_migrations_and_copies_do_not_need_the_pool(host):
    host.check_output(f"systemctl stop {UNIT}")
    try:
        host.check_output("forge-manage migrate")
        host.check_output("forge-manage backup_database /var/lib/forge/past-the-pool.dump")
    finally:
        host.check_output(f"rm -f /var/lib/forge/past-the-pool.dump; systemctl start {UNIT}")


def test_killed_it_comes_back_by_itself(host, get):
    for _ in range(6):
        host.check_output(f"systemctl kill --signal=KILL {UNIT}")
        time.sleep(0.3)
        wait_until(host, f"systemctl is-active --quiet {UNIT} && test -S {SOCKET}")
    for _ in range(20):
        assert get("/login/").status == 200
    assert get("/readyz").status == 200


def test_it_finds_a_database_that_was_restarted(host, get):
    before = host.check_output(INVOCATION)
    host.check_output("systemctl restart 'postgresql@*'")
    for _ in range(20):
        assert get("/login/").status == 200
    assert host.check_output(INVOCATION) == before


def test_a_change_of_sizes_is_a_reload_that_no_client_notices(host, play, console, ask, asked_all_the_time):
    before = host.check_output(INVOCATION)
    changed = values(pgbouncer_pool_size=4, pgbouncer_statement_timeout_seconds=3)
    with asked_all_the_time() as answers:
        assert play(*changed).changed == 1
    assert set(answers) == {200}, answers
    config = {row["key"]: row["value"] for row in console("SHOW CONFIG")}
    assert config["default_pool_size"] == "4"
    assert ask("SHOW statement_timeout") == "3s"
    assert play().changed == 1
    assert ask("SHOW statement_timeout") == "2s"
    assert host.check_output(INVOCATION) == before


def test_a_configuration_that_it_would_refuse_is_never_loaded(host, play, get):
    before = host.check_output(f"{INVOCATION}; cat /etc/groundwork/pgbouncer/forge.ini")
    with pytest.raises(AssertionError, match=r"unknown parameter:? .*no_such_setting"):
        play(*values(pgbouncer_extra_settings={"no_such_setting": 1}))
    assert host.check_output(f"{INVOCATION}; cat /etc/groundwork/pgbouncer/forge.ini") == before
    assert get("/login/").status == 200
    assert play().changed == 0


def test_read_only_reaches_a_connection_that_is_lent(host, play, ask, get, sessions):
    def bring_about(mode):
        return play(*values(groundwork_maintenance=mode), playbook=ROOT / "playbooks" / "maintenance.yml").changed

    before = host.check_output(INVOCATION)
    host.run("rm -f /var/lib/forge/held")
    host.check_output("systemd-run --unit=forge-hold --collect forge-manage shell --verbosity 0 --command %s", HOLD)
    try:
        wait_until(host, "test -s /var/lib/forge/held", 30)
        lent = host.check_output("cat /var/lib/forge/held")
        assert bring_about("read_only") > 0
        assert lent in sessions(), "a transaction that was under way was ended"
        host.check_output("rm /var/lib/forge/held")
        wait_until(host, "! systemctl is-active --quiet forge-hold", 30)
        for _ in range(2 * POOL_SIZE):
            assert "read-only transaction" in ask("CREATE TABLE written_in_maintenance ()")
        assert lent not in sessions()
        assert get("/login/").status == 200
        assert bring_about("read_only") == 0
    finally:
        host.run("rm -f /var/lib/forge/held")
        assert bring_about("off") > 0
    for _ in range(2 * POOL_SIZE):
        assert ask("CREATE TABLE written_after_maintenance ()") == "done"
        assert ask("DROP TABLE written_after_maintenance") == "done"
    assert bring_about("off") == 0
    assert host.check_output(INVOCATION) == before


def test_a_database_elsewhere_is_reached_by_tls_with_a_password_that_is_shown_nowhere(host, play, console, get):
    run = play("-vvv", "--diff", *values(**ELSEWHERE))
    assert PASSWORD not in run.output and json.dumps(PASSWORD)[1:-1] not in run.output
    assert get("/login/").status == 200
    assert get("/readyz").status == 200
    servers = console("SHOW SERVERS")
    assert servers and all(server["addr"] == "127.0.0.1" and server["tls"].startswith("TLSv1") for server in servers)
    assert (
        'DATABASE_URL="postgresql://%2Frun%2Fforge-pgbouncer/forge"' in host.file("/srv/forge/live/env").content_string
    )
    users = host.file("/etc/groundwork/pgbouncer/forge-users.txt")
    assert (users.user, users.group, users.mode) == ("root", "root", 0o600)
    assert host.run("grep -rF -e %s /etc/systemd /etc/ansible /run/forge-pgbouncer /var/log", PASSWORD).rc == 1
    host.check_output("forge-manage migrate")
    assert play(*values(**ELSEWHERE)).changed == 0
    assert play().changed > 0
    assert get("/readyz").status == 200
    assert {server["addr"] for server in console("SHOW SERVERS")} == {"unix"}


def test_the_role_by_itself_does_the_same(host, play, get):
    assert play(playbook=ALONE).changed == 0
    assert play(*values(groundwork_pgbouncer_enabled=False), playbook=ALONE).changed == 1
    assert host.run(f"systemctl is-active {UNIT}").rc != 0
    assert play(playbook=ALONE).changed == 1
    assert get("/readyz").status == 200


def test_the_instance_of_the_package_is_off(host):
    assert not host.service("pgbouncer").is_running
    assert not host.service("pgbouncer").is_enabled


def test_an_instance_that_somebody_uses_is_left_alone(host, play):
    host.check_output("systemctl enable --now pgbouncer")
    try:
        assert play(playbook=ALONE).changed == 0
        assert host.service("pgbouncer").is_running and host.service("pgbouncer").is_enabled
    finally:
        host.check_output("systemctl disable --now pgbouncer")


def test_without_the_pool_the_threads_would_be_too_many(play):
    with pytest.raises(AssertionError) as failure:
        play(*values(groundwork_pgbouncer_enabled=False))
    assert TOO_MANY in " ".join(str(failure.value).split())


def test_switched_off_it_is_gone_and_switched_on_it_is_back_while_the_site_serves(
    host, play, get, ask, sessions, asked_all_the_time
):
    assert play("--check", *values(**OFF)).changed > 0
    assert host.service(UNIT).is_running
    # The live release needs it until there is another one.
    play("--tags", "pool,config", *values(**OFF))
    assert host.service(UNIT).is_running
    with asked_all_the_time() as answers:
        assert play(*values(**OFF)).changed > 0
    assert set(answers) == {200}, answers
    assert host.run(f"systemctl is-active {UNIT}").rc != 0
    left = "find /etc /run /usr/local -name '*forge*pgbouncer*' -o -path '*groundwork/pgbouncer/*'"
    assert host.check_output(left) == ""
    assert "DATABASE_POOL_MODE" not in host.file("/srv/forge/live/env").content_string
    assert ask("SHOW statement_timeout") == "30s"
    assert play(*values(**OFF)).changed == 0
    with asked_all_the_time() as answers:
        assert play().changed > 0
    assert set(answers) == {200}, answers
    assert get("/readyz").status == 200
    assert ask("SHOW statement_timeout") == "2s"
    assert len(sessions()) <= POOL_SIZE
