# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carry out several tasks of this collection in one process of the host."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

if TYPE_CHECKING:
    # Never imported like this: it is how Ansible learns what to pack. The host compiles what it imports anew each time,
    # so it imports only what the batch at hand needs.
    from ansible_collections.groundwork.django.plugins.module_utils.modules import (  # noqa: F401
        acme_certificate,
        confirm,
        file_settings,
        host_facts,
        localization,
        logrotate_policies,
        maintenance,
        nginx_tls,
        packages,
        pam_profiles,
        postgres_cluster,
        postgres_database,
        release,
        service,
        site_account,
        sshd_access,
        template_tree,
        ufw_rules,
        virtualenv,
    )

MODULES = "ansible_collections.groundwork.django.plugins.module_utils.modules"


class Ended(BaseException):
    """A task has ended with a result; raised so that nothing below it has to know of the batch."""

    def __init__(self, result: dict) -> None:
        super().__init__()
        self.result = result


class Task(AnsibleModule):
    """One module of a batch: its options come from the batch, and its result goes back to it instead of to stdout.

    Its options are checked, kept out of the journal and masked in results as those of a module of its own.
    """

    def __init__(self, batch: AnsibleModule, work: ModuleType, options: dict, rehearsed: bool = False) -> None:
        self._rehearsed = rehearsed
        self._given = {
            **options,
            "_ansible_module_name": f"groundwork.django.{work.__name__.rpartition('.')[2]}",
            "_ansible_check_mode": batch.check_mode or rehearsed,
            "_ansible_diff": batch._diff and not rehearsed,
            "_ansible_no_log": batch.no_log,
            "_ansible_verbosity": batch._verbosity,
            "_ansible_remote_tmp": batch._remote_tmp,
            "_ansible_tmpdir": batch._tmpdir,
        }
        # A module that has placed something says here how it is put back.
        self.put_back: Callable[[], None] | None = None
        super().__init__(argument_spec=work.ARGUMENTS, supports_check_mode=True, **vars(work).get("CONSTRAINTS", {}))

    def _load_params(self) -> None:
        self.params = dict(self._given)

    def warn(self, warning: str, **options: object) -> None:
        if not self._rehearsed:
            super().warn(remove_values(warning, self.no_log_values), **options)

    def _end(self, result: dict) -> None:
        if self._verbosity >= 3:
            result["invocation"] = {"module_args": self.params}
        raise Ended(remove_values({"changed": False, **result}, self.no_log_values))

    def exit_json(self, **result: object) -> None:
        self._end(result)

    def fail_json(self, msg: str, **result: object) -> None:
        self._end({**result, "msg": msg, "failed": True})


def perform(batch: AnsibleModule, task: dict, rehearsed: bool = False) -> tuple[Task | None, dict]:
    """Carry one task out, or only say what it would change, and return it (if it could begin) with its result."""
    begun = None
    try:
        work = import_module(f"{MODULES}.{task['module']}")
        begun = Task(batch, work, task["options"], rehearsed)
        work.carry_out(begun)
    except Ended as end:
        return begun, {"name": task["name"], **end.result}
    raise AssertionError(f"{task['module']} has not ended with a result")


def carry_out(batch: AnsibleModule, tasks: list[dict]) -> list[dict]:
    """Carry out tasks one after another, up to the first that fails, and return their results.

    Where one finds that what is on disk cannot be used, what the tasks before it have placed is put back.
    tasks: for each one `name` (a sentence), `module` (one of MODULES) and `options`.
    """
    results, done = [], []
    for task in tasks:
        begun, result = perform(batch, task)
        done.append(begun)
        results.append(result)
        if result.get("failed"):
            if result.get("unusable"):
                put_back(done, results)
            break
    return results


def carry_out_guarded(batch: AnsibleModule, tasks: list[dict], options: dict) -> tuple[list[dict], dict]:
    """The same under a guard, which puts everything back where a task fails or nobody comes in afterwards.

    Each task is rehearsed until one is about to change something: the guard is armed then, and a batch that changes
    nothing leaves no trace of it. Returns also what the controller has to know in order to confirm.
    """
    # Only few batches have one, and the host compiles what it imports.
    from ansible_collections.groundwork.django.plugins.module_utils.confirm import Guard

    results: list[dict] = []
    done: list[Task | None] = []
    failed = {"name": "", "changed": False, "failed": True}
    try:
        guard = Guard(options)
        for task in tasks:
            if not guard.armed:
                _begun, expected = perform(batch, task, rehearsed=True)
                if expected.get("failed"):
                    return [*results, expected], {}
                if expected["changed"]:
                    guard.arm()
            begun, result = perform(batch, task)
            done.append(begun)
            results.append(result)
            if result.get("failed"):
                break
        else:
            return results, guard.end()
    except Refusal as refusal:
        return [*results, {**failed, "msg": str(refusal)}], {}
    if guard.armed:
        if results[-1].get("unusable"):
            put_back(done, results)
        # Some of what the tasks have changed is not among what was placed, such as rules of the firewall.
        guard.put_back()
        results[-1]["msg"] += "\nWhat decides who gets in has been put back."
    return results, {}


def put_back(done: list[Task | None], results: list[dict]) -> None:
    """Undo what the tasks of a batch have placed, the last one first, and have the one that failed say so."""
    undone = [
        (task, result)
        for task, result in zip(done, results, strict=True)
        if task and task.put_back and result["changed"]
    ]
    for task, result in reversed(undone):
        task.put_back()
        result["changed"] = False
    if undone:
        results[-1]["msg"] += "\nWhat was placed before it has been put back."
