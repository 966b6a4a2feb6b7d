# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Send one or several tasks of this collection to the host in one round trip.

Documented in plugins/modules/batch.py; meta/runtime.yml sends every module that a batch can hold here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.groundwork.django.plugins.module_utils.payload import pack
from ansible_collections.groundwork.django.plugins.plugin_utils.template_plan import TemplatePlanner

COLLECTION = "groundwork.django."
PLUGINS = Path(__file__).resolve().parents[1]
UV_REQUIREMENTS = PLUGINS.parent / "files" / "uv.txt"
# A release needs an action plugin of its own, and each of its steps takes seconds anyway.
MODULES = sorted({path.stem for path in (PLUGINS / "module_utils" / "modules").glob("*.py")} - {"release"})
"""What a batch can hold."""


class ActionModule(ActionBase):
    """Adds what only the controller has to the tasks, and has the module batch do the rest."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        own = self._task.action.removeprefix(COLLECTION)
        if own != "batch":
            return self._run_one(own, self._completed(own, self._task.args, task_vars), task_vars)
        tasks = []
        for name, module, options in self._tasks():
            try:
                options = self._completed(module, options, task_vars)
            except AnsibleError as error:
                raise AnsibleActionFail(f"{name}: {error.message}") from error
            tasks.append({"name": name, "module": module, "options": options})
        return self._send(tasks, task_vars) if tasks else {"changed": False, "skipped": True}

    def _tasks(self) -> Iterator[tuple[str, str, dict]]:
        """Name, module and options of each task whose condition holds. Raises AnsibleActionFail for what is none."""
        unknown = sorted(set(self._task.args) - {"tasks"})
        if unknown:
            raise AnsibleActionFail(f"batch has no option named {', '.join(unknown)}.")
        tasks = self._task.args.get("tasks")
        if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
            raise AnsibleActionFail("batch needs tasks, a list of dictionaries.")
        for task in tasks:
            modules = [key for key in task if key not in ("name", "when")]
            if not isinstance(task.get("name"), str) or len(modules) != 1:
                raise AnsibleActionFail("A task of a batch has a name, one module and perhaps a when, nothing else.")
            module = modules[0].removeprefix(COLLECTION)
            if module not in MODULES:
                raise AnsibleActionFail(f'A batch cannot hold "{modules[0]}", only {", ".join(MODULES)}.')
            if self._templar.evaluate_conditional(task.get("when", True)):
                yield task["name"], module, task[modules[0]] or {}

    def _completed(self, module: str, options: dict, task_vars: dict) -> dict:
        """The options that were set, and those that only the controller can set. Raises AnsibleError."""
        options = {key: value for key, value in options.items() if value is not None}
        if module == "template_tree":
            role_path = self._task._role._role_path if self._task._role else ""
            options["payload"] = pack(TemplatePlanner(role_path, self._loader, self._templar, task_vars).plan(options))
        elif module == "virtualenv":
            options.setdefault("uv_requirements", UV_REQUIREMENTS.read_text(encoding="utf-8"))
        return options

    def _send(self, tasks: list[dict], task_vars: dict) -> dict:
        """Have the host carry tasks out, and return what the module batch returns."""
        result = self._execute_module(
            module_name="groundwork.django.batch", module_args={"payload": pack(tasks)}, task_vars=task_vars
        )
        results = result.get("results") or []
        if results and results[-1].get("failed") and results[-1]["name"]:
            result["msg"] = f"{results[-1]['name']}: {result['msg']}"
        if result.get("diff") == []:
            del result["diff"]
        return result

    def _run_one(self, module: str, options: dict, task_vars: dict) -> dict:
        """Have the host carry out one task, and return what its module returns."""
        result = self._send([{"name": "", "module": module, "options": options}], task_vars)
        own = (result.pop("results", None) or [{}])[0]
        own.pop("name", None)
        return {**result, **own}
