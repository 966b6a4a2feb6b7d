"""Measure a restore of the demo host with much data: what is lost with a cluster (RPO), how long it takes back (RTO).

Usage: measure_restore.py [MEBIBYTES]      after `make demo`; 1024 MiB unless said otherwise; prints a table

It fills a table that does not compress well, backs up in full while pages are asked for, has a row written each second,
and after two minutes kills the server and removes its data directory. What the repository has then is restored by
`playbooks/restore.yml`; the newest row that is back says how much was lost.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from hosts import docker

ROOT = Path(__file__).resolve().parent.parent
HOST = "groundwork-demo"
WRITING_SECONDS = 120
PAGES = 100
PAUSE_SECONDS = 0.1


def host(command: str) -> str:
    """Run a command on the demo host and return its output."""
    return docker("exec", HOST, "sh", "-c", command).strip()


def sql(statement: str) -> str:
    """Answer of a statement in the site's database."""
    return docker("exec", HOST, "runuser", "-u", "postgres", "--", "psql", "-XAtqd", "forge", "-c", statement).strip()


def play(playbook: str, *arguments: str) -> float:
    """Run a playbook and return how long it took, in seconds."""
    began = time.monotonic()
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        "inventories/demo",
        f"playbooks/{playbook}.yml",
    ]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"`{' '.join(command[1:])}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - began


def latencies(while_true: str = "") -> list[float]:
    """Milliseconds of requests to a page that reads the database, on the host: PAGES, or while a command succeeds."""
    program = f"""
import http.client, socket, subprocess, time
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/srv/forge/live.sock")
number = 0
while {f"subprocess.run({while_true!r}, shell=True).returncode == 0" if while_true else f"number < {PAGES}"}:
    began = time.monotonic()
    connection = Unix("forge.demo.test")
    connection.request("GET", "/readyz", headers={{"Host": "forge.demo.test", "X-Forwarded-Proto": "https"}})
    connection.getresponse().read()
    print((time.monotonic() - began) * 1000)
    number += 1
    time.sleep({PAUSE_SECONDS})
"""
    return [float(line) for line in docker("exec", HOST, "python3", "-c", program).split()]


def figures(times: list[float]) -> str:
    """Median and 99th percentile of some milliseconds."""
    return f"{statistics.median(times):.0f} and {statistics.quantiles(times, n=100)[98]:.0f} ms ({len(times)} requests)"


def main() -> None:
    """Measure and print a table in Markdown."""
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    sql("CREATE TABLE IF NOT EXISTS ballast (n bigint, noise text)")
    while int(sql("SELECT pg_database_size(current_database())")) < mebibytes * 1024 * 1024:
        sql(
            "INSERT INTO ballast SELECT n, md5(random()::text) || md5(random()::text) || md5(random()::text) "
            "FROM generate_series(1, 500000) n"
        )
    sql("CHECKPOINT")
    size = sql("SELECT pg_size_pretty(pg_database_size(current_database()))")

    quiet = latencies()
    began = time.monotonic()
    host("systemctl start --no-block groundwork-backup-full")
    busy = latencies("systemctl is-active groundwork-backup-full | grep -q activating")
    full = time.monotonic() - began
    began = time.monotonic()
    host("systemctl start groundwork-backup-differential")
    differential = time.monotonic() - began

    sql("CREATE TABLE IF NOT EXISTS heartbeat (at timestamptz)")
    end = time.monotonic() + WRITING_SECONDS
    while time.monotonic() < end:
        sql("INSERT INTO heartbeat VALUES (clock_timestamp())")
        time.sleep(1)
    newest = sql("SELECT extract(epoch FROM max(at)) FROM heartbeat")
    rows = sql("SELECT count(*) FROM ballast")
    version = host("ls /etc/postgresql")
    host(f"rm -rf /var/lib/postgresql/{version}/main/*; systemctl kill --signal=KILL postgresql@{version}-main")
    restored = play("restore", "-e", "restore_to=latest")
    lost = float(newest) - float(sql("SELECT extract(epoch FROM max(at)) FROM heartbeat"))
    if sql("SELECT count(*) FROM ballast") != rows:
        raise SystemExit("rows are missing")
    drilled = play("drill")

    print(f"| with {size} in the database | |\n|---|---|")
    print(f"| newest changes lost (RPO) | {lost:.0f} s |")
    print(f"| `playbooks/restore.yml`, restored, checked and in place (RTO) | {restored:.0f} s |")
    print(f"| `playbooks/drill.yml` | {drilled:.0f} s |")
    print(
        "| a full backup, the repository read back, rows counted; a differential one "
        f"| {full:.0f} s; {differential:.0f} s |"
    )
    print(f"| a page, median and 99 %, without and during a full backup | {figures(quiet)}; {figures(busy)} |")


if __name__ == "__main__":
    main()
