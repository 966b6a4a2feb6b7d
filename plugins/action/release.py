# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module release needs of the controller: a source directory as one archive, and the pinned uv."""

from __future__ import annotations

import os
import tempfile

from ansible_collections.groundwork.django.plugins.action import batch
from ansible_collections.groundwork.django.plugins.plugin_utils import controller_run, source_tree


class ActionModule(batch.ActionModule):
    """Sends a release as a batch of one; some steps get what only the controller has."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def _run_one(self, module: str, args: dict, task_vars: dict) -> dict:
        run = controller_run.this_run()
        if controller_run.is_orphaned(run):
            return {"failed": True, "changed": False, "msg": "ansible-playbook was killed; no further step is taken."}
        args["run"] = run
        if args.get("step") == "install":
            args["uv_requirements"] = batch.UV_REQUIREMENTS.read_text(encoding="utf-8")
        source = dict(args.get("source") or {})
        if source:
            args["ssh_key"] = source.pop("ssh_key", None) or ""
            args["source"] = source
        if source.get("type") != "directory" or args.get("step") not in ("inspect", "fetch"):
            return self._take_turn(module, args, task_vars)
        root = self._absolute(str(source.get("path") or ""))
        exclude = [str(pattern) for pattern in source.get("exclude") or []]
        try:
            digest = source_tree.digest(root, exclude)
            args["source"] = {**source, "path": root, "digest": digest}
            if args["step"] == "inspect":
                return self._take_turn(module, args, task_vars)
            return self._send_source(module, root, exclude, args, task_vars)
        except (source_tree.SourceError, OSError) as error:
            return {"failed": True, "changed": False, "msg": f"The source cannot be read: {error}"}

    def _take_turn(self, module: str, args: dict, task_vars: dict) -> dict:
        """Take a step, also where a run of this machine has died and left its turn behind."""
        result = super()._run_one(module, args, task_vars)
        holder = result.get("held_by") or {}
        if controller_run.has_ended(holder):
            return super()._run_one(module, {**args, "gone": holder}, task_vars)
        return result

    def _absolute(self, path: str) -> str:
        """The path of the source; a relative one starts where the run was started."""
        return os.path.abspath(os.path.expanduser(path))

    def _send_source(self, module: str, root: str, exclude: list[str], args: dict, task_vars: dict) -> dict:
        """Make the archive, put it on the host, and have the module unpack it."""
        with tempfile.TemporaryDirectory(prefix="groundwork-") as folder:
            local = os.path.join(folder, "source.tar.gz")
            source_tree.archive(root, exclude, local)
            remote_folder = self._make_tmp_path()
            try:
                args["archive"] = self._transfer_file(
                    local, self._connection._shell.join_path(remote_folder, "source.tar.gz")
                )
                self._fixup_perms2((remote_folder, args["archive"]))
                return super()._run_one(module, args, task_vars)
            finally:
                self._remove_tmp_path(remote_folder)
