"""The program of the role base that notes failures: what is counted, what is mailed, and what is left for later."""

import email
import email.policy
import json
import stat
import threading

import pytest

NOW = 1_800_000_000
HOUR = 3600
UNIT = "forge-backup.service"


@pytest.fixture
def program(load, monkeypatch, tmp_path):
    """The program, as a module, with its files in a directory of the test and at a time that stands still."""
    found = load("base", "failure")
    monkeypatch.setattr(found, "STATE", tmp_path)
    (tmp_path / "mails").mkdir()
    monkeypatch.delenv("MONITOR_INVOCATION_ID", raising=False)
    monkeypatch.delenv("MONITOR_SERVICE_RESULT", raising=False)
    monkeypatch.setattr(found.time, "time", lambda: NOW)
    return found


@pytest.fixture
def host(program, monkeypatch):
    """Stand-ins for the programs of the host: `gone` are units that do not exist, `sent` what was mailed."""

    class Host:
        gone: frozenset = frozenset()
        mailer_says = ""
        asked: list
        sent: list

        def run(self, command, **options):
            if command[:2] == ["systemctl", "show"]:
                units = command[command.index("--") + 1 :]
                states = ["not-found" if unit in self.gone else "loaded" for unit in units]
                return "\n\n".join(
                    f"Id={unit}\nLoadState={state}\nInvocationID=newest\nResult=exit-code"
                    for unit, state in zip(units, states, strict=True)
                )
            if command[0] == "journalctl":
                self.asked.append(command)
                return "" if "--sync" in command else "The backup of forge failed. The disk is full.\n"
            if self.mailer_says:
                raise program.Failure(self.mailer_says)
            self.sent.append((command, email.message_from_string(options["input"], policy=email.policy.default)))
            return ""

    found = Host()
    found.asked, found.sent = [], []
    monkeypatch.setattr(program, "run", found.run)
    return found


@pytest.fixture
def settings(program, tmp_path):
    """Settings with two people to tell."""
    (tmp_path / "metrics").mkdir()
    people = ("ada@example.org", "lin@example.org")
    return program.Settings(tmp_path / "metrics", people, "root@example.org", "/usr/bin/msmtp", 6)


def metrics(settings):
    """The metrics by their names with labels."""
    text = (settings.metrics_directory / "groundwork_failures.prom").read_text()
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: int(value) for name, _, value in pairs}


def total(unit):
    return f'groundwork_unit_failures_total{{unit="{unit}"}}'


def test_a_failure_is_counted_and_told_of(program, host, settings):
    assert "A mail is left" in program.note(settings, UNIT)
    assert metrics(settings) == {
        total(UNIT): 1,
        f'groundwork_unit_last_failure_timestamp_seconds{{unit="{UNIT}"}}': NOW,
        "groundwork_failure_mails_waiting": 1,
    }
    assert program.send(settings) == "1 mails were sent."
    [(command, mail)] = host.sent
    assert command == [
        "/usr/bin/msmtp",
        "-i",
        "-odi",
        "-f",
        "root@example.org",
        "--",
        "ada@example.org",
        "lin@example.org",
    ]
    assert mail["Subject"].startswith(f"{UNIT} has failed on ")
    assert (mail["From"], mail["To"]) == ("root@example.org", "ada@example.org, lin@example.org")
    body = mail.get_content()
    assert f"{UNIT} has failed on " in body
    assert "(exit-code)" in body
    assert "    The backup of forge failed. The disk is full.\n" in body
    assert f"journalctl -u {UNIT}" in body
    assert not program.mails()


def test_everybody_may_read_the_metrics_and_nobody_the_rest(program, host, settings, tmp_path):
    program.note(settings, UNIT)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes.pop("groundwork_failures.prom") == 0o644
    assert modes.pop(".lock") & 0o002 == 0
    assert set(modes.values()) == {0o600}


def test_the_journal_is_asked_for_the_run_that_failed(program, host, settings, monkeypatch):
    program.note(settings, UNIT)
    assert "_SYSTEMD_INVOCATION_ID=newest" in host.asked[-1], "systemd 250 and older: the last run"
    monkeypatch.setenv("MONITOR_INVOCATION_ID", "told")
    monkeypatch.setenv("MONITOR_SERVICE_RESULT", "timeout")
    program.note(settings, "other.service")
    assert "_SYSTEMD_INVOCATION_ID=told" in host.asked[-1]
    assert "(timeout)" in json.loads(program.mail_of("other.service").read_text())["text"]


def test_a_unit_that_fails_all_the_time_is_mailed_once_and_then_with_the_number(program, host, settings, monkeypatch):
    for minute in range(0, 7 * 60, 15):
        monkeypatch.setattr(program.time, "time", lambda at=NOW + minute * 60: at)
        program.note(settings, UNIT)
        if program.mails():
            program.send(settings)
    assert metrics(settings)[total(UNIT)] == 28
    first, second = (mail.get_content() for _, mail in host.sent)
    assert "no mail has told of" not in first
    assert "Failures before this one that no mail has told of: 23." in second


