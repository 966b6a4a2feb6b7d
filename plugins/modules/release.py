# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Take one step on a release's way into service
version_added: "0.1.0"
description:
  - A release is one immutable build of a site. It is built beside the running one, started in the idle one of two
    slots, probed through its own socket, and only then made the live one.
  - Each call takes one step, so that a run shows how far it is. Every step can be repeated; what has been done is read
    from the host, never remembered. A run that was killed is completed by the next one.
  - A step that fails before the switch leaves the live slot as it is, stops the new one, and says in one sentence what
    failed and where the log is.
  - The state on the host is C(<directory>/releases/<id>), links in C(<directory>/slots), and the link
    C(<directory>/live).
options:
  step:
    description:
      - C(inspect) works out the id of the release that the values stand for, and whether it is live; nothing else.
      - C(fetch) makes the release directory with the source, O(env) and O(gunicorn_conf), from scratch.
      - C(install) makes the virtualenv.
      - C(run) runs a command in the release, as the site's user, in the sandbox of the site's unit.
      - C(start) seals the release, starts it in the idle slot and probes it until it answers.
      - C(switch) publishes the static files and sends requests to the new slot.
      - C(finish) waits for the requests of the old slot and removes releases that are no longer kept.
    type: str
    choices: [inspect, fetch, install, run, start, switch, finish]
    required: true
  site:
    description: Where things of the site are.
    type: dict
    required: true
    suboptions:
      name:
        description: Name of the site; its units are C(<name>@blue) and C(<name>@green).
        type: str
        required: true
      user:
        description: System user and group of the site.
        type: str
        required: true
      directory:
        description: Directory of releases and slots.
        type: path
        required: true
      run_directory:
        description: Directory of the sockets; the socket of a slot is C(<slot>/gunicorn.sock) in it.
        type: path
        required: true
      static_directory:
        description: Directory that gets the static files of all kept releases.
        type: path
        required: true
      log_directory:
        description: Directory of the logs of releases; it belongs to root.
        type: path
        required: true
      runner:
        description: Command that runs a command in a release; it gets the id and further arguments of systemd-run.
        type: path
        required: true
  proxy:
    description: The web server in front.
    type: dict
    required: true
    suboptions:
      upstream_file:
        description: File that names the live slot's socket to the web server.
        type: path
        required: true
      proxy_user:
        description: User of the web server's workers; they have to be members of the site's group.
        type: str
        default: ""
      proxy_test_command:
        description: Command that tests the configuration; empty for none.
        type: list
        elements: str
        default: []
      proxy_reload_command:
        description: Command that has the web server read its configuration; empty for no web server at all.
        type: list
        elements: str
        default: []
  id:
    description: Id of the release, as C(inspect) has returned it.
    type: str
    default: ""
  source:
    description: Where the code comes from.
    type: dict
    suboptions:
      type:
        description: A directory on the controller, or a git repository.
        type: str
        choices: [directory, git]
        required: true
      path:
        description: Directory on the controller; a relative one starts at the directory of the playbook.
        type: str
      exclude:
        description: Further patterns of what does not travel; V(!) in front takes one back.
        type: list
        elements: str
        default: []
      url:
        description: URL of the repository.
        type: str
      ref:
        description: Branch, tag, full name of a ref, or all digits of a commit.
        type: str
        default: HEAD
      ssh_key:
        description: Text of the private key that may read the repository; the action plugin takes it out of here.
        type: str
      host_keys:
        description: Lines of a C(known_hosts) file for the repository's host.
        type: list
        elements: str
        default: []
      digest:
        description: Set by the action plugin.
        type: str
  ssh_key:
    description: Set by the action plugin.
    type: str
    default: ""
  archive:
    description: Set by the action plugin.
    type: path
  identity:
    description: Digest of everything but the source that makes one release differ from another.
    type: str
    default: ""
  python:
    description: Interpreter of the virtualenv; it belongs to the identity.
    type: str
    default: python3
  project_subdir:
    description: Directory of C(manage.py) below the source.
    type: str
    default: ""
  requirements:
    description: Requirements files below the source.
    type: list
    elements: str
    default: []
  extra_packages:
    description: Packages to install beside; those that the requirements files name are left out.
    type: list
    elements: str
    default: []
  require_hashes:
    description: Insist that every requirement is pinned with a hash. It does not concern O(extra_packages).
    type: bool
    default: false
  index_url:
    description: Package index; empty for what the host's configuration says.
    type: str
    default: ""
  install_args:
    description: Further arguments of C(uv pip install).
    type: list
    elements: str
    default: []
  uv_requirements:
    description: Set by the action plugin.
    type: str
    default: ""
  env:
    description: Text of the environment file of the release, for systemd; only root can read it.
    type: str
  gunicorn_conf:
    description: Text of the configuration of gunicorn for the release.
    type: str
    default: ""
  name:
    description: What a command is for, one word or two.
    type: str
    default: command
  command:
    description: Command and arguments; a single text that begins with C(sh:) is given to a shell.
    type: list
    elements: str
    default: []
  chdir:
    description: Directory of the command below the project.
    type: str
    default: ""
  environment:
    description: Variables for this command beside those of the release.
    type: dict
    default: {}
  creates:
    description: File below the project; where it exists, the command is not run.
    type: str
    default: ""
  writable:
    description: Directories of the release that the command may write.
    type: list
    elements: str
    default: []
  properties:
    description: Further properties of the unit that the command runs in.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description: How long the command may take.
    type: int
    default: 1800
  health:
    description: How the release proves that it is ready.
    type: dict
    suboptions:
      path:
        description: Path that is asked for.
        type: str
        default: /
      host:
        description: Value of the Host header.
        type: str
        default: ""
      headers:
        description: Further headers.
        type: dict
        default: {}
      status:
        description: Accepted statuses, such as V(200) or V(200-399).
        type: list
        elements: str
        default: ["200-399"]
      contains:
        description: Text that the answer must hold.
        type: str
        default: ""
      timeout_seconds:
        description: How long one answer may take.
        type: int
        default: 10
      retries:
        description: How often it is asked again, a second later, until an answer is good.
        type: int
        default: 30
  domain:
    description: Host that the probe asks for, unless O(health.host) names one.
    type: str
    default: localhost
  draining:
    description: What C(switch) has returned.
    type: list
    elements: int
    default: []
  drain_seconds:
    description: How long C(finish) waits at most.
    type: int
    default: 60
  keep_releases:
    description: How many releases stay on the host; the live one and the one before it always do.
    type: int
    default: 5
  secrets:
    description: Texts that must not appear in what this module returns.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: C(inspect) says whether a release would be made; the other steps do nothing.
    support: full
  diff_mode:
    description: C(inspect) shows the ids.
    support: full
