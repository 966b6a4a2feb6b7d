"""The program that backs up the cluster: what it makes of what pgBackRest says, and what it then does or leaves."""

import json

import pytest

INI = """[global]
repo1-type=posix
repo1-path={repository}
repo1-cipher-pass=a-passphrase-that-nobody-sees
repo2-type=sftp
repo2-path=/forge
repo2-sftp-host=backup.example.org
[main]
pg1-port=5433
"""
OWN = "[physical]\nstanza = main\nreserve_megabytes = 0\nlate_seconds = 900\nmetrics_directory = {metrics}\n"


@pytest.fixture(scope="module")
def program(load):
    """The program, as a module."""
    return load("backups", "physical_backup")


@pytest.fixture
def settings(program, tmp_path):
    """Settings of two repositories, of which the first is a directory of the test."""
    (tmp_path / "own.conf").write_text(OWN.format(metrics=tmp_path))
    (tmp_path / "pgbackrest.conf").write_text(INI.format(repository=tmp_path))
    return program.Settings.load(str(tmp_path / "own.conf"), str(tmp_path / "pgbackrest.conf"))


def listed(*labels: str) -> str:
    """What `pgbackrest info` says of these backups of the first repository."""
    backups = [
        {
            "label": label,
            "type": {"F": "full", "D": "diff"}[label[-1]],
            "database": {"repo-key": 1, "id": 1},
            "timestamp": {"start": 1_800_000_000 + number * 1000, "stop": 1_800_000_100 + number * 1000},
            "info": {"repository": {"delta": 1000}},
            "archive": {
                "start": f"00000001000000000000000{2 * number + 1}",
                "stop": f"00000001000000000000000{2 * number + 1}",
            },
        }
        for number, label in enumerate(labels)
    ]
    return json.dumps([{"backup": backups, "repo": [{"status": {"code": 0 if labels else 2, "message": "none"}}]}])


@pytest.fixture
def tool(program, monkeypatch):
    """A stand-in for pgBackRest: `labels` are its finished backups, `answers` what single commands say."""

    class Tool:
        labels = ("20270101-010000F",)
        made = "20270108-010000F"
        present = ("000000010000000000000001", "000000010000000000000002", "000000010000000000000003")

        def __init__(self):
            self.commands = []
            self.answers = {}

        def __call__(self, _settings, command, *options, data_directory=""):
            self.commands.append(" ".join((command, *options)))
            verb = command.split()[0]
            if verb in self.answers:
                return program.Done(*self.answers[verb])
            if verb == "info":
                return program.Done(0, listed(*self.labels), "")
            if verb == "backup":
                self.labels = (*self.labels, self.made)
            if verb == "repo-get":
                return program.Done(0, "[backrest]\n", "")
            if verb == "repo-ls":
                return program.Done(
                    0, "".join(f"main/15-1/0000000100000000/{name}-{'a' * 40}.zst\n" for name in self.present), ""
                )
            return program.Done(0, "", "")

        @property
        def verbs(self):
            return [command.split()[0] for command in self.commands]

    tool = Tool()
    monkeypatch.setattr(program, "pgbackrest", tool)
    monkeypatch.setattr(program.Server, "ask", lambda _server, sql: "16777216")
    monkeypatch.setattr(program, "can_verify", lambda: True)
    return tool


def test_settings_name_the_repositories_by_their_places(settings, tmp_path):
    assert [item.place for item in settings.repositories] == [str(tmp_path), "sftp://backup.example.org/forge"]
    assert settings.port == 5433


def test_settings_that_cannot_be_read_show_no_secret(program, tmp_path):
    (tmp_path / "bad.conf").write_text("repo1-cipher-pass=a-passphrase-that-nobody-sees\n")
    with pytest.raises(program.Failure) as caught:
        program.Settings.load(str(tmp_path / "bad.conf"), str(tmp_path / "bad.conf"))
    assert "nobody" not in str(caught.value) and caught.value.__cause__ is None


def test_a_full_backup_is_followed_by_reading_back_and_only_then_by_expiring(program, settings, tool):
    told = program.back_up(settings, settings.repositories[0], "full", "/data")
    order = [verb for verb in tool.verbs if verb in ("backup", "verify", "expire")]
    assert order == ["backup", "verify", "expire"]
    assert "--no-expire-auto" in next(command for command in tool.commands if command.startswith("backup"))
    assert "20270108-010000F" in told and "read back" in told


def test_a_differential_backup_removes_nothing(program, settings, tool):
    tool.made = "20270101-010000F_20270102-010000D"
    program.back_up(settings, settings.repositories[0], "differential", "/data")
    assert "expire" not in tool.verbs and "verify" not in tool.verbs


