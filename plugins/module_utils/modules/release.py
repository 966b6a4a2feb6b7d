# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module release does on the host."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import audit, release_steps
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.generated_secrets import GeneratedSecrets
from ansible_collections.groundwork.django.plugins.module_utils.proxy import Proxy
from ansible_collections.groundwork.django.plugins.module_utils.release_lock import Held, ReleaseLock
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

TEXT = {"type": "str", "default": ""}
WORDS = {"type": "list", "elements": "str", "default": []}
SITE_PATHS = ("directory", "run_directory", "static_directory", "log_directory", "runner")
SITE_OPTIONS = {
    **{name: {"type": "str", "required": True} for name in ("name", "user")},
    **{name: {"type": "path", "required": True} for name in SITE_PATHS},
}
SOURCE_OPTIONS = {
    "type": {"type": "str", "choices": ["archive", "directory", "git", "package"], "required": True},
    "path": {"type": "str"},
    "exclude": WORDS,
    "url": {"type": "str"},
    "ref": {"type": "str", "default": "HEAD"},
    "ssh_key": {"type": "str", "no_log": True},
    "host_keys": {**WORDS, "no_log": False},
    "checksum": TEXT,
    "spec": TEXT,
    "digest": {"type": "str"},
}
PACKAGES_OPTIONS = {
    "installer": {"type": "str", "choices": ["auto", "lock", "requirements", "project", "none"], "default": "auto"},
    "requirements": WORDS,
    "groups": WORDS,
    "extras": WORDS,
    "extra_packages": WORDS,
    "require_hashes": {"type": "bool", "default": False},
    "install_args": WORDS,
    "python": {"type": "str", "default": "python3"},
}
SHARED_OPTIONS = {
    "directory": {"type": "path", "required": True},
    "paths": WORDS,
}
COMMAND_OPTIONS = {
    "name": {"type": "str", "default": "command"},
    # A list of words, or one line for a shell.
    "command": {"type": "raw", "required": True},
    "chdir": TEXT,
    "environment": {"type": "dict", "default": {}},
    "creates": TEXT,
    "first_deploy_only": {"type": "bool", "default": False},
    "writable": WORDS,
    "properties": WORDS,
}
PROXY_OPTIONS = {
    "socket_file": {"type": "path", "required": True},
    "proxy_user": TEXT,
    "proxy_reload_command": WORDS,
}
HEALTH_OPTIONS = {
    "path": {"type": "str", "default": "/"},
    "host": TEXT,
    "headers": {"type": "dict", "default": {}},
    "status": {"type": "list", "elements": "str", "default": ["200-399"]},
    "contains": TEXT,
    "timeout_seconds": {"type": "int", "default": 10},
    "retries": {"type": "int", "default": 30},
}
ARGUMENTS = {
    "step": {
        "type": "str",
        "required": True,
        "choices": ["inspect", "fetch", "install", "run", "migrate", "target", "start", "switch", "finish", "import"],
    },
    "site": {"type": "dict", "required": True, "options": SITE_OPTIONS},
    "proxy": {"type": "dict", "required": True, "options": PROXY_OPTIONS},
    "run": {"type": "dict", "default": {}},
    "gone": {"type": "dict", "default": {}},
    "id": TEXT,
    "source": {"type": "dict", "options": SOURCE_OPTIONS},
    # At the top level: what is nested is written to the journal of the host.
    "ssh_key": {**TEXT, "no_log": True},
    "archive": {"type": "path"},
    "file": {"type": "path"},
    "replace": {"type": "bool", "default": False},
    "identity": TEXT,
    "packages": {"type": "dict", "options": PACKAGES_OPTIONS, "default": {}, "apply_defaults": True},
    # It may hold a password.
    "index_url": {**TEXT, "no_log": True},
    "uv_requirements": TEXT,
    "project_subdir": TEXT,
    "env": {"type": "str", "no_log": True},
    "generate": {"type": "dict", "default": {}},
    "gunicorn_conf": TEXT,
    # JSON: what is nested is written to the journal of the host.
    "files": {**TEXT, "no_log": True},
    "shared": {"type": "dict", "options": SHARED_OPTIONS},
    "commands": {"type": "list", "elements": "dict", "options": COMMAND_OPTIONS, "default": []},
    "timeout_seconds": {"type": "int", "default": 90},
    "health": {"type": "dict", "options": HEALTH_OPTIONS},
    "domain": {"type": "str", "default": "localhost"},
    "processes": {"type": "list", "elements": "dict", "default": []},
    "manage_command": WORDS,
    "restore_point_command": WORDS,
    "migrations": {"type": "dict", "default": {}},
    "check": {"type": "bool", "default": False},
    "back": {"type": "bool", "default": False},
    "anyway": {"type": "bool", "default": False},
    "bad_again": {"type": "bool", "default": False},
    "drain_seconds": {"type": "int", "default": 60},
    "keep_releases": {"type": "int", "default": 5},
    "secrets": {**WORDS, "no_log": True},
}
"""Options of the module."""
CONSTRAINTS = {
    "required_if": [
        ("step", "inspect", ["source", "identity"]),
        ("step", "fetch", ["source", "id", "env", "shared"]),
        ("step", "install", ["source", "id"]),
        ("step", "migrate", ["health", "id"]),
        ("step", "start", ["health", "id"]),
        ("step", "import", ["file", "manage_command"]),
    ],
}
"""Which options go together, as AnsibleModule has it."""


SHORTEST_HIDDEN = 6
"""Length of the shortest secret that is kept out of the logs of releases: shorter ones are parts of other words."""

STEPS = {
    "inspect": release_steps.inspect,
    "fetch": release_steps.fetch,
    "install": release_steps.install,
    "run": release_steps.run_commands,
    "migrate": release_steps.migrate,
    "target": release_steps.target,
    "start": release_steps.start,
    "switch": release_steps.switch,
    "finish": release_steps.finish,
    "import": release_steps.import_sqlite,
}
"""What is done in each step: a function of module, site and proxy that returns the result. Raises Refusal."""
LOOKS = ("inspect", "target", "import")
"""Steps that look, and do so in check mode too."""


def take(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Take a step in the turn of this run, and note in the audit log what came of it. Raises Refusal."""
    step = module.params["step"]
    with ReleaseLock(site.name, module.params["run"], module.params["gone"]) as lock:
        try:
            module.no_log_values.update(GeneratedSecrets(site.name).kept().values())
            site.hidden = {value for value in module.no_log_values if len(value) >= SHORTEST_HIDDEN}
            result = STEPS[step](module, site, proxy)
        except Refusal:
            audit.note(site, "failed", module.params["run"], lock.seconds, release=module.params["id"], step=step)
            raise
        if result.get("switched"):
            facts = site.facts(module.params["id"])
            known = {name: facts[name] for name in ("source", "previous", "slot") if name in facts}
            event = "rolled back" if module.params["back"] else "released"
            audit.note(site, event, module.params["run"], lock.seconds, release=module.params["id"], **known)
        if step == "import":
            rows = sum(result["rows"].values())
            audit.note(site, "imported", module.params["run"], lock.seconds, release=module.params["id"], rows=rows)
        lock.over = step == "finish" or not result.get("switch_needed", True)
    return result


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    site = Site(module.params["site"])
    proxy = Proxy(site, module.params["proxy"])
    step = module.params["step"]
    os.umask(0o022)
    try:
        if not module.check_mode:
            result = take(module, site, proxy)
        else:
            result = STEPS[step](module, site, proxy) if step in LOOKS else {"changed": False}
    except Held as held:
        module.fail_json(msg=str(held), held_by=held.run)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(**result)