def test_a_mail_that_waits_is_not_joined_by_another(program, host, settings, monkeypatch):
    host.mailer_says = "/usr/bin/msmtp failed: connection refused."
    for hour in (0, 7, 14):
        monkeypatch.setattr(program.time, "time", lambda at=NOW + hour * HOUR: at)
        program.note(settings, UNIT)
        with pytest.raises(program.Failure, match=f"The mail about {UNIT} waits for the next time.*refused"):
            program.send(settings)
    assert metrics(settings)["groundwork_failure_mails_waiting"] == 1
    host.mailer_says = ""
    program.send(settings)
    program.note(settings, UNIT)
    program.send(settings)
    assert metrics(settings)["groundwork_failure_mails_waiting"] == 0
    assert len(host.sent) == 2
    assert "no mail has told of: 2." in host.sent[1][1].get_content()


def test_a_mail_is_given_up_in_the_end(program, host, settings, monkeypatch):
    program.note(settings, UNIT)
    host.mailer_says = "/usr/bin/msmtp failed: no such recipient."
    monkeypatch.setattr(program.time, "time", lambda: NOW + 6 * 24 * HOUR)
    with pytest.raises(program.Failure, match=r"given up after 5 days.*no such recipient"):
        program.send(settings)
    assert not program.mails()


def test_one_bad_mail_does_not_hold_up_the_others(program, host, settings, monkeypatch):
    program.note(settings, "a.service")
    program.note(settings, "b.service")
    send = host.run

    def refuse(command, **options):
        if "a.service" in options.get("input", ""):
            raise program.Failure("msmtp failed.")
        return send(command, **options)

    monkeypatch.setattr(program, "run", refuse)
    with pytest.raises(program.Failure, match=r"a\.service waits"):
        program.send(settings)
    assert [path.stem for path in program.mails()] == ["a.service"]
    assert "b.service" in host.sent[0][1]["Subject"]


def test_without_recipients_it_only_counts(program, host, settings, monkeypatch):
    nobody = program.Settings(settings.metrics_directory, (), "root@example.org", "/usr/sbin/sendmail", 6)
    program.note(nobody, UNIT)
    assert metrics(settings).keys() == {
        total(UNIT),
        total(UNIT).replace("failures_total", "last_failure_timestamp_seconds"),
    }
    assert not program.mails()
    assert program.validate(nobody)
    # What happened before somebody was to be told is nothing to be told of.
    program.note(settings, UNIT)
    assert "no mail has told of" not in json.loads(program.mail_of(UNIT).read_text())["text"]


def test_units_that_fail_at_once_are_all_counted(program, host, settings):
    units = [f"unit{number}.service" for number in range(20)]
    threads = [threading.Thread(target=program.note, args=(settings, unit)) for unit in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [metrics(settings)[total(unit)] for unit in units] == [1] * 20
    assert len(program.mails()) == 20


def test_a_unit_that_is_gone_is_forgotten_but_not_the_one_that_failed(program, host, settings):
    for unit in ("annex-backup.service", "forge-certs.service"):
        program.note(settings, unit)
    host.gone = frozenset({"annex-backup.service", UNIT})
    program.note(settings, UNIT)
    assert {total("forge-certs.service"), total(UNIT)} <= metrics(settings).keys()
    assert total("annex-backup.service") not in metrics(settings)


def test_a_name_with_a_backslash_is_a_good_label(program, host, settings):
    program.note(settings, r"dev-disk\x2dby.swap")
    assert metrics(settings)[total(r"dev-disk\\x2dby.swap")] == 1


def test_what_is_known_is_begun_anew_where_it_cannot_be_read(program, host, settings, tmp_path):
    (tmp_path / "records.json").write_text("")
    program.note(settings, UNIT)
    assert metrics(settings)[total(UNIT)] == 1


def test_it_is_counted_and_told_of_though_systemd_and_the_journal_say_nothing(program, settings, monkeypatch):
    def broken(command, **_options):
        raise program.Failure(f"{command[0]} failed.")

    monkeypatch.setattr(program, "run", broken)
    program.note(settings, UNIT)
    assert metrics(settings)[total(UNIT)] == 1
    assert f"{UNIT} has failed" in json.loads(program.mail_of(UNIT).read_text())["text"]


def test_a_host_without_a_mail_server_is_told_so(program, host, settings):
    alone = program.Settings(settings.metrics_directory, ("ada@example.org",), "root@example.org", "/no/sendmail", 6)
    with pytest.raises(program.Failure, match=r"There is no /no/sendmail .* name base_mail_relay_host"):
        program.validate(alone)


def test_settings_that_are_not_complete_are_named(program, tmp_path):
    path = tmp_path / "failures.conf"
    path.write_text("[failures]\nmetrics_directory = /m\n")
    with pytest.raises(program.Failure, match=f"The settings {path} cannot be read"):
        program.Settings.load(str(path))
