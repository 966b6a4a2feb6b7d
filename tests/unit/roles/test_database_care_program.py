"""The program that cares for the databases: what needs care, what is left alone, and what its report may show."""

import json
import re
import subprocess

import pytest

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def program(load):
    """The program, as a module."""
    return load("postgres", "database_care")


@pytest.fixture
def settings(program, tmp_path):
    """Settings as the role has them by default."""
    return program.Settings(5432, 60, 5, 10, 150_000_000, 30, 50, 16, tmp_path)


@pytest.fixture
def directory(program, tmp_path, monkeypatch):
    """The program's directory, in a place of the test."""
    monkeypatch.setattr(program, "DIRECTORY", tmp_path / "care")
    (tmp_path / "care").mkdir()
    return tmp_path / "care"


class Server:
    """Stands for the server: one database with these tables and indexes. `did` keeps the statements."""

    def __init__(self, program, settings, tables=(), indexes=(), leaves=None, fails=None):
        self.program, self.settings = program, settings
        self.tables, self.indexes = list(tables), list(indexes)
        self.leaves, self.fails = leaves or {}, fails or {}
        self.standby, self.oldest, self.did = False, 0, []

    def ask(self, sql, database="postgres"):
        program = self.program
        if sql == program.OLDEST_TRANSACTION:
            return self.oldest
        if "pg_is_in_recovery" in sql:
            return self.standby
        if "pgstattuple" in sql:
            return None
        known = {program.DATABASES: [{"name": "forge", "bytes": 5, "age": 1, "multixact_age": 1}]}
        return {**known, program.TABLES: self.tables, program.INDEXES: self.indexes}[sql]

    def do_or_leave(self, sql, database, what):
        if what in self.fails:
            raise self.program.Refused(self.fails[what])
        if what not in self.leaves:
            self.did.append(sql)
            self.indexes = [
                {**index, "bytes": MEGABYTE, "is_rebuilt": True} if sql == REBUILD + index["name"] else index
                for index in self.indexes
                if sql != DROP + index["name"]
            ]
        return self.leaves.get(what, "")


REBUILD, DROP = "REINDEX INDEX CONCURRENTLY ", "DROP INDEX CONCURRENTLY "


def table(name="public.parts", **values):
    common = {"of_server": False, "pages": 9, "live": 1000, "dead": 0, "modified": 0, "analyzed_seconds": 60}
    return {"name": name, **common, "age": 5, "multixact_age": 5, "has_primary_key": True, **values}


def index(name="public.parts_name", **values):
    common = {
        "bare_name": name.partition(".")[2],
        "table": "public.parts",
        "is_btree": True,
        "is_valid": True,
        "is_constraint": False,
        "scans": 3,
        "bytes": 100 * MEGABYTE,
        "rows": 100_000,
        "fillfactor": 90,
        "modified": 0,
        "is_analyzed": True,
        "is_at_work": False,
        "place": "/",
        "value_bytes": 8,
    }
    return {"name": name, **common, **values}


@pytest.mark.parametrize(
    ("values", "statement"),
    [
        ({}, None),
        ({"live": 9000, "dead": 999}, None),
        ({"live": 9000, "dead": 1000}, "VACUUM (ANALYZE, "),
        ({"live": 10_000, "dead": 1000}, None),
        ({"live": 0, "dead": 1000, "of_server": True}, "VACUUM (ANALYZE, "),
        ({"age": 149_999_999}, None),
        ({"age": 150_000_000, "dead": 5000}, "VACUUM (FREEZE, "),
        ({"multixact_age": 150_000_000, "of_server": True}, "VACUUM (FREEZE, "),
        ({"analyzed_seconds": None}, "ANALYZE"),
        ({"analyzed_seconds": None, "pages": 0}, None),
        ({"analyzed_seconds": None, "pages": 0, "modified": 1}, "ANALYZE"),
        ({"analyzed_seconds": None, "of_server": True}, None),
        ({"analyzed_seconds": 31 * 86400}, None),
        ({"analyzed_seconds": 31 * 86400, "modified": 1}, "ANALYZE"),
        ({"analyzed_seconds": 29 * 86400, "modified": 1}, None),
    ],
)
def test_a_table_is_cleaned_up_only_where_it_needs_it(program, settings, values, statement):
    needed = program.vacuum_statement(table(**values), settings)
    assert (needed is None) == (statement is None)
    assert not needed or needed[0].startswith(statement)


