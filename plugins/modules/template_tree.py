# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: template_tree
short_description: Place a whole tree of rendered templates in one round trip
version_added: "0.1.0"
description:
  - Renders every file below C(templates/<src>) of the calling role on the controller and places all of them with one
    call of the host. The target of a file is C(/) and its path below C(templates/), without a C(.j2) ending.
  - Files that end in C(.j2) are rendered exactly as M(ansible.builtin.template) renders them, all others are copied
    as they are.
  - Works in two phases. All files are written beside their targets and validated first; only when every validator
    agrees are they renamed into place. A refused file leaves everything as it was.
  - Only what differs is written. Temporary files live in directories named C(.groundwork-*), which are always
    removed; those of a killed run are removed by the next one.
  - A link to a directory below C(templates/), such as C(shared), is never rendered as a target, and can be included
    from.
options:
  src:
    description: Paths below the role's C(templates/), files or directories, such as C(etc/nginx).
    type: list
    elements: str
    required: true
  rename:
    description:
      - Replacements in the target paths, text by text, such as C(_site_) by C(forge).
      - A value must not be empty nor contain C(/) or C(..).
    type: dict
    default: {}
  repeat:
    description:
      - Texts in the target paths, such as C(_process_), each with a dictionary. A template with that text in its path
        is rendered once for each key, which takes the place of the text; without a key it is not rendered.
      - The template has the key as C(template_item.name) and what belongs to it as C(template_item.value).
    type: dict
    default: {}
  exclude:
    description: Patterns (as of a shell, C(*) matches C(/) too) of target paths that are not rendered.
    type: list
    elements: str
    default: []
  files:
    description:
      - What is special about some of the target paths. Later entries override earlier ones, key by key.
      - A pattern that matches neither a rendered nor an excluded path is an error.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Pattern of target paths (as of a shell, C(*) matches C(/) too).
        type: str
        required: true
      owner:
        description: User name or number. The default is C(root).
        type: str
      group:
        description: Group name or number. The default is C(root).
        type: str
      mode:
        description: Quoted octal mode. The default is C("0644").
        type: str
      validate:
        description:
          - Command that is run without a shell before anything is put in place; C(%s) is the path of the new file,
            which already has its final name, owner and mode, in a directory of its own beside the target.
          - In check mode a refusal is a warning, because what the file depends on may come only with the real run,
            and a validator that is not installed yet is skipped.
        type: str
      create_only:
        description:
          - Place the file only where nothing is there yet. Whatever is there is left alone, its owner and mode too.
          - Such a file is never removed by O(manifest).
        type: bool
      secret:
        description: Show neither the content nor what a validator says about it.
        type: bool
  directory_mode:
    description: Mode of the directories that are made on the way to a file; they belong to root.
    type: str
    default: "0755"
  directories:
    description: Directories that shall exist, with owner, group and mode kept. O(rename) applies to their paths.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: User name or number. The default is C(root).
        type: str
      group:
        description: Group name or number. The default is C(root).
        type: str
      mode:
        description: Quoted octal mode. The default is C("0755").
        type: str
  assemble:
    description:
      - Files that are made of parts which several callers place in a directory, in the order of their names.
      - The parts of this call count as they will be, so check mode tells the truth. Such a file is never removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the file. O(rename) applies to it.
        type: path
        required: true
      parts:
        description: Absolute path of the parts, with a shell pattern as its last part. O(rename) applies to it.
        type: path
        required: true
      owner:
        description: User name or number. The default is C(root).
        type: str
      group:
        description: Group name or number. The default is C(root).
        type: str
      mode:
        description: Quoted octal mode. The default is C("0644").
        type: str
      validate:
        description: As O(files[].validate).
        type: str
  manifest:
    description:
      - Name under which C(/var/lib/groundwork/manifests/<name>.json) on the host lists what this call has made.
      - With it, a file that an earlier call of the same name made and that is no longer rendered is removed.
        A file that was there before the first call is overwritten when it is rendered, but never removed.
    type: str
  lstrip_blocks:
    description: Strip blanks before a block tag, as the option of M(ansible.builtin.template) does.
    type: bool
    default: false
notes:
  - A target that is a symbolic link, a directory or anything else but a regular file is refused by name.
  - The contents travel compressed in one option that Ansible never logs.
attributes:
  check_mode:
    description: Reports what would change, also on a bare host where owners, groups and validators do not exist yet.
    support: full
  diff_mode:
    description: Shows contents, owners and modes; of a secret file only that it differs.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Configure nginx
  groundwork.django.template_tree:
    src: etc/nginx
    rename:
      _site_: "{{ nginx_site_name }}"
    files:
      - path: /etc/nginx/nginx.conf
        validate: nginx -t -q -c %s
      - path: /etc/nginx/sites-available/*
        group: www-data
        mode: "0640"
    directories:
      - path: /var/cache/nginx/_site_
        owner: www-data
        mode: "0750"
    manifest: nginx

- name: Place the units and the environment of the site
  groundwork.django.template_tree:
    src:
      - etc/systemd/system
      - etc/forge/env.j2
    exclude:
      - "{{ '*.timer' if gunicorn_app_scheduler == 'cron' else '' }}"
    files:
      - path: "*.service"
        validate: systemd-analyze verify %s
      - path: /etc/forge/env
        group: forge
        mode: "0640"
        secret: true
"""

RETURN = r"""
changed_paths:
  description: Files and directories that were placed or whose owner, group or mode was changed, sorted.
  returned: always
  type: list
  elements: str
  sample: ["/etc/nginx/nginx.conf"]
removed_paths:
  description: Files that were removed because they are no longer rendered, sorted.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import template_tree


def main() -> None:
    template_tree.carry_out(AnsibleModule(argument_spec=template_tree.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