def test_what_cannot_verify_says_nothing_of_reading_back(program, settings, tool, monkeypatch):
    monkeypatch.setattr(program, "can_verify", lambda: False)
    told = program.back_up(settings, settings.repositories[0], "full", "/data")
    assert "verify" not in tool.verbs and "read back" not in told and "expire" in tool.verbs


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"backup": (64, "", "ERROR: [064]: unable to write\n")}, "failed: unable to write. The last good one is 2027"),
        ({"backup": (0, "", "")}, "lists no new backup"),
        (
            {"verify": (0, "stanza: main\nstatus: error\n  backup: X, status: invalid, total files checked: 3\n", "")},
            "damaged",
        ),
    ],
    ids=["failed", "empty", "damaged"],
)
def test_a_backup_that_is_not_good_removes_nothing(program, settings, tool, monkeypatch, answers, sentence):
    monkeypatch.setattr(program, "has_run_since", lambda _server, _moment: True)
    tool.answers = answers
    with pytest.raises(program.Failure, match=sentence):
        program.back_up(settings, settings.repositories[0], "full", "/data")
    assert "expire" not in tool.verbs


def test_a_server_that_went_away_is_named_as_the_cause(program, settings, tool, monkeypatch):
    monkeypatch.setattr(program, "has_run_since", lambda _server, _moment: False)
    tool.answers = {"backup": (102, "", "ERROR: [102]: NULL result required to complete request\n")}
    with pytest.raises(program.Failure, match=r"failed: PostgreSQL was stopped or killed meanwhile \(NULL result"):
        program.back_up(settings, settings.repositories[0], "full", "/data")


def test_another_run_at_work_is_not_a_failure_of_the_backup(program, settings, tool):
    tool.answers = {"backup": (50, "", "ERROR: [050]: unable to acquire lock\n")}
    with pytest.raises(program.Busy) as caught:
        program.back_up(settings, settings.repositories[0], "full", "/data")
    assert caught.value.status == 75


def test_no_room_is_foreseen(program, settings, tool, monkeypatch):
    monkeypatch.setattr(program, "free_megabytes", lambda _repository: 0)
    with pytest.raises(program.Failure, match=r"too little space in .* The last good one is 20270101-010000F"):
        program.back_up(settings, settings.repositories[0], "full", "/data")
    assert "backup" not in tool.verbs


def test_a_part_of_the_log_that_is_missing_is_told(program, settings, tool):
    tool.present = (tool.present[0], tool.present[2])
    missing = "000000010000000000000002"
    with pytest.raises(program.Failure, match=rf"is good, but .* from {missing} to {missing}: no moment"):
        program.back_up(settings, settings.repositories[0], "full", "/data")


def test_another_passphrase_is_told_whether_pgbackrest_notices_it_or_not(program, settings, tool):
    for answer in ((95, "", "ERROR: [095]: unable to flush\n"), (0, "Salted__", "")):
        tool.answers = {"repo-get": answer}
        with pytest.raises(program.Failure, match="encrypted with another passphrase"):
            program.command_validate(settings)


def test_a_certificate_that_is_not_trusted_is_not_taken_for_another_passphrase(program, settings, tool):
    tool.answers = {"repo-get": (95, "", "ERROR: [095]: unable to verify certificate presented by 's3:443'\n")}
    with pytest.raises(program.Failure, match="cannot be read: unable to verify certificate"):
        program.command_validate(settings)


def test_a_repository_out_of_reach_is_told_by_its_place(program, settings, tool):
    tool.answers = {"repo-get": (49, "", "ERROR: [049]: unable to connect\n")}
    with pytest.raises(program.Failure, match="cannot be read: unable to connect"):
        program.command_validate(settings)


@pytest.fixture
def server(program, tool, monkeypatch):
    """A stand-in for the server and systemd: what they were asked, in one list with the commands of pgBackRest."""
    answers = {
        "SHOW data_directory": "/data",
        "SHOW archive_mode": "on",
        "SHOW archive_command": "pgbackrest --stanza=main ",
    }

    def ask(_server, sql):
        tool.commands.append(sql)
        return answers.get(sql, "t")

    monkeypatch.setattr(program.Server, "ask", ask)
    monkeypatch.setattr(program, "run", lambda command, what: tool.commands.append(" ".join(command)))
    return answers


def test_the_rows_are_noted_with_the_backups_and_forgotten_with_them(program, settings, server, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "COUNTS", tmp_path)
    counts = iter(({"forge.public.parts": 7, "forge.public.gone": 1}, {"forge.public.parts": 5}))
    monkeypatch.setattr(program.Server, "count_rows", lambda _server: next(counts))
    monkeypatch.setattr(program, "send_log", lambda _server: True)
    places = [item.place for item in settings.repositories]
    for name, noted in (("old", {places[0]: "expired"}), ("away", {places[1]: "somewhere"})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"restore_point": name, "backups": noted, "rows": {}}))
    # What a power cut has left of a note.
    (tmp_path / "broken.json").write_text("")
    copy = program.Copy("20270101-010000F", "full", 1, 0, 0, 0, "", "", 0, "0/0")
    program.note_counts(settings, {places[0]: [copy]})

    assert not (tmp_path / "old.json").exists() and (tmp_path / "away.json").exists()
    assert not (tmp_path / "broken.json").exists()
    [path] = tmp_path.glob("groundwork-rows-*.json")
    noted = json.loads(path.read_text())
    # Others write meanwhile: a table has as many rows as before, as after, or something between.
    assert noted["rows"] == {"forge.public.parts": [5, 7]}
    assert noted["backups"] == {places[0]: "20270101-010000F"} and noted["restore_point"] == path.stem


