"""Grade the demo by tools that nobody here wrote, and print one table: grader, version, figure, bar.

Usage: grade.py [--document] [GRADER ...]      after `make demo`. Ends with 1 where a figure is below its bar.

The tools come from their registries into an image of their own. They look at the site from the operator's network, as
most of them send more requests than a stranger may; nmap looks from another container, as a stranger. What each of them
said is in .grade/; with --document, docs/grades.md gets the table and what they still have to say.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hardening
import hosts
from demo import DEMO, DOMAIN, HOST, NETWORK, ROOT
from hosts import HostError, docker

DETAILS = ROOT / ".grade"
PAGE = ROOT / "docs" / "grades.md"
GRADER, STRANGER = "groundwork-grader", "groundwork-grader-stranger"
IMAGE = "groundwork-grader"
PYTHON = "/opt/grade/bin"
OBSERVATORY = "/opt/observatory/node_modules/@mdn/mdn-http-observatory"
AUTHORITY = "/root/acme-root.pem"
SITE = "forge"


@dataclass(frozen=True)
class Grade:
    """What a grader came to: the figure, whether it is at least as good as the bar, and what it still has to say."""

    grader: str
    version: str
    figure: str
    bar: str
    good: bool
    left: tuple[str, ...] = ()


def run(container: str, *command: str) -> str:
    """Output of a command in a container, whatever its exit status: a grader that has found something ends with 1."""
    line = ["sh", "-c", '"$@" 2>&1 || true', "sh", *command]
    return docker("exec", container, *line)


def keep(name: str, text: str) -> str:
    """Keep what a grader said, and return it."""
    (DETAILS / name).write_text(text, encoding="utf-8")
    return text


def found(pattern: str, text: str, otherwise: str = "?") -> str:
    """What a pattern finds in a text."""
    match = re.search(pattern, text)
    return match.group(1) if match else otherwise


def copy_tree(source: str, target: str, folder: str, into: str = "/") -> None:
    """Copy a folder, or a file, of one container into another one."""
    packed = subprocess.run(
        ["docker", "exec", source, "tar", "-c", "-C", "/", folder.lstrip("/")], capture_output=True, check=True
    )
    docker("exec", target, "mkdir", "-p", into)
    subprocess.run(["docker", "exec", "-i", target, "tar", "-x", "-C", into], input=packed.stdout, check=True)


def ports() -> Iterator[Grade]:
    """Ports that a stranger finds open."""
    options = ["-Pn", "-n", "-p-", "--min-rate", "5000", "--max-retries", "1", "-oG", "-"]
    said = keep("nmap.txt", run(STRANGER, "nmap", *options, hosts.address(HOST, NETWORK)))
    is_open = sorted(map(int, re.findall(r"(\d+)/open/tcp", said)))
    version = found(r"Nmap (\S+)", said)
    yield Grade("nmap", version, ", ".join(map(str, is_open)), "22, 80, 443", is_open == [22, 80, 443])


def testssl() -> Iterator[Grade]:
    """TLS and headers by testssl.sh."""
    options = ["--quiet", "--color", "0", "--warnings", "off", "--overwrite", "--add-ca", AUTHORITY]
    run(GRADER, "testssl", *options, "--jsonfile-pretty", "/root/testssl.json", f"https://{DOMAIN}")
    report = json.loads(keep("testssl.json", run(GRADER, "cat", "/root/testssl.json")))
    [result] = report["scanResult"]
    findings = [item for part in result.values() if isinstance(part, list) for item in part if isinstance(item, dict)]
    grade = next((item["finding"] for item in findings if item.get("id") == "overall_grade"), "none")
    left = [f"{i['id']}: {i['finding']} ({i['severity']})" for i in findings if i["severity"] not in ("OK", "INFO")]
    serious = [item["id"] for item in findings if item.get("severity") in ("MEDIUM", "HIGH", "CRITICAL")]
    figure = f"{grade}, {', '.join(serious) or 'nothing'} at MEDIUM or above"
    yield Grade(
        "testssl.sh", report.get("version", "?"), figure, "A+, nothing", grade == "A+" and not serious, tuple(left)
    )


def sslyze() -> Iterator[Grade]:
    """TLS against Mozilla's intermediate profile."""
    options = ["--mozilla_config", "intermediate", "--certinfo_ca_file", AUTHORITY]
    said = keep("sslyze.txt", run(GRADER, f"{PYTHON}/sslyze", *options, DOMAIN))
    good = f"{DOMAIN}:443: OK - Compliant" in said
    reasons = re.findall(r"^\s+\* (\w+):", said.partition("COMPLIANCE AGAINST")[2], re.MULTILINE)
    figure = "compliant" if good else f"not compliant: {', '.join(reasons) or 'see .grade/sslyze.txt'}"
    yield Grade("sslyze, Mozilla intermediate", python_version("sslyze"), figure, "compliant", good)


