# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module release needs of the controller: the source that is on it, and the pinned uv."""

from __future__ import annotations

import hashlib
import os
import tempfile

from ansible_collections.groundwork.django.plugins.action import batch
from ansible_collections.groundwork.django.plugins.plugin_utils import controller_run, source_tree, sqlite_file


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
        if args.get("step") == "import":
            try:
                args["file"] = sqlite_file.checked(str(args.get("file") or ""))
                return self._send_file(module, args["file"], args, task_vars)
            except sqlite_file.FileError as error:
                return {"failed": True, "changed": False, "msg": str(error)}
        if args.get("step") not in ("inspect", "fetch"):
            return self._take_turn(module, args, task_vars)
        try:
            source = self._identified(source)
            args["source"] = source
            if args["step"] == "inspect" or not source.get("path"):
                return self._take_turn(module, args, task_vars)
            return self._send_source(module, source, args, task_vars)
        except (source_tree.SourceError, OSError) as error:
            return {"failed": True, "changed": False, "msg": f"The source cannot be read: {error}"}

    def _take_turn(self, module: str, args: dict, task_vars: dict) -> dict:
        """Take a step, also where a run of this machine has died and left its turn behind."""
        result = super()._run_one(module, args, task_vars)
        holder = result.get("held_by") or {}
        if controller_run.has_ended(holder):
            return super()._run_one(module, {**args, "gone": holder}, task_vars)
        return result

    def _identified(self, source: dict) -> dict:
        """The source with an absolute path and the digest of what it holds. Raises SourceError and OSError.

        The commit of a git repository is asked for on the host.
        """
        kind = source.get("type")
        if source.get("path"):
            # A relative one starts where the run was started.
            source["path"] = os.path.abspath(os.path.expanduser(str(source["path"])))
        wanted = str(source.get("checksum") or "").removeprefix("sha256:").lower()
        if kind == "directory":
            source["digest"] = source_tree.digest(source["path"], self._excluded(source))
        elif kind == "archive" and source.get("path"):
            source["digest"] = source_tree.digest_file(source["path"])
            if wanted and source["digest"] != wanted:
                raise source_tree.SourceError(
                    f"{source['path']} has the checksum sha256:{source['digest']}, and gunicorn_app_source.checksum is "
                    f"sha256:{wanted}: find out why before you trust it."
                )
        elif kind == "archive":
            source["digest"] = wanted
        elif kind == "package":
            source["digest"] = hashlib.sha256(str(source.get("spec")).encode()).hexdigest()
        return source

    @staticmethod
    def _excluded(source: dict) -> list[str]:
        return [str(pattern) for pattern in source.get("exclude") or []]

    def _send_source(self, module: str, source: dict, args: dict, task_vars: dict) -> dict:
        """Put an archive on the host, made of a directory or as it is, and have the module unpack it."""
        with tempfile.TemporaryDirectory(prefix="groundwork-") as folder:
            local = source["path"]
            if source["type"] == "directory":
                local = os.path.join(folder, "source.tar.gz")
                source_tree.archive(source["path"], self._excluded(source), local)
            return self._send_file(module, local, args, task_vars)

    def _send_file(self, module: str, local: str, args: dict, task_vars: dict) -> dict:
        """Put a file on the host for as long as the step takes."""
        remote_folder = self._make_tmp_path()
        try:
            args["archive"] = self._transfer_file(local, self._connection._shell.join_path(remote_folder, "source"))
            self._fixup_perms2((remote_folder, args["archive"]))
            return self._take_turn(module, args, task_vars)
        finally:
            self._remove_tmp_path(remote_folder)
