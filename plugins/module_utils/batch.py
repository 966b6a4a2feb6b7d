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

if TYPE_CHECKING:
    # Never imported like this: it is how Ansible learns what to pack. The host compiles what it imports anew each time,
    # so it imports only what the batch at hand needs.
    from ansible_collections.groundwork.django.plugins.module_utils.modules import (  # noqa: F401
        acme_certificate,
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

    def __init__(self, batch: AnsibleModule, work: ModuleType, options: dict) -> None:
        self._given = {
            **options,
            "_ansible_module_name": f"groundwork.django.{work.__name__.rpartition('.')[2]}",
            "_ansible_check_mode": batch.check_mode,
            "_ansible_diff": batch._diff,
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
        super().warn(remove_values(warning, self.no_log_values), **options)

    def _end(self, result: dict) -> None:
        if self._verbosity >= 3:
            result["invocation"] = {"module_args": self.params}
        raise Ended(remove_values({"changed": False, **result}, self.no_log_values))

    def exit_json(self, **result: object) -> None:
        self._end(result)

    def fail_json(self, msg: str, **result: object) -> None:
        self._end({**result, "msg": msg, "failed": True})


def carry_out(batch: AnsibleModule, tasks: list[dict]) -> list[dict]:
    """Carry out tasks one after another, up to the first that fails, and return their results.

    Where one finds that what is on disk cannot be used, what the tasks before it have placed is put back.
    tasks: for each one `name` (a sentence), `module` (one of MODULES) and `options`.
    """
    results, done = [], []
    for task in tasks:
        try:
            work = import_module(f"{MODULES}.{task['module']}")
            done.append(Task(batch, work, task["options"]))
            work.carry_out(done[-1])
        except Ended as end:
            results.append({"name": task["name"], **end.result})
        if results[-1].get("failed"):
            if results[-1].get("unusable"):
                put_back(done, results)
            break
    return results


def put_back(done: list[Task], results: list[dict]) -> None:
    """Undo what the tasks of a batch have placed, the last one first, and have the one that failed say so."""
    undone = [(task, result) for task, result in zip(done, results, strict=True) if task.put_back and result["changed"]]
    for task, result in reversed(undone):
        task.put_back()
        result["changed"] = False
    if undone:
        results[-1]["msg"] += "\nWhat was placed before it has been put back."
