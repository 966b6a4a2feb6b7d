"""The program of the role backups: what counts, what expires, and what a failure leaves behind."""

import dataclasses
import json

import pytest

DAY = 86400
NOW = 1_800_000_000


@pytest.fixture(scope="module")
def program(load):
    """The program, as a module."""
    return load("backups", "backup")


@pytest.fixture
def settings(program, tmp_path):
    """Settings of a site whose backups are in a directory of the test."""
    return program.Settings("forge", tmp_path, "forge", "forge_backup", 5432, (), 14, 2, 0)


@pytest.fixture
def tools(program, monkeypatch):
    """Stand-ins for the programs of PostgreSQL: `commands` keeps what was run, `broken` names the one that fails.

    `hidden` names a catalog that has something for the superuser only.
    """

    class Tools:
        broken = ""
        hidden = "nothing"
        listing = "; a comment\n215; 0 16400 TABLE DATA public parts forge\n"

        def run(self, command, what, good=(0,), **streams):
            line = " ".join(command)
            self.commands.append(line)
            if self.broken and self.broken in line:
                raise program.Failure(f"{what} failed: it is broken.")
            if "pg_dump" in line or "--create" in line:
                streams["stdout"].write(b"PGDMP and much more")
            if "--list" in line and "pg_restore" in line:
                return self.listing
            if "count(*)" in line:
                return f"{int(self.hidden in line)}\n"
            return "1000\n" if "pg_database_size" in line else ""

    tools = Tools()
    tools.commands = []
    monkeypatch.setattr(program, "run", tools.run)
    return tools


def place(directory, name, created, size=10, real_size=None):
    """Put a backup into a directory; with `real_size`, its dump is not as long as its manifest says."""
    (directory / f"{name}.dump").write_bytes(b"x" * (size if real_size is None else real_size))
    files = [{"name": f"{name}.dump", "bytes": size, "sha256": ""}]
    (directory / f"{name}.json").write_text(json.dumps({"name": name, "created_seconds": created, "files": files}))


def backups_of_ages(program, *days):
    return [program.Backup(f"forge_{number}", NOW - age * DAY, ()) for number, age in enumerate(days)]


@pytest.mark.parametrize(
    ("ages", "days", "minimum", "gone"),
    [
        ([0, 1, 13, 15, 40], 14, 1, [15, 40]),
        ([0, 1, 13, 15, 40], 14, 4, [40]),
        ([20, 30, 40], 14, 3, []),
        ([20, 30, 40], 14, 0, [30, 40]),
        ([0, 0, 0], 0, 1, []),
        ([0, 1, 2], 0, 1, [1, 2]),
        # The clock was set back: what seems to come from the future is kept.
        ([-30, -1, 0], 14, 1, []),
        ([], 14, 3, []),
    ],
)
def test_expired(program, ages, days, minimum, gone):
    backups = backups_of_ages(program, *ages)
    expired = program.expired(backups, NOW, days, minimum)
    assert [round((NOW - backup.created) / DAY) for backup in expired] == gone


def test_only_whole_backups_count_newest_first(program, settings, tmp_path):
    place(tmp_path, "forge_20260101_000000", 1)
    place(tmp_path, "forge_20260103_000000", 3)
    place(tmp_path, "forge_20260102_000000", 2)
    place(tmp_path, "forge_20260104_000000", 4, real_size=9)
    place(tmp_path, "forge_20260105_000000", 5, size=0)
    (tmp_path / "forge_20260106_000000.dump").write_bytes(b"no manifest")
    (tmp_path / "forge_20260107_000000.json").write_text("{")
    place(tmp_path, "other_20260108_000000", 8)
    names = [backup.name for backup in program.complete_backups(settings)]
    assert names == ["forge_20260103_000000", "forge_20260102_000000", "forge_20260101_000000"]


def test_a_site_does_not_take_the_backups_of_another_for_its_own(program, settings, tmp_path):
    place(tmp_path, "forge_two_20260101_000000", 1)
    assert program.complete_backups(settings) == []


def test_a_run_makes_a_backup_and_removes_what_has_expired(program, settings, tools, tmp_path):
    for number in range(1, 5):
        place(tmp_path, f"forge_2020010{number}_000000", number)
    message = program.command_run(settings)
    names = [backup.name for backup in program.complete_backups(settings)]
    assert len(names) == 2 and names[1] == "forge_20200104_000000"
    assert "3 removed, 2 kept" in message
    assert not (tmp_path / ".partial").exists()


@pytest.mark.parametrize("broken", ["pg_dump", "pg_restore --list", "--file=/dev/null"])
def test_a_failure_removes_nothing_and_leaves_nothing(program, settings, tools, tmp_path, broken):
    for number in range(1, 5):
        place(tmp_path, f"forge_2020010{number}_000000", number)
    before = sorted(path.name for path in tmp_path.iterdir())
    tools.broken = broken
    with pytest.raises(program.Failure, match=r"failed.*it is broken\. The last good one is forge_20200104_000000\."):
        program.command_run(settings)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == before


