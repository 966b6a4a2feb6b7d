# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A site's source in a git repository: which commit a name stands for, and the files of that commit."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator

from ansible_collections.groundwork.django.plugins.module_utils.commands import SYSTEM_PATH, run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
WANTED = "refs/groundwork/wanted"
NETWORK_SECONDS = 600


class Repository:
    """A bare copy on the host of what releases need from a repository.

    options: url, ref (branch, tag, full name such as refs/pull/7/head, or commit) and host_keys (lines, may be none).
    ssh_key: text of a private key, may be empty. mirror: directory of the copy.
    """

    def __init__(self, options: dict, ssh_key: str, mirror: str) -> None:
        self.url: str = options["url"] or ""
        self.ref: str = options["ref"] or "HEAD"
        self.ssh_key = ssh_key
        self.host_keys: list[str] = options["host_keys"] or []
        self.mirror = mirror

    @contextlib.contextmanager
    def credentials(self) -> Iterator[dict[str, str]]:
        """Variables for git. The key lies in memory only as long as git runs, and on no command line."""
        with tempfile.TemporaryDirectory(dir="/run", prefix="groundwork-git-") as folder:

            def write(name: str, content: str) -> str:
                path = os.path.join(folder, name)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    stream.write(content)
                return path

            # A repository on this host may belong to anybody.
            config = "[safe]\n\tdirectory = *\n" if self.url.startswith(("file://", "/")) else ""
            ssh = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
            if self.ssh_key:
                ssh += ["-o", "IdentitiesOnly=yes", "-i", write("key", self.ssh_key.strip() + "\n")]
            if self.host_keys:
                known = write("known_hosts", "".join(f"{line.strip()}\n" for line in self.host_keys))
                ssh += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}"]
            yield {
                "HOME": folder,
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": write("gitconfig", config),
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_SSH_COMMAND": shlex.join(ssh),
            }

    def git(self, *arguments: str, variables: dict[str, str] | None = None) -> tuple[int, str]:
        """Run git; exit code and output."""
        return run_merged(["git", *arguments], NETWORK_SECONDS, **(variables or {}))

    def reason(self, output: str) -> str:
        """The line of git's output that tells most."""
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:")) or "denied" in line.lower()]
        return (telling or lines or ["git said nothing"])[0]

    def resolve(self) -> tuple[str, str]:
        """Full name and commit of the ref, by asking the repository. Raises Refusal."""
        if COMMIT.match(self.ref):
            return self.ref, self.ref
        with self.credentials() as variables:
            code, output = self.git("ls-remote", "--", self.url, self.ref, f"{self.ref}^{{}}", variables=variables)
        if code != 0:
            raise Refusal(f"The repository {self.url} cannot be read: {self.reason(output)}.")
        found = dict(reversed(line.split("\t", 1)) for line in output.splitlines() if "\t" in line)
        names = [name for name in (self.ref, f"refs/heads/{self.ref}", f"refs/tags/{self.ref}") if name in found]
        if len(names) > 1:
            raise Refusal(f"{self.ref} is both a branch and a tag of {self.url}: write {' or '.join(names)}.")
        if not names:
            raise Refusal(
                f"The repository {self.url} has no branch and no tag {self.ref}; a commit needs all its digits."
            )
        return names[0], found.get(f"{names[0]}^{{}}", found[names[0]])

    def has(self, commit: str) -> bool:
        """Whether the copy has a commit."""
        code, _output = self.git("--git-dir", self.mirror, "cat-file", "-e", f"{commit}^{{commit}}")
        return code == 0

    def fetch(self, commit: str) -> None:
        """Bring the copy a commit. Raises Refusal."""
        if not os.path.isfile(os.path.join(self.mirror, "HEAD")):
            code, output = self.git("init", "--quiet", "--bare", self.mirror)
            if code != 0:
                raise Refusal(f"git could not make {self.mirror}: {self.reason(output)}.")
            os.chmod(self.mirror, 0o700)
        if self.has(commit):
            return
        fetch = ["--git-dir", self.mirror, "fetch", "--quiet", "--force", "--no-tags", "--", self.url]
        output = ""
        with self.credentials() as variables:
            # By its name first, which every server allows; by its number or among everything else.
            for wanted in ([f"+{self.ref}:{WANTED}"], ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]):
                _code, output = self.git(*fetch, *wanted, variables=variables)
                if self.has(commit):
                    return
        raise Refusal(f"The repository {self.url} did not give commit {commit}: {self.reason(output)}.")

    def export(self, commit: str, directory: str) -> None:
        """Write the files of a commit into a directory. Raises Refusal."""
        with subprocess.Popen(
            ["git", "--git-dir", self.mirror, "archive", "--format=tar", commit],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": SYSTEM_PATH, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
        ) as git:
            done = subprocess.run(
                ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--directory", directory],
                stdin=git.stdout,
                capture_output=True,
                check=False,
            )
            errors = git.stderr.read() if git.stderr else b""
        if git.returncode != 0 or done.returncode != 0:
            said = (errors + done.stderr).decode("utf-8", "replace")
            raise Refusal(f"The files of commit {commit} cannot be written: {self.reason(said)}.")
