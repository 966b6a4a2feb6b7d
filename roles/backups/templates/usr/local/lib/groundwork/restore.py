#!/usr/bin/python3
# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""Put the host's PostgreSQL cluster back as it was at some moment: beside the live one first, then in its place.

    restore.py plan <target>   say what would be done; nothing is changed
    restore.py make <target>   make a copy of the cluster beside the live one, replay the log to the target, check it
    restore.py swap            put the copy in place of the live cluster, which is kept under another name
    restore.py discard         remove a copy that is not wanted any more

A target is `latest`, a time, the name of a restore point, `xid:<number>` or `lsn:<position>`; --repository=N names
another repository than the first one. Settings are those of physical_backup.py. The live cluster is not touched before
`swap`, and each step can be repeated after an interruption. Exit status: 0 done, 1 failed, 75 another run is at work.
A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from pathlib import Path

# The programs beside this one have what all share; root must not leave compiled files there.
sys.dont_write_bytecode = True
from backup import Failure, complain, end_by_exception, exchange, run  # noqa: E402
from cluster_copy import (  # noqa: E402
    START_SECONDS,
    Cluster,
    ClusterCopy,
    Target,
    alone,
    as_postgres,
    bring_back,
    candidates,
    list_clusters,
    live_cluster,
    say,
    utc,
)
from physical_backup import Repository, Settings, repository_of, send_log  # noqa: E402

NAME, KEPT = "groundwork_restored", "before_"
KEPT_FILES = {"pg_hba.conf": "local all postgres peer\n", "pg_ident.conf": ""}
"""Who may look into a cluster that is kept."""
MARK = "groundwork_restored.json"
"""File in the copy's data directory: it says that the copy is whole and checked, and where it is after the swap."""
BACKUP_AFTERWARDS = "groundwork-backup-differential.service"
STOP_SECONDS = 60
STOPPED = ("inactive", "failed")
TIMELINE, FIRST_NEEDED = "Latest checkpoint's TimeLineID", "Latest checkpoint's REDO WAL file"
"""Words of pg_controldata."""


def command_plan(settings: Settings, target: Target, repository: Repository) -> str:
    """What would be done. Raises Failure where it cannot be done."""
    live = live_cluster(settings)
    copy = ClusterCopy(settings, live, NAME)
    backup = candidates(settings, repository, target)[0]
    needed = copy.check_space(backup)
    copy.check_tablespaces(repository, backup)
    if live.answers:
        check_reach(live, target)
    else:
        say("The live cluster does not answer.")
    if target.type == "name":
        say("Whether the log has that restore point shows when it is replayed.")
    return (
        f"The backup {backup.label} of {repository.place}, which ended at {utc(backup.stopped)}, is restored to "
        f"{copy.directory}, which needs {needed} MB with the reserve; the log is replayed to {target.words}; the copy "
        f"is checked, and takes the place of {live.version}/{live.name}, which is kept."
    )


def check_reach(live: Cluster, target: Target) -> None:
    """Raise Failure where a target is ahead of the live cluster."""
    ahead = {
        "lsn": f"SELECT '{target.value}'::pg_lsn > pg_current_wal_lsn()",
        "xid": f"SELECT {target.value} >= pg_snapshot_xmax(pg_current_snapshot())::text::numeric",
    }
    if target.type in ahead and live.server.ask(ahead[target.type]) == "t":
        raise Failure(f"The live cluster has not come to {target.words} yet.")


def command_make(settings: Settings, target: Target, repository: Repository) -> str:
    """Make a checked copy beside the live cluster."""
    began = time.monotonic()
    live = live_cluster(settings)
    if (live.data_directory / MARK).exists():
        # The last swap was killed before its end.
        say(keep(live))
    try:
        # The log has to go beyond a time to be replayed to it, and hold what has been committed until now.
        live.server.ask("SELECT pg_current_xact_id()")
        arrived = send_log(live.server)
    except Failure:
        arrived = False
    if not arrived:
        say("What was committed last may be missing: the live cluster does not answer, or the archive is away.")
    copy = ClusterCopy(settings, live, NAME)
    try:
        backup = bring_back(copy, repository, target)
        say("Every table and index of the copy is being read.")
        databases = copy.check_structure()
        copy.forget_recovery()
        copy.stop()
        note = json.dumps({"target": target.words, "backup": backup.label, "repository": repository.place})
        mark = copy.directory / MARK
        as_postgres(["dd", "status=none", "conv=fsync", f"of={mark}"], f"Writing {mark}", text=note)
        as_postgres(["rmdir", "--", str(copy.sockets)], f"Removing {copy.sockets}")
    except Failure:
        copy.remove()
        raise
    took = time.monotonic() - began
    return (
        f"{copy.directory} is the cluster as it was at {target.words}, made of {backup.label} in {took:.0f} s; "
        f"{databases} databases have been checked. The live cluster has not been touched."
    )


