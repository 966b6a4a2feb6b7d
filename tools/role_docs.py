#!/usr/bin/env python3
"""Write the tables of variables from the roles' meta/argument_specs.yml: into each README, and docs/variables.md.

    tools/role_docs.py            write what is not up to date
    tools/role_docs.py --check    write nothing; name the files that are not up to date, and exit 1

In a README the table stands between the lines `<!-- variables: begin -->` and `<!-- variables: end -->`. The page
docs/variables.md is written whole, when no roles are named.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = ROOT / "roles"
PAGE = ROOT / "docs" / "variables.md"
#: the order of the page: the vocabulary first, then as in playbooks/site.yml; roles not listed come last, by name
ORDER = (
    *("site_settings", "base", "sshd", "postgres", "redis", "pgbouncer", "nginx", "gunicorn_app"),
    *("certbot", "backups", "logrotate", "fail2ban", "ufw"),
)
INTRODUCTION = """\
# Variables

Every variable of every role, written by `tools/role_docs.py` from the roles' `meta/argument_specs.yml`. Set them in the
`group_vars` of an environment. Most sites need only the ones that are **required**.
"""
BEGIN = "<!-- variables: begin -->"
END = "<!-- variables: end -->"
LONGEST_DEFAULT = 60


def options_of(role: Path) -> dict[str, dict]:
    """The options of entry point ``main`` of the role in folder ``role``, in their order."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return specs["argument_specs"]["main"].get("options") or {}


def table(options: Mapping[str, Mapping[str, object]]) -> str:
    """The options as a Markdown table; keys of nested options follow their option, named by their path."""
    if not options:
        return "This role has no variables.\n"
    lines = ["| variable | type | default | what it is |", "|---|---|---|---|", *_rows(options)]
    return "\n".join(lines) + "\n"


def with_table(readme: str, options: Mapping[str, Mapping[str, object]]) -> str:
    """The text of ``readme`` with a fresh table between its marks. Raises ValueError when a mark is missing."""
    head, begin, rest = readme.partition(BEGIN + "\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"it has no lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{table(options)}{END}{tail}"


def page(roles: list[Path]) -> str:
    """The text of docs/variables.md: one table for each role."""
    order = {name: place for place, name in enumerate(ORDER)}
    parts = [INTRODUCTION]
    for role in sorted(roles, key=lambda role: (order.get(role.name, len(order)), role.name)):
        heading = f"## [{role.name}](../roles/{role.name}/README.md)"
        text = table(options_of(role)).replace("](defaults/main.yml)", f"](../roles/{role.name}/defaults/main.yml)")
        parts.append(f"{heading}\n\n{text}")
    return "\n".join(parts)


def _rows(options: Mapping[str, Mapping[str, object]], prefix: str = "") -> Iterator[str]:
    """One line of the table for each option and each key nested in it."""
    for name, spec in options.items():
        path = f"{prefix}{name}"
        yield f"| {' | '.join((f'`{path}`', _type(spec), _default(spec), _description(spec)))} |"
        if spec.get("options"):
            yield from _rows(spec["options"], f"{path}[]." if spec.get("type") == "list" else f"{path}.")


def _type(spec: Mapping[str, object]) -> str:
    """The type, with that of a list's elements."""
    kind = str(spec.get("type") or "str")
    return f"{kind} of {spec['elements']}" if spec.get("elements") else kind


def _default(spec: Mapping[str, object]) -> str:
    """The default as it would be written, or where to look for a long one."""
    if spec.get("required"):
        return "**required**"
    if spec.get("default") is None:
        return ""
    value = spec["default"]
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = f'"{value}"'
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).replace("\n...\n", "").strip()
    if len(text) > LONGEST_DEFAULT or "\n" in text:
        return "see [defaults](defaults/main.yml)"
    return f"`{_escaped(text)}`"


def _description(spec: Mapping[str, object]) -> str:
    """The description on one line, with its choices."""
    description = spec.get("description") or ""
    parts = [description] if isinstance(description, str) else list(description)
    if spec.get("choices"):
        parts.append("One of " + ", ".join(f"`{choice}`" for choice in spec["choices"]) + ".")
    text = " ".join(" ".join(part.split()) for part in parts)
    return _escaped(re.sub(r"\b[CVIOB]\(([^()]*)\)", r"`\1`", text))


def _escaped(text: str) -> str:
    """``text`` fit for a cell of a table."""
    return text.replace("|", "\\|")


def main() -> int:
    """Exit status: 0 when all is up to date or has been written, 1 when not."""
    parser = argparse.ArgumentParser(description="Write the table of variables into each role's README.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 naming what is not up to date")
    parser.add_argument("roles", nargs="*", help="names of roles (default: all)")
    arguments = parser.parse_args()

    roles = sorted(path.parents[1] for path in ROLES.glob("*/meta/argument_specs.yml"))
    stale: list[str] = []
    wanted: dict[Path, str] = {} if arguments.roles else {PAGE: page(roles)}
    for role in roles:
        if arguments.roles and role.name not in arguments.roles:
            continue
        readme = role / "README.md"
        try:
            wanted[readme] = with_table(readme.read_text(encoding="utf-8"), options_of(role))
        except (FileNotFoundError, ValueError) as error:
            stale.append(f"{readme.relative_to(ROOT)}: {error}")
    for path, text in wanted.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if arguments.check:
            stale.append(f"{path.relative_to(ROOT)} is not up to date: run tools/role_docs.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")
    print(*stale, sep="\n", end="\n" if stale else "", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
