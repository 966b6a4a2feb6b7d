"""The care for the databases, on a real server with a table that has lost nine of ten rows."""

import time

import pytest

PROGRAM = "/usr/local/lib/groundwork/database_care.py"
PLACE = "/var/lib/groundwork/database_care"
UNITS = "groundwork-database"
METRICS = "/var/lib/prometheus/node-exporter/groundwork_database"
LOST = """
CREATE TABLE parts (id int PRIMARY KEY, name text);
INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 100000) AS i;
CREATE INDEX parts_name ON parts (name);
CREATE INDEX parts_unused ON parts (name, id);
DELETE FROM parts WHERE id % 10 <> 0;
"""


@pytest.fixture
def sql(host):
    """Function that runs statements in the database of the site and returns what they print."""

    def run(statements, user="postgres"):
        as_user = f"setpriv --reuid={user} --regid={user} --init-groups"
        return host.check_output(f"{as_user} psql -XAtq -v ON_ERROR_STOP=1 -d forge -c %s", statements).strip()

    return run


@pytest.fixture
def start(host):
    """Function that runs a command of the care as its timer does, and returns what it said."""

    def run(command, works=True):
        host.run(f"systemctl reset-failed {UNITS}-{command}")
        done = host.run(f"systemctl start {UNITS}-{command}")
        host.run("journalctl --sync")
        said = host.check_output(f"journalctl --unit={UNITS}-{command} --output=cat -n 15")
        assert (done.rc == 0) == works, said
        return said

    return run


@pytest.fixture
def transaction(host, sql):
    """Function that opens a transaction of the site with a snapshot, and one that ends it."""

    def begin():
        host.run("systemctl reset-failed holder")
        statements = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(60)"
        as_site = "setpriv --reuid=forge --regid=forge --init-groups"
        host.check_output(f"systemd-run --quiet --unit=holder {as_site} psql -Xq -d forge -c '{statements}'")

    def end():
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'forge'")
        host.run("systemctl stop holder; systemctl reset-failed holder")

    yield begin, end
    end()


@pytest.fixture
def bloated(host, sql):
    """A table of the site that nobody has cleaned up."""
    host.run("id forge >/dev/null 2>&1 || useradd --system --user-group --shell /usr/sbin/nologin forge")
    sql("DROP TABLE IF EXISTS parts", user="forge")
    # Autovacuum would be faster than the test.
    sql(LOST.replace("name text)", "name text) WITH (autovacuum_enabled = false)"), user="forge")
    sql("SELECT pg_stat_force_next_flush()") if sql("SHOW server_version_num") >= "150000" else time.sleep(1)
    yield
    sql("DROP TABLE parts", user="forge")


def test_the_timers_run_and_the_care_is_not_due_at_once(host):
    for command in ("vacuum", "reindex", "report"):
        assert host.service(f"{UNITS}-{command}.timer").is_running
        assert host.service(f"{UNITS}-{command}.timer").is_enabled
        assert not host.service(f"{UNITS}-{command}.service").is_running


def test_the_units_are_what_systemd_calls_safe(host):
    for command in ("vacuum", "report"):
        check = host.run(f"systemd-analyze security --no-pager --threshold=25 {UNITS}-{command}.service")
        assert check.rc == 0, check.stdout


def test_a_bloated_table_is_cleaned_up_and_its_indexes_are_smaller_afterwards(host, sql, start, bloated):
    assert "forge public.parts (90000 of" in start("vacuum")
    assert sql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'parts'") == "0"
    assert "parts" not in start("vacuum").splitlines()[-2]

    before = int(sql("SELECT pg_relation_size('parts_name')"))
    assert "forge public.parts_name (" in start("reindex")
    assert int(sql("SELECT pg_relation_size('parts_name')")) < before / 5
    found = sql(
        "SET enable_seqscan = off; DROP INDEX parts_unused; EXPLAIN SELECT id FROM parts WHERE name = 'part 770'"
    )
    assert "parts_name" in found
    assert sql("SET enable_seqscan = off; SELECT id FROM parts WHERE name = 'part 770'") == "770"
    assert "public.parts" not in start("reindex").split("Starting")[-1]


