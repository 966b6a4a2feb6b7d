# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: virtualenv
short_description: Make a virtualenv that holds exactly what pinned requirements say
version_added: "0.1.0"
description:
  - Makes a virtualenv with uv and installs requirements into it, in one round trip.
  - A stamp inside the virtualenv, C(.groundwork.json), remembers requirements, interpreter and arguments. As long as
    it agrees, nothing is run. Otherwise the virtualenv is made again from scratch; the stamp is written last, so that
    an unfinished one is made again too.
  - uv itself is installed from hashed requirements that the collection carries, where it is missing.
  - Belongs to root, readable by all. Only one such call builds at a time on a host.
requirements:
  - python3-venv on the host, for the virtualenv of uv
options:
  path:
    description: Absolute path of the virtualenv.
    type: path
    required: true
  requirements:
    description: Text of a requirements file.
    type: str
    default: ""
  requirements_file:
    description: Path of a requirements file on the host, in place of O(requirements).
    type: path
  require_hashes:
    description: Insist that every requirement is pinned with a hash. It does not concern O(packages).
    type: bool
    default: true
  packages:
    description: Further packages, installed by a second call that needs no hashes.
    type: list
    elements: str
    default: []
  python:
    description: Interpreter on the host, as a path, a command or a version such as V(3.12). It is never downloaded.
    type: str
    default: python3
  uv:
    description: Virtualenv that holds uv, made when it is missing; or the path of a uv executable, used as it is.
    type: path
    default: /opt/groundwork/uv
  index_url:
    description: Package index for uv and for the packages; empty for what the host's configuration says.
    type: str
    default: ""
  install_args:
    description: Further arguments of C(uv pip install), such as V(--compile-bytecode).
    type: list
    elements: str
    default: []
  cache_dir:
    description: Directory of uv's cache.
    type: path
    default: /var/cache/groundwork/uv
  uv_requirements:
    description: Hashed requirements of uv; the collection's own unless given.
    type: str
    default: ""
notes:
  - Certificates of the index are a matter of the host, through C(/etc/uv/uv.toml) and C(/etc/pip.conf).
attributes:
  check_mode:
    description: Says whether the virtualenv would be made.
    support: full
  diff_mode:
    description: Shows interpreter and packages.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Install certbot
  groundwork.django.virtualenv:
    path: /opt/groundwork/certbot
    requirements: "{{ lookup('ansible.builtin.file', 'certbot.txt') }}"

- name: Install the requirements of a release
  groundwork.django.virtualenv:
    path: /srv/forge/releases/42/venv
    python: "3.12"
    requirements_file: /srv/forge/releases/42/source/requirements.txt
    packages:
      - gunicorn==23.0.0
    install_args:
      - --compile-bytecode
"""

RETURN = r"""
path:
  description: Path of the virtualenv.
  returned: always
  type: str
  sample: /opt/groundwork/certbot
uv_installed:
  description: Whether uv had to be installed.
  returned: always
  type: bool
  sample: false
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.venv import Uv, Virtualenv, lock


def describe(stamp: dict) -> str:
    """What a virtualenv holds, for a diff."""
    if not stamp:
        return ""
    return "".join(f"{line}\n" for line in (stamp.get("python", ""), *stamp.get("packages", [])))


def bring_about(params: dict, check: bool, diff: bool) -> dict:
    """Make the virtualenv unless it is as it shall be. Raises Refusal."""
    result = {"changed": False, "path": params["path"], "uv_installed": False}
    try:
        wanted = Virtualenv(
            params["path"],
            python=params["python"],
            requirements=params["requirements"],
            requirements_file=params["requirements_file"] or "",
            packages=params["packages"],
            arguments=params["install_args"],
            require_hashes=params["require_hashes"],
        )
    except Refusal:
        # In check mode the interpreter or the requirements may be what an earlier task would have brought.
        if check:
            return {**result, "changed": True}
        raise
    found = wanted.found()
    if found == wanted.stamp():
        return result
    result["changed"] = True
    if diff:
        header = params["path"]
        before, after = describe(found), describe(wanted.stamp())
        result["diff"] = {"before_header": header, "after_header": header, "before": before, "after": after}
    if check:
        return result
    os.umask(0o022)
    uv = Uv(params["uv"], params["cache_dir"], params["index_url"])
    with lock():
        # Another run may have made it in the meantime.
        if wanted.is_current():
            return {**result, "changed": False, "diff": {}}
        result["uv_installed"] = uv.ensure(params["uv_requirements"])
        wanted.build(uv)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "str", "default": ""},
            "requirements_file": {"type": "path"},
            "require_hashes": {"type": "bool", "default": True},
            "packages": {"type": "list", "elements": "str", "default": []},
            "python": {"type": "str", "default": "python3"},
            "uv": {"type": "path", "default": "/opt/groundwork/uv"},
            # It may hold a password.
            "index_url": {"type": "str", "default": "", "no_log": True},
            "install_args": {"type": "list", "elements": "str", "default": []},
            "cache_dir": {"type": "path", "default": "/var/cache/groundwork/uv"},
            "uv_requirements": {"type": "str", "default": ""},
        },
        mutually_exclusive=[("requirements", "requirements_file")],
        required_one_of=[("requirements", "requirements_file", "packages")],
        supports_check_mode=True,
    )
    try:
        result = bring_about(module.params, module.check_mode, module._diff)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