def test_no_vacuum_shortens_a_file_which_would_need_a_lock_against_readers(program, settings):
    for values in ({"dead": 5000}, {"age": 2_000_000_000}):
        assert "TRUNCATE false" in program.vacuum_statement(table(**values), settings)[0]


def test_old_transactions_come_first_then_the_most_dead_rows(program, settings):
    tables = [table("a", dead=2000), table("b", dead=9000), table("c", age=160_000_000), table("d")]
    server = Server(program, settings, tables)
    told, values = program.command_vacuum(server)
    assert [sql.split()[-1] for sql in server.did] == ["c", "b", "a"]
    assert told.startswith("3 cleaned up: forge c (old transactions), ")
    assert values == {"groundwork_database_care_left": 0}


def test_what_is_locked_is_left_and_what_fails_is_told_after_all_others_are_done(program, settings):
    tables = [table(name, dead=5000) for name in ("a", "b", "c")]
    server = Server(program, settings, tables, leaves={"a": "a is locked"}, fails={"b": "b in forge: it is broken."})
    with pytest.raises(program.Failure, match=r"b in forge: it is broken\. 1 cleaned up.* 1 left .*a \(a is locked\)"):
        program.command_vacuum(server)
    assert [sql.split()[-1] for sql in server.did] == ["c"]


def test_nothing_is_begun_when_the_time_is_over(program, tmp_path):
    settings = program.Settings(5432, -1, 5, 10, 150_000_000, 30, 50, 16, tmp_path)
    server = Server(program, settings, [table(dead=5000)])
    told, values = program.command_vacuum(server)
    assert server.did == [] and "public.parts (the time is over)" in told
    assert values == {"groundwork_database_care_left": 1}


@pytest.mark.parametrize("command", ["vacuum", "reindex"])
def test_a_standby_is_left_to_its_primary(program, settings, directory, command):
    server = Server(program, settings, [table(dead=5000)], [index()])
    server.standby = True
    assert program.COMMANDS[command](server)[0].startswith("This server follows another one")
    assert server.did == []


@pytest.mark.parametrize(
    ("rows", "value_bytes", "megabytes"),
    [
        # As PostgreSQL 15 builds them: integers, and random texts of 20 bytes.
        (1_000_000, 4, 21.4),
        (1_000_000, 21, 38.6),
    ],
)
def test_the_size_of_a_full_index_is_estimated_to_some_percent(program, rows, value_bytes, megabytes):
    assert program.full_size(rows, value_bytes, 90) / MEGABYTE == pytest.approx(megabytes, rel=0.05)


@pytest.mark.parametrize(
    "values",
    [{"is_analyzed": False}, {"rows": -1}, {"modified": 30_000}, {"value_bytes": None}],
)
def test_nothing_is_estimated_from_statistics_that_are_missing_or_old(program, values):
    assert program.estimated_bloat(index(**values), None) is None


def test_what_an_earlier_rebuild_came_to_is_worth_more_than_the_estimate(program):
    found = index(rows=100_000, bytes=10 * MEGABYTE)
    assert program.estimated_bloat(found, None) > 0.7
    assert program.estimated_bloat(found, 10 * MEGABYTE / 100_000) == 0
    assert program.estimated_bloat({**found, "bytes": 40 * MEGABYTE}, 10 * MEGABYTE / 100_000) == pytest.approx(
        0.75, abs=0.01
    )


