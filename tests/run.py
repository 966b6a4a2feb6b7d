"""Run everything that CI checks, in the order of cost, with one line of progress for each step.

Usage: run.py [STEP ...]      `run.py --list` names the steps; "molecule" and "site" stand for all of theirs.

A failed step does not stop the ones after it, but the exit code is 1. Logs: .cache/test/<step>.log.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "test"
# How many steps run at a time: while one waits for its host or for a moment, another has the core.
STEPS_AT_A_TIME = int(os.environ.get("TEST_JOBS", "3"))
ENVIRONMENT = {
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOLOR": "1",
    "NO_COLOR": "1",
    "PYTEST_ADDOPTS": "--durations=10",  # each log ends with what took longest
    "RUFF_CACHE_DIR": str(ROOT / ".cache" / "ruff"),
}
IMAGES = ("debian-13", "debian-12", "pebble", "browser", "services", "bucket")
# On Debian 13 the promises make the whole site; the public CI has all systems.
SITE_SYSTEMS = ("debian-12",)
SHELL_SCRIPTS = ("*.sh", ".ci/run", "lab/image/lab-init", "lab/image/*-start", "lab/image/vm-*")


@dataclass(frozen=True)
class Step:
    """A step: commands that are all run, the files they need, and whether they need a container host."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...] = ()
    folder: str = "."
    host: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a step came to; seconds are wall time."""

    step: Step
    passed: int
    failed: int
    seconds: float


def tracked(*patterns: str) -> list[str]:
    """Return the files of the repository that match, new ones included, ignored ones not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({name for name in listing.stdout.splitlines() if (ROOT / name).exists()})


