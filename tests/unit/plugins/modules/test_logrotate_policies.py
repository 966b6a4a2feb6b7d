"""What logrotate_policies writes and refuses; the real logrotate judges where there is one."""

import os
import shutil

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import commands, tree
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import logrotate_policies as module

POLICY = {
    "name": "forge-app", "paths": ["/var/log/forge/app.log"], "frequency": "daily", "keep": 10,
    "create": "0640 root root", "su": "", "postrotate": "",
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Call the module on a directory of its own."""
    monkeypatch.setattr(tree, "MANIFESTS", str(tmp_path / "manifests"))
    directory = tmp_path / "logrotate.d"
    directory.mkdir()

    def run(*policies: dict, check: bool = False) -> dict:
        given = [{**POLICY, **policy} for policy in policies]
        params = {"policies": given, "directory": str(directory), "manifest": "logrotate-forge"}
        return module.bring_about(params, check, diff=True)

    run.directory = directory
    return run


@pytest.fixture
def root():
    """Files can only be given to root by root."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to root")


def test_policy_is_written_as_logrotate_has_it():
    text = module.render({**POLICY, "su": "forge forge", "postrotate": "one\ntwo"})
    assert text.splitlines()[2:] == [
        "/var/log/forge/app.log {",
        "    daily",
        "    rotate 10",
        "    dateext",
        "    missingok",
        "    notifempty",
        "    compress",
        "    delaycompress",
        "    create 0640 root root",
        "    su forge forge",
        "    sharedscripts",
        "    postrotate",
        "        one",
        "        two",
        "    endscript",
        "}",
    ]


def test_second_call_changes_nothing_and_a_gone_policy_is_removed(place, root):
    assert place({}, {"name": "other", "paths": ["/var/log/other.log"]})["changed"]
    assert not place({}, {"name": "other", "paths": ["/var/log/other.log"]})["changed"]
    assert place({})["removed_paths"] == [str(place.directory / "other")]
    assert sorted(os.listdir(place.directory)) == ["forge-app"]


def test_check_mode_writes_nothing(place, root):
    assert place({}, check=True)["changed"]
    assert os.listdir(place.directory) == []


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([{"name": "../evil"}], "cannot name"),
        ([{}, {}], 'Two log policies are named "forge-app"'),
        ([{}, {"name": "again"}], 'policies "forge-app" and "again" both rotate'),
        ([{"paths": []}], "has no paths"),
        ([{"paths": ["relative.log"]}], "absolute"),
        ([{"paths": ["/var/log/a b.log"]}], "without blanks"),
    ],
)
def test_odd_policies_are_refused_with_a_sentence(place, policies, said):
    with pytest.raises(Refusal, match=said):
        place(*policies)


needs_logrotate = pytest.mark.skipif(
    shutil.which("logrotate", path=commands.SYSTEM_PATH) is None, reason="there is no logrotate"
)


@needs_logrotate
@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"create": "0640 nobody-there root"}, "unknown user"),
        ({"create": "0640 root root\n    nonsense"}, "nonsense"),
    ],
)
def test_logrotate_refuses_and_nothing_is_placed(place, root, policy, said):
    with pytest.raises(Refusal, match=said):
        place(policy)
    assert os.listdir(place.directory) == []


@needs_logrotate
def test_log_that_another_file_rotates_is_refused(place, root, tmp_path):
    log = tmp_path / "app.log"
    log.write_text("line\n")
    (place.directory / "zz-other").write_text(f"{log} {{\n weekly\n}}\n")
    with pytest.raises(Refusal, match="duplicate log entry"):
        place({"paths": [str(log)]})


@needs_logrotate
def test_fault_of_another_file_is_not_judged(place, root):
    (place.directory / "other").write_text("/var/log/none.log {\n nonsense\n}\n")
    assert place({})["changed"]


def test_error_is_told_by_the_name_of_the_file_or_of_its_log():
    contents = {"forge-app": module.render(POLICY)}
    assert module.concerns("error: forge-app:11 unknown user 'x'", contents)
    assert module.concerns('error: skipping "/var/log/forge/app.log" because parent directory has insecure', contents)
    assert not module.concerns("error: forge-app-two:11 unknown user 'x'", contents)
    assert not module.concerns("error: other:3 duplicate log entry for /var/log/dpkg.log", contents)