def test_bloated_indexes_are_rebuilt_the_most_wasteful_first_and_then_known(program, settings, directory):
    indexes = [
        index("public.small", bytes=15 * MEGABYTE),
        index("public.medium", bytes=50 * MEGABYTE),
        index("public.large"),
        index("public.dense", rows=4_000_000),
        index("public.gin", is_btree=False),
        index("public.invalid", is_valid=False),
    ]
    server = Server(program, settings, indexes=indexes)
    told, _values = program.command_reindex(server)
    assert server.did == [f"{REBUILD}public.large", f"{REBUILD}public.medium"]
    assert "forge public.large (100.0 MB, now 1.0 MB)" in told
    known = json.loads((directory / "rebuilt.json").read_text())
    assert known == dict.fromkeys(("forge public.large", "forge public.medium"), MEGABYTE / 100_000)


def test_only_what_an_interrupted_rebuild_has_left_is_dropped(program, settings, directory):
    indexes = [
        index("public.parts_name_ccnew", is_valid=False),
        index("public.parts_name_ccnew2", is_valid=False),
        index("public.parts_name_ccold", is_valid=False),
        index("public.busy_ccnew", is_valid=False, is_at_work=True),
        index("public.valid_ccnew", rows=4_000_000),
        index("public.unfinished", is_valid=False),
    ]
    server = Server(program, settings, indexes=indexes)
    program.command_reindex(server)
    assert server.did == [f"{DROP}public.parts_name_cc{end}" for end in ("new", "new2", "old")]


@pytest.mark.parametrize(
    ("oldest", "place", "why"),
    [(6, "/", "a transaction is open for 6 s"), (0, "/nowhere", "the space in /nowhere is not known")],
)
def test_an_index_is_left_where_its_rebuild_would_get_stuck(program, settings, directory, oldest, place, why):
    server = Server(program, settings, indexes=[index(place=place)])
    server.oldest = oldest
    told, values = program.command_reindex(server)
    assert server.did == [] and why in told and values == {"groundwork_database_care_left": 1}


def test_an_index_is_left_where_there_is_no_room_for_a_second_one(program, settings, directory, monkeypatch):
    monkeypatch.setattr(program.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 600 * MEGABYTE}))
    server = Server(program, settings, indexes=[index(), index("public.other", bytes=50 * MEGABYTE)])
    told, _values = program.command_reindex(server)
    assert server.did == [f"{REBUILD}public.other"] and "600 MB are free" in told


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT * FROM a\n WHERE id = $1", "SELECT * FROM a WHERE id = $1"),
        ("SELECT 'secret', E'it\\'s', \"Name\", 42, 1.5e3, col2", 'SELECT ?, ?, "Name", ?, ?, col2'),
        ("SELECT $$secret$$, $tag$ secret $$ $tag$, $12", "SELECT ?, ?, $12"),
        ("SELECT 1 /* user=ada */ -- secret\n, 2", "SELECT ? , ?"),
        ("SELECT 'never ends", "SELECT ?"),
        ("SELECT 1 /* never ends", "SELECT ?"),
        ('SELECT "a ""quoted"" \'name\'"', 'SELECT "a ""quoted"" \'name\'"'),
    ],
)
def test_the_report_shows_no_value_of_a_query(program, query, shown):
    assert program.without_values(query) == shown


def test_a_long_query_is_cut(program):
    assert len(program.without_values("SELECT " + "a, " * 1000)) < 310


def test_statements_that_may_hold_secrets_are_not_shown_at_all(program):
    def statement(query):
        return {"database": "forge", "calls": 1, "total": 1.0, "mean": 1.0, "query": query}

    hidden = ["ALTER ROLE a PASSWORD 'secret'", "COPY a FROM 'file'", "SET a = 'secret'", "DO $$ secret $$"]
    seen = [
        "/* c */ (select 1)",
        "WITH a AS (SELECT 1) SELECT",
        "INSERT INTO a",
        "update a",
        "DELETE FROM a",
        "MERGE a",
    ]
    found = program.slowest([statement(query) for query in hidden + seen])
    assert len(found) == len(seen) and "secret" not in str(found)


