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
from ansible_collections.groundwork.django.plugins.plugin_utils.new_connection import Proof, is_ssh
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
        if not tasks:
            return {"changed": False, "skipped": True}
        confirm = self._confirm()
        result = self._send(tasks, task_vars, confirm)
        came_to = result.pop("unconfirmed", {}).get("port")
        if came_to is None:
            return result
        return self._confirmed(result, confirm, came_to, task_vars)

    def _confirm(self) -> dict:
        """How the change is to be confirmed; empty where it is not. Raises AnsibleActionFail."""
        given = self._task.args.get("confirm") or {}
        if not given:
            return {}
        unknown = set(given) - {"seconds", "port", "remedy"}
        if unknown or not {"seconds", "remedy"} <= set(given):
            raise AnsibleActionFail("confirm of a batch has seconds and remedy, and perhaps a port, nothing else.")
        by = "connection" if is_ssh(self._connection) else "host"
        wanted = {"seconds": int(given["seconds"]), "port": int(given.get("port") or 0), "by": by}
        if not wanted["seconds"] or (by == "host" and not wanted["port"]):
            return {}
        return {**wanted, "remedy": str(given["remedy"]).strip().rstrip(".")}

    def _confirmed(self, result: dict, confirm: dict, came_to: int, task_vars: dict) -> dict:
        """The result once it is proven that a new connection comes about, or a failure once the host is as before.

        came_to: the port of the host that the play has come to, 0 if unknown.
        """

        def ask(connection, state: str) -> dict:
            kept, self._connection = self._connection, connection
            try:
                return self._send([{"name": "", "module": "confirm", "options": {"state": state}}], task_vars)
            finally:
                self._connection = kept

        moved = confirm["port"] if came_to and confirm["port"] not in (0, came_to) else None
        proof = Proof(self._connection, ask, confirm["seconds"], moved)
        said = proof.confirm()
        if not said:
            return {**result, "new_port": moved} if moved else result
        name, port = task_vars["inventory_hostname"], f" on port {moved}" if moved else ""
        if proof.put_back():
            now = "what was changed has been put back, and the host can be reached as before"
        else:
            now = f"the host puts back what was changed {confirm['seconds']} s after it, but cannot be reached yet"
        sentence = f"{name} lets no new connection in{port} ({said}), so {now}: {confirm['remedy']}."
        return {"failed": True, "changed": False, "msg": sentence}

    def _tasks(self) -> Iterator[tuple[str, str, dict]]:
        """Name, module and options of each task whose condition holds. Raises AnsibleActionFail for what is none."""
        unknown = sorted(set(self._task.args) - {"tasks", "confirm"})
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

    def _send(self, tasks: list[dict], task_vars: dict, confirm: dict | None = None) -> dict:
        """Have the host carry tasks out, and return what the module batch returns."""
        result = self._execute_module(
            module_name="groundwork.django.batch",
            module_args={"payload": pack({"tasks": tasks, "confirm": confirm or {}})},
            task_vars=task_vars,
        )
        if not result.get("unconfirmed"):
            result.pop("unconfirmed", None)
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