def test_what_an_interrupted_rebuild_has_left_is_removed_and_other_invalid_indexes_are_told(host, sql, start, bloated):
    sql("CREATE INDEX parts_name_ccnew ON parts (name); CREATE INDEX parts_failed ON parts (name)", user="forge")
    invalid = "('parts_name_ccnew'::regclass, 'parts_failed'::regclass)"
    sql(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid IN {invalid}")
    assert "parts_name_ccnew (an interrupted rebuild, dropped)" in start("reindex")
    assert sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'parts%cc%'") == "0"
    start("report")
    report = host.file(f"{PLACE}/report.txt").content_string
    assert "public.parts_failed" in report.partition("Invalid indexes")[2].partition("dead rows")[0]
    assert 'invalid_indexes{database="forge"} 1\n' in host.file(f"{METRICS}_report.prom").content_string


def test_an_index_is_left_while_a_transaction_would_hold_up_its_rebuild(host, start, bloated, transaction):
    begin, end = transaction
    start("vacuum")
    begin()
    host.run("sleep 6")
    assert "parts_name (a transaction is open for" in start("reindex")
    end()
    assert "forge public.parts_name (" in start("reindex")


def test_a_migration_does_not_wait_for_the_care(host, sql, start, bloated, transaction):
    begin, end = transaction
    start("vacuum")
    # A snapshot that is younger than the care's patience holds the rebuild up, and a migration would wait for it.
    begin()
    host.check_output(f"systemctl start --no-block {UNITS}-reindex")
    running = "SELECT count(*) FROM pg_locks WHERE relation = 'parts'::regclass AND mode = 'ShareUpdateExclusiveLock'"
    deadline = time.monotonic() + 10
    while sql(running) == "0" and time.monotonic() < deadline:
        time.sleep(0.1)
    began = time.monotonic()
    sql("ALTER TABLE parts ADD COLUMN note text", user="forge")
    waited = time.monotonic() - began
    end()
    host.run(f"timeout 60 sh -c 'while systemctl is-active {UNITS}-reindex | grep -q activating; do sleep 0.2; done'")
    host.run("journalctl --sync")
    assert "(somebody waited for" in host.check_output(f"journalctl --unit={UNITS}-reindex --output=cat -n 15")
    assert waited < 4
    assert sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'parts%cc%'") == "0"


def test_the_report_names_what_is_unused_and_what_is_slow_but_no_value(host, sql, start, bloated):
    sql("SELECT count(*) FROM parts WHERE name <> 'a secret name' /* asked by ada */", user="forge")
    said = start("report")
    report = host.file(f"{PLACE}/report.txt")
    assert (report.user, report.mode) == ("root", 0o600)
    assert f"{PLACE}/report.txt tells about" in said
    unused = report.content_string.partition("Unused indexes")[2].partition("dead rows")[0]
    assert "public.parts_unused on public.parts" in unused and "parts_pkey on" not in unused
    assert "SELECT count(*) FROM parts WHERE name <> $1" in report.content_string
    assert "a secret name" not in report.content_string and "ada" not in report.content_string
    metrics = host.file(f"{METRICS}_report.prom")
    assert metrics.mode == 0o644 and 'groundwork_database_size_bytes{database="forge"}' in metrics.content_string


def test_a_second_run_at_once_ends_with_status_75(host):
    host.check_output(f"mkdir -p {PLACE} && systemd-run --quiet --unit=first flock {PLACE}/.lock sleep 30")
    host.run(f"timeout 10 sh -c 'while flock --nonblock {PLACE}/.lock true; do sleep 0.1; done'")
    second = host.run(f"{PROGRAM} reindex")
    host.run("systemctl stop first")
    assert second.rc == 75 and "Another run is at work" in second.stderr
    assert host.run(f"{PROGRAM} reindex").rc == 0


def test_a_failure_is_one_sentence(host):
    host.check_output("systemctl stop 'postgresql@*'")
    failed = host.run(f"{PROGRAM} vacuum")
    host.check_output("systemctl start postgresql@$(ls /etc/postgresql)-main")
    assert failed.rc == 1 and failed.stderr.count("\n") == 1 and "Traceback" not in failed.stderr


def test_the_timers_stop_where_they_are_not_wanted(host, play):
    play("--extra-vars", '{"postgres_care_enabled": false}')
    assert not host.service(f"{UNITS}-vacuum.timer").is_running
    assert not host.service(f"{UNITS}-vacuum.timer").is_enabled
    play()
    assert host.service(f"{UNITS}-vacuum.timer").is_running
