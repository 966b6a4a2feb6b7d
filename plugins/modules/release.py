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
  - One run at a time releases a site. A second one stops with a sentence that says who is at it since when. The turn of
    a run that died ends at once for the next run of the same machine, and two minutes after its last step for others.
  - C(audit.jsonl) beside the logs of the releases has a line for each release, import and failure, with time, operator,
    source and duration.
  - The state on the host is C(<directory>/releases/<id>), links in C(<directory>/slots), and the link
    C(<directory>/live).
options:
  step:
    description:
      - C(inspect) works out the id of the release that the values stand for, and whether it is live. Where it is, it
        sees to it that the live slot's unit runs and the other one does not.
      - C(fetch) makes the release directory with the source, O(files), O(shared), O(env) and O(gunicorn_conf), from
        scratch.
      - C(install) makes the virtualenv.
      - C(run) runs O(commands) in the release, as the site's user, in the sandbox of the site's unit.
      - C(migrate) has the release say which migrations it has and what those to come do, keeps that, makes a restore
        point where there are some, runs O(commands), a first one named V(migrate) together with the question
        where that changes nothing, and asks the live release O(health) again. Where that one answered
        before and does not any more, the step fails; taken once more, it goes on.
      - C(target) works out which release to go back to, O(id) or else the last good one before the live one, and
        refuses one that cannot live with the migrations of the database.
      - C(start) seals the release, starts it in the idle slot and probes it until it answers.
      - C(switch) publishes the static files and sends requests to the new slot.
      - C(finish) waits for the requests of the old slot, stops it, runs O(commands) once for a release, and removes
        releases that are no longer kept.
      - C(import) has the live release copy the rows of O(file) into the site's empty database, all or nothing.
    type: str
    choices: [inspect, fetch, install, run, migrate, target, start, switch, finish, import]
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
      socket_file:
        description: Link to the socket of the live slot; the web server connects to it.
        type: path
        required: true
      proxy_user:
        description: User of the web server's workers; they have to be members of the site's group.
        type: str
        default: ""
      proxy_reload_command:
        description:
          - Command that has the web server start new workers, which know that their user has become a member of the
            site's group; empty for no web server on this host.
        type: list
        elements: str
        default: []
  run:
    description: Which run of Ansible takes the step, and who began it; set by the action plugin.
    type: dict
    default: {}
  gone:
    description: A run that has ended without giving its turn back; set by the action plugin.
    type: dict
    default: {}
  id:
    description: Id of the release, as C(inspect) has returned it.
    type: str
    default: ""
  source:
    description: Where the code comes from.
    type: dict
    suboptions:
      type:
        description:
          - A directory on the controller, a git repository, an archive, or a package of the index.
        type: str
        choices: [archive, directory, git, package]
        required: true
      path:
        description: Directory or archive on the controller; a relative one starts where the run was started.
        type: str
      exclude:
        description: Further patterns of what does not travel; V(!) in front takes one back.
        type: list
        elements: str
        default: []
      url:
        description: URL of the repository, or of the archive, which the host downloads.
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
      checksum:
        description: Checksum of the archive, V(sha256:) and 64 hexadecimal digits; for a O(source.url) it is needed.
        type: str
        default: ""
      spec:
        description: The package, with its exact version, such as V(forge==1.4.2).
        type: str
        default: ""
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
  file:
    description: SQLite file on the controller, for C(import); it is removed from the host at the end.
    type: path
  replace:
    description: Whether C(import) removes the rows that the site's database has.
    type: bool
    default: false
  identity:
    description: Digest of everything but the source that makes one release differ from another.
    type: str
    default: ""
  packages:
    description: What the virtualenv of the release holds.
    type: dict
    default: {}
    suboptions:
      installer:
        description:
          - V(lock) is C(uv sync --frozen) with C(uv.lock). V(requirements) installs O(packages.requirements).
            V(project) installs what C(pyproject.toml) or C(setup.py) describes, V(none) nothing of the kind.
          - V(auto) takes O(packages.requirements) where there are some, and else the first of C(uv.lock),
            C(requirements.txt), C(pyproject.toml) and C(setup.py) that the source has.
        type: str
        choices: [auto, lock, requirements, project, none]
        default: auto
      requirements:
        description: Requirements files below the source.
        type: list
        elements: str
        default: []
      groups:
        description: Dependency groups that a lock or a project is installed with.
        type: list
        elements: str
        default: []
      extras:
        description: Extras that a lock or a project is installed with.
        type: list
        elements: str
        default: []
      extra_packages:
        description: Packages to install afterwards, those left out that are there by then.
        type: list
        elements: str
        default: []
      require_hashes:
        description: Insist on a hash for every requirement, but not for O(packages.extra_packages).
        type: bool
        default: false
      install_args:
        description: Further arguments of C(uv pip install) or C(uv sync).
        type: list
        elements: str
        default: []
      python:
        description: Interpreter of the virtualenv; it belongs to the identity.
        type: str
        default: python3
  index_url:
    description: Package index; empty for what the host's configuration says.
    type: str
    default: ""
  uv_requirements:
    description: Set by the action plugin.
    type: str
    default: ""
  project_subdir:
    description: Directory of C(manage.py) below the source.
    type: str
    default: ""
  env:
    description: Text of the environment file of the release, for systemd; only root can read it.
    type: str
  generate:
    description:
      - Secrets of the environment that the host makes once and keeps in
        C(/etc/groundwork/gunicorn_app/<site>.secrets.json), by name.
      - Each is a mapping of C(length), a number of characters, and C(chars), which ones.
    type: dict
    default: {}
  gunicorn_conf:
    description: Text of the configuration of gunicorn for the release.
    type: str
    default: ""
  files:
    description: Files that C(fetch) writes into the source, a JSON list of mappings of C(dest), C(content) and C(mode).
    type: str
    default: ""
  shared:
    description: What all releases share.
    type: dict
    suboptions:
      directory:
        description: Where it is, in a directory of the site's user.
        type: path
        required: true
      paths:
        description: Paths of the source that become links to it.
        type: list
        elements: str
        default: []
  commands:
    description: Commands of C(run), of C(migrate) after the restore point, and of C(finish), one after another.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the command is for, in a few words.
        type: str
        default: command
      command:
        description: Words of the command, or one line for a shell.
        type: raw
        required: true
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
      first_deploy_only:
        description: Whether it runs only for a release before which none was live.
        type: bool
        default: false
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
    description: How long a unit may take to start or stop in C(inspect) and C(finish).
    type: int
    default: 90
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
  processes:
    description:
      - Units of the site's processes, as M(groundwork.django.service) has them. C(inspect) and C(finish) see to them.
    type: list
    elements: dict
    default: []
  manage_command:
    description: Command that runs management commands, for C(migrate), C(target) and C(import).
    type: list
    elements: str
    default: []
  restore_point_command:
    description:
      - Command that C(migrate) runs as root before migrations that change something; C({release}) in it stands for
        the id.
    type: list
    elements: str
    default: []
  migrations:
    description: What C(migrate) has returned on another host of the site; C(start) keeps it for going back.
    type: dict
    default: {}
  check:
    description: Whether C(migrate) has the project pass C(check --deploy) before all else.
    type: bool
    default: false
  back:
    description: Whether C(switch) goes back; the release that was live is marked bad then.
    type: bool
    default: false
  anyway:
    description: Whether C(target) takes a release that cannot live with the migrations of the database.
    type: bool
    default: false
  bad_again:
    description: Whether C(inspect) takes a release that is marked bad.
    type: bool
    default: false
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
    description:
      - C(inspect) says whether a release would be made, C(target) and C(import) look whether they could be done and say
        what would come of it; the other steps do nothing.
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
held_by:
  description: The run that has the turn, where that is another one.
  returned: failure
  type: dict
id:
  description: Id of the release, begin of the commit or the content's digest and begin of the identity.
  returned: steps inspect and target
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
live_release:
  description: The release that serves before the first step.
  returned: step inspect
  type: str
commit:
  description: The commit, for a git source.
  returned: step inspect
  type: str
pending:
  description: Migrations that were to come.
  returned: step migrate
  type: list
  elements: str
migrations:
  description: What the migrations do, for the other hosts of the site.
  returned: step migrate
  type: dict
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
actions:
  description: What was done about the units of the slots.
  returned: steps inspect and finish
  type: list
  elements: str
removed:
  description: Releases that were removed.
  returned: step finish
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import release


def main() -> None:
    release.carry_out(AnsibleModule(argument_spec=release.ARGUMENTS, supports_check_mode=True, **release.CONSTRAINTS))


if __name__ == "__main__":
    main()
