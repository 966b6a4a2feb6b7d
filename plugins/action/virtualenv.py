# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give the module the pinned uv of the collection."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase

UV_REQUIREMENTS = Path(__file__).resolve().parents[2] / "files" / "uv.txt"


class ActionModule(ActionBase):
    """Runs groundwork.django.virtualenv with the hashed requirements of uv."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        return self._execute_module(
            module_name="groundwork.django.virtualenv",
            module_args={"uv_requirements": UV_REQUIREMENTS.read_text(encoding="utf-8"), **self._task.args},
            task_vars=task_vars,
        )
