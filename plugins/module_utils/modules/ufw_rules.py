# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module ufw_rules does on the host."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal, read_text, write_atomically
from ansible_collections.groundwork.django.plugins.module_utils.ssh_login import ssh_login

UFW = "/usr/sbin/ufw"
CONFIG = "/etc/ufw/ufw.conf"
DEFAULTS = "/etc/default/ufw"
RULES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")
PENDING = "/var/lib/groundwork/ufw-pending"
PREFIX = "groundwork:"
ANYWHERE = ("0.0.0.0/0", "::/0")
OWNER = re.compile(r"^[A-Za-z0-9_.-]+$")
COMMENT = re.compile(r"^[A-Za-z0-9 _.,:;()/+-]+$")

ARGUMENTS = {
    "enabled": {"type": "bool", "default": True},
    "owner": {"type": "str", "required": True},
    "ssh_port": {"type": "int", "required": True},
    "ssh_networks": {"type": "list", "elements": "str", "default": []},
    "rules": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            "from": {"type": "list", "elements": "str", "default": []},
            "limit": {"type": "bool", "default": False},
            "comment": {"type": "str", "required": True},
        },
    },
    "logging": {"type": "str", "choices": ["off", "low", "medium", "high", "full"], "default": "low"},
}
"""Options of the module."""


class Match(NamedTuple):
    """What a rule is about: one port and protocol, from one network ("any" for all)."""

    protocol: str
    port: str
    source: str


class Rule(NamedTuple):
    """A rule of ufw: its match, what it does, and who placed it for what."""

    match: Match
    action: str
    owners: tuple[str, ...]
    text: str

    @property
    def is_ours(self) -> bool:
        return bool(self.owners)

    @property
    def comment(self) -> str:
        return f"{PREFIX}{','.join(self.owners)} {self.text}" if self.owners else self.text

    def words(self) -> list[str]:
        """The rule as arguments of ufw, without its action and comment."""
        match = self.match
        return ["proto", match.protocol, "from", match.source, "to", "any", "port", match.port]

    def __str__(self) -> str:
        comment = f" # {self.comment}" if self.comment else ""
        return f"{self.action} {self.match.port}/{self.match.protocol} from {self.match.source}{comment}"


def setting(text: str, name: str) -> str:
    """Value of NAME=value in a file of ufw, in lower case, without quotes."""
    found = re.findall(rf"^\s*{name}=[\"']?([^\"'\s]*)", text, re.MULTILINE)
    return found[-1].lower() if found else ""


def network(text: str) -> str:
    """A network as ufw writes it: without the mask where it is one address. Raises Refusal."""
    try:
        parsed = ipaddress.ip_network(text)
    except ValueError as error:
        raise Refusal(f'"{text}" is not an address or network: {error}.') from error
    if parsed.prefixlen == 0:
        return "any"
    return str(parsed.network_address) if parsed.num_addresses == 1 else str(parsed)


def parse_comment(text: str) -> tuple[tuple[str, ...], str]:
    """Owners and text of a comment; no owners where it is not one of ours."""
    if not text.startswith(PREFIX):
        return (), text
    owners, _space, rest = text[len(PREFIX) :].partition(" ")
    return tuple(owner for owner in owners.split(",") if owner), rest


def parse_rules(text: str) -> list[Rule]:
    """Rules that open or close one port for what comes in, from the tuples that ufw keeps in its rules files."""
    rules = []
    for line in re.findall(r"^### tuple ### (.*)$", text, re.MULTILINE):
        words = line.split()
        comment = ""
        if words[-1].startswith("comment="):
            comment = bytes.fromhex(words.pop()[len("comment=") :]).decode("utf-8", "replace")
        # With an application profile there are two more words; such a rule is by hand and about no plain port.
        if len(words) != 7 or words[6] != "in" or words[0].startswith("route:"):
            continue
        action, protocol, port, target, source_port, source = words[:6]
        if source_port != "any" or target not in ANYWHERE:
            continue
        match = Match(protocol, port, "any" if source in ANYWHERE else source)
        rules.append(Rule(match, action.split("_")[0], *parse_comment(comment)))
    return rules


