"""Measure runs against the demo host: wall time, CPU of controller and host together, tasks, changes.

Usage: measure.py [REPEAT]      after `make demo`; prints a table of medians, REPEAT (default 5) runs each
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from hosts import docker

ROOT = Path(__file__).resolve().parent.parent
HOST = "groundwork-demo"
RUNS = {
    "everything": [],
    "--check --diff": ["--check", "--diff"],
    "--tags certs": ["--tags", "certs"],
    "--tags deploy": ["--tags", "deploy"],
}


def host_cpu() -> float:
    """CPU seconds that the host's container has used, from its control group (version 1 or 2)."""
    container = docker("inspect", "--format", "{{.Id}}", HOST).strip()
    old = Path(f"/sys/fs/cgroup/cpuacct/docker/{container}/cpuacct.usage")
    if old.exists():
        return int(old.read_text()) / 1e9
    new = Path(f"/sys/fs/cgroup/system.slice/docker-{container}.scope/cpu.stat")
    return int(re.search(r"usage_usec (\d+)", new.read_text())[1]) / 1e6


def controller_cpu() -> float:
    """CPU seconds of the finished children of this process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(arguments: list[str]) -> dict[str, float]:
    """Run site.yml once and return wall and CPU seconds, tasks and changes."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/demo", "site.yml", *arguments]
    host, controller, start = host_cpu(), controller_cpu(), time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"`{' '.join(command[1:])}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    recap = dict(re.findall(r"(ok|changed|skipped)=(\d+)", done.stdout))
    cpu = controller_cpu() - controller + host_cpu() - host
    return {"wall": wall, "cpu": cpu, "tasks": int(recap["ok"]), "changed": int(recap["changed"])}


def main() -> None:
    """Measure every kind of run and print a table in Markdown."""
    repeat = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| run of `site.yml` | wall, s | CPU of controller and host, s | tasks | changed |")
    print("|---|---|---|---|---|")
    for name, arguments in RUNS.items():
        runs = [measure(arguments) for _ in range(repeat)]
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        figures = f"{median['wall']:.1f} | {median['cpu']:.1f} | {median['tasks']:.0f} | {median['changed']:.0f}"
        print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
