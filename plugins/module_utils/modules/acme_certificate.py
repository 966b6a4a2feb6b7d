# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module acme_certificate does on the host."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import shutil
import socket
import time
from datetime import datetime, timedelta, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import x509
from ansible_collections.groundwork.django.plugins.module_utils.commands import MISSING, run, run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text
from ansible_collections.groundwork.django.plugins.module_utils.venv import Uv, Virtualenv, lock

CONFIG = "/etc/letsencrypt"
LOG = "/var/log/letsencrypt/letsencrypt.log"
UV = "/opt/groundwork/uv"
UV_CACHE = "/var/cache/groundwork/uv"
CHALLENGES = ".well-known/acme-challenge"
TIMEOUT = 10
UNITS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str", "required": True},
    "email": {"type": "str", "default": ""},
    "directory_url": {"type": "str", "required": True},
    "webroot": {"type": "path", "required": True},
    "certbot": {"type": "path", "default": "/usr/bin/certbot"},
    "virtualenv": {
        "type": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            # Too long for the host's journal.
            "requirements": {"type": "str", "required": True, "no_log": True},
            "uv_requirements": {"type": "str", "required": True, "no_log": True},
            "python": {"type": "str", "default": "python3"},
            # It may hold a password.
            "index_url": {"type": "str", "default": "", "no_log": True},
        },
    },
    "key_type": {"type": "str", "choices": ["ecdsa", "rsa"], "default": "ecdsa", "no_log": False},
    "ca_bundle": {"type": "path"},
    "deploy_command": {"type": "path", "required": True},
    "preflight": {"type": "bool", "default": True},
}
"""Options of the module."""


def parse_settings(text: str) -> dict[str, str]:
    """The settings of certbot's renewal file, those of its sections included (their names do not repeat)."""
    found = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.lstrip().startswith("#"):
            found[key.strip()] = value.strip().strip("\"'")
    return found


def parse_interval(text: str) -> float | None:
    """Days in a span as certbot has it ("30 days", "12 hours"); a bare number counts days. None if it is no span."""
    words = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text.lower())
    days = 0.0
    for number, unit in words:
        unit = unit.rstrip("s") or "day"
        if unit not in UNITS:
            return None
        days += float(number) * UNITS[unit]
    return days if words else None


def is_due(certificate: x509.Certificate, interval: str, now: datetime) -> bool:
    """Whether certbot would renew it: by `renew_before_expiry` where that is set, else by the life that is left."""
    days = parse_interval(interval) if interval else None
    if days is not None:
        return certificate.ends - now < timedelta(days=days)
    life = certificate.ends - certificate.begins
    return certificate.ends - now < (life / 2 if life <= timedelta(days=10) else life / 3)


def said(output: str) -> str:
    """One sentence or two from what certbot printed: the problems of each domain, or else its last words."""
    problems = re.findall(
        r"Domain:\s*(\S+)\s+Type:\s*(\S+)\s+Detail:\s*(.+?)(?=\n\s*\n|\n\s*Domain:|\n\s*Hint:|\Z)", output, re.DOTALL
    )
    if problems:
        return "; ".join(f"{domain}: {kind}: {' '.join(detail.split())}" for domain, kind, detail in problems)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    skipped = (
        "Saving debug log",
        "Ask for help",
        "See the logfile",
        "- - -",
        "Requesting a certificate",
        "Some challenges",
    )
    return " ".join([line for line in lines if not line.startswith(skipped)][-3:]) or "it said nothing"


