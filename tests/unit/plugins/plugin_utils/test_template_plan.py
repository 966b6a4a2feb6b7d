"""What template_tree does on the controller: options, target paths, rendering."""

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.groundwork.django.plugins.module_utils import payload
from ansible_collections.groundwork.django.plugins.plugin_utils.template_plan import TemplatePlanner


@pytest.fixture
def role(tmp_path) -> Path:
    """A role with an nginx tree, a unit, a binary file and shared partials."""
    templates = tmp_path / "roles" / "web" / "templates"
    (templates / "etc/nginx/conf.d").mkdir(parents=True)
    (templates / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/managed.j2").write_text("# {{ ansible_managed }}\n")
    (templates / "shared").symlink_to("../../../templates")
    (templates / "etc/nginx/nginx.conf.j2").write_text(
        "{% include 'shared/managed.j2' %}\n\nworkers {{ workers }};\n  {% if true %}\n  a \\d;\n  {% endif %}\n"
    )
    (templates / "etc/nginx/conf.d/_site_.conf.j2").write_text("server_name {{ domain }};\n")
    (templates / "etc/nginx/conf.d/plain.bin").write_bytes(b"{{ workers }}\xff")
    (templates / "etc/nginx/conf.d/.gitkeep").write_text("")
    (templates / "etc/systemd/system/_site_@.service.j2").write_text("[Service]\nUser={{ user }}\n")
    return tmp_path / "roles" / "web"


@pytest.fixture
def plan(role):
    """A function that makes the plan for options, as the action would send it."""

    def make(variables=None, **options):
        loader = DataLoader()
        loader.set_basedir(str(role.parent.parent))
        task_vars = {"workers": 4, "domain": trust_as_template("{{ user }}.test"), "user": "forge"}
        task_vars["ansible_search_path"] = [str(role), str(role.parent.parent)]
        planner = TemplatePlanner(str(role), loader, Templar(loader=loader), {**task_vars, **(variables or {})})
        return planner.plan(options)

    return make


def files_of(made: dict) -> dict[str, dict]:
    return {entry["path"]: entry for entry in made["files"]}


def test_renders_as_the_template_module_does(plan):
    content = files_of(plan(src="etc/nginx"))["/etc/nginx/nginx.conf"]["content"]
    assert content == "# Ansible managed\nworkers 4;\n    a \\d;\n  \n"


def test_lstrip_blocks(plan):
    content = files_of(plan(src="etc/nginx", lstrip_blocks=True))["/etc/nginx/nginx.conf"]["content"]
    assert content == "# Ansible managed\nworkers 4;\n  a \\d;\n"


def test_variables_are_templated_and_other_files_copied(plan):
    files = files_of(plan(src=["etc/nginx"]))
    assert files["/etc/nginx/conf.d/_site_.conf"]["content"] == "server_name forge.test;\n"
    raw = files["/etc/nginx/conf.d/plain.bin"]["content"]
    assert raw.encode("utf-8", "surrogateescape") == b"{{ workers }}\xff"
    assert sorted(files) == [
        "/etc/nginx/conf.d/_site_.conf",
        "/etc/nginx/conf.d/plain.bin",
        "/etc/nginx/nginx.conf",
    ]


def test_template_variables_name_the_file(plan, role):
    (role / "templates/etc/who.j2").write_text("{{ template_path }} {{ template_destpath }}\n")
    assert files_of(plan(src="etc/who.j2"))["/etc/who"]["content"] == "etc/who.j2 /etc/who\n"


def test_a_user_may_set_ansible_managed(plan):
    made = plan({"ansible_managed": "by us"}, src="etc/nginx/nginx.conf.j2")
    assert made["files"][0]["content"].startswith("# by us\n")


def test_a_value_from_outside_is_not_templated(plan):
    made = plan({"domain": "{{ user }}"}, src="etc/nginx/conf.d")
    assert files_of(made)["/etc/nginx/conf.d/_site_.conf"]["content"] == "server_name {{ user }};\n"


def test_rename_applies_to_targets_and_directories(plan):
    made = plan(
        src=["etc/systemd/system", "etc/nginx/conf.d"],
        rename={"_site_": "forge"},
        directories=[{"path": "/srv/_site_/", "mode": "0750"}],
    )
    assert "/etc/systemd/system/forge@.service" in files_of(made)
    assert "/etc/nginx/conf.d/forge.conf" in files_of(made)
    assert made["directories"] == [{"path": "/srv/forge", "mode": "0750"}]


@pytest.mark.parametrize("value", ["", "a/b", "..", 7])
def test_rename_refuses_ways_out(plan, value):
    with pytest.raises(AnsibleError, match="rename cannot replace"):
        plan(src="etc/nginx", rename={"_site_": value})


def test_exclude_leaves_out_without_rendering(plan, role):
    (role / "templates/etc/nginx/broken.conf.j2").write_text("{{ nothing }}\n")
    made = plan(
        src="etc/nginx", exclude=["*/broken.conf", ""], files=[{"path": "/etc/nginx/broken.conf", "mode": "0600"}]
    )
    assert "/etc/nginx/broken.conf" not in files_of(made)


def test_later_entries_override_key_by_key(plan):
    made = plan(
        src="etc/nginx",
        files=[
            {"path": "/etc/nginx/*", "group": "adm", "mode": "0640", "validate": "true %s"},
            {"path": "*.bin", "mode": "0600", "secret": "yes"},
        ],
    )
    assert files_of(made)["/etc/nginx/nginx.conf"] | {"content": ""} == {
        "path": "/etc/nginx/nginx.conf",
        "content": "",
        "owner": "root",
        "group": "adm",
        "mode": "0640",
        "validate": "true %s",
        "create_only": False,
        "secret": False,
    }
    raw = files_of(made)["/etc/nginx/conf.d/plain.bin"]
    assert (raw["group"], raw["mode"], raw["secret"]) == ("adm", "0600", True)


def test_a_pattern_that_matches_nothing_is_named(plan):
    with pytest.raises(AnsibleError, match=r'"/etc/ngnix/\*" of files matches no target path'):
        plan(src="etc/nginx", files=[{"path": "/etc/ngnix/*"}])


def test_an_undefined_variable_names_file_and_variable(plan, role):
    (role / "templates/etc/nginx/x.conf.j2").write_text("{{ web_no_such_thing }}\n")
    with pytest.raises(AnsibleError, match=r"templates/etc/nginx/x\.conf\.j2 cannot be rendered: .*web_no_such_thing"):
        plan(src="etc/nginx")


def test_a_mistake_in_a_template_names_the_file(plan, role):
    (role / "templates/etc/nginx/x.conf.j2").write_text("{% if %}\n")
    with pytest.raises(AnsibleError, match=r"templates/etc/nginx/x\.conf\.j2 cannot be rendered"):
        plan(src="etc/nginx")


@pytest.mark.parametrize("src", ["shared", "/etc/nginx", "../web", ".", "etc/../.."])
def test_src_stays_below_templates(plan, src):
    with pytest.raises(AnsibleError, match="is not a path of target files below templates"):
        plan(src=src)


def test_src_that_is_missing_is_named(plan):
    with pytest.raises(AnsibleError, match=r"There is no templates/etc/nothing in .*roles/web"):
        plan(src="etc/nothing")


def test_two_sources_of_one_target_are_named(plan, role):
    (role / "templates/etc/nginx/nginx.conf").write_text("")
    with pytest.raises(AnsibleError, match=r"/etc/nginx/nginx\.conf is rendered from both"):
        plan(src="etc/nginx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"src": []}, "needs src"),
        ({"src": "etc/nginx", "files": [{"path": "*", "mode": 420}]}, 'mode "420"'),
        ({"src": "etc/nginx", "files": [{"path": "*", "modus": "0644"}]}, "no key modus"),
        ({"src": "etc/nginx", "files": [{"mode": "0644"}]}, "has no path"),
        ({"src": "etc/nginx", "files": [{"path": "*", "validate": "nginx -t"}]}, "has no %s"),
        ({"src": "etc/nginx", "files": {"path": "*"}}, "files is a list"),
        ({"src": "etc/nginx", "directories": [{"path": "var/x"}]}, "not an absolute path"),
        ({"src": "etc/nginx", "directory_mode": "755x"}, "directory_mode"),
        ({"src": "etc/nginx", "manifest": "../x"}, "manifest name"),
        ({"src": "etc/nginx", "rename": ["x"]}, "rename is a dictionary"),
    ],
)
def test_wrong_options_are_named(plan, options, message):
    with pytest.raises(AnsibleError, match=message):
        plan(**options)


