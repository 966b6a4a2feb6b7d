# SPDX-License-Identifier: GPL-3.0-or-later
"""Propose the variables of a site from a checkout of its code. Documented in plugins/modules/detect.py."""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase
from ansible_collections.groundwork.django.plugins.plugin_utils import detection
from ansible_collections.groundwork.django.plugins.plugin_utils.detect.checkout import DetectionError


class ActionModule(ActionBase):
    """Shows the page as it is, so that it can be copied, and returns it."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset({"source"})

    def run(self, tmp=None, task_vars=None):
        """Return ``page`` and ``values``, or ``failed`` with one sentence."""
        result = super().run(tmp, task_vars)
        source = self._task.args.get("source")
        if not isinstance(source, str) or not source.strip():
            result.update(failed=True, msg="source is not set: name a checkout, as in -e source=/path/to/project.")
            return result
        try:
            page = detection.detect(os.path.abspath(os.path.expanduser(source)))
        except DetectionError as error:
            result.update(failed=True, msg=str(error))
            return result
        self._display.display(f"\n{page.text()}")
        result.update(changed=False, page=page.text(), values=page.values)
        return result
