# SPDX-License-Identifier: GPL-3.0-or-later
"""Propose the variables of a site from a checkout of its code, of which nothing is executed.

The readers are in the directory detect beside this file; here what they found becomes a page of YAML.
"""

from __future__ import annotations

import os
import platform
import re

from ansible_collections.groundwork.django.plugins.plugin_utils.detect import (
    environment_part,
    meaning,
    requirements,
    settings,
    surroundings,
)
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import Fact
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.page import Page
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.project import DEEPEST_MANAGE, Project, read

_MODULE = re.compile(r"[A-Za-z_]\w*([.][A-Za-z_]\w*)*(:[A-Za-z_]\w*)?\Z")
_PYTHONS = "python3 is 3.11 on Debian 12, 3.13 on Debian 13, 3.10 on Ubuntu 22.04, 3.12 on 24.04, 3.14 on 26.04"
_SERVED = "nginx serves the directory that the role names"


def detect(root: str) -> Page:
    """The page for the checkout at the absolute path ``root``. Raises DetectionError in one sentence."""
    project = read(root)
    page = Page()
    page.note(f"Proposed by groundwork.django.detect for {root}; nothing of it was executed.")
    page.note("Each value has above it where it was read, or why it is a guess. Fill in what is commented.")
    parts = (_site, _django, _packages, _build, _static, _database, _health)
    for part in (*parts, environment_part.write, _processes, _unreadable):
        part(page, project)
    return page


def _site(page: Page, project: Project) -> None:
    page.part("The site")
    origin = "the name in pyproject.toml" if project.packages.project else "the name of the directory"
    page.value("groundwork_site_name", project.site, f"A guess: {origin}. It names user, directories and database.")
    page.missing(
        "groundwork_site_domains", ["www.example.org"], "No file says it: the domains, the canonical one first."
    )
    page.missing("certbot_email", "operations@example.org", "No file says it: where Let's Encrypt writes to.")
    found = surroundings.remote(project.checkout)
    if found and re.match(r"(https://|ssh://|[\w.-]+@[\w.-]+:)\S+$", found[0]):
        value = {"type": "git", "url": found[0], "ref": found[1]}
        page.value("gunicorn_app_source", value, "From .git/config and .git/HEAD. A private one needs ssh_key as well.")
        if ".gitmodules" in project.checkout.files:
            page.note("There is a .gitmodules: submodules are not fetched.")
    else:
        value = {"type": "directory", "path": project.checkout.root}
        page.value("gunicorn_app_source", value, "The checkout itself, since no remote of git is known for it.")


def _django(page: Page, project: Project) -> None:
    page.part("Django")
    checkout, files = project.checkout, project.files
    if project.manage:
        page.value("gunicorn_app_project_subdir", checkout.subdir, f"{project.manage}.")
        others = [path for path in checkout.named("manage.py", DEEPEST_MANAGE) if path != project.manage]
        if others:
            page.note(f"There are others: {', '.join(others)}.")
    else:
        command, why = _manage_command(project)
        page.value("gunicorn_app_manage_command", command, why)
    choice = project.choice
    if choice and _MODULE.match(choice.module):
        page.value("gunicorn_app_settings_module", choice.module, f"{choice.why}.")
        if checkout.module(choice.module) is None:
            page.note(f"No file of the checkout is {choice.module}: it must come from an installed package.")
    else:
        page.missing(
            "gunicorn_app_settings_module", "config.settings", "Not found: the module of a real site's settings."
        )
    wsgi = settings.application(checkout, files, "WSGI_APPLICATION", "wsgi.py")
    asgi = settings.application(checkout, files, "ASGI_APPLICATION", "asgi.py")
    channels = project.has("channels", "daphne")
    if asgi and _MODULE.match(asgi.value) and (channels or not wsgi):
        why = f"It uses WebSockets: {channels}." if channels else "There is no WSGI application."
        page.value("gunicorn_app_asgi", asgi.value, f"{asgi.place}. {why}")
    elif wsgi and _MODULE.match(wsgi.value):
        page.value("gunicorn_app_wsgi", wsgi.value, f"{wsgi.place}.")
    else:
        page.missing(
            "gunicorn_app_wsgi", "config.wsgi:application", "Not found: the WSGI application, as gunicorn takes it."
        )