class Lineage:
    """What certbot keeps under one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings_path = os.path.join(CONFIG, "renewal", f"{name}.conf")
        self.live = os.path.join(CONFIG, "live", name)
        self.archive = os.path.join(CONFIG, "archive", name)
        self.settings = parse_settings(read_text(self.settings_path))
        self.certificate = x509.read_certificate(read_text(os.path.join(self.live, "fullchain.pem")))
        self.public_key = (
            x509.public_key_of(read_text(os.path.join(self.live, "privkey.pem"))) if self.certificate else None
        )

    @property
    def exists(self) -> bool:
        """Whether certbot would find a complete lineage."""
        return (
            self.certificate is not None and bool(self.settings.get("server")) and bool(self.settings.get("fullchain"))
        )

    def leftovers(self) -> list[str]:
        """What the first issue has left when it was killed; certbot would avoid the name because of it."""
        if self.exists:
            return []
        return [path for path in (self.settings_path, self.live, self.archive) if os.path.lexists(path)]

    def reason(self, params: dict, now: datetime) -> str:
        """Why a certificate has to be asked for; empty where there is no reason to."""
        if not self.exists or self.certificate is None:
            return "there is none yet"
        wanted = tuple(sorted({domain.lower() for domain in params["domains"]}))
        if self.certificate.names != wanted:
            return f"it is for other names ({', '.join(self.certificate.names)})"
        if self.settings["server"] != params["directory_url"]:
            return f"it comes from another server ({self.settings['server']})"
        if self.public_key != self.certificate.public_key:
            return "its private key is another one's"
        if self.settings.get("key_type", "rsa") != params["key_type"]:
            return f"its key is of another type ({self.settings.get('key_type', 'rsa')})"
        if self.settings.get("webroot_path", "").strip("[], ").split(",")[0] != params["webroot"]:
            return "its challenges would be answered from another directory"
        if params["deploy_command"] not in (self.settings.get("renew_hook"), self.settings.get("deploy_hook")):
            return "its renewals would not reach the web server"
        if is_due(self.certificate, self.settings.get("renew_before_expiry", ""), now):
            return f"it expires on {self.certificate.ends:%Y-%m-%d}"
        return ""


def addresses(domain: str) -> list[str]:
    """Addresses that a name resolves to. Raises Refusal."""
    try:
        found = socket.getaddrinfo(domain, 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refusal(
            f"{domain} does not resolve ({error.strerror or error}): "
            "create an A or AAAA record that points at this host."
        ) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def fetch(address: str, domain: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET over HTTP to an address in the name of a domain. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(address, 80, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"Host": domain})
        answer = connection.getresponse()
        return answer.status, answer.read(1000)
    finally:
        connection.close()


def preflight(webroot: str, domains: list[str]) -> list[str]:
    """Fetch a file through each name, as the ACME server will. Returns warnings. Raises Refusal, naming the domain."""
    token, proof = f"groundwork-{secrets.token_hex(8)}", secrets.token_hex(16).encode()
    directory = os.path.join(webroot, CHALLENGES)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    path = os.path.join(directory, token)
    warnings = []
    remedy = "point the DNS record at this host, and open port 80 (or set certbot_preflight_enabled to false)."
    try:
        with open(path, "wb") as stream:
            stream.write(proof)
        os.chmod(path, 0o644)
        for domain in domains:
            found = addresses(domain)
            for address in found:
                where = f"http://{domain}/{CHALLENGES}/ at {address}"
                try:
                    status, body = fetch(address, domain, f"/{CHALLENGES}/{token}")
                except (OSError, http.client.HTTPException) as error:
                    if ":" in address and any(":" not in other for other in found):
                        warnings.append(f"{where} cannot be reached over IPv6 from the host itself ({error}).")
                        continue
                    raise Refusal(f"{where} does not answer ({error}): {remedy}") from error
                if status in (301, 302, 303, 307, 308):
                    warnings.append(f"{where} redirects; whether the challenge comes back to this host is not known.")
                elif (status, body) != (200, proof):
                    raise Refusal(f"{where} is answered by something else than this site (status {status}): {remedy}")
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return warnings


def run_certbot(params: dict, replace_server: bool) -> None:
    """Ask the ACME server for a certificate. Raises Refusal with what certbot said."""
    command = [
        params["certbot"], "certonly", "--non-interactive", "--agree-tos", "--no-eff-email", "--force-renewal",
        "--webroot", "--webroot-path", params["webroot"], "--preferred-challenges", "http",
        "--cert-name", params["name"], "--server", params["directory_url"], "--key-type", params["key_type"],
        "--deploy-hook", params["deploy_command"],
    ]  # fmt: skip
    command += ["--email", params["email"]] if params["email"] else ["--register-unsafely-without-email"]
    if replace_server:
        # Without it certbot refuses to go back to a staging server.
        command.append("--break-my-certs")
    for domain in params["domains"]:
        command += ["--domain", domain]
    trust = {"REQUESTS_CA_BUNDLE": params["ca_bundle"]} if params["ca_bundle"] else {}
    for attempt in range(12):
        code, output = run_merged(command, **trust)
        if code == MISSING:
            raise Refusal(f"{output}.")
        # The timer of this or of another site may be at work.
        if "Another instance of Certbot is already running" not in output or attempt == 11:
            break
        time.sleep(5)
    if code != 0:
        raise Refusal(
            f"There is no certificate for {', '.join(params['domains'])} from {params['directory_url']}: "
            f"{said(output)} (the whole story is in {LOG} on the host)"
        )


def put_aside(paths: list[str]) -> None:
    """Rename what an interrupted first issue has left."""
    stamp = time.strftime("%Y%m%d%H%M%S")
    for path in paths:
        shutil.move(path, f"{path}.incomplete-{stamp}")


def deploy(command: str, check: bool) -> bool:
    """Make the web server serve what is on disk. Returns whether there was something to do. Raises Refusal."""
    if not os.path.exists(command):
        if check:
            return True
        raise Refusal(f"{command} does not exist on the host.")
    if run([command, "--check"])[0] == 0:
        return False
    if not check:
        code, output, errors = run([command])
        if code != 0:
            raise Refusal(f"The certificate is on disk, but it is not served: {errors.strip() or output.strip()}")
    return True


def install(wanted: dict, check: bool) -> bool:
    """Make the virtualenv of certbot unless it is as it shall be. Returns whether it was not. Raises Refusal."""
    try:
        virtualenv = Virtualenv(wanted["path"], python=wanted["python"], requirements=wanted["requirements"])
    except Refusal:
        # In check mode the interpreter may be what an earlier task would have brought.
        if check:
            return True
        raise
    if virtualenv.is_current():
        return False
    if not check:
        with lock():
            # Another run may have made it in the meantime.
            if not virtualenv.is_current():
                uv = Uv(UV, UV_CACHE, wanted["index_url"])
                uv.ensure(wanted["uv_requirements"])
                virtualenv.build(uv)
    return True


def bring_about(params: dict, check: bool) -> dict:
    """Get and deploy the certificate where that is due. Raises Refusal."""
    installed = False
    if params["virtualenv"]:
        installed = install(params["virtualenv"], check)
        params = {**params, "certbot": os.path.join(params["virtualenv"]["path"], "bin", "certbot")}
    lineage = Lineage(params["name"])
    reason = lineage.reason(params, datetime.now(timezone.utc))
    result = {"reason": reason, "warnings": [], "deployed": False, "installed": installed}
    if reason and not check:
        if params["preflight"]:
            result["warnings"] = preflight(params["webroot"], params["domains"])
        put_aside(lineage.leftovers())
        run_certbot(params, bool(lineage.settings) and lineage.settings.get("server") != params["directory_url"])
        lineage = Lineage(params["name"])
        if not lineage.exists:
            raise Refusal(f"certbot ended well, but there is no certificate in {lineage.live}.")
    if lineage.exists:
        result["deployed"] = deploy(params["deploy_command"], check) or bool(reason)
    result["serial"] = lineage.certificate.serial if lineage.certificate else ""
    result["changed"] = installed or bool(reason) or result["deployed"]
    return result


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    try:
        if module.check_mode and not x509.available():
            result = {"changed": True, "reason": "there is none yet", "serial": "", "warnings": []}
            result |= {"deployed": True, "installed": bool(module.params["virtualenv"])}
        else:
            result = bring_about(module.params, module.check_mode)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    for warning in result.pop("warnings"):
        module.warn(warning)
    if module._diff and result["changed"]:
        header = f"{CONFIG}/live/{module.params['name']}"
        after = "certbot installed\n" if result["installed"] else ""
        after += f"a new certificate, because {result['reason']}\n" if result["reason"] else ""
        after += "served\n" if result["deployed"] else ""
        result["diff"] = {"before_header": header, "after_header": header, "before": "", "after": after}
    module.exit_json(**result)