def current_rules(texts: list[str]) -> tuple[list[Rule], set[Match]]:
    """All rules once, in order, and the matches that both IPv4 and IPv6 have."""
    lists = [parse_rules(text) for text in texts]
    unique = {rule.match: rule for rules in reversed(lists) for rule in reversed(rules)}
    matches = [{rule.match for rule in rules} for rules in lists]
    return list(unique.values())[::-1], matches[0] & matches[1]


def declared_rules(params: dict, connection_port: int) -> list[Rule]:
    """The rules that shall be, the ones of SSH first. Raises Refusal."""
    owners = (params["owner"],)
    rules: list[Rule] = []

    def add(port: int, protocol: str, source: str, action: str, text: str) -> None:
        rule = Rule(Match(protocol, str(port), network(source) if source != "any" else "any"), action, owners, text)
        if not COMMENT.match(text):
            raise Refusal(
                f'"{text}" cannot be the comment of a rule; use letters, digits, blanks and . , : ; ( ) / + -.'
            )
        if rule.match not in {known.match for known in rules}:
            rules.append(rule)

    for port in dict.fromkeys(port for port in (connection_port, params["ssh_port"]) if port):
        for source in params["ssh_networks"]:
            add(port, "tcp", source, "allow", "SSH of the operators")
        add(port, "tcp", "any", "limit", "SSH")
    for wanted in params["rules"]:
        action = "limit" if wanted["limit"] else "allow"
        for source in wanted["from"] or ["any"]:
            add(wanted["port"], wanted["protocol"], source, action, wanted["comment"])
    return rules


def covers(rule: Rule, match: Match) -> bool:
    """Whether a rule is about the same packets as `match`; one without a protocol is about both."""
    return rule.match == match or rule.match == match._replace(protocol="any")


class Firewall:
    """ufw as it is, and what has to be done about it."""

    def __init__(self, params: dict, connection_port: int) -> None:
        self.params = params
        self.owner: str = params["owner"]
        self.installed = os.path.exists(UFW)
        config, defaults = read_text(CONFIG), read_text(DEFAULTS)
        self.is_enabled = setting(config, "ENABLED") == "yes"
        self.has_ipv6 = setting(defaults, "IPV6") == "yes"
        self.incoming = setting(defaults, "DEFAULT_INPUT_POLICY")
        self.outgoing = setting(defaults, "DEFAULT_OUTPUT_POLICY")
        self.logging = setting(config, "LOGLEVEL")
        self.rules, self.whole = current_rules([read_text(path) for path in RULES])
        self.ssh_ports = {str(params["ssh_port"]), str(connection_port)}
        self.wanted = declared_rules(params, connection_port)

    def found(self, match: Match) -> Rule | None:
        """The rule for a match, ours or by hand."""
        for rule in self.rules:
            if covers(rule, match):
                return rule
        return None

    def is_half(self, match: Match) -> bool:
        """Whether a rule for all networks is there for one of IPv4 and IPv6 only."""
        return self.has_ipv6 and match.source == "any" and match not in self.whole

    def additions(self) -> list[list[str]]:
        """Commands that place what is missing. Raises Refusal for a rule by hand that stands in the way."""
        commands = []
        for rule in self.wanted:
            there = self.found(rule.match)
            ssh = rule.match.port in self.ssh_ports and rule.match.protocol == "tcp"
            if there and not there.is_ours and not (ssh and there.match == rule.match):
                if there.action not in ("allow", "limit"):
                    raise Refusal(
                        f"A rule made by hand ({there}) closes a port that is declared as {rule.text}; "
                        "delete that rule, or take the port off the declared ones."
                    )
                if not ssh:
                    continue
            if there and there.is_ours:
                owners = there.owners if self.owner in there.owners else (*there.owners, self.owner)
                alone = owners == (self.owner,)
                rule = rule._replace(owners=owners, text=rule.text if alone else there.text)
                if there == rule and not self.is_half(rule.match):
                    continue
            # Operators come before the limit for everybody.
            first = ["prepend"] if ssh and rule.match.source != "any" and there is None else []
            commands.append([*first, rule.action, *rule.words(), "comment", rule.comment])
        return commands

    def removals(self) -> list[list[str]]:
        """Commands that take away what this owner no longer declares."""
        declared = {rule.match for rule in self.wanted}
        commands = []
        for rule in self.rules:
            if self.owner not in rule.owners or rule.match in declared:
                continue
            left = tuple(owner for owner in rule.owners if owner != self.owner)
            if left:
                shared = rule._replace(owners=left)
                commands.append([rule.action, *rule.words(), "comment", shared.comment])
            else:
                commands.append(["delete", rule.action, *rule.words()])
        return commands

    def plan(self) -> list[list[str]]:
        """Arguments of ufw for all that has to be done, in order. Raises Refusal."""
        if not self.params["enabled"]:
            return [["--force", "disable"]] if self.is_enabled else []
        commands = self.additions()
        if self.incoming != "drop":
            commands.append(["default", "deny", "incoming"])
        if self.outgoing != "accept":
            commands.append(["default", "allow", "outgoing"])
        if self.logging != self.params["logging"]:
            commands.append(["logging", self.params["logging"]])
        commands += self.removals()
        if not self.is_enabled:
            commands.append(["--force", "enable"])
        elif os.path.exists(PENDING) or not is_loaded():
            commands.append(["reload"])
        return commands


