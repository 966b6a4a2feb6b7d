"""Render the roles' templates as Ansible does, from defaults and facts, without a host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Before ansible is imported: it reads its settings once.
os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
os.chdir(ROOT)

from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402
from ansible.template import Templar, trust_as_template  # noqa: E402

init_plugin_loader()

#: the supported systems, by what the facts say of them
SYSTEMS = {
    "debian-12": {"distribution": "Debian", "distribution_version": "12.9", "distribution_release": "bookworm"},
    "debian-13": {"distribution": "Debian", "distribution_version": "13.1", "distribution_release": "trixie"},
    "ubuntu-22.04": {"distribution": "Ubuntu", "distribution_version": "22.04", "distribution_release": "jammy"},
    "ubuntu-24.04": {"distribution": "Ubuntu", "distribution_version": "24.04", "distribution_release": "noble"},
    "ubuntu-26.04": {"distribution": "Ubuntu", "distribution_version": "26.04", "distribution_release": "resolute"},
}
SITE: dict[str, Any] = {
    "groundwork_site_name": "forge",
    "groundwork_site_domains": ["forge.example.org", "www.forge.example.org"],
    "certbot_email": "operations@example.org",
    "gunicorn_app_source": {"type": "directory", "path": str(ROOT / "app")},
    "gunicorn_app_settings_module": "config.settings",
    "gunicorn_app_wsgi": "config.wsgi:application",
    "inventory_hostname": "h1",
    "groups": {"app": ["h1"], "db": ["h1"]},
    "group_names": ["app", "db"],
    "ansible_play_hosts_all": ["h1"],
}


def values_of(loader: DataLoader, role: str) -> dict[str, Any]:
    """Defaults and private variables of a role."""
    values: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        for path in sorted((ROOT / "roles" / role / part).glob("main.yml")):
            values |= loader.load_from_file(str(path), trusted_as_template=True) or {}
    return values


def templar(role: str, system: str, facts: Mapping[str, Any] | None = None, **values: Any) -> Templar:
    """A templar that knows what a task of the role knows on a bare host of a system."""
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for path in sorted((ROOT / "roles").iterdir()):
        variables |= values_of(loader, path.name)
    given = {
        key: trust_as_template(value) if isinstance(value, str) else value for key, value in {**SITE, **values}.items()
    }
    told = {
        **SYSTEMS[system],
        "os_family": "Debian",
        "architecture": "x86_64",
        "memtotal_mb": 4096,
        "processor_nproc": 2,
        "ansible_local": {},
        **(facts or {}),
    }
    variables |= {"ansible_facts": told, "ansible_role_name": f"groundwork.django.{role}", "role_name": role, **given}
    templates = ROOT / "roles" / role / "templates"
    variables["ansible_search_path"] = [str(templates.parent)]
    loader.set_basedir(str(templates.parent))
    engine = Templar(loader=loader, variables=variables)
    return engine.copy_with_new_env(searchpath=[str(templates)])


def render(
    role: str, template: str, system: str = "debian-13", facts: Mapping[str, Any] | None = None, **values: Any
) -> str:
    """Text of a template, named by its path below the role's templates/."""
    source = (ROOT / "roles" / role / "templates" / template).read_text(encoding="utf-8")
    overrides = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}  # as template_tree has them
    engine = templar(role, system, facts, **values)
    return engine.template(trust_as_template(source), escape_backslashes=False, overrides=overrides)


def evaluate(
    role: str, expression: str, system: str = "debian-13", facts: Mapping[str, Any] | None = None, **values: Any
) -> Any:
    """Value of a Jinja expression as a task of the role sees it."""
    return templar(role, system, facts, **values).template(trust_as_template("{{ " + expression + " }}"))
