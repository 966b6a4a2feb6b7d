# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: role_template
short_description: A rendered template of the role, as text
version_added: "0.1.0"
description:
  - Renders a template as M(groundwork.django.template_tree) does, and returns the text.
  - Unlike P(ansible.builtin.template#lookup) it does not copy every variable deeply first, which takes a tenth of a
    second for each text with the variables of a whole site.
options:
  _terms:
    description: Paths below the templates of the role.
    type: list
    elements: str
    required: true
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Show what gunicorn is told
  ansible.builtin.debug:
    msg: "{{ lookup('groundwork.django.role_template', 'gunicorn.conf.py.j2') }}"
"""

RETURN = r"""
_raw:
  description: The texts.
  type: list
  elements: str
"""

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.groundwork.django.plugins.plugin_utils.template_plan import Renderer


class LookupModule(LookupBase):
    """Renders templates that are found as those of a role are."""

    def run(self, terms, variables=None, **kwargs):
        """Return the text of each template. Raises AnsibleError."""
        renderer = Renderer(self._loader, self._templar, variables or {})
        return [renderer.text(self._found(variables, term), term) for term in terms]

    def _found(self, variables: dict, term: str) -> str:
        path = self.find_file_in_search_path(variables, "templates", term)
        if not path:
            raise AnsibleError(f"There is no templates/{term}.")
        return path