author: groundwork.django maintainers (@groundwork-django)
"""

EXAMPLES = r"""
- name: Find out whether a release is needed
  groundwork.django.release:
    step: inspect
    site: "{{ site }}"
    proxy: "{{ proxy }}"
    source:
      type: git
      url: ssh://git@git.example.org/forge.git
      ref: main
    identity: "{{ settings | to_json | hash('sha256') }}"
  register: release

- name: Migrate the database
  groundwork.django.release:
    step: run
    site: "{{ site }}"
    proxy: "{{ proxy }}"
    id: "{{ release.id }}"
    name: migrate
    command: [python, manage.py, migrate, --noinput]
  when: release.needed
"""

RETURN = r"""
id:
  description: Id of the release, begin of the commit or the content's digest and begin of the identity.
  returned: step inspect
  type: str
  sample: 3f2a9c81d0-9ab21c
needed:
  description: Whether that release is not the live one.
  returned: step inspect
  type: bool
reuse:
  description: Whether it is complete on the host already.
  returned: step inspect
  type: bool
switch_needed:
  description: Whether requests do not reach the slot that should be live.
  returned: step inspect
  type: bool
slot:
  description: The slot that is live when all steps have been taken.
  returned: step inspect
  type: str
  sample: green
other_slot:
  description: The other one.
  returned: step inspect
  type: str
  sample: blue
live_release:
  description: The release that serves before the first step.
  returned: step inspect
  type: str
commit:
  description: The commit, for a git source.
  returned: step inspect
  type: str
venv:
  description: Path of the virtualenv, which the releases with the same requirements share.
  returned: step fetch
  type: str
