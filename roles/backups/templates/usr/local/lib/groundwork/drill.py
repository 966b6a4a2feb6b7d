#!/usr/bin/python3
# Managed by Ansible (groundwork.django.backups). Changes made here are overwritten.
"""Prove that the backups of the host's PostgreSQL cluster restore: restore the newest one, check it, and remove it.

    drill.py [--repository N]    N is the last one of the repositories unless named, which is the one furthest away

The copy stops at the restore point at which rows were counted after the backup, counts again, and goes on to the end of
the log. Every table and index is read, and each site of this host has its own code look at it, through the copy's
socket in place of the live one. The metrics say when that went well last, how long it took, and how old the oldest
change was that a host lost at its beginning would have taken with it. The live cluster goes on meanwhile, or is down.
Exit status: 0 done, 1 failed, 75 another drill is at work. A failure is one sentence on standard error.
"""

from __future__ import annotations

import argparse
import calendar
import os
import re
import sys
import time
from pathlib import Path

# The programs beside this one have what all share; root must not leave compiled files there.
sys.dont_write_bytecode = True
from backup import AS_POSTGRES, SOCKETS, Busy, Failure, complain, end_by_exception, place_metrics, run  # noqa: E402
from cluster_copy import Cluster, ClusterCopy, Target, alone, bring_back, candidates, check_end, live_cluster, say  # noqa: E402
from physical_backup import (  # noqa: E402
    COUNTS,
    Copy,
    Repository,
    Settings,
    bounds,
    newest_segment,
    read_counts,
    repository_of,
)

NAME = "groundwork_drill"
SITES = "/etc/groundwork/backups"
"""A file of settings for each site of this host."""
MANAGE = "/usr/local/bin/{site}-manage"
QUESTIONS = ("check", "migrate --check")
METRIC = "groundwork_drill"
METRICS = {
    f"{METRIC}_last_success_timestamp_seconds": "When a drill went well last.",
    f"{METRIC}_duration_seconds": "How long it took to restore and check (RTO).",
    f"{METRIC}_data_age_seconds": "Age of the oldest change that was not in the archive when it began (RPO).",
}
"""What the metrics are."""


def unarchived_seconds(live: Cluster, newest: str) -> float:
    """Age of the oldest committed change that is on this host only; 0 where there is none, or nobody can tell.

    newest: name of the newest part of the log that has left it.
    """
    if not newest:
        return 0
    end = bounds(newest, live.segment_bytes(live.data_directory))[1]
    start = f"{end >> 32:X}/{end & 0xFFFFFFFF:X}"
    options = [f"--path={live.data_directory}/pg_wal", f"--start={start}", f"--timeline={int(newest[:8], 16)}"]
    command = [*AS_POSTGRES, "env", "TZ=UTC", live.program("pg_waldump"), "--rmgr=Transaction", *options]
    # It ends with an error where the log ends.
    output = run(command, "Reading the log", good=(0, 1))
    found = re.search(r"COMMIT(?:_PREPARED)? (\S+ [0-9:]+)", output)
    moment = calendar.timegm(time.strptime(found.group(1), "%Y-%m-%d %H:%M:%S")) if found else time.time()
    return max(0.0, time.time() - moment)


def counts_of(repository: Repository, label: str) -> dict:
    """What was noted when a backup was made. Raises Failure where nothing was."""
    for path in COUNTS.glob("*.json"):
        noted = read_counts(path)
        if noted["backups"].get(repository.place) == label:
            return noted
    raise Failure(f"Nobody knows how many rows the tables had after {label} of {repository.place}: back up once more.")


def compare_rows(bounds: dict[str, list[int]], found: dict[str, int]) -> None:
    """Raise Failure where a table is missing, or its rows are fewer or more than there were."""
    for name, (least, most) in bounds.items():
        if name not in found:
            raise Failure(f"The table {name} is missing in the copy.")
        if not least <= found[name] <= most:
            expected = str(least) if least == most else f"{least} to {most}"
            raise Failure(f"The table {name} has {found[name]} rows in the copy, and {expected} at that time.")


def site_names() -> list[str]:
    """The sites of this host whose code is here, too."""
    names = sorted(path.stem for path in Path(SITES).glob("*.conf"))
    return [name for name in names if os.access(MANAGE.format(site=name), os.X_OK)]


def ask_site(site: str, copy: ClusterCopy) -> None:
    """Have the code of a site look at the copy. Raises Failure with what it says.

    It finds the copy's socket where the live one is, and has no network, so it cannot take anything else for it.
    """
    # A site with a pool looks for its socket there.
    places = [place for place in (SOCKETS, f"/run/{site}-pgbouncer") if os.path.isdir(place)]
    options = ["--property=PrivateNetwork=yes", *(f"--property=BindPaths={copy.sockets}:{place}" for place in places)]
    for question in QUESTIONS:
        command = ["env", f"MANAGE_OPTIONS={' '.join(options)}", MANAGE.format(site=site), *question.split()]
        run(command, f"manage.py {question} of {site} with the copy", last=True)


def command_drill(settings: Settings, repository: Repository) -> str:
    """Restore, check, remove. Returns what to tell; raises Failure."""
    began = time.time()
    live = live_cluster(settings)
    [wanted] = candidates(settings, repository, Target("default"))
    newest = newest_segment(settings, repository, wanted.cluster)
    lost = unarchived_seconds(live, newest)
    noted = counts_of(repository, wanted.label)
    copy = ClusterCopy(settings, live, NAME)
    try:
        backup = bring_back(copy, repository, Target("name", noted["restore_point"]), pause=True)
        compare_rows(noted["rows"], copy.server.count_rows())
        say("The rest of the log is being replayed.")
        copy.go_on()
        check_end(copy, repository, newest)
        say("Every table and index of the copy is being read.")
        copy.check_structure()
        sites = site_names()
        for site in sites:
            say(f"The code of {site} looks at the copy.")
            ask_site(site, copy)
    finally:
        copy.remove()
    took = time.time() - began
    values = dict(zip(METRICS, (time.time(), round(took, 1), round(lost, 1)), strict=True))
    place_metrics(settings.metrics_directory / "groundwork_drill.prom", METRICS, values)
    return told(backup, repository, len(noted["rows"]), sites, took, lost)


def told(backup: Copy, repository: Repository, tables: int, sites: list[str], took: float, lost: float) -> str:
    """What a drill has proven, for people."""
    code = (
        f"the code of {', '.join(sites)} finds nothing wrong with it" if sites else "no site has its code on this host"
    )
    return (
        f"{backup.label} of {repository.place} restores: {tables} tables have the rows they had, every table and index "
        f"is whole, {code}. Restored and checked in {took:.0f} s; a host lost at the beginning would have lost "
        f"{lost:.0f} s of changes."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove that the backups of the host's PostgreSQL cluster restore.")
    parser.add_argument("--repository", type=int)
    arguments = parser.parse_args()
    end_by_exception()
    try:
        settings = Settings.load()
        repository = repository_of(settings, arguments.repository or settings.repositories[-1].number)
        with alone("drill"):
            say(command_drill(settings, repository))
    except Failure as failure:
        return complain(failure if isinstance(failure, Busy) else Failure(f"The drill failed. {failure}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
