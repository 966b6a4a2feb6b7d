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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import virtualenv


def main() -> None:
    virtualenv.carry_out(
        AnsibleModule(argument_spec=virtualenv.ARGUMENTS, supports_check_mode=True, **virtualenv.CONSTRAINTS)
    )


if __name__ == "__main__":
    main()