venv_needed:
  description: Whether it is yet to be made.
  returned: step fetch
  type: bool
packages:
  description: Packages to install beside the requirements.
  returned: step fetch
  type: list
  elements: str
draining:
  description: Workers of nginx that still finish their requests.
  returned: step switch
  type: list
  elements: int
removed:
  description: Releases that were removed.
  returned: step finish
  type: list
  elements: str
"""

import hashlib
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import build, git_source, probe
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.proxy import Proxy, wait_for_end
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site, last_line
from ansible_collections.groundwork.django.plugins.module_utils.venv import Uv, Virtualenv, lock

PROBE_PAUSE = 1.0
UV_DIRECTORY = "/opt/groundwork/uv"
UV_CACHE = "/var/cache/groundwork/uv"


def inspect(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Which release the values stand for, and what has to be done to make it the live one. Raises Refusal."""
    params = module.params
    source = params["source"]
    result = {"commit": ""}
    if source["type"] == "git":
        try:
            _name, result["commit"] = git_source.Repository(source, params["ssh_key"], "").resolve()
        except Refusal:
            # On a bare host git itself comes with the real run.
            if module.check_mode and not os.path.isdir(site.directory):
                return {
                    **result,
                    "changed": True,
                    "id": "",
                    "needed": True,
                    "reuse": False,
                    "switch_needed": True,
                    "slot": "blue",
                    "other_slot": "green",
                    "live_release": "",
                }
            raise
    content = result["commit"] or source["digest"]
    identity = f"{params['identity']}\0{build.python_of(params['python'])}"
    release_id = f"{content[:10]}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"
    live = site.live_release
    needed = live != release_id
    slot = site.slot_for(release_id) if needed else site.live
    switch_needed = needed or proxy.is_stale()
    result.update(
        id=release_id,
        needed=needed,
        reuse=needed and site.is_complete(release_id),
        switch_needed=switch_needed,
        slot=slot,
        other_slot=Site.other(slot),
        live_release=live,
        changed=module.check_mode and switch_needed,
    )
    if module._diff and needed:
        header = os.path.join(site.directory, "live")
        before = f"{live}\n" if live else ""
        result["diff"] = {"before_header": header, "after_header": header, "before": before, "after": f"{release_id}\n"}
    return result


def fetch(module: AnsibleModule, site: Site) -> dict:
    """Make the release directory from scratch. Raises Refusal."""
    params = module.params
    release_id, source = params["id"], params["source"]
    if release_id == site.live_release:
        raise Refusal(f"Release {release_id} of {site.name} is live; it cannot be built again.")
    for slot in ("blue", "green"):
        if site.linked(slot) == release_id:
            site.stop(slot)
    if source["type"] == "directory" and not source["digest"].startswith(release_id.partition("-")[0]):
        raise site.refuse(release_id, "fetch", f"{source['path']} has changed since the run began; run it again")
    try:
        builder = build.Builder(site, release_id)
        builder.make()
        if source["type"] == "git":
            mirror = os.path.join(site.directory, "repository.git")
            repository = git_source.Repository(source, params["ssh_key"], mirror)
            name, commit = repository.resolve()
            if not commit.startswith(release_id.partition("-")[0]):
                raise Refusal(f"{source['ref']} has moved since the run began; run it again")
            repository.ref = name
            repository.fetch(commit)
            repository.export(commit, builder.source)
            facts = {"url": source["url"], "ref": source["ref"], "commit": commit}
        else:
            builder.unpack(params["archive"])
            facts = {"digest": source["digest"]}
        laid_out = builder.lay_out(params)
    except Refusal as refusal:
        raise site.refuse(release_id, "fetch", str(refusal)) from refusal
    site.note(release_id, id=release_id, source={"type": source["type"], **facts}, complete=False)
    return {"changed": True, **laid_out}


