# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin check_values; the work is done on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_values
short_description: Check the values of roles before anything touches a host
version_added: "0.1.0"
author:
  - groundwork.django maintainers (@groundwork-django)
description:
  - Checks every variable of the named roles against the role's C(meta/argument_specs.yml) and says what is wrong with
    each in one sentence that names the variable, the value and the remedy. All problems are told at once, each of them
    at its origin, not again at the variables that take their value from it.
  - It checks that required values are set, types, choices, nested options, and what the suffix of the name promises,
    for example that C(nginx_https_port) is a port and C(groundwork_site_domains) a list of host names.
  - It then checks the role's own rules, the list C(__<role>_rules) in its C(vars/main.yml), and, for roles that depend
    on C(site_settings), the rules about a whole site, such as that no two sites have one domain, and about the host,
    where its facts are known.
  - It runs on the controller, makes no connection, and never shows the value of a secret, that is one whose name ends
    with C(_password), C(_secret), C(_token) or C(_key), which ansible-vault encrypted, or which is made of such a one.
  - A value that needs facts of the host waits for a check after they are gathered.
  - A play that checks all roles itself, before and after it gathers facts, goes on with C(tasks_from=apply) of each
    role, which leaves the role's own check out.
  - Text in place of a list, a mapping or a boolean is refused, though Ansible's own check would convert it, because
    roles use the value as it was written.
options:
  roles:
    description:
      - Names of the roles whose values are checked. The default is the role that the task stands in.
    type: list
    elements: str
  of_the_host_only:
    description:
      - Check only what depends on the facts of the host. It is for the second check of a play, after the facts; the
        first one has judged the rest.
    type: bool
    default: false
attributes:
  check_mode:
    description: It changes nothing, and runs in check mode as it does without.
    support: full
"""

EXAMPLES = r"""
- name: Check the values of this role
  groundwork.django.check_values:

- name: Check the values of all roles of a play before its first change
  groundwork.django.check_values:
    roles: [base, nginx, certbot]
"""

RETURN = r"""
msg:
  description: What was checked, or one sentence for each problem, each on a line of its own.
  returned: always
  type: str
  sample: 'nginx_client_max_body_size is "10x", which is not a size: write a number with k, m or g, like "10m".'
"""
