# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the page about the environment: what is public, what is secret, what the roles set."""

from __future__ import annotations

from ansible_collections.groundwork.django.plugins.plugin_utils.detect import environment, meaning
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.page import Entry, Page
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.project import Project

_ISSUED = "put what its issuer gave you into vault.yml, not a random value"
_BROKER = "not the role redis, which may lose data"


def write(page: Page, project: Project) -> None:
    """Write it."""
    page.part("Environment")
    own = [variable for variable in project.variables if variable.name in meaning.OF_THE_ROLE]
    if own:
        page.note(f"The role sets these itself: {', '.join(f'{each.name} ({each.place})' for each in own)}.")
    public, secret = [], []
    for variable in project.variables:
        if variable in own:
            continue
        if meaning.kind(variable) == "redis":
            _write_redis(page, project, variable)
            continue
        entry, is_secret = _entry(project, variable)
        (secret if is_secret else public).append(entry)
    if public:
        page.mapping("gunicorn_app_environment", public, "What the settings read. Fill in what is required.")
    else:
        page.missing("gunicorn_app_environment", {"NAME": "value"}, "The settings read no name that was found.")
    if secret:
        page.mapping("gunicorn_app_secrets", secret, "What is secret, by its name. The values belong into vault.yml.")
    else:
        example = {"SECRET_KEY": f"{{{{ vault_{project.site}_secret_key }}}}"}
        page.missing("gunicorn_app_secrets", example, "No secret is read: SECRET_KEY should come from the environment.")


def _entry(project: Project, variable: environment.Variable) -> tuple[Entry, bool]:
    """The line for a name, and whether it is a secret."""
    name, why = variable.name, _read_at(variable)
    is_needed = variable.required and variable.is_certain
    if meaning.kind(variable) == "broker":
        return Entry(name, "redis://:password@redis.example.org:6379/0", f"{why}; {_BROKER}", False, is_needed), True
    known = meaning.meaning(variable, project.site, bool(project.postgis))
    if known:
        return Entry(name, known.value, f"{why}; {known.why}."), known.is_secret
    if variable.is_secret:
        value = f"{{{{ vault_{project.site}_{name.lower()} }}}}"
        return Entry(name, value, f"{why}; {_ISSUED}." if is_needed else why, is_needed), True
    default = "" if variable.hides_default() else variable.default or ""
    return Entry(name, default, why, False, is_needed), False


def _read_at(variable: environment.Variable) -> str:
    """Where a name is read, and whether it must be set. The default of a secret is never shown."""
    if variable.required:
        return f"{variable.place}, required{'' if variable.is_certain else ' under a condition'}"
    default = f", its default is {variable.code[:60]}" if variable.code and not variable.hides_default() else ""
    return f"{variable.place}, optional{default}"


def _write_redis(page: Page, project: Project, variable: environment.Variable) -> None:
    """The switch that gives the site a Redis of its own, which then sets REDIS_URL."""
    password = f"{{{{ vault_{project.site}_redis_password }}}}"
    why = f"{_read_at(variable)}. The role redis gives the site its own and sets REDIS_URL; its data may get lost."
    if variable.required and variable.is_certain:
        page.value("groundwork_redis_enabled", True, why)
        page.value(
            "groundwork_redis_password", password, "scripts/make_vault.py makes a random value.", is_template=True
        )
    else:
        page.missing("groundwork_redis_enabled", True, why)
        page.missing("groundwork_redis_password", password, "Then also:")