def install(module: AnsibleModule, site: Site) -> dict:
    """Make the virtualenv that the release is linked to. Raises Refusal."""
    params = module.params
    release_id = params["id"]
    path = os.path.realpath(site.release(release_id, "venv"))
    log = site.log(release_id)
    build.append(log, f"== requirements: {path}")
    try:
        wanted = Virtualenv(
            path,
            python=params["python"],
            requirements_file=site.release(release_id, "requirements.txt"),
            packages=params["extra_packages"],
            arguments=params["install_args"],
            require_hashes=params["require_hashes"],
        )
        uv = Uv(UV_DIRECTORY, UV_CACHE, params["index_url"])
        with lock():
            uv.ensure(params["uv_requirements"])
            wanted.build(uv)
    except Refusal as refusal:
        build.append(log, str(refusal))
        raise site.refuse(release_id, "requirements", build.installer_line(str(refusal))) from refusal
    return {"changed": True, "venv": path}


def run_command(module: AnsibleModule, site: Site) -> dict:
    """Run one command in the release. Raises Refusal."""
    params = module.params
    project = site.release(params["id"], "project")
    if params["creates"] and os.path.exists(os.path.join(project, params["creates"])):
        return {"changed": False}
    began = time.monotonic()
    command = build.Command(site, params["site"]["runner"], params["id"], params["name"])
    code, output = command.run(params)
    if code != 0:
        raise site.refuse(params["id"], params["name"], build.telling_line(output) or f"exit status {code}")
    for line in build.warnings(output) if params["name"] == "check" else ():
        module.warn(line)
    return {"changed": True, "seconds": round(time.monotonic() - began, 2), "last_line": last_line(output)}