def observatory() -> Iterator[Grade]:
    """Headers by MDN's HTTP Observatory."""
    command = ["env", f"NODE_EXTRA_CA_CERTS={AUTHORITY}", "node", f"{OBSERVATORY}/src/scan.js", DOMAIN]
    said = keep("observatory.json", run(GRADER, *command))
    scan = json.loads(said)["scan"]
    version = json.loads(run(GRADER, "cat", f"{OBSERVATORY}/package.json"))["version"]
    figure = f"{scan['grade']}, {scan['score']}"
    good = scan["grade"] == "A+" and scan["score"] >= 125
    tests = json.loads(said)["tests"].items()
    left = tuple(f"{name}: {test['result']} ({test['scoreModifier']:+})" for name, test in tests)
    yield Grade("MDN HTTP Observatory", version, figure, "A+, 125", good, left)


def gixy() -> Iterator[Grade]:
    """nginx's configuration by gixy-ng."""
    docker("exec", GRADER, "rm", "-rf", "/etc/nginx")
    copy_tree(HOST, GRADER, "/etc/nginx")
    said = keep("gixy.txt", run(GRADER, f"{PYTHON}/gixy", "/etc/nginx/nginx.conf"))
    counts = [found(rf"{level}: (\d+)", said) for level in ("High", "Medium", "Low")]
    version = python_version("gixy-ng")
    yield Grade("gixy-ng, high/medium/low", version, "/".join(counts), "0/0/0", counts == ["0"] * 3)