def lint() -> Step:
    """What reads without running anything."""
    commands = [
        ("yamllint", "--strict", "."),
        ("ansible-lint", "--offline", "--nocolor"),
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("shellcheck", *tracked(*SHELL_SCRIPTS)),
        ("antsibull-changelog", "lint"),
    ]
    workflows = tracked(".github/workflows/*.yml")
    commands.append(("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows))
    return Step("lint", tuple(commands), needs=(".github/workflows",))


def scenario_step(scenario: str) -> Step:
    """A scenario, which is one role on a bare host of its own."""
    folder = f"molecule/{scenario}"
    needs = (f"{folder}/molecule.yml", f"{folder}/tests")
    return Step(f"molecule-{scenario}", (("molecule", "test", "--scenario-name", scenario),), needs, host=True)


def site_step(system: str) -> Step:
    """The whole site on a bare host with one operating system."""
    environment = {"LAB_SYSTEM": system, "MOLECULE_EPHEMERAL_DIRECTORY": str(LOGS / f"site-{system}")}
    command = ("molecule", "test", "--scenario-name", "default")
    return Step(f"site-{system}", (command,), ("molecule/default/tests",), host=True, environment=environment)


def app_step() -> Step:
    """The app's own tests: those that use the database on PostgreSQL and on SQLite, all others once.

    Nearly every line must be reached on each database, by its own tests and by those that know no difference.
    """

    def measured(name: str, marker: str, *variables: str) -> tuple[str, ...]:
        tests = ("coverage", "run", f"--data-file=.coverage.{name}", "-m", "pytest", "-q", "-p", "no:cacheprovider")
        return ("../lab/services.py", "env", *variables, *tests, "-m", marker)

    def reached(database: str) -> list[tuple[str, ...]]:
        data = f"--data-file=.coverage.{database}"
        combine = ("coverage", "combine", "--quiet", "--keep", data, ".", ".coverage.once")
        return [combine, ("coverage", "report", "--skip-covered", data)]

    commands = [
        ("coverage", "erase"),
        measured("once", "not database"),
        measured("postgresql", "database"),
        measured("sqlite", "database", "TEST_ON_SQLITE=true"),
        ("coverage", "combine", "--quiet", "--data-file=.coverage.once"),
        *reached("postgresql"),
        *reached("sqlite"),
    ]
    return Step("app", tuple(commands), needs=("app/tests",), folder="app", host=True)


def all_steps() -> list[Step]:
    """Return every step, cheap ones first. A role without a scenario is a step that fails."""
    pytest = ("pytest", "-q", "-p", "no:cacheprovider")
    roles = {path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir()}
    # A role may have more scenarios than the one of its name; "default" is the whole site.
    scenarios = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")} - {"default"}
    return [
        lint(),
        *(
            Step(kind, ((*pytest, f"tests/{kind}"),), needs=(f"tests/{kind}",))
            for kind in ("unit", "templates", "interface")
        ),
        app_step(),
        # It takes longest: at the end it would run alone, with a core idle.
        Step("promises", ((*pytest, "tests/site"),), needs=("tests/site",), host=True),
        *(scenario_step(name) for name in sorted(roles | scenarios)),
        *(site_step(system) for system in SITE_SYSTEMS),
        Step("package", (("tests/package/run.sh",),), needs=("tests/package/run.sh",), host=True),
    ]


def count(output: str, code: int) -> tuple[int, int]:
    """Return what a command passed and failed: the tests that pytest counted, else one for the command itself."""
    words = {"passed": 0, "failed": 0, "error": 0}
    for summary in re.findall(r"^.*\b\d+ (?:passed|failed|error).* in [\d.]+s.*$", output, re.MULTILINE):
        for number, word in re.findall(r"(\d+) (passed|failed|error)", summary):
            words[word] += int(number)
    failed = words["failed"] + words["error"]
    if code and not failed:
        failed = 1
    return words["passed"] or int(not failed), failed


def run(step: Step) -> Result:
    """Run the commands of a step, all of them, and keep what they said in its log."""
    start = time.monotonic()
    passed = failed = 0
    with (LOGS / f"{step.name}.log").open("w") as log:
        for name in step.needs:
            if not (ROOT / name).exists():
                log.write(f"{name} does not exist\n")
                failed += 1
        for command in step.commands if not failed else ():
            log.write(f"$ {' '.join(command)}\n")
            environment = {**os.environ, **ENVIRONMENT, **step.environment}
            done = subprocess.run(
                command,
                cwd=ROOT / step.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            log.write(done.stdout)
            good, bad = count(done.stdout, done.returncode)
            passed, failed = passed + good, failed + bad
    return Result(step, passed, failed, time.monotonic() - start)


def telling(lines: list[str], length: int = 25) -> list[str]:
    """Return the lines that tell why a step failed: from the first complaint on, else the last ones."""
    complaint = re.compile(
        r"fatal: \[|UNREACHABLE!|^\[ERROR\]|^=+ (FAILURES|ERRORS) =+|^Idempotence test failed|^ERROR "
    )
    first = next((number for number, line in enumerate(lines) if complaint.search(line)), len(lines) - length)
    return lines[max(first - 2, 0) :][:length]


def report(result: Result) -> None:
    """Print the line of a step, and the end of its log when it failed."""
    verdict = "FAILED" if result.failed else "ok"
    counts = f"{result.passed} passed" + (f", {result.failed} failed" if result.failed else "")
    print(f"{result.step.name:22} {verdict:6} {result.seconds:5.0f} s  {counts}", flush=True)
    if result.failed:
        log = LOGS / f"{result.step.name}.log"
        print("\n".join(f"  | {line[:200]}" for line in telling(log.read_text().rstrip().splitlines())))
        print(f"  the whole log: {log.relative_to(ROOT)}", flush=True)


def blame(result: Result) -> str:
    """One line for the end of the run: which tests of a step failed, and how, as pytest sums it up."""
    log = (LOGS / f"{result.step.name}.log").read_text()
    tests = re.findall(r"^(?:FAILED|ERROR) \S+::.*$", log, re.MULTILINE)
    return f"{result.step.name} failed: {'; '.join(line[:300] for line in tests) or 'its log says why'}"


def choose(steps: list[Step], names: list[str]) -> list[Step]:
    """Return the steps that are named; exit with a sentence when there is no such step."""
    chosen = [
        step for step in steps if not names or step.name in names or (step.host and step.name.split("-")[0] in names)
    ]
    known = {step.name for step in steps} | {"molecule", "site"}
    if unknown := set(names) - known:
        sys.exit(f"tests/run.py: no such step: {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    return chosen


def main() -> int:
    """Run the steps and print the counts."""
    steps = all_steps()
    if sys.argv[1:] == ["--list"]:
        print("\n".join(step.name for step in steps))
        return 0
    steps = choose(steps, sys.argv[1:])
    LOGS.mkdir(parents=True, exist_ok=True)
    results = []

    def carry_out(group: list[Step], at_a_time: int) -> None:
        with ThreadPoolExecutor(at_a_time) as pool:
            for result in pool.map(run, group):
                report(result)
                results.append(result)

    # What only reads comes before the images; the package runs in the place of a site, so it waits for them.
    first, last = ([step for step in steps if step.name == name] for name in ("lint", "package"))
    carry_out(first, 1)
    if any(step.host for step in steps):
        for command in (["lab/engine.sh"], [sys.executable, "lab/images.py", *IMAGES]):
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                return 1
    carry_out([step for step in steps if step not in first + last], STEPS_AT_A_TIME)
    carry_out(last, 1)
    failed = sum(result.failed for result in results)
    for result in results:
        if result.failed:
            print(blame(result))
    print(f"{sum(result.passed for result in results)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
