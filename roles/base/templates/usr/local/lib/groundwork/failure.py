#!/usr/bin/python3
# Managed by Ansible (groundwork.django.base). Changes made here are overwritten.
"""Count the failures of units for the metrics, and tell people by mail where that is configured.

    failure.py note <unit>   count one, and leave a mail where one is due
    failure.py send          send the mails that were left; those that cannot be sent stay for the next time
    failure.py validate      fails where mails are wanted and nothing on this host sends them

Settings are /etc/groundwork/failures.conf; what is known of each unit, and the mails that wait, are in
/var/lib/groundwork/failures. Exit status: 0 done, 1 failed. A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import email.message
import email.utils
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SETTINGS = "/etc/groundwork/failures.conf"
STATE = Path("/var/lib/groundwork/failures")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
MEANINGS = {
    "groundwork_unit_failures_total": "How often a unit has failed.",
    "groundwork_unit_last_failure_timestamp_seconds": "When a unit has failed last.",
    "groundwork_failure_mails_waiting": "Mails about failures that could not be sent yet.",
}
LINES, LINE_LENGTH = 20, 500
"""Of the journal, in a mail."""
GIVEN_UP_DAYS = 5
MAIL_SECONDS = 120


class Failure(Exception):
    """What could not be done, as one sentence."""


@dataclass(frozen=True)
class Settings:
    """What the role has written for the host. recipients: none for no mail; mailer: a program called like sendmail."""

    metrics_directory: Path
    recipients: tuple[str, ...]
    sender: str
    mailer: str
    pause_hours: int

    @classmethod
    def load(cls, path: str) -> Settings:
        """Read the settings. Raises Failure where the file is missing or not complete."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with open(path, encoding="utf-8") as stream:
                parser.read_file(stream)
            section = parser["failures"]
            return cls(
                metrics_directory=Path(section["metrics_directory"]),
                recipients=tuple(section["recipients"].split()),
                sender=section["sender"],
                mailer=section["mailer"],
                pause_hours=section.getint("pause_hours"),
            )
        except (OSError, KeyError, ValueError, configparser.Error) as error:
            raise Failure(f"The settings {path} cannot be read: {error}.") from error


@dataclass
class Record:
    """What is known of a unit that has failed. mailed: when its last mail was left; untold: failures in no mail."""

    failures: int = 0
    last: int = 0
    mailed: int = 0
    untold: int = 0


def run(command: list[str], **options: object) -> str:
    """Output of a command. Raises Failure with the last thing it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, cwd="/", env=ENVIRONMENT, **options
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{command[0]} failed: {error}.") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise Failure(f"{command[0]} failed: {said.rstrip('.')}.")
    return done.stdout


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, whole or not at all, after a power cut too. Raises Failure."""
    aside = path.with_suffix(".new")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.chmod(mode)
        aside.replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error}.") from error