def _manage_command(project: Project) -> tuple[list[str], str]:
    """What runs management commands where there is no manage.py, and why."""
    checkout = project.checkout
    for name, target in project.packages.scripts.items():
        path = checkout.module(target.partition(":")[0])
        if path and "DJANGO_SETTINGS_MODULE" in checkout.text(path):
            return [name], f"pyproject.toml has the script {name}, which is {path}; the project must be installed."
    for path in checkout.named("__main__.py", 3):
        if "execute_from_command_line" in checkout.text(path):
            return ["python", "-m", checkout.module_name(path).removesuffix(".__main__")], f"{path}."
    return ["python", "-m", "django"], "A guess: there is no manage.py."


def _packages(page: Page, project: Project) -> None:
    page.part("Packages")
    found = project.packages
    if found.installer:
        page.value("gunicorn_app_installer", found.installer, f"{found.why}.")
        if found.extras:
            listed = ", ".join(f"{kind} {name}" for name, kind in found.extras.items())
            page.note(f"pyproject.toml has: {listed}. Name what a real site needs, beside the dependencies.")
            page.missing("gunicorn_app_groups", ["live"], "Groups; dev is never installed.")
            page.missing("gunicorn_app_extras", ["redis"], "Extras.")
    elif found.files:
        page.value("gunicorn_app_requirements", found.files, f"{found.why}.")
        why = "Every requirement has a hash." if found.hashed else "Not every requirement has a hash."
        page.value("gunicorn_app_requirements_hashed_enabled", found.hashed, why)
    else:
        why = f"There is no requirements file, which the role installs from. This makes one: {found.remedy}"
        page.missing("gunicorn_app_requirements", ["requirements.txt"], why)
    if found.extras and not found.installer:
        listed = ", ".join(f"{kind} {name}" for name, kind in found.extras.items())
        page.note(f"pyproject.toml also has: {listed}. Add what a real site needs to the requirements file.")
    gunicorn = project.has("gunicorn")
    if gunicorn:
        page.note(f"gunicorn is among the requirements ({gunicorn}).")
    else:
        page.note("gunicorn is not among the requirements: gunicorn_app_extra_packages brings it, as its default says.")
    if found.packages and not project.has("psycopg", "psycopg2", "psycopg2-binary"):
        page.note("No driver of PostgreSQL is among the requirements: add psycopg[binary] to them.")
    for name, why in requirements.UNSUPPORTED.items():
        if name in found.packages:
            page.note(f"{why} ({found.packages[name]}).")
    if found.pythons:
        said = "; ".join(f'"{fact.value}" ({fact.place})' for fact in found.pythons)
        page.missing(
            "gunicorn_app_python", "python3", f"The project asks for Python {said}. {_PYTHONS}; it must be on the host."
        )
    _system_packages(page, project)


def _system_packages(page: Page, project: Project) -> None:
    """The packages of the system that requirements, GeoDjango, front ends and catalogues need."""
    needs = list(project.packages.system())
    if project.postgis:
        needs.append((["gdal-bin"], [], f"GeoDjango loads GDAL, GEOS and PROJ, which come with it ({project.postgis})"))
    if next(surroundings.front_ends(project.checkout), None):
        needs.append(([], ["nodejs", "npm"], "package.json has a script named build"))
    catalogue = surroundings.untranslated(project.checkout)
    if catalogue:
        needs.append(([], ["gettext"], f"{catalogue} is not compiled"))
    for position, name in enumerate(("gunicorn_app_system_packages", "gunicorn_app_build_packages")):
        wanted = dict.fromkeys(package for need in needs for package in need[position])
        if wanted:
            reasons = "; ".join(need[2] for need in needs if need[position])
            page.value(name, list(wanted), f"{reasons}.")


def _build(page: Page, project: Project) -> None:
    commands, reasons = [], []
    for folder, command, script in surroundings.front_ends(project.checkout):
        subdir = project.checkout.subdir
        if not subdir or folder == subdir or folder.startswith(f"{subdir}/"):
            below = os.path.relpath(folder or ".", subdir or ".")
            commands.append({"command": command, **({} if below == "." else {"chdir": below})})
        elif re.fullmatch(r"[\w./-]*", folder):
            # The directory of manage.py is reached by a link, which `cd ..` alone would go back along.
            upwards = os.path.relpath(folder or ".", subdir)
            commands.append({"command": f'cd "$(pwd -P)/{upwards}" && {command}'})
        reasons.append(f"{script.place} runs {script.value}")
    catalogue = surroundings.untranslated(project.checkout)
    if catalogue:
        commands.append(
            {"command": "python manage.py compilemessages" if project.manage else "django-admin compilemessages"}
        )
        reasons.append(f"{catalogue} is not compiled")
    if commands:
        page.part("What completes the source")
        page.value("gunicorn_app_build_commands", commands, f"{'; '.join(reasons)}.")


