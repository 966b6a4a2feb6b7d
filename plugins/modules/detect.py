# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin detect; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: detect
short_description: Propose the variables of a site from a checkout of its code
version_added: "0.1.0"
author:
  - groundwork.django maintainers (@groundwork-django)
description:
  - Reads a checkout of any Django project on the controller and shows YAML for C(group_vars/<environment>/site.yml).
    Each value has above it the file and line that it was read from, or why it is a guess; what no file says is a
    commented line to fill in.
  - Nothing of the checkout is imported or executed. Python is parsed; C(pyproject.toml), locks, requirements files,
    C(package.json), Procfiles and compose files are read.
  - It looks for C(manage.py), the settings for production, the WSGI application, requirements, the version of Python,
    packages of the system, extensions of the database, the names that the settings read from the environment, a front
    end to build, a path that tells the health, and further processes.
  - The default of a secret is never shown. Text of the checkout that Ansible would take for a template is commented.
  - A file that cannot be parsed is named at the end, and the rest is read.
options:
  source:
    description:
      - Directory on the controller with C(manage.py) in it or up to two levels below; a relative one starts where the
        run was started.
    type: path
    required: true
attributes:
  check_mode:
    description: It changes nothing, and runs in check mode as it does without.
    support: full
"""

EXAMPLES = r"""
- name: Propose the variables of a project
  groundwork.django.detect:
    source: ~/projects/shop
"""

RETURN = r"""
page:
  description: The proposal, a page of YAML with comments.
  returned: success
  type: str
values:
  description: The variables that the page sets.
  returned: success
  type: dict
  sample: {gunicorn_app_settings_module: config.settings.production}
"""