def is_loaded() -> bool:
    """Whether the kernel has ufw's rules, which a flush by hand takes away."""
    return run_merged(["iptables", "-w", "-n", "-L", "ufw-user-input"])[0] == 0


def at_boot() -> bool:
    """Whether ufw is enabled at boot."""
    return run_merged(["systemctl", "is-enabled", "ufw.service"])[0] == 0


def apply(commands: list[list[str]], boot: bool) -> None:
    """Do what was planned. A mark stays on disk until all of it is done. Raises Refusal."""
    write_atomically(PENDING, b"A run changes the rules of ufw, or was killed while it did.\n", 0o600)
    for command in commands:
        code, output = run_merged([UFW, *command])
        if code != 0:
            raise Refusal(f"`{shlex.join(['ufw', *command])}` failed (exit {code}): {output.strip()}")
    if boot:
        code, output = run_merged(["systemctl", "enable", "--quiet", "ufw.service"])
        if code != 0:
            raise Refusal(f"ufw.service cannot be enabled: {output.strip()}")
    os.unlink(PENDING)


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    params = module.params
    if not OWNER.match(params["owner"]):
        module.fail_json(msg=f'"{params["owner"]}" cannot be the owner of rules; use letters, digits, _, . and -.')
    try:
        login = ssh_login()
        firewall = Firewall(params, login.port if login else 0)
        if not firewall.installed and not (module.check_mode and params["enabled"]):
            if params["enabled"]:
                raise Refusal("ufw is not installed.")
            module.exit_json(changed=False, actions=[])
        commands = firewall.plan()
        boot = params["enabled"] and not at_boot()
        if (commands or boot) and not module.check_mode:
            apply(commands, boot)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    actions = [shlex.join(["ufw", *command]) for command in commands] + ["systemctl enable ufw.service"] * boot
    result = {"changed": bool(actions), "actions": actions}
    if module._diff:
        result["diff"] = {
            "before_header": "ufw",
            "after_header": "ufw",
            "before": "",
            "after": "".join(f"{action}\n" for action in actions),
        }
    module.exit_json(**result)
