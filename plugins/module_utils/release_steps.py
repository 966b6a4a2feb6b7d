# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of a release. Each is given the module, the site and the proxy, and returns its part of the result.

What fails is said by a Refusal, in one sentence.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils import (
    archive_source,
    build,
    django_migrations,
    generated_secrets,
    git_source,
    installers,
    memory,
    migrations,
    probe,
    rollback,
    sqlite_import,
)
from ansible_collections.groundwork.django.plugins.module_utils.commands import run_merged, sync_file_system
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import service
from ansible_collections.groundwork.django.plugins.module_utils.proxy import Proxy
from ansible_collections.groundwork.django.plugins.module_utils.slots import SLOTS, Site, last_line
from ansible_collections.groundwork.django.plugins.module_utils.venv import STAMP, Uv, lock

PROBE_PAUSE = 1.0
ASKED_AGAIN = 3
"""How often the live release is asked after migrations: each of its connections may fail once on a new column."""
CHECK = "check"
MIGRATE = "migrate"
"""Names of the commands that check the project and that migrate."""
IMPORT_SECONDS = 6 * 3600
"""How long an import may take; it is one transaction."""
UV_DIRECTORY = "/opt/groundwork/uv"
UV_CACHE = "/var/cache/groundwork/uv"


def inspect(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Which release the values stand for, and what has to be done to make it the live one. Raises Refusal.

    Where nothing has to be done, it only sees to the units.
    """
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
                    "live_release": "",
                }
            raise
    content = result["commit"] or source["digest"]
    identity = f"{params['identity']}\0{installers.interpreter(params['packages']['python'])}"
    release_id = f"{content[:10]}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"
    live = site.live_release
    bad = site.facts(release_id).get("bad")
    if bad and live and not params["bad_again"]:
        module.warn(
            f"{site.name} stays with release {live}: {release_id}, which the values stand for, is marked bad since "
            f"{bad['since']}, when {bad['operator']} went back from it. Change the code or the values, or set "
            f"gunicorn_app_bad_release_enabled to true."
        )
        release_id = live
    needed = live != release_id
    slot = site.slot_for(release_id) if needed else site.live
    # A run may have been killed after the switch, with commands left to run.
    switch_needed = needed or proxy.is_stale() or not site.facts(live).get("finished")
    result.update(
        id=release_id,
        needed=needed,
        reuse=needed and site.is_complete(release_id),
        switch_needed=switch_needed,
        slot=slot,
        live_release=live,
        changed=module.check_mode and switch_needed,
    )
    if needed:
        result |= live_diff(module, site, release_id)
    if not switch_needed:
        actions = run_live_slot(module, site)
        result.update(changed=bool(actions), actions=actions)
    return result


def run_live_slot(module: AnsibleModule, site: Site) -> list[str]:
    """Run the live slot and the processes, stop the other slot, and return what was done. Raises Refusal."""
    slots = [
        {"name": site.unit(site.live)},
        {"name": site.unit(Site.other(site.live)), "state": "stopped", "enabled": False},
    ]
    return service.keep([*slots, *module.params["processes"]], module.params["timeout_seconds"], module.check_mode)


def fetch(module: AnsibleModule, site: Site, _proxy: Proxy) -> dict:
    """Make the release directory from scratch. Raises Refusal."""
    params = module.params
    release_id, source = params["id"], params["source"]
    if release_id == site.live_release:
        raise Refusal(f"Release {release_id} of {site.name} is live; it cannot be built again.")
    if not os.path.isdir(os.path.join(site.directory, "releases")):
        raise Refusal(f"{site.directory}/releases is not on the host: apply the whole site once before its code alone.")
    # The live slot goes on with what it has loaded, although its release is no longer whole.
    idle = Site.other(site.live) if site.live else ""
    for slot in [idle] if idle else SLOTS:
        if site.linked(slot) == release_id:
            site.stop(slot)
    if source["type"] == "directory" and not source["digest"].startswith(release_id.partition("-")[0]):
        raise site.refuse(release_id, "fetch", f"{source['path']} has changed since the run began; run it again")
    builder = build.Builder(site, release_id)
    try:
        builder.make()
        facts = bring_source(params, site, builder)
        builder.place_files(json.loads(params["files"] or "[]"))
        builder.share(params["shared"]["paths"], params["shared"]["directory"])
        made = generated_secrets.GeneratedSecrets(site.name).make(params["generate"])
        env = params["env"] + generated_secrets.environment(made)
        project = builder.lay_out(params["project_subdir"], env, params["gunicorn_conf"])
        wanted = virtualenv_of(params, builder, project)
        place = wanted.path_in(os.path.join(site.directory, "venvs"), release_id)
    except Refusal as refusal:
        raise site.refuse(release_id, "fetch", str(refusal)) from refusal
    except OSError as error:
        raise site.refuse(release_id, "fetch", str(error)) from error
    other = wanted.differing_python()
    if other:
        module.warn(f".python-version of {site.name} is {other}, and the release runs with {wanted.python}.")
    builder.use_virtualenv(place)
    known = {"id": release_id, "source": {"type": source["type"], **facts}}
    site.note(release_id, **known, first=not site.live, complete=False)
    return {"changed": True, "venv": place, "venv_needed": not os.path.isfile(os.path.join(place, STAMP))}


def bring_source(params: dict, site: Site, builder: build.Builder) -> dict:
    """Fill the source directory of a release, and return what is to be known about where it came from.

    Raises Refusal.
    """
    source = params["source"]
    if source["type"] == "git":
        mirror = os.path.join(site.directory, "repository.git")
        repository = git_source.Repository(source, params["ssh_key"], mirror)
        name, commit = repository.resolve()
        if not commit.startswith(builder.id.partition("-")[0]):
            raise Refusal(f"{source['ref']} has moved since the run began; run it again")
        repository.ref = name
        repository.fetch(commit)
        repository.export(commit, builder.source)
        return {"url": source["url"], "ref": source["ref"], "commit": commit}
    if source["type"] == "archive":
        name = source["url"] or source["path"]
        path = params["archive"] or f"{builder.source}.archive"
        if not params["archive"]:
            archive_source.download(source["url"], path)
        archive_source.check(path, name, source["digest"])
        archive_source.unpack(path, builder.source, name)
        os.unlink(path)
        return {"from": name, "checksum": f"sha256:{source['digest']}"}
    if source["type"] == "package":
        return {"spec": source["spec"]}
    builder.unpack(params["archive"])
    return {"digest": source["digest"]}


def virtualenv_of(params: dict, builder: build.Builder, project: str, path: str = "") -> installers.ReleaseVirtualenv:
    """The virtualenv of a release. Raises Refusal."""
    spec = (params["source"] or {}).get("spec") or ""
    options = {**params["packages"], "index_url": params["index_url"], "spec": spec}
    return installers.ReleaseVirtualenv(path, builder.source, project, options)


def install(module: AnsibleModule, site: Site, _proxy: Proxy) -> dict:
    """Make the virtualenv that the release is linked to. Raises Refusal."""
    params = module.params
    release_id = params["id"]
    path = os.path.realpath(site.release(release_id, "venv"))
    log = site.log(release_id)
    build.append(log, f"== requirements: {path}")
    project = os.path.realpath(site.release(release_id, "project"))
    try:
        wanted = virtualenv_of(params, build.Builder(site, release_id), project, path)
        uv = Uv(UV_DIRECTORY, UV_CACHE, params["index_url"])
        with lock():
            uv.ensure(params["uv_requirements"])
            wanted.build(uv)
    except Refusal as refusal:
        build.append(log, site.masked(str(refusal)))
        raise site.refuse(release_id, "requirements", build.installer_line(str(refusal))) from refusal
    return {"changed": True, "venv": path}


def run_commands(module: AnsibleModule, site: Site, _proxy: Proxy) -> dict:
    """Run the commands of this step in the release. Raises Refusal."""
    began = time.monotonic()
    ran = carry_out_commands(module, site)
    return {"changed": bool(ran), "seconds": round(time.monotonic() - began, 2), "commands": ran}


def carry_out_commands(module: AnsibleModule, site: Site) -> list[dict]:
    """Run commands in the release, one after another. Returns name and last line of each that ran. Raises Refusal."""
    params = module.params
    ran = []
    for options in params["commands"]:
        command = build.Command(site, params["site"]["runner"], params["id"], options["name"])
        if command.is_done(options):
            continue
        code, output = command.run(options)
        if code != 0:
            raise site.refuse(params["id"], options["name"], command.reason(code, output))
        if options["name"] == CHECK:
            warn(module, output)
        ran.append({"name": options["name"], "last_line": last_line(output)})
    return ran


def warn(module: AnsibleModule, output: str) -> None:
    """Show the warnings of Django's check."""
    for line in build.warnings(output):
        module.warn(line)


def start(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Start the release in the idle slot and wait until it answers. Raises Refusal."""
    params = module.params
    release_id = params["id"]
    slot = site.slot_for(release_id)
    if site.linked(slot) != release_id or not site.is_active(slot):
        # A run that was killed may have left requests going to this slot.
        if site.live and proxy.named() == slot:
            proxy.point_to(site.live)
            proxy.wait_for_end(slot, params["drain_seconds"])
        site.stop(slot)
        build.Builder(site, release_id).seal()
        site.keep_unit(release_id)
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
    while True:
        reason = probe.ask(site.socket(slot), health, params["domain"])
        if memory.kills(site, slot):
            give_up(site, slot, release_id, reason)
        if not reason:
            break
        if not stays_active(site, slot, restarts):
            give_up(site, slot, release_id, build.telling_line(site.journal(slot)) or "gunicorn ended")
        if retries <= 0:
            give_up(site, slot, release_id, reason)
        retries -= 1
    if params["migrations"]:
        migrations.learn(site, release_id, params["migrations"])
    sync_file_system(site.directory)
    site.note(release_id, complete=True, completed=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    return {"changed": True, "slot": slot, "seconds": round(time.monotonic() - began, 2)}


def migrate(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Check the project if asked to, migrate, and see whether the live release can live with that. Raises Refusal."""
    params = module.params
    release_id = params["id"]
    at_once = [options["name"] for options in params["commands"][:1]] == [MIGRATE]
    said = ask_for_migrations(module, site, migrate=at_once, check=params["check"])
    if at_once and django_migrations.changes_nothing(said):
        params["commands"] = params["commands"][1:]
    kept = migrations.keep(site, release_id, said)
    live = site.live if site.live and site.is_active(site.live) else ""
    fitted = live and not probe.ask(site.socket(live), params["health"], params["domain"])
    if said["pending"] and params["restore_point_command"]:
        code, output = run_merged([word.replace("{release}", release_id) for word in params["restore_point_command"]])
        if code != 0:
            raise site.refuse(release_id, "restore point", last_line(output) or f"exit status {code}")
    result = run_commands(module, site, proxy)
    reason = ask_again(site, live, params) if fitted else ""
    if reason:
        raise site.refuse(
            release_id,
            "migrate",
            f"the release that serves does not work with the migrated database ({reason}), and the new one was not "
            f"started; make what {', '.join(sorted(said['pending']))} changes in two releases, first what both can "
            "live with, or release this one again to have it serve all the same",
            f"release {site.live_release} in slot {live} goes on with errors",
        )
    return {**result, "changed": bool(said["pending"]), "pending": sorted(said["pending"]), "migrations": kept}


def ask_again(site: Site, slot: str, params: dict) -> str:
    """Why a slot does not answer well, some times in a row; an empty text where it does."""
    reason = ""
    for number in range(ASKED_AGAIN):
        time.sleep(PROBE_PAUSE if number else 0)
        reason = probe.ask(site.socket(slot), params["health"], params["domain"])
        if not reason:
            break
    return reason


def ask_for_migrations(module: AnsibleModule, site: Site, migrate: bool = False, check: bool = False) -> dict:
    """Have a release say which migrations it has. Raises Refusal.

    check: whether its project is checked first; migrate: whether it migrates at once where that changes nothing.
    """
    params = module.params
    command = build.Command(site, params["site"]["runner"], params["id"], "migrations")
    shell = [*params["manage_command"], "shell", "--verbosity", "0", "-c", migrations.question(migrate, check)]
    code, output = command.run({"command": shell}, "manage.py shell")
    if check:
        if not migrations.passed(output):
            raise site.refuse(params["id"], CHECK, command.reason(code, output))
        warn(module, output)
    try:
        said, failed = migrations.answer(output), MIGRATE
    except Refusal as refusal:
        said, failed = None, "migrations"
        if code == 0:
            raise site.refuse(params["id"], failed, str(refusal)) from refusal
    if code != 0:
        raise site.refuse(params["id"], failed, command.reason(code, output))
    return said


def target(module: AnsibleModule, site: Site, _proxy: Proxy) -> dict:
    """Which release to go back to, after a look at whether it can live with the database. Raises Refusal."""
    release_id = rollback.target(site, module.params["id"])
    module.params["id"] = release_id
    found = migrations.obstacles(site, release_id, ask_for_migrations(module, site))
    if found and not module.params["anyway"]:
        raise Refusal(
            f"{site.name} cannot go back to release {release_id}, which would not work with the database since "
            f"{', '.join(found)}. Release a correction instead, or restore the database as it was before; nothing was "
            f"changed, and {site.still_serves()}."
        )
    result = {"changed": module.check_mode, "id": release_id, "live_release": site.live_release}
    return result | live_diff(module, site, release_id)


def import_sqlite(module: AnsibleModule, site: Site, _proxy: Proxy) -> dict:
    """Have the live release import an SQLite file, or say what it would import. Raises Refusal."""
    params = module.params
    release_id = rollback.live(site)
    params["id"] = release_id
    command = build.Command(site, params["site"]["runner"], release_id, "import")
    with sqlite_import.placed(site, params["archive"]) as path:
        program = sqlite_import.program(path, params["replace"], module.check_mode)
        shell = [*params["manage_command"], "shell", "--verbosity", "0", "-c", program]
        code, output = command.run({"command": shell, "timeout_seconds": IMPORT_SECONDS}, "manage.py shell")
    try:
        said = sqlite_import.answer(output)
    except Refusal as refusal:
        reason = str(refusal) if code == 0 else command.reason(code, output)
        raise Refusal(f"Nothing was imported into the database of {site.name}: {reason}.") from refusal
    for name in said["left_out"]:
        module.warn(f"No model of {site.name} stands for the table {name} of the file, so its rows were left out.")
    told = sqlite_import.telling(said, site.name, module.check_mode)
    return {"changed": bool(said["rows"]), "msg": told, **said, "switch_needed": False}


def live_diff(module: AnsibleModule, site: Site, release_id: str) -> dict:
    """What becomes of the link to the live release, as `diff` where one is asked for."""
    if not module._diff:
        return {}
    header = os.path.join(site.directory, "live")
    before, after = (f"{name}\n" if name else "" for name in (site.live_release, release_id))
    return {"diff": {"before_header": header, "after_header": header, "before": before, "after": after}}


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
    """Keep what the slot's unit said, stop it, and raise the Refusal, which names a lack of memory before all else."""
    build.append(site.log(release_id), site.masked(f"== journal of {site.unit(slot)}\n{site.journal(slot)}"))
    reason = memory.lack(site, slot) or reason
    site.stop(slot)
    raise site.refuse(release_id, "probe", reason)


def switch(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Send requests to the release. Raises Refusal; the old slot serves on then."""
    release_id = module.params["id"]
    idle = site.slot_for(release_id)
    # A release that was lost and built again has the id of the live one, and runs in the other slot.
    needed = site.linked(idle) == release_id and site.is_active(idle)
    slot = idle if needed else site.live
    left = site.linked(site.live) if site.live else ""
    builder = build.Builder(site, release_id)
    builder.publish_static()
    sync_file_system(site.static_directory)
    try:
        # From here until the old slot has drained both start with the host, so that the one that is asked is there.
        site.enable(slot)
        proxy.point_to(slot)
    except Refusal as refusal:
        if needed:
            site.stop(slot)
            site.disable(slot)
        raise site.refuse(release_id, "switch", str(refusal)) from refusal
    if needed:
        # Before the switch: a run that is killed between the two must not forget what to go back to.
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        before = rollback.remember(site, release_id, back=module.params["back"])
        site.note(release_id, previous=before, slot=slot, switched=now, bad=None)
        if module.params["back"]:
            site.note(left, bad={"since": now, "operator": module.params["run"].get("operator", "somebody")})
    site.make_live(slot)
    return {"changed": True, "slot": slot, "switched": needed}


def finish(module: AnsibleModule, site: Site, proxy: Proxy) -> dict:
    """Wait until the old slot has nothing to do, run what comes after, and remove old releases. Raises Refusal."""
    params = module.params
    drained = proxy.wait_for_end(Site.other(site.live), params["drain_seconds"])
    if not drained:
        module.warn(f"Requests to the old slot of {site.name} were still open after {params['drain_seconds']} s.")
    actions = run_live_slot(module, site)
    ran = [] if site.facts(params["id"]).get("finished") else carry_out_commands(module, site)
    site.note(params["id"], finished=True)
    removed = build.prune(site, params["keep_releases"])
    rollback.forget(site, removed)
    result = {"drained": drained, "actions": actions, "commands": ran, "removed": removed}
    return {"changed": bool(actions or ran or removed), **result}
