# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What module postgres_cluster does on the host."""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import postgres
from ansible_collections.groundwork.django.plugins.module_utils.commands import run
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

DISTRIBUTION_VERSIONS = {"debian": {"12": "15", "13": "17"}, "ubuntu": {"22.04": "14", "24.04": "16", "26.04": "18"}}

ARGUMENTS = {
    "version": {"type": "str", "default": ""},
    "data_checksums": {"type": "str", "choices": ["new", "all", "off"], "default": "new"},
    "locale": {"type": "str", "default": "C.UTF-8"},
    "port": {"type": "int", "default": 5432},
}
"""Options of the module."""


def distribution_version(path: str = "/etc/os-release") -> str:
    """Major version of PostgreSQL that the distribution has; empty where that is not known."""
    try:
        with open(path, encoding="utf-8") as stream:
            values = dict(line.rstrip("\n").split("=", 1) for line in stream if "=" in line)
    except FileNotFoundError:
        return ""
    versions = DISTRIBUTION_VERSIONS.get(values.get("ID", "").strip('"'), {})
    return versions.get(values.get("VERSION_ID", "").strip('"'), "")


def choose(asked: str, clusters: dict[str, postgres.Cluster], installed: list[str]) -> str:
    """Major version to work with. Raises Refusal where that would leave databases behind, or is not clear."""
    full = [cluster for cluster in clusters.values() if cluster.has_databases]
    if not asked:
        if len(full) > 1:
            names = " and ".join(sorted(cluster.name for cluster in full))
            raise Refusal(f"There are databases in {names}: set postgres_version to the one that is to be used.")
        if full:
            return full[0].version
        return max(clusters or installed, key=float, default="")
    if asked in clusters and clusters[asked].has_databases:
        return asked
    others = [cluster for version, cluster in clusters.items() if version != asked]
    for cluster in others:
        if cluster.has_databases:
            empty = f" The empty cluster {asked}/main is not used." if asked in clusters else ""
            raise Refusal(
                f"PostgreSQL {asked} is asked for, but the databases are in cluster {cluster.name}: nothing was "
                f'created or moved.{empty} Set postgres_version to "{cluster.version}", or move them first with '
                f"pg_upgradecluster (the README of the role says how)."
            )
        if not cluster.has_data:
            raise Refusal(
                f"PostgreSQL {asked} is asked for, but the cluster {cluster.name} has no data in "
                f"{cluster.data_directory}: look whether a disk is not mounted, and remove "
                f"/etc/postgresql/{cluster.name} if the data is really gone."
            )
    if others:
        raise Refusal(
            f"PostgreSQL {asked} is asked for, but there is an empty cluster {others[0].name}: remove it with "
            f"`pg_dropcluster --stop {others[0].version} main` and run again."
        )
    return asked


def control_data(cluster: postgres.Cluster) -> dict[str, str]:
    """What pg_controldata says about a cluster."""
    command = [f"{postgres.BINARIES}/{cluster.version}/bin/pg_controldata", "-D", cluster.data_directory]
    code, output, errors = run([*postgres.AS_POSTGRES, *command], inherited={})
    if code != 0:
        raise Refusal(f"The cluster {cluster.name} cannot be read: {errors.strip()}")
    return {key.strip(): value.strip() for key, _colon, value in (line.partition(":") for line in output.splitlines())}


def must(command: list[str], what: str) -> None:
    """Run a command. Raises Refusal with `what` it was for and what it said."""
    code, output, errors = run(command, inherited={})
    if code != 0:
        raise Refusal(f"{what} failed (exit {code}): {errors.strip() or output.strip()}")


class Keeper:
    """Brings the cluster about and remembers what was done."""

    def __init__(self, params: dict, check: bool) -> None:
        self.params = params
        self.check = check
        self.actions: list[str] = []
        self.warnings: list[str] = []

    def keep(self) -> dict:
        """Do all of it. Returns version and data_directory."""
        asked = self.params["version"]
        clusters = postgres.clusters()
        installed = postgres.installed_versions()
        version = choose(asked, clusters, installed)
        if version not in installed:
            if not self.check:
                raise Refusal(f"PostgreSQL {version} is not installed: install the package postgresql-{version} first.")
            version = version or distribution_version() or "0"
        cluster = clusters.get(version) or self.create(version, version in installed)
        if self.params["data_checksums"] != "off" and version in clusters:
            self.protect(cluster)
        return {"version": version, "data_directory": cluster.data_directory}

    def create(self, version: str, installed: bool) -> postgres.Cluster:
        """Make the cluster, with checksums from the start."""
        cluster = postgres.Cluster(version, f"/var/lib/postgresql/{version}/main")
        self.put_aside(cluster)
        self.actions.append(f"create {version}/main")
        if not self.check and installed:
            command = ["pg_createcluster", f"--port={self.params['port']}", "--start-conf=auto"]
            options = [f"--locale={self.params['locale']}", "--encoding=UTF8"]
            checksums = ["--", "--data-checksums"] if self.params["data_checksums"] != "off" else []
            must([*command, *options, version, "main", *checksums], f"Creating the cluster {version}/main")
        return cluster

    def put_aside(self, cluster: postgres.Cluster) -> None:
        """Rename what the interrupted creation of a cluster has left; data of users is never touched."""
        data = cluster.data_directory
        if not (os.path.isdir(data) and os.listdir(data)):
            return
        if cluster.has_databases:
            raise Refusal(
                f"{data} holds databases, but /etc/postgresql/{cluster.name} has no postgresql.conf for them: put it "
                f"back from a backup."
            )
        self.actions.append(f"put aside what is left in {data}")
        if not self.check:
            os.rename(data, f"{data}.left-{int(time.time())}")

    def protect(self, cluster: postgres.Cluster) -> None:
        """Turn checksums on, if they are off and it may be done."""
        control = control_data(cluster)
        if control.get("Data page checksum version") != "0":
            return
        if cluster.has_databases and self.params["data_checksums"] != "all":
            self.warnings.append(
                f"The cluster {cluster.name} has no data checksums. They can only be turned on while it is stopped: "
                f'set postgres_data_checksums to "all" for one run.'
            )
            return
        self.actions.append(f"turn on data checksums in {cluster.name}")
        if self.check:
            return
        unit = f"postgresql@{cluster.version}-main.service"
        if control.get("Database cluster state") != "shut down":
            # Running, or killed: a start and a clean stop bring it to rest.
            must(["systemctl", "start", unit], f"Starting {unit}")
            must(["systemctl", "stop", unit], f"Stopping {unit}")
        program = f"{postgres.BINARIES}/{cluster.version}/bin/pg_checksums"
        command = [*postgres.AS_POSTGRES, program, "--enable", "-D", cluster.data_directory]
        must(command, f"Turning on data checksums in {cluster.name}")


def carry_out(module: AnsibleModule) -> None:
    """Do the work of the module and end by its exit_json or fail_json."""
    keeper = Keeper(module.params, module.check_mode)
    try:
        result = keeper.keep()
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    for warning in keeper.warnings:
        module.warn(warning)
    lines = "".join(f"{action}\n" for action in keeper.actions)
    module.exit_json(
        changed=bool(keeper.actions), actions=keeper.actions, diff={"before": "", "after": lines}, **result
    )