@contextlib.contextmanager
def records(settings: Settings) -> Iterator[dict[str, Record]]:
    """The records by unit, to be changed; nobody else does meanwhile. They and the metrics are written at the end."""
    path = STATE / "records.json"
    with (STATE / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            known = {unit: Record(**values) for unit, values in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            known = {}
        yield known
        write(path, json.dumps({unit: vars(record) for unit, record in known.items()}))
        write(settings.metrics_directory / "groundwork_failures.prom", metrics(settings, known), 0o644)


def metrics(settings: Settings, known: dict[str, Record]) -> str:
    """The metrics, as the textfile collector of the node exporter reads them."""
    failures, last, waiting = MEANINGS
    values: dict[str, dict[str, int]] = {failures: {}, last: {}, waiting: {}}
    for unit, record in sorted(known.items()):
        label = '{unit="' + unit.replace("\\", "\\\\") + '"}'
        values[failures][label] = record.failures
        values[last][label] = record.last
    if settings.recipients:
        values[waiting][""] = len(mails())
    lines = []
    for name, found in values.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        head = [f"# HELP {name} {MEANINGS[name]}", f"# TYPE {name} {kind}"] if found else []
        lines += head + [f"{name}{label} {value}" for label, value in found.items()]
    return "\n".join(lines) + "\n"


def mail_of(unit: str) -> Path:
    """Where the mail about a unit waits."""
    return STATE / "mails" / f"{unit}.json"


def mails() -> list[Path]:
    """The mails that wait."""
    return sorted((STATE / "mails").glob("*.json"))


def shown(units: list[str]) -> list[dict[str, str]]:
    """What systemd knows of units. Raises Failure."""
    blocks = run(["systemctl", "show", "--property=Id,LoadState,InvocationID,Result", "--", *units]).split("\n\n")
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def last_words(unit: str, invocation: str) -> list[str]:
    """The last lines in the journal of one run of a unit, and of systemd about it."""
    own = [f"_SYSTEMD_INVOCATION_ID={invocation}", "+", "_PID=1", f"INVOCATION_ID={invocation}"]
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={LINES}"]
    try:
        # The journal may not have taken in yet what was said last.
        run(["journalctl", "--sync"], timeout=30)
        said = run([*command, *(own if invocation else [f"--unit={unit}"])], timeout=60)
    except Failure as failure:
        return [str(failure)]
    return [line[:LINE_LENGTH] for line in said.splitlines()]


def text_of(unit: str, result: str, record: Record, lines: list[str]) -> str:
    """What a mail says. record: of the unit, with this failure among those in no mail."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(record.last))
    parts = [f"{unit} has failed on {os.uname().nodename} at {moment} ({result})."]
    if record.untold > 1:
        parts.append(f"Failures before this one that no mail has told of: {record.untold - 1}.")
    if lines:
        parts.append("The last lines of its journal:\n\n" + "\n".join(f"    {line}" for line in lines))
    parts.append(f"To go on, on the host:\n\n    systemctl status {unit}\n    journalctl -u {unit} -n 100")
    return "\n\n".join(parts) + "\n"


def note(settings: Settings, unit: str) -> str:
    """Count a failure of a unit, and leave a mail where one is due. Returns what to tell."""
    now = int(time.time())
    with records(settings) as known:
        record = known.setdefault(unit, Record())
        record.failures += 1
        record.last = now
        record.untold = record.untold + 1 if settings.recipients else 0
        with contextlib.suppress(Failure):
            # What was removed from the host does not fail any more.
            for other, properties in zip(sorted(known), shown(sorted(known)), strict=True):
                if other != unit and properties.get("LoadState") == "not-found":
                    del known[other]
    told = f"{unit} has failed; failures so far: {record.failures}."
    if not settings.recipients:
        return told
    # systemd 251 and newer says of which run this is about; before, it is the last one.
    properties: dict[str, str] = {}
    with contextlib.suppress(Failure):
        properties = shown([unit])[0]
    invocation = os.environ.get("MONITOR_INVOCATION_ID") or properties.get("InvocationID", "")
    result = os.environ.get("MONITOR_SERVICE_RESULT") or properties.get("Result") or "unknown"
    lines = last_words(unit, invocation)
    with records(settings) as known:
        record = known.setdefault(unit, Record(1, now, 0, 1))
        # A clock that was set back is no reason to be silent.
        paused = 0 <= now - record.mailed < settings.pause_hours * 3600
        if paused or mail_of(unit).exists():
            return f"{told} Of the last {record.untold} of them the next mail tells."
        write(mail_of(unit), json.dumps({"unit": unit, "time": now, "text": text_of(unit, result, record, lines)}))
        record.mailed = now
        record.untold = 0
    return f"{told} A mail is left to be sent."


def hand_over(settings: Settings, mail: dict) -> None:
    """Give a mail to the program that sends it. Raises Failure with what that says."""
    message = email.message.EmailMessage()
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    message["Subject"] = f"{mail['unit']} has failed on {os.uname().nodename}"
    message["Date"] = email.utils.formatdate(mail["time"], localtime=True)
    message["Message-ID"] = email.utils.make_msgid(domain=settings.sender.rpartition("@")[2])
    # No automatic answer is wanted.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail["text"], cte="quoted-printable")
    # exim delivers at once then, not in a process that would end with this one; others do so anyway.
    command = [settings.mailer, "-i", "-odi", "-f", settings.sender, "--", *settings.recipients]
    run(command, input=message.as_string(), timeout=MAIL_SECONDS)


def send(settings: Settings) -> str:
    """Send the mails that wait. Returns what to tell; raises Failure where one still waits."""
    problems = []
    sent = 0
    for path in mails():
        mail = json.loads(path.read_text(encoding="utf-8"))
        try:
            hand_over(settings, mail)
            sent += 1
        except Failure as failure:
            if time.time() - mail["time"] < GIVEN_UP_DAYS * 86400:
                problems.append(f"The mail about {mail['unit']} waits for the next time. {failure}")
                continue
            problems.append(f"The mail about {mail['unit']} is given up after {GIVEN_UP_DAYS} days. {failure}")
        path.unlink()
    with records(settings):
        pass  # the metrics tell how many are left
    if problems:
        raise Failure(" ".join(problems))
    return f"{sent} mails were sent."


def validate(settings: Settings) -> str:
    """Look whether mails can be sent at all. Returns what to tell; raises Failure."""
    if settings.recipients and not shutil.which(settings.mailer):
        raise Failure(
            f"There is no {settings.mailer} on this host that would send mails to base_operator_emails: name "
            "base_mail_relay_host, or install a mail server."
        )
    return "The settings are in order."


def main() -> int:
    parser = argparse.ArgumentParser(description="Count failures of units, and tell of them by mail.")
    parser.add_argument("command", choices=("note", "send", "validate"))
    parser.add_argument("unit", nargs="?", help="name of the unit that has failed")
    arguments = parser.parse_args()
    os.umask(0o077)
    # The prefix makes it an error in the journal.
    error = "<3>" if "JOURNAL_STREAM" in os.environ else ""
    try:
        settings = Settings.load(SETTINGS)
        if arguments.command == "note":
            print(error + note(settings, arguments.unit))
        else:
            print(send(settings) if arguments.command == "send" else validate(settings))
    except (Failure, OSError) as failure:
        print(f"{error}{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