def command_swap(settings: Settings) -> str:
    """Put the copy in place of the live cluster, and keep that one. Where the copy does not start, it is put back."""
    live = live_cluster(settings)
    place = live.data_directory
    aside = place.parent / NAME
    if not (place / MARK).exists():
        if not (aside / MARK).exists():
            raise Failure(f"There is no checked copy in {aside}: make one first.")
        hand_over_log(live, aside)
        say(f"{live.unit} is being stopped.")
        stop(live)
        try:
            exchange(aside, place)
        except OSError as error:
            run(["systemctl", "start", live.unit], f"Starting {live.unit}")
            raise Failure(
                f"{aside} cannot take the place of {place}: {error.strerror}. Nothing was changed."
            ) from error
    try:
        start(live)
    except Failure as failure:
        if not aside.exists():
            # A swap that was killed has kept the cluster from before already.
            raise
        stop(live)
        exchange(aside, place)
        start(live)
        raise Failure(f"{str(failure).rstrip('.')}. The cluster from before is in its place again.") from failure
    note = json.loads((place / MARK).read_text(encoding="utf-8"))
    told = keep(live)
    # A moment is on the timeline whose history the archive had by then, so that has to be there before anybody writes.
    with contextlib.suppress(Failure):
        send_log(live.server)
    run(["systemctl", "start", "--no-block", BACKUP_AFTERWARDS], "Starting a backup")
    return f"{live.version}/{live.name} is the cluster as it was at {note['target']}. {told}"


def hand_over_log(live: Cluster, directory: Path) -> None:
    """Have the server archive what the copy has written while it kept its log to itself. Raises Failure."""
    control = live.control(directory)
    timeline = f"{int(control[TIMELINE]):08X}"
    current = control[FIRST_NEEDED]
    names = [path.name for path in (directory / "pg_wal").iterdir()]
    own = [name for name in names if re.fullmatch(rf"{timeline}[0-9A-F]{{16}}", name) and name < current]
    ready = [str(directory / "pg_wal/archive_status" / f"{name}.ready") for name in (f"{timeline}.history", *own)]
    as_postgres(["touch", "--", *ready], "Handing over the log of the copy")


def stop(live: Cluster) -> None:
    """Stop the live cluster; one that does not end is killed, and recovers by its log if it is started again."""
    run(["systemctl", "stop", "--no-block", live.unit], f"Stopping {live.unit}")
    end = time.monotonic() + STOP_SECONDS
    while run(["systemctl", "is-active", live.unit], f"Stopping {live.unit}", good=(0, 3)).strip() not in STOPPED:
        if time.monotonic() > end:
            run(["systemctl", "kill", "--signal=KILL", live.unit], f"Ending {live.unit}", good=(0, 1))
        time.sleep(0.2)


def start(live: Cluster) -> None:
    """Start the live cluster and wait until it takes writes. Raises Failure."""
    run(["systemctl", "reset-failed", live.unit], f"Starting {live.unit}", good=(0, 1))
    run(["systemctl", "start", live.unit], f"Starting {live.unit}")
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(Failure):
            if live.server.ask("SELECT pg_is_in_recovery()") == "f":
                return
        if time.monotonic() > end:
            raise Failure(f"The restored cluster does not answer, {START_SECONDS} s after its start.")
        time.sleep(0.2)


def keep(live: Cluster) -> str:
    """Keep the cluster from before under a name of its own, and end the swap. Returns where it is; raises Failure."""
    aside = live.data_directory.parent / NAME
    if aside.exists():
        aside.rename(aside.parent / time.strftime(f"{KEPT}%Y%m%d_%H%M%S", time.gmtime()))
    name = max(path.name for path in aside.parent.glob(f"{KEPT}*"))
    place = aside.parent / name
    told = f"What was left of the one from before is in {place}."
    if (place / "PG_VERSION").exists():
        if all(item["cluster"] != name for item in list_clusters()):
            register(live, name, place)
        told = (
            f"The one from before is {name}: look into it after pg_ctlcluster {live.version} {name} start, and remove "
            f"it by pg_dropcluster --stop {live.version} {name}."
        )
    (live.data_directory / MARK).unlink()
    return told


def register(live: Cluster, name: str, place: Path) -> None:
    """Have Debian's tools know a cluster. Raises Failure."""
    # They move these files to /etc/postgresql and complete them.
    sample = Path(f"/usr/share/postgresql/{live.version}/postgresql.conf.sample").read_text(encoding="utf-8")
    for file, text in {**KEPT_FILES, "postgresql.conf": sample}.items():
        as_postgres(["dd", "status=none", f"of={place / file}"], f"Writing {place / file}", text=text)
    options = [f"--datadir={place}", "--start-conf=manual", live.version, name]
    run(["pg_createcluster", *options], f"Registering {place}")


def command_discard(settings: Settings) -> str:
    """Remove a copy that is not wanted any more."""
    copy = ClusterCopy(settings, live_cluster(settings), NAME)
    copy.remove()
    return f"There is no copy in {copy.directory} any more."


def main() -> int:
    parser = argparse.ArgumentParser(description="Put the host's PostgreSQL cluster back as it was at some moment.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("plan", "make"):
        command = commands.add_parser(name)
        command.add_argument("target")
        command.add_argument("--repository", type=int, default=1)
    for name in ("swap", "discard"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    end_by_exception()
    try:
        settings = Settings.load()
        if arguments.command in ("plan", "make"):
            target = Target.parse(arguments.target)
            repository = repository_of(settings, arguments.repository)
        if arguments.command == "plan":
            say(command_plan(settings, target, repository))
            return 0
        with alone("restore"):
            if arguments.command == "make":
                say(command_make(settings, target, repository))
            elif arguments.command == "swap":
                say(command_swap(settings))
            else:
                say(command_discard(settings))
    except Failure as failure:
        return complain(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