def start(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Start the release in the idle slot and wait until it answers. Raises Refusal."""
    params = module.params
    release_id = params["id"]
    slot = site.slot_for(release_id)
    if site.linked(slot) != release_id or not site.is_active(slot):
        # A run that was killed may have left requests going to this slot.
        if site.live and proxy.enabled and proxy.named() == slot:
            wait_for_end(proxy.point_to(site.live), params["drain_seconds"])
        site.stop(slot)
        build.Builder(site, release_id).seal()
        site.put_into(slot, release_id)
        began = time.monotonic()
        code, output = site.start(slot)
        if code != 0:
            give_up(site, slot, release_id, build.telling_line(site.journal(slot)) or last_line(output))
    else:
        began = time.monotonic()
    health = params["health"]
    restarts = site.properties(site.unit(slot), "NRestarts").get("NRestarts")
    retries = health["retries"]
    while reason := probe.ask(site.socket(slot), health, params["domain"]):
        if not stays_active(site, slot, restarts):
            give_up(site, slot, release_id, build.telling_line(site.journal(slot)) or "gunicorn ended")
        if retries <= 0:
            give_up(site, slot, release_id, reason)
        retries -= 1
    site.note(release_id, complete=True, completed=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    return {"changed": True, "slot": slot, "seconds": round(time.monotonic() - began, 2)}


def stays_active(site: Site, slot: str, restarts: str | None) -> bool:
    """Whether the unit of a slot runs, and has not been started again by systemd, for another second."""
    end = time.monotonic() + PROBE_PAUSE
    while True:
        found = site.properties(site.unit(slot), "ActiveState", "NRestarts")
        if found.get("ActiveState") != "active" or found.get("NRestarts") != restarts:
            return False
        if time.monotonic() > end:
            return True
        time.sleep(0.1)


def give_up(site: Site, slot: str, release_id: str, reason: str) -> None:
    """Keep what the slot's unit said, stop it, and raise the Refusal."""
    build.append(site.log(release_id), f"== journal of {site.unit(slot)}\n{site.journal(slot)}")
    site.stop(slot)
    raise site.refuse(release_id, "probe", reason)


def switch(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Send requests to the release. Raises Refusal; the old slot serves on then."""
    release_id = module.params["id"]
    needed = site.live_release != release_id
    slot = site.slot_for(release_id) if needed else site.live
    previous = site.live_release
    builder = build.Builder(site, release_id)
    builder.publish_static()
    try:
        old = proxy.point_to(slot)
    except Refusal as refusal:
        if needed:
            site.stop(slot)
        raise site.refuse(release_id, "switch", str(refusal)) from refusal
    site.make_live(slot)
    if needed:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        site.note(release_id, previous=previous, slot=slot, switched=now)
    return {"changed": True, "slot": slot, "draining": old}


def finish(module: AnsibleModule, site: Site) -> dict:
    """Wait until the old slot has nothing to do, and remove old releases."""
    params = module.params
    drained = wait_for_end(params["draining"], params["drain_seconds"])
    if not drained:
        module.warn(f"Requests to the old slot of {site.name} were still open after {params['drain_seconds']} s.")
    removed = build.prune(site, params["keep_releases"])
    return {"changed": bool(removed), "drained": drained, "removed": removed}


def main() -> None:
    text = {"type": "str", "default": ""}
    words = {"type": "list", "elements": "str", "default": []}
    paths = ("directory", "run_directory", "static_directory", "log_directory", "runner")
    site_options = {
        **{name: {"type": "str", "required": True} for name in ("name", "user")},
        **{name: {"type": "path", "required": True} for name in paths},
    }
    source_options = {
        "type": {"type": "str", "choices": ["directory", "git"], "required": True},
        "path": {"type": "str"},
        "exclude": words,
        "url": {"type": "str"},
        "ref": {"type": "str", "default": "HEAD"},
        "ssh_key": {"type": "str", "no_log": True},
        "host_keys": {**words, "no_log": False},
        "digest": {"type": "str"},
    }
    proxy_options = {
        "upstream_file": {"type": "path", "required": True},
        "proxy_user": text,
        "proxy_test_command": words,
        "proxy_reload_command": words,
    }
    health_options = {
        "path": {"type": "str", "default": "/"},
        "host": text,
        "headers": {"type": "dict", "default": {}},
        "status": {"type": "list", "elements": "str", "default": ["200-399"]},
        "contains": text,
        "timeout_seconds": {"type": "int", "default": 10},
        "retries": {"type": "int", "default": 30},
    }
    module = AnsibleModule(
        argument_spec={
            "step": {
                "type": "str",
                "required": True,
                "choices": ["inspect", "fetch", "install", "run", "start", "switch", "finish"],
            },
            "site": {"type": "dict", "required": True, "options": site_options},
            "proxy": {"type": "dict", "required": True, "options": proxy_options},
            "id": text,
            "source": {"type": "dict", "options": source_options},
            # At the top level: what is nested is written to the journal of the host.
            "ssh_key": {**text, "no_log": True},
            "archive": {"type": "path"},
            "identity": text,
            "python": {"type": "str", "default": "python3"},
            "project_subdir": text,
            "requirements": words,
            "extra_packages": words,
            "require_hashes": {"type": "bool", "default": False},
            # It may hold a password.
            "index_url": {**text, "no_log": True},
            "install_args": words,
            "uv_requirements": text,
            "env": {"type": "str", "no_log": True},
            "gunicorn_conf": text,
            "name": {"type": "str", "default": "command"},
            "command": words,
            "chdir": text,
            "environment": {"type": "dict", "default": {}},
            "creates": text,
            "writable": words,
            "properties": words,
            "timeout_seconds": {"type": "int", "default": 1800},
            "health": {"type": "dict", "options": health_options},
            "domain": {"type": "str", "default": "localhost"},
            "draining": {"type": "list", "elements": "int", "default": []},
            "drain_seconds": {"type": "int", "default": 60},
            "keep_releases": {"type": "int", "default": 5},
            "secrets": {**words, "no_log": True},
        },
        required_if=[
            ("step", "inspect", ["source", "identity"]),
            ("step", "fetch", ["source", "id", "env"]),
            ("step", "start", ["health", "id"]),
        ],
        supports_check_mode=True,
    )
    site = Site(module.params["site"])
    proxy = Proxy(site, module.params["proxy"])
    step = module.params["step"]
    os.umask(0o022)
    try:
        if step == "inspect":
            module.exit_json(**inspect(module, site, proxy))
        if module.check_mode:
            module.exit_json(changed=False)
        if step == "fetch":
            module.exit_json(**fetch(module, site))
        if step == "install":
            module.exit_json(**install(module, site))
        if step == "run":
            module.exit_json(**run_command(module, site))
        if step == "start":
            module.exit_json(**start(module, site, proxy))
        if step == "switch":
            module.exit_json(**switch(module, site, proxy))
        module.exit_json(**finish(module, site))
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))


if __name__ == "__main__":
    main()
