# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_tls
short_description: Bring about the certificate and key that nginx serves a site from
version_added: "0.1.0"
description:
  - Keeps a directory in which the link C(current) leads to a directory with C(fullchain.pem) and C(privkey.pem), so
    that nginx can start with TLS before there is a certificate from anywhere else.
  - Every file and the link are replaced atomically. A pair that does not fit together, as a killed run may leave it,
    is made anew.
  - Also says which nginx is installed, so that a role needs no round trip of its own for that.
options:
  directory:
    description: The directory of the site, such as C(/etc/nginx/tls/forge).
    type: path
    required: true
  mode:
    description:
      - C(selfsigned) makes a pair in C(selfsigned/) and points C(current) at it.
      - C(provided) places O(certificate) and O(private_key) in C(provided/) and points C(current) at it.
      - C(acme) does what C(selfsigned) does, but only until C(current) leads to a complete pair of any kind.
      - C(external) does nothing in O(directory).
    type: str
    choices: [acme, provided, selfsigned, external]
    required: true
  domains:
    description: Host names that the certificate is for.
    type: list
    elements: str
    required: true
  certificate:
    description: The certificate followed by the intermediate ones, in PEM form; for O(mode=provided).
    type: str
    default: ""
  private_key:
    description: Its private key in PEM form, without a passphrase; for O(mode=provided).
    type: str
    default: ""
  selfsigned_days:
    description: Days that a self-signed certificate is valid. It is made anew 30 days before it expires.
    type: int
    default: 3650
  default_directory:
    description:
      - A directory to keep a self-signed pair in that names no site, for the default server of an nginx that cannot
        reject a handshake (before 1.19.4). With a newer nginx nothing is made there.
    type: path
attributes:
  check_mode:
    description: Says what would change; without openssl on the host a provided pair is not looked at.
    support: full
  diff_mode:
    description: Shows where the link leads and which files are new, never their content.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Bring about the certificate that nginx serves
  groundwork.django.nginx_tls:
    directory: /etc/nginx/tls/forge
    mode: acme
    domains:
      - forge.example.org
  register: __nginx_tls
"""

RETURN = r"""
current:
  description: Where the link C(current) leads to; empty with O(mode=external).
  returned: always
  type: str
  sample: selfsigned
nginx_version:
  description: Version of the installed nginx; empty where there is none.
  returned: always
  type: str
  sample: 1.26.3
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import nginx_tls


def main() -> None:
    nginx_tls.carry_out(AnsibleModule(argument_spec=nginx_tls.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