def test_the_repositories_are_made_before_the_server_hands_its_log_over(program, settings, tool, server):
    tool.answers = {"repo-get": (55, "", "ERROR: [055]: unable to open missing file\n")}
    tool.labels = ()
    told = program.command_prepare(settings)
    order = [command for command in tool.commands if not command.startswith(("repo-get", "info", "SHOW"))]
    start = "systemctl start --no-block groundwork-backup-full.service"
    assert order == ["stanza-create", "SELECT pg_reload_conf()", "check", start]
    assert told.endswith("the first full backup has been started.")


def test_a_repository_with_a_backup_is_left_as_it_is(program, settings, tool, server, monkeypatch):
    monkeypatch.setattr(program, "copies", lambda _settings, repository: [repository])
    assert program.command_prepare(settings).startswith("PostgreSQL's log reaches ")
    assert "stanza-create" not in tool.verbs and "systemctl" not in tool.verbs


def test_an_upgrade_is_told_with_the_command_that_follows_it(program, settings, tool, server):
    tool.answers = {
        "check": (28, "", "ERROR: [028]: version does not match\nHINT: has a stanza-upgrade been performed?\n")
    }
    with pytest.raises(program.Failure, match=r"version does not match\. If .* --pg1-path=/data stanza-upgrade"):
        program.command_prepare(settings)


def test_the_log_of_another_cluster_is_not_missed(program, settings, tool):
    tool.present = ()
    repository = settings.repositories[0]
    before = program.Copy("a", "full", 1, 0, 0, 0, "0" * 24, "0" * 24, 0, "0/0")
    after = program.Copy("b", "full", 2, 0, 0, 0, "0" * 23 + "5", "0" * 23 + "5", 0, "0/0")
    assert program.missing_log(settings, repository, before, after) == ""


def test_segments_are_counted_over_the_end_of_a_number(program):
    names = list(program.segments_between("0000000200000004000000FE", "000000020000000500000001", 16 << 20))
    assert names == [
        f"00000002{name}" for name in ("00000004000000FE", "00000004000000FF", "0000000500000000", "0000000500000001")
    ]
    assert list(program.segments_between(names[0], f"00000003{names[1][8:]}", 16 << 20)) == []


def test_gaps_are_told_by_their_ends(program):
    assert program.gaps(list("abcdefg"), set("abeg")) == [("c", "d"), ("f", "f")]
    assert program.gaps(list("abc"), set("abc")) == []


LOG = {"waiting_segments": 1, "lag_seconds": 2.5, "failures_total": 3, "last_timestamp_seconds": 1_800_000_000}


def test_metrics_are_written_in_one_step_and_can_be_read_by_all(program, settings, tool, tmp_path):
    repository = settings.repositories[0]
    program.write_metrics(settings, LOG, {repository.place: program.copies(settings, repository)})
    text = (tmp_path / "groundwork_backups.prom").read_text()
    place = f'{{kind="full",repository="{tmp_path}"}}'
    assert f"groundwork_backup_last_success_timestamp_seconds{place} 1800000100\n" in text
    assert "# TYPE groundwork_backup_archive_failures_total counter\n" in text
    assert "groundwork_backup_archive_lag_seconds 2.5\n" in text
    assert text.count("# TYPE groundwork_backup_size_bytes") == 1
    assert (tmp_path / "groundwork_backups.prom").stat().st_mode & 0o777 == 0o644


def test_the_metrics_of_a_repository_that_is_away_stand_still(program, settings, tool, tmp_path):
    near, far = settings.repositories
    program.write_metrics(settings, LOG, {item.place: program.copies(settings, near) for item in (near, far)})
    before = (tmp_path / "groundwork_backups.prom").read_text()
    program.write_metrics(settings, LOG, {near.place: program.copies(settings, near)})
    assert (tmp_path / "groundwork_backups.prom").read_text() == before
    assert far.place in before


def test_a_log_that_waits_for_long_is_a_failure_and_a_metric(program, settings, tool, tmp_path, monkeypatch):
    log = {**LOG, "waiting_segments": 7, "lag_seconds": 1800}
    monkeypatch.setattr(program, "log_state", lambda _settings: log)
    with pytest.raises(program.Failure, match="7 parts of it wait, the oldest for 30 minutes"):
        program.command_status(settings)
    assert "groundwork_backup_archive_lag_seconds 1800\n" in (tmp_path / "groundwork_backups.prom").read_text()
