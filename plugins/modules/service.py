# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Keep systemd units running with the configuration that is on disk
version_added: "0.1.0"
description:
  - Enables and starts units, and reloads or restarts those that have not loaded the newest configuration.
  - It takes the place of handlers. A handler is lost when a run is killed between the change and the handler; this
    module derives what to do from the state of the host, so that the next run repairs it.
  - What a unit has loaded is kept in C(/run/groundwork/loaded/<unit>.json), as digests of the files together with the
    invocation of the unit. Where that is missing or belongs to another invocation (after a reboot or a restart by
    hand), the time the unit was started is compared with the times of the files.
  - Runs C(systemctl daemon-reload) whenever systemd says that a unit needs it.
  - A socket that has to be restarted is opened while the service behind it is stopped, because systemd does not open it
    otherwise.
  - All validators run before the first unit is touched.
options:
  units:
    description: Units, in the order in which they are handled. All are enabled before the first is started.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the unit; C(.service) is added where there is no ending.
        type: str
        required: true
      enabled:
        description: Whether the unit is started at boot. A unit without an C([Install]) section is left as it is.
        type: bool
        default: true
      state:
        description:
          - C(started) units are active at the end. A C(oneshot) unit that does not remain active is run once after
            each boot, and whenever what O(units[].restart_on) names has changed.
          - C(stopped) is content with a unit that does not exist.
          - C(kept) leaves the unit as it is; systemd only reads its files anew where they have changed.
        type: str
        choices: [started, stopped, kept]
        default: started
      unless_used:
        description:
          - Leave a unit that shall be C(stopped) as it is unless it is inactive; one that runs, or that has failed, is
            somebody's.
          - It is for what a package enables beside the unit that is wanted.
        type: bool
        default: false
      if_used:
        description:
          - Leave a unit that shall be C(started) as it is unless it is active.
          - It is for what a service needs on some hosts only, such as the socket that listens for it.
        type: bool
        default: false
      conditional:
        description:
          - Be content where a condition in the unit's own file keeps it from starting, such as that of a unit for
            what the kernel may not have.
          - A unit that was ruled out is not asked again before the next boot.
        type: bool
        default: false
      activated_by:
        description:
          - Name of a unit, such as a socket, that starts this one on some hosts. Where that is active, this one is
            neither enabled nor started by itself, and restarted rather than reloaded.
        type: str
      restart_on:
        description:
          - Files, directories (with all that is below) and shell patterns; the unit is restarted when their content
            changes.
          - To have a change of the unit's own file restart it, name that file here.
        type: list
        elements: str
        default: []
      reload_on:
        description: The same for a reload; a unit that cannot reload is restarted.
        type: list
        elements: str
        default: []
      validate:
        description:
          - Command, as text or as a list of words, that is run without a shell before the unit is started, restarted
            or reloaded. When it fails, no unit is touched, and M(groundwork.django.batch) puts back what the same
            batch has placed.
          - It is not run in check mode.
        type: raw
      validate_always:
        description:
          - Run it also where the unit is left as it is.
          - It is for what a newer version may no longer take, and nobody notices until the unit starts anew.
        type: bool
        default: false
  unlisted:
    description:
      - Patterns of names of units. Units that match one and are neither in O(units) nor in O(listed) are stopped and
        disabled, before the others are touched. It is for units whose files are about to be removed.
    type: list
    elements: str
    default: []
  listed:
    description: Names of units that are not meant by O(unlisted).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that each unit has to become active.
    type: int
    default: 30
attributes:
  check_mode:
    description: Says what would be done; a unit that does not exist yet counts as one to be started.
    support: full
  diff_mode:
    description: Lists the actions.
    support: full
author: groundwork contributors
"""

EXAMPLES = r"""
- name: Run nginx with the configuration that is on disk
  groundwork.django.service:
    units:
      - name: nginx
        reload_on:
          - /etc/nginx
        restart_on:
          - /etc/systemd/system/nginx.service.d
        validate: nginx -t -q

- name: Run the timer of the backup
  groundwork.django.service:
    units:
      - name: forge-backup.timer
        restart_on:
          - /etc/systemd/system/forge-backup.timer

- name: Stop what the site no longer needs
  groundwork.django.service:
    units:
      - name: forge-worker.service
        state: stopped
        enabled: false
"""

RETURN = r"""
unusable:
  description: Whether a validator refused what is on disk; no unit was touched then.
  returned: failure
  type: bool
actions:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: ["daemon-reload", "nginx.service: reload"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.groundwork.django.plugins.module_utils.modules import service


def main() -> None:
    service.carry_out(AnsibleModule(argument_spec=service.ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