def _static(page: Page, project: Project) -> None:
    page.part("Static files and uploads")
    names = {variable.name for variable in project.variables}
    for word in ("static", "media"):
        url = settings.text_setting(project.checkout, project.files, f"{word.upper()}_URL")
        address = (url.value if "//" in url.value else f"/{url.value.strip('/')}").rstrip("/") + "/" if url else ""
        if url and re.fullmatch(r"(https?://[\w.-]+(:\d+)?)?/([\w.~-]+/)+|https?://[\w.-]+(:\d+)?/", address):
            page.value(f"groundwork_site_{word}_url", address, f"{url.place}.")
        else:
            why = f"{word.upper()}_URL is no constant that was found: look what it is."
            page.missing(f"groundwork_site_{word}_url", f"/{word}/", why)
        root = f"{word.upper()}_ROOT"
        places = list(settings.assigned(project.checkout, project.files, root))
        if places and root not in names:
            place, _node = places[0]
            page.note(f'{root} is not read from the environment ({place}), and {_SERVED} there: os.environ["{root}"].')
        elif not places and word == "static":
            page.note(
                f"{root} was not found in the settings: collectstatic needs it, and {_SERVED} in the environment."
            )


def _database(page: Page, project: Project) -> None:
    page.part("Database")
    found = surroundings.extensions(project.checkout)
    if project.postgis:
        found.setdefault("postgis", project.postgis)
    names = {
        name: place for name, place in found.items() if re.fullmatch(r"[a-z][a-z0-9_-]*", name) and name != "plpgsql"
    }
    if names:
        why = "; ".join(f"{name}: {place}" for name, place in names.items())
        page.value("groundwork_database_extensions", list(names), f"{why}.")
    else:
        page.note("No migration creates an extension.")
    if "postgis" in names:
        why = "The extension postgis is a package; from PostgreSQL's own repository postgresql-<version>-postgis-3."
        page.value("postgres_extra_packages", ["postgresql-postgis"], why)
    if "vector" in names:
        why = "The extension vector is a package of its own, which bears the version of PostgreSQL."
        page.missing("postgres_extra_packages", ["postgresql-17-pgvector"], why)
    other = settings.holder_of(project.checkout, project.files, "DATABASES", ("mysql", "oracle"))
    if other:
        page.note(f"{other.place} names {other.value}: the collection brings PostgreSQL only.")
    if not any(meaning.kind(variable).startswith("database") for variable in project.variables):
        page.note(
            "No name for the database is read from the environment: have DATABASES read DATABASE_URL, for example."
        )


def _health(page: Page, project: Project) -> None:
    page.part("Health")
    found = surroundings.health(project.checkout, project.files)
    if found:
        page.value("gunicorn_app_health", {"path": found.value}, f"A guess by its name: {found.place}.")
    else:
        why = "A guess: no path named health, readyz or the like was found. A page that asks the database proves more."
        page.value("gunicorn_app_health", {"path": "/"}, why)


def _processes(page: Page, project: Project) -> None:
    found = list(surroundings.processes(project.checkout))
    app = surroundings.celery(project.checkout)
    if app and not any("celery" in fact.value for _name, fact in found):
        found.append(("worker", Fact(f"celery -A {app.value} worker", f"a guess by {app.place}")))
    if not found:
        return
    page.part("Processes")
    proposed, places = [], []
    for name, fact in found:
        if name == "web":
            page.note(f"  web, which the role runs with its own settings of gunicorn: {fact.value} ({fact.place})")
        elif name == "release":
            page.note(
                f"  release, of which the role does collectstatic, check and migrate: {fact.value} ({fact.place})"
            )
        elif words := surroundings.plain_words(fact.value):
            proposed.append({"name": re.sub(r"[^a-z0-9_]", "_", name.lower()), "command": words})
            places.append(f"{name}, {fact.place}")
        else:
            page.note(f"  {name}, which needs a shell or holds a secret: {fact.value} ({fact.place})")
    if proposed:
        page.value("gunicorn_app_processes", proposed, f"What runs beside the web server: {'; '.join(places)}.")


def _unreadable(page: Page, project: Project) -> None:
    python = f"Python {platform.python_version()}"
    problems = [f"{path} cannot be read by {python}: {why}" for path, why in project.checkout.unreadable.items()]
    problems += project.packages.problems
    if problems:
        page.part("What could not be read")
        for problem in problems:
            page.note(f"{problem}.")