def converge(**values: object) -> None:
    """Have the host's ways in follow the demo's inventory, with other values for some variables."""
    playbook = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/demo", "site.yml"]
    command = [*playbook, "--tags", "ssh,bans,firewall", "-e", json.dumps(values)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    keep("converge.txt", done.stdout + done.stderr)
    if done.returncode:
        raise HostError("the host could not be made ready for ssh-audit: see .grade/converge.txt")


def ssh_audit() -> Iterator[Grade]:
    """sshd by ssh-audit, by both profiles, from an operator's address: nobody else may connect that often."""
    gateway = hosts.gateway(NETWORK)
    try:
        for profile, bar in {"usual": None, "strict": 0}.items():
            converge(sshd_profile=profile, groundwork_operator_networks=[gateway])
            command = [f"{PYTHON}/ssh-audit", "--no-colors", "--skip-rate-test", DOMAIN]
            said = keep(f"ssh-audit-{profile}.txt", run(GRADER, *command))
            counts = Counter(re.findall(r"\[(fail|warn)\]", said))
            yield Grade(
                f"ssh-audit, {profile} profile",
                python_version("ssh-audit"),
                f"{counts['fail']} failures, {counts['warn']} warnings",
                "0 failures" + (f", {bar} warnings" if bar is not None else ""),
                "(gen) banner" in said and counts["fail"] == 0 and bar in (None, counts["warn"]),
                tuple(" ".join(line.split()) for line in said.splitlines() if "[warn]" in line or "[fail]" in line),
            )
    finally:
        converge()


def lynis() -> Iterator[Grade]:
    """The host by Lynis, which is copied there and removed again."""
    for folder in hardening.FOLDERS:
        copy_tree(GRADER, HOST, folder, hardening.PLACE)
    try:
        said = keep("lynis.txt", run(HOST, "sh", "-c", hardening.AUDIT))
    finally:
        docker("exec", HOST, "sh", "-c", hardening.REMOVE)
    index = hardening.index(said)
    left = tuple(re.findall(r"^  \* (.*\[[A-Z]+-\d+\])", said, re.MULTILINE))
    yield Grade("Lynis", run(GRADER, "lynis", "--version").strip(), f"{index}", "80", index >= 80, left)


def systemd() -> Iterator[Grade]:
    """The sandboxes of the units that the collection ships, while the site answers."""
    exposures = hardening.exposures(lambda command: run(HOST, "sh", "-c", command))
    left = tuple(f"{name}: {value}" for name, value in sorted(exposures.items()))
    keep("systemd.txt", "".join(f"{line}\n" for line in left))
    version = found(r"systemd (\d+)", run(HOST, "systemctl", "--version"))
    others = {name: level for name, level in exposures.items() if not name.startswith(f"{SITE}@")}
    site = max(level for name, level in exposures.items() if name not in others)
    worst, value = max(others.items(), key=lambda item: item[1])
    yield Grade("systemd-analyze security, gunicorn", version, f"{site}", "1.5", site <= 1.5)
    yield Grade(
        f"systemd-analyze security, {len(others)} others", version, f"{value} ({worst})", "3.0", value <= 3.0, left
    )


def django() -> Iterator[Grade]:
    """The project by its own framework."""
    said = keep("django.txt", run(HOST, f"{SITE}-manage", "check", "--deploy"))
    version = run(HOST, f"{SITE}-manage", "version").strip()
    issues, silenced = found(r"identified (no|\d+) issue", said), found(r"\((\d+) silenced\)", said, "none")
    yield Grade(
        "manage.py check --deploy", version, f"{issues} issues, {silenced} silenced", "no issues", issues == "no"
    )


#: The stranger comes first: nobody has yet been limited for what another grader did.
GRADERS: dict[str, Callable[[], Iterator[Grade]]] = {
    "nmap": ports,
    "observatory": observatory,
    "testssl": testssl,
    "sslyze": sslyze,
    "gixy": gixy,
    "ssh-audit": ssh_audit,
    "lynis": lynis,
    "systemd": systemd,
    "django": django,
}


def python_version(package: str) -> str:
    """Version of one of the graders that are Python."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return run(GRADER, f"{PYTHON}/python", "-c", code).strip()


def start() -> None:
    """Start the containers that the graders run in."""
    hosts.remove([GRADER, STRANGER])
    name = f"{DOMAIN}:{hosts.address(HOST, NETWORK)}"
    # The operator reaches the host from the machine itself.
    docker("run", "--detach", "--name", GRADER, "--network", "host", "--add-host", name, IMAGE)
    docker("run", "--detach", "--name", STRANGER, "--network", NETWORK, IMAGE)
    docker("cp", str(DEMO / "acme-root.pem"), f"{GRADER}:{AUTHORITY}")


def table(grades: list[Grade]) -> str:
    """The grades as a table in Markdown."""
    rows = [("grader", "version", "figure", "bar", "")]
    rows += [(g.grader, g.version, g.figure, g.bar, "ok" if g.good else "BELOW") for g in grades]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def document(grades: list[Grade]) -> str:
    """The page of the documentation: the table, and what is left."""
    system = found(r'PRETTY_NAME="(.*)"', run(HOST, "cat", "/etc/os-release"))
    parts = [
        "# Graded by others",
        f"Made by `lab/grade.py --document` on {time.strftime('%Y-%m-%d')}, of the host of `make demo`: {system} in a "
        "container. What a container hides, such as settings of the kernel and the audit, counts against it at Lynis.",
        table(grades).rstrip(),
    ]
    for grade in grades:
        if grade.left:
            parts += [f"## {grade.grader}, in detail", "\n".join(f"* {line}" for line in dict.fromkeys(grade.left))]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    documented = "--document" in sys.argv
    wanted = [name for name in sys.argv[1:] if name != "--document"] or list(GRADERS)
    if unknown := set(wanted) - set(GRADERS):
        print(f"grade.py: there is no {', '.join(sorted(unknown))}; there are {', '.join(GRADERS)}", file=sys.stderr)
        return 2
    if not (DEMO / "acme-root.pem").exists() or not hosts.inspect(HOST):
        print("grade.py: there is no demo to grade: run `make demo` first", file=sys.stderr)
        return 1
    DETAILS.mkdir(exist_ok=True)
    grades: list[Grade] = []
    try:
        start()
        for name in wanted:
            began = time.monotonic()
            grades += GRADERS[name]()
            print(f"  {name} {time.monotonic() - began:.0f} s", flush=True)
    except (HostError, subprocess.CalledProcessError) as error:
        print(f"grade.py: {error}", file=sys.stderr)
        return 1
    finally:
        hosts.remove([GRADER, STRANGER])
    print("\n" + keep("table.md", table(grades)))
    if documented:
        PAGE.write_text(document(grades), encoding="utf-8")
    return int(not all(grade.good for grade in grades))


if __name__ == "__main__":
    sys.exit(main())