def test_only_the_payload_carries_contents(plan):
    made = plan({"user": "S3NTINEL"}, src="etc/systemd/system")
    packed = payload.pack(made)
    assert "S3NTINEL" not in packed
    assert payload.unpack(packed) == made


def test_assembled_files_have_a_path_parts_and_safe_defaults(plan):
    made = plan(
        src="etc/nginx",
        rename={"_v_": "17"},
        assemble=[{"path": "/etc/pg/_v_/hba", "parts": "/etc/pg/_v_/hba.d/*.conf"}],
    )
    [entry] = made["assemble"]
    assert (entry["path"], entry["parts"]) == ("/etc/pg/17/hba", "/etc/pg/17/hba.d/*.conf")
    assert (entry["owner"], entry["group"], entry["mode"]) == ("root", "root", "0644")


@pytest.mark.parametrize("parts", ["", "etc/hba.d/*", "/etc/*/hba.conf", "/etc/[ab]/x"])
def test_parts_of_an_assembled_file_lie_in_one_directory(plan, parts):
    with pytest.raises(AnsibleError, match="An entry of assemble has an absolute path"):
        plan(src="etc/nginx", assemble=[{"path": "/etc/hba", "parts": parts}])


def test_a_template_is_rendered_once_for_each_of_a_repeat(role, plan):
    path = role / "templates/etc/systemd/system/_site_-_process_.service.j2"
    path.write_text("ExecStart={{ template_item.value.command }} as {{ template_item.name }}\n")
    options = {"src": "etc/systemd", "rename": {"_site_": "forge"}}
    processes = {"worker": {"command": "a"}, "beat": {"command": "b"}}
    files = files_of(plan(**options, repeat={"_process_": processes}))
    assert sorted(files) == [f"/etc/systemd/system/forge{end}.service" for end in ("-beat", "-worker", "@")]
    assert files["/etc/systemd/system/forge-beat.service"]["content"] == "ExecStart=b as beat\n"
    none = plan(**options, repeat={"_process_": {}}, files=[{"path": "*-_process_.service", "mode": "0600"}])
    assert sorted(files_of(none)) == ["/etc/systemd/system/forge@.service"]


@pytest.mark.parametrize(
    "repeat", [{"_process_": []}, {"_process_": {"a/b": 1}}, {"_process_": {"..": 1}}, {"": {"a": 1}}]
)
def test_a_repeat_that_cannot_name_files_is_refused(plan, repeat):
    with pytest.raises(AnsibleError, match="repeat"):
        plan(src="etc/systemd", repeat=repeat)
