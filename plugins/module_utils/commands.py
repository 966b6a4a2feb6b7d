# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commands of the host, run without a shell, without input and in a fixed language."""

from __future__ import annotations

import os
import subprocess

from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIXED = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
MISSING = 127
"""Exit code of a command that cannot be run, as of a shell."""
TIMED_OUT = -1


def run(
    command: list[str],
    timeout: float | None = None,
    given: str | None = None,
    inherited: dict[str, str] | None = None,
    **variables: str,
) -> tuple[int, str, str]:
    """Run a command and return its exit code, its output and its errors.

    timeout: seconds until it is killed; the code is TIMED_OUT then. given: text for its standard input.
    inherited: environment in place of that of this process. variables: what is set in it besides FIXED.
    A command that cannot be run has the code MISSING, and the reason stands in the errors.
    """
    code, output, errors = _run(command, timeout, given, inherited, variables, subprocess.PIPE)
    return code, output, errors


def run_merged(command: list[str], timeout: float | None = None, **variables: str) -> tuple[int, str]:
    """Run a command and return its exit code and all that it said, in the order in which it did."""
    code, output, errors = _run(command, timeout, None, None, variables, subprocess.STDOUT)
    return code, output or errors


def sync_file_system(path: str) -> None:
    """Have the disk keep all that was written to the file system of a path. Raises Refusal.

    It comes before what says that something is complete: else a power cut may leave that, and files without content.
    """
    code, _output, errors = run(["sync", "--file-system", path])
    if code:
        raise Refusal(f"The disk does not keep what was written to {path}: {' '.join(errors.split()).rstrip('.')}.")


def _run(command, timeout, given, inherited, variables, stderr) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env={**(os.environ if inherited is None else inherited), **FIXED, **variables},
            input=(given or "").encode(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        return MISSING, "", f"{command[0]} is not installed"
    except OSError as error:
        return MISSING, "", f"{command[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return TIMED_OUT, "", f"{command[0]} did not end within {timeout:g} s"
    return done.returncode, done.stdout.decode("utf-8", "replace"), (done.stderr or b"").decode("utf-8", "replace")