def test_a_report_names_what_is_unused_and_what_has_no_primary_key(program, settings, directory):
    indexes = [
        index("public.unused", scans=0, bytes=3 * MEGABYTE),
        index("public.unused_unique", scans=0, is_constraint=True),
        index("public.invalid", scans=0, is_valid=False),
    ]
    server = Server(program, settings, [table(), table("public.bare", has_primary_key=False, dead=2000)], indexes)
    answers = server.ask
    server.ask = lambda sql, database="postgres": "2026-01-01 00:00" if sql == program.COUNTED_SINCE else answers(sql)
    database = {"name": 'a"b', "bytes": 5, "age": 40_000_000, "multixact_age": 1}
    lines, values = program.database_lines(server, database, program.Rebuilt(directory / "none.json"))
    text = "\n".join(lines)
    assert "counted since 2026-01-01 00:00 UTC" in text and "3.0 MB  public.unused on public.parts" in text
    assert "unused_unique on" not in text and "without a primary key:\n  public.bare" in text
    assert "40000000, 2 % of the limit" in text and "2000 of 3000  public.bare" in text
    assert values['groundwork_database_unused_index_bytes{database="a\\"b"}'] == 3 * MEGABYTE
    assert values['groundwork_database_invalid_indexes{database="a\\"b"}'] == 1


def test_every_metric_is_explained_once(program):
    text = program.metrics_text(
        {'groundwork_database_size_bytes{database="a"}': 1, 'groundwork_database_size_bytes{database="b"}': 2**40}
    )
    assert text.count("# HELP") == text.count("# TYPE") == 1
    assert 'groundwork_database_size_bytes{database="b"} 1099511627776\n' in text


def test_a_second_run_at_once_is_refused_and_a_report_is_not_held_up(program, directory):
    with program.locked("vacuum"):
        with pytest.raises(program.Busy) as refusal, program.locked("reindex"):
            pass
        assert refusal.value.status == 75
        with program.locked("report"):
            pass


def test_settings_that_are_not_complete_are_one_sentence(program, tmp_path):
    path = tmp_path / "care.conf"
    path.write_text("[care]\nport = 5432\n")
    with pytest.raises(program.Failure, match="cannot be read: 'minutes'"):
        program.Settings.load(str(path))


def test_what_the_server_says_becomes_a_sentence_or_a_reason(program, settings):
    server = program.Server(settings)
    process = type("Process", (), {"returncode": 1})

    def refusal(errors):
        with pytest.raises(program.Refused) as refused:
            server._end(process, b"", errors, "forge")
        return str(refused.value), refused.value.state

    sentence, state = refusal(b"ERROR:  55P03: canceling statement due to lock timeout\nLOCATION:  ProcessInterrupts\n")
    assert state == "55P03" and sentence.endswith("in forge: canceling statement due to lock timeout.")
    assert refusal(b"psql: error: no server\n")[0] == "PostgreSQL refused a statement in forge: psql: error: no server."


def test_the_statement_of_an_ended_run_is_ended_at_the_server(program, settings, monkeypatch):
    server, asked = program.Server(settings), []
    process = subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    monkeypatch.setattr(server, "_start", lambda sql, database: process)

    def ask(sql, database="postgres"):
        asked.append(sql)
        if "EXISTS" in sql:
            program.interrupted(15, None)
        process.kill()

    monkeypatch.setattr(server, "ask", ask)
    monkeypatch.setattr(program, "WATCH_SECONDS", 0.05)
    with pytest.raises(program.Failure, match="ended by SIGTERM"):
        server.do("VACUUM parts", "forge")
    assert [bool(re.search("pg_blocking_pids", sql)) for sql in asked] == [True, False]
