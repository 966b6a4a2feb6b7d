# SPDX-License-Identifier: GPL-3.0-or-later
"""A Django project, read as a whole."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ansible_collections.groundwork.django.plugins.plugin_utils import site_rules
from ansible_collections.groundwork.django.plugins.plugin_utils.detect import environment, requirements, settings
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import Checkout, DetectionError

DEEPEST_MANAGE = 2


@dataclass(frozen=True)
class Project:
    """What every part of the page is made from."""

    checkout: Checkout
    packages: requirements.Requirements
    manage: str
    choice: settings.Choice | None
    #: the files that the settings are made of
    files: list[str]
    variables: list[environment.Variable]
    site: str

    @property
    def postgis(self) -> str:
        """Where GeoDjango is used; nothing where it is not."""
        words = ("backends.postgis", "postgis://", "django.contrib.gis")
        settings_of_it = ("DATABASES", "INSTALLED_APPS")
        found = (settings.holder_of(self.checkout, self.files, name, words) for name in settings_of_it)
        return next((fact.place for fact in found if fact), "")

    def has(self, *names: str) -> str:
        """The place of the first of these requirements that the project has; nothing where it has none."""
        return next((self.packages.packages[name] for name in names if name in self.packages.packages), "")


def read(root: str) -> Project:
    """Read a checkout. Raises DetectionError where it is no directory or holds no Django project."""
    checkout = Checkout(root)
    manage = next(iter(checkout.named("manage.py", DEEPEST_MANAGE)), "")
    checkout.subdir = os.path.dirname(manage)
    packages = requirements.read(checkout)
    starters = [*checkout.named("wsgi.py", 4), *checkout.named("asgi.py", 4), *([manage] if manage else [])]
    starters += [path for target in packages.scripts.values() if (path := checkout.module(target.partition(":")[0]))]
    choice = settings.choose(checkout, [*starters, *checkout.named("__main__.py", 3)])
    if not manage and choice is None:
        raise DetectionError(
            f'source is "{root}", where neither manage.py nor the settings of a Django project are: name the directory '
            "that holds manage.py, or one up to two levels above it."
        )
    files = settings.files_of(checkout, choice.module) if choice else []
    name = re.sub(r"[^a-z0-9]+", "_", (packages.project or os.path.basename(root)).lower()).strip("_")
    site = name[:24].strip("_")
    if any(site_rules.site_name_faults(site)):
        site = f"site_{site}".strip("_")
    return Project(checkout, packages, manage, choice, files, environment.variables(checkout, files), site)
