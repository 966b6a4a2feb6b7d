# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module nginx_tls does on the host."""

from __future__ import annotations

import os
import re
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import x509
from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import (
    STAGE_PREFIX,
    Refusal,
    read_text,
    remove_stale_stages,
    sync_directory,
    write_atomically,
)

CERTIFICATE = "fullchain.pem"
KEY = "privkey.pem"
RENEW_DAYS = 30
REJECTS_HANDSHAKES = (1, 19, 4)

ARGUMENTS = {
    "directory": {"type": "path", "required": True},
    "mode": {"type": "str", "choices": ["acme", "provided", "selfsigned", "external"], "required": True},
    "domains": {"type": "list", "elements": "str", "required": True},
    "certificate": {"type": "str", "default": ""},
    "private_key": {"type": "str", "default": "", "no_log": True},
    "selfsigned_days": {"type": "int", "default": 3650},
    "default_directory": {"type": "path"},
}
"""Options of the module."""


def nginx_version() -> str:
    """Version of the installed nginx, such as "1.26.3"; empty where there is none."""
    _code, output = run_merged(["nginx", "-v"])
    found = re.search(r"nginx/([0-9.]+)", output)
    return found.group(1) if found else ""


def fits(directory: str, domains: list[str]) -> bool:
    """Whether a directory holds a pair that fits together, is for exactly these domains and does not expire soon."""
    certificate = x509.read_certificate(read_text(os.path.join(directory, CERTIFICATE)))
    if certificate is None or certificate.days_left() < RENEW_DAYS:
        return False
    if certificate.names != tuple(sorted({domain.lower() for domain in domains})):
        return False
    return certificate.public_key == x509.public_key_of(read_text(os.path.join(directory, KEY)))


def refuse_bad_pair(certificate: str, private_key: str, domains: list[str]) -> None:
    """Raise Refusal, with one sentence, for a provided pair that nginx or its clients could not use."""
    if not certificate.strip() or not private_key.strip():
        raise Refusal("The TLS mode is provided, but the certificate or its private key is empty.")
    found = x509.read_certificate(certificate)
    if found is None:
        raise Refusal("The provided certificate is not a certificate in PEM form.")
    key = x509.public_key_of(private_key)
    if key is None:
        raise Refusal("The provided private key is not a private key in PEM form without a passphrase.")
    if key != found.public_key:
        raise Refusal(
            "The provided private key does not belong to the provided certificate; the first certificate of the file "
            "has to be that of the site, before the intermediate ones."
        )
    if found.days_left() <= 0:
        raise Refusal(f"The provided certificate expired on {found.ends:%Y-%m-%d}.")
    for domain in domains:
        if not found.covers(domain):
            raise Refusal(
                f"The provided certificate is not for {domain}, only for {', '.join(found.names) or 'no name'}."
            )


class Pair:
    """The directory of one site, what is in it and what has to be done."""

    def __init__(self, directory: str, check: bool) -> None:
        self.directory = directory
        self.check = check
        self.changes: list[str] = []

    @property
    def current(self) -> str:
        """Where the link leads to; empty where there is none."""
        try:
            return os.readlink(os.path.join(self.directory, "current"))
        except OSError:
            return ""

    def complete(self) -> bool:
        """Whether the link leads to a certificate and a key."""
        current = os.path.join(self.directory, "current")
        return os.path.islink(current) and all(
            os.path.isfile(os.path.join(current, name)) for name in (CERTIFICATE, KEY)
        )

    def write(self, name: str, certificate: str, private_key: str) -> None:
        """Place a pair where it differs, the key first: nginx refuses a pair that does not fit together."""
        for file, text, mode in ((KEY, private_key, 0o600), (CERTIFICATE, certificate, 0o644)):
            path = os.path.join(self.directory, name, file)
            same = read_text(path) == text and os.stat(path).st_mode & 0o777 == mode
            if same:
                continue
            self.changes.append(path)
            if not self.check:
                write_atomically(path, text.encode("utf-8"), mode)

    def make_selfsigned(self, name: str, domains: list[str], days: int) -> None:
        """Make a pair where there is none that fits."""
        if self.check and not x509.available():
            self.changes.append(os.path.join(self.directory, name, CERTIFICATE))
        elif not fits(os.path.join(self.directory, name), domains):
            if self.check:
                self.changes.append(os.path.join(self.directory, name, CERTIFICATE))
            else:
                self.write(name, *x509.make_selfsigned(domains, days))

    def point(self, name: str) -> None:
        """Let the link lead to a directory beside it."""
        if self.current == name:
            return
        self.changes.append(os.path.join(self.directory, "current"))
        if self.check:
            return
        link = os.path.join(self.directory, "current")
        staged = os.path.join(self.directory, f"{STAGE_PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
        os.symlink(name, staged)
        os.rename(staged, link)
        sync_directory(self.directory)

    def note(self, text: str) -> None:
        """Keep the mode in a file: a change of it has nginx reloaded, while certbot moves the link by itself."""
        path = os.path.join(self.directory, "mode")
        if read_text(path) == text:
            return
        self.changes.append(path)
        if not self.check:
            write_atomically(path, text.encode("utf-8"))


def bring_about(params: dict, check: bool) -> tuple[list[str], str, str]:
    """Do what the module is told. Returns changed paths, target of the link, version of nginx. Raises Refusal."""
    version = nginx_version()
    mode, domains = params["mode"], params["domains"]
    changes: list[str] = []
    numbers = tuple(int(number) for number in version.split(".")) if version else REJECTS_HANDSHAKES
    if params["default_directory"] and numbers < REJECTS_HANDSHAKES:
        # Two levels up from the files, as for a site.
        parent, name = os.path.split(params["default_directory"])
        default = Pair(parent, check)
        default.make_selfsigned(name, ["default.invalid"], params["selfsigned_days"])
        changes += default.changes
    if mode == "external":
        return changes, "", version
    if not domains:
        raise Refusal("There is no domain to have a certificate for.")
    pair = Pair(params["directory"], check)
    if not check:
        for directory in (pair.directory, *(os.path.join(pair.directory, name) for name in ("selfsigned", "provided"))):
            remove_stale_stages(directory)
    if mode == "provided":
        if x509.available() or not check:
            refuse_bad_pair(params["certificate"], params["private_key"], domains)
        pair.write("provided", params["certificate"], params["private_key"])
        pair.point("provided")
    elif mode == "selfsigned" or not pair.complete() or pair.current == "selfsigned":
        pair.make_selfsigned("selfsigned", domains, params["selfsigned_days"])
        pair.point("selfsigned")
    pair.note(f"{mode}\n")
    return changes + pair.changes, pair.current, version


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    before = Pair(module.params["directory"], True).current
    try:
        changes, current, version = bring_about(module.params, module.check_mode)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    result = {"changed": bool(changes), "current": current, "nginx_version": version}
    if module._diff and changes:
        link = os.path.join(module.params["directory"], "current")
        result["diff"] = {
            "before_header": link,
            "after_header": link,
            "before": f"{link} -> {before}\n",
            "after": f"{link} -> {current}\n" + "".join(f"{path}: new content\n" for path in changes if path != link),
        }
    module.exit_json(**result)
