# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: acme_certificate
short_description: Have certbot get the certificate of a site when, and only when, it is time
version_added: "0.1.0"
description:
  - Looks at what certbot keeps on the host, decides whether the certificate is missing, is for other names, comes from
    another ACME server or is due, and only then asks the server for one. All in one round trip.
  - Before it asks, it fetches a file through each name over HTTP, so that a wrong DNS record costs none of the few
    attempts that a public server allows, and the message names it.
  - Afterwards it makes sure that the web server serves what is on disk. It also repairs that when an earlier run
    was killed in between.
  - A certificate is due when C(renew_before_expiry) of certbot's own settings says so, and without that when a third of
    its life is left (half of it, if it lives for ten days or less).
  - Needs certbot and openssl on the host, but no Python package.
options:
  name:
    description: Name of the certificate in C(/etc/letsencrypt).
    type: str
    required: true
  domains:
    description: Names that it is for, all of them and no others. The first one is the canonical one.
    type: list
    elements: str
    required: true
  email:
    description: Address that the account is registered under; empty for an account without one.
    type: str
    default: ""
  directory_url:
    description: Where the ACME server's directory is.
    type: str
    required: true
  webroot:
    description: Directory from which C(/.well-known/acme-challenge/) is served on port 80.
    type: path
    required: true
  certbot:
    description: Path of the certbot executable; with O(virtualenv) it is the one in there.
    type: path
    default: /usr/bin/certbot
  virtualenv:
    description:
      - A virtualenv that certbot comes from, made when it is missing or holds something else. It is a part of this call
        because a run in which nothing is due would else spend a fifth of its time on asking.
    type: dict
    suboptions:
      path:
        description: Absolute path of it.
        type: path
        required: true
      requirements:
        description: Hashed requirements, certbot among them.
        type: str
        required: true
      uv_requirements:
        description: Hashed requirements of uv, for a host that has none yet.
        type: str
        required: true
      python:
        description: Interpreter on the host, as M(groundwork.django.virtualenv) takes it.
        type: str
        default: python3
      index_url:
        description: Package index; empty for what the host's configuration says.
        type: str
        default: ""
  key_type:
    description: Kind of the private key.
    type: str
    choices: [ecdsa, rsa]
    default: ecdsa
  ca_bundle:
    description: File on the host with what certbot has to trust in place of the host's own certificates.
    type: path
  deploy_command:
    description:
      - Executable that makes the web server serve the certificate, does nothing when it does already, and fails when
        it cannot. With C(--check) it only says by its exit code whether there is something to do.
      - Certbot runs it after each renewal, too.
    type: path
    required: true
  preflight:
    description:
      - Whether each name is tried over HTTP first. Turn it off where the host cannot reach itself by its public name.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says whether a certificate would be asked for, and why; nothing is asked.
    support: full
  diff_mode:
    description: Shows the reason.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Get the certificate of the site
  groundwork.django.acme_certificate:
    name: forge
    domains:
      - forge.example.org
    email: operations@example.org
    directory_url: https://acme-v02.api.letsencrypt.org/directory
    webroot: /var/lib/groundwork/acme
    certbot: /opt/groundwork/certbot/bin/certbot
    deploy_command: /usr/local/lib/groundwork/forge-certs-deploy
"""

RETURN = r"""
installed:
  description: Whether the virtualenv of certbot had to be made.
  returned: always
  type: bool
  sample: false
reason:
  description: Why a certificate was asked for; empty when there was no reason to.
  returned: always
  type: str
  sample: it is for other names (www.example.org)
deployed:
  description: Whether the web server had to be told.
  returned: always
  type: bool
  sample: false
serial:
  description: Serial number of the certificate on disk, as hexadecimal digits; empty where there is none.
  returned: always
  type: str
  sample: 03A1
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import acme_certificate


def main() -> None:
    acme_certificate.carry_out(AnsibleModule(argument_spec=acme_certificate.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