def test_the_dump_is_made_by_its_own_role_as_the_user_that_runs_it(program, settings, tools):
    program.command_run(settings)
    clients = [command for command in tools.commands if command.startswith(("psql", "pg_dump"))]
    assert len(clients) == 5 and all("--username=forge_backup" in command for command in clients)
    assert not any("setpriv" in command for command in tools.commands)


def test_settings_of_before_there_was_a_role_for_it_mean_the_superuser(program, tools, tmp_path):
    path = tmp_path / "forge.conf"
    lines = ["site = forge", f"directory = {tmp_path}", "database = forge", "port = 5432", "file_directories ="]
    lines += ["retention_days = 14", "minimum_count = 2", "reserve_megabytes = 0"]
    path.write_text("\n".join(["[backup]", *lines]))
    program.command_run(program.Settings.load(str(path)))
    clients = [command for command in tools.commands if "pg_" in command or "psql" in command]
    assert all(command.startswith("setpriv --reuid=postgres ") for command in clients)
    path.write_text("\n".join(["[backup]", "user = forge_backup", *lines]))
    assert program.Settings.load(str(path)).user == "forge_backup"


@pytest.mark.parametrize(
    ("catalog", "what"), [("pg_subscription", "a subscription"), ("pg_user_mappings", "a user mapping")]
)
def test_what_only_the_superuser_can_dump_is_a_failure_and_never_left_out(program, settings, tools, catalog, what):
    tools.hidden = catalog
    with pytest.raises(program.Failure, match=rf'has {what}.*set backups_database_role to "postgres"\. There is no'):
        program.command_run(settings)
    assert program.complete_backups(settings) == []
    program.command_run(dataclasses.replace(settings, user="postgres"))
    assert len(program.complete_backups(settings)) == 1


def test_a_dump_without_tables_does_not_count(program, settings, tools, tmp_path):
    tools.listing = "; TABLE DATA in a comment\n"
    with pytest.raises(program.Failure, match="holds no table"):
        program.command_run(settings)
    assert program.complete_backups(settings) == []


def test_an_interruption_is_a_failure_that_leaves_nothing(program, settings, tools, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "verify_dump", lambda settings, path: program.interrupted(15, None))
    with pytest.raises(program.Failure, match="ended by SIGTERM"):
        program.command_run(settings)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_too_little_space_stops_before_anything_is_written(program, settings, tools, tmp_path):
    crowded = program.Settings("forge", tmp_path, "forge", "forge_backup", 5432, (), 14, 2, 10**9)
    with pytest.raises(program.Failure, match="too little space"):
        program.command_run(crowded)
    assert not any("pg_dump" in command for command in tools.commands)


def test_two_runs_at_once(program, settings, tools):
    with program.locked(settings), pytest.raises(program.Busy, match="at work"):
        program.command_run(settings)


def test_missing_directories_of_files_are_named(program, tools, tmp_path):
    settings = program.Settings("forge", tmp_path, "forge", "forge_backup", 5432, ("/nowhere/media",), 14, 2, 0)
    with pytest.raises(program.Failure, match="/nowhere/media, which is to be backed up, does not exist"):
        program.command_run(settings)


def test_files_of_a_backup_without_manifest_are_removed_by_the_next(program, settings, tools, tmp_path):
    (tmp_path / "forge_20260101_000000.dump").write_bytes(b"left by a killed run")
    (tmp_path / "notes.txt").write_text("of the operator")
    program.command_run(settings)
    assert not (tmp_path / "forge_20260101_000000.dump").exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_changed_backup_is_found_by_its_checksum(program, settings, tools, tmp_path):
    program.command_run(settings)
    name = program.complete_backups(settings)[0].name
    assert program.command_verify(settings, None) == f"{name} is whole."
    (tmp_path / f"{name}.dump").write_bytes(b"PGDMP and much mure")
    with pytest.raises(program.Failure, match="checksum differs"):
        program.command_verify(settings, name)


def test_settings_are_read(program, tmp_path):
    path = tmp_path / "forge.conf"
    path.write_text(
        "# managed\n[backup]\nsite = forge\ndirectory = /b\ndatabase = forge\nport = 5433\n"
        "file_directories = /m /n\nretention_days = 7\nminimum_count = 0\nreserve_megabytes = 1\n"
    )
    settings = program.Settings.load(str(path))
    assert settings.port == 5433 and settings.file_directories == ("/m", "/n") and settings.minimum_count == 1
    path.write_text("[backup]\nsite = forge\n")
    with pytest.raises(program.Failure, match="cannot be read"):
        program.Settings.load(str(path))
    with pytest.raises(program.Failure, match="cannot be read"):
        program.Settings.load(str(tmp_path / "none.conf"))
