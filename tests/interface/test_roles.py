"""Every role is built alike, and its spec, its defaults and its README say the same."""

from __future__ import annotations

import functools
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import ROLES, ROOT, SETTINGS, defaults, load, options, tasks_in, tracked_files

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
each_working_role = pytest.mark.parametrize(
    "role", [role for role in ROLES if role.name != SETTINGS], ids=lambda role: role.name
)

FILES = ("README.md", "meta/main.yml", "meta/argument_specs.yml", "defaults/main.yml")
SECTIONS = ["Promises", "Example", "Variables", "Tags", "Undo"]
LONGEST_TASK_FILE = 60
OURS = "groundwork.django."
#: where templates mirror the path on the host; the others are pieces
PLACED = ("etc", "lib", "opt", "root", "srv", "usr", "var")
#: formats in which a `#` comment is not one
NO_COMMENTS = (
    *(".html.j2", ".json.j2", ".fact.j2", ".txt.j2", ".key.j2", ".allow.j2", "issue.j2", "issue.net.j2"),
    # Profiles of pam-auth-update.
    *("-faillock.j2", "-faillock-first.j2", "-umask.j2"),
)
_KEYWORDS = """
name action any_errors_fatal args async become become_exe become_flags become_method become_user block rescue
always changed_when check_mode collections connection debugger delay delegate_facts delegate_to diff environment
failed_when ignore_errors ignore_unreachable listen local_action loop loop_control module_defaults no_log notify
poll port register remote_user retries run_once tags throttle timeout until vars when
"""
#: keywords of a task; every other key is the module it runs
KEYWORDS = frozenset(_KEYWORDS.split())


@functools.cache
def documented_options(module: str) -> frozenset[str]:
    """The options that one of our modules documents."""
    text = (ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
    documentation = yaml.safe_load(text.partition('DOCUMENTATION = r"""')[2].partition('"""')[0])
    return frozenset(documentation.get("options") or {})


def task_files(role: Path) -> list[Path]:
    """The role's task files."""
    return sorted((role / "tasks").glob("**/*.yml"))


def template_files(role: Path) -> list[Path]:
    """The role's own templates, without the partials that all roles share."""
    folder = role / "templates"
    found = (path for path in folder.glob("**/*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.relative_to(folder).parts[0] != "shared")


@each_role
def test_role_has_the_files_of_every_role(role):
    wanted = FILES if role.name == SETTINGS else (*FILES, "vars/main.yml", "tasks/main.yml", "tasks/apply.yml")
    assert [name for name in wanted if not (role / name).is_file()] == []


@each_working_role
def test_role_has_a_scenario_with_tests(role):
    scenario = ROOT / "molecule" / role.name
    assert (scenario / "molecule.yml").is_file()
    assert (scenario / "tests" / f"test_{role.name}.py").is_file()


@each_role
def test_every_option_is_typed_and_described(role):
    def walk(found, prefix=""):
        for name, spec in found.items():
            path = f"{prefix}{name}"
            if not spec.get("type") or not spec.get("description"):
                yield f"{path} has no type or no description"
            if spec.get("type") == "list" and not spec.get("elements"):
                yield f"{path} is a list without elements"
            yield from walk(spec.get("options") or {}, f"{path}.")

    assert list(walk(options(role))) == []


@each_role
def test_defaults_and_spec_have_the_same_options_in_the_same_order(role):
    text = (role / "defaults" / "main.yml").read_text(encoding="utf-8")
    known = options(role)
    written = [name for name in re.findall(r"^(?:# )?([a-z][a-z0-9_]*):", text, re.MULTILINE) if name in known]
    assert list(defaults(role)) == [name for name, spec in known.items() if not spec.get("required")]
    assert written == list(known)


@each_role
def test_every_default_is_the_one_of_the_spec(role):
    given = defaults(role)
    different = [
        name
        for name, spec in options(role).items()
        if name in given and ("default" not in spec or json.dumps(given[name]) != json.dumps(spec["default"]))
    ]
    assert different == []


@each_role
def test_required_options_have_no_default_and_stand_commented_in_the_defaults(role):
    text = (role / "defaults" / "main.yml").read_text(encoding="utf-8")
    for name, spec in options(role).items():
        if spec.get("required"):
            assert "default" not in spec
            assert re.search(rf"^# {name}:", text, re.MULTILINE), name


@each_role
def test_every_default_has_a_comment_above_it(role):
    lines = (role / "defaults" / "main.yml").read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for above, line in itertools.pairwise(["", *lines])
        if re.match(r"[a-z][a-z0-9_]*:", line) and not above.startswith("# ")
    ]
    assert bare == []


@each_role
def test_public_names_bear_the_name_of_the_role(role):
    prefix = "groundwork_" if role.name == SETTINGS else f"{role.name}_"
    assert [name for name in {**options(role), **defaults(role)} if not name.startswith(prefix)] == []


@each_role
def test_private_names_bear_the_name_of_the_role(role):
    named = [name for path in sorted((role / "vars").glob("*.yml")) for name in load(path) or {}]
    for path in task_files(role):
        for task in tasks_in(path):
            named += [task["register"]] if "register" in task else []
            named += [task["loop_control"]["loop_var"]] if "loop_var" in task.get("loop_control", {}) else []
            named += list(task.get("vars") or {})
    assert [name for name in named if not name.startswith(f"__{role.name}_")] == []


@each_role
def test_readme_has_the_same_sections_in_every_role(role):
    text = (role / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {role.name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


@each_role
def test_readme_has_the_variables_of_the_spec(role):
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "role_docs.py", "--check", role.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def test_page_of_all_variables_is_up_to_date():
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "role_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert "docs/variables.md" not in check.stderr


@each_role
def test_role_depends_on_the_vocabulary_only(role):
    wanted = [] if role.name == SETTINGS else [{"role": "groundwork.django.site_settings"}]
    assert load(role / "meta" / "main.yml")["dependencies"] == wanted


@each_role
def test_role_has_no_handlers(role):
    assert not (role / "handlers").exists()


def test_vocabulary_has_no_tasks():
    assert not (ROOT / "roles" / SETTINGS / "tasks").exists()


@each_working_role
def test_tables_of_contents_hold_nothing_else(role):
    *first, last = load(role / "tasks" / "main.yml")
    assert {"name": last["name"], "ansible.builtin.import_tasks": "apply.yml"} == last
    for task in first + load(role / "tasks" / "apply.yml"):
        assert set(task) == {"name", "ansible.builtin.import_tasks", "tags"}, task.get("name")


@each_working_role
def test_values_are_checked_first_and_packages_installed_next(role):
    first, *others = load(role / "tasks" / "main.yml")
    assert first["ansible.builtin.import_tasks"] == "validate.yml"
    assert "always" in first["tags"]
    (task,) = load(role / "tasks" / "validate.yml")
    assert set(task) == {"name", "groundwork.django.check_values"}
    # base installs the packages of a whole play, also where the play has checked the values itself.
    begin = load(role / "tasks" / "apply.yml") if role.name == "base" else others
    assert begin[0]["ansible.builtin.import_tasks"] == "install.yml"
    assert "packages" in begin[0]["tags"]


@each_working_role
def test_task_files_fit_a_screen(role):
    long = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in task_files(role)}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_TASK_FILE} == {}


@each_working_role
def test_modules_are_named_in_full(role):
    short = [
        (path.name, key)
        for path in task_files(role)
        for task in tasks_in(path)
        for key in task
        if key not in KEYWORDS and key.count(".") < 2 and not key.startswith("with_")
    ]
    assert short == []


@each_working_role
def test_options_of_our_modules_exist(role):
    unknown = [
        (path.name, task["name"], option)
        for path in task_files(role)
        for task in tasks_in(path)
        for key, value in task.items()
        if key.startswith(OURS) and key != f"{OURS}batch"
        for option in value or {}
        if option not in documented_options(key.removeprefix(OURS))
    ]
    assert unknown == []


@each_working_role
def test_every_task_has_a_name(role):
    unnamed = [
        (path.name, task)
        for path in task_files(role)
        for task in tasks_in(path)
        if not task.get("name") and "block" not in task
    ]
    assert unnamed == []


@each_working_role
def test_vocabulary_is_used_in_defaults_only(role):
    words = set(options(ROOT / "roles" / SETTINGS))
    found = [
        (str(path.relative_to(role)), word)
        for path in task_files(role) + template_files(role)
        for word in re.findall(r"\bgroundwork_\w+", path.read_text(encoding="utf-8"))
        if word in words
    ]
    assert found == []


@each_role
def test_every_public_variable_is_used(role):
    if role.name == SETTINGS:  # by anything, the values of the environments included
        patterns = ("roles/*/defaults/*.yml", "roles/*/tasks/*.yml", "group_vars/*/*.yml", "plugins/action/*.py")
        places = [path for pattern in patterns for path in ROOT.glob(pattern)]
    else:
        places = [*task_files(role), *template_files(role), role / "defaults" / "main.yml"]
    places += [*(role / "vars").glob("*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    text = "\n".join(re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8")) for path in places)
    assert [name for name in options(role) if not re.search(rf"\b{name}\b(?!:)", text)] == []


@each_working_role
def test_every_template_begins_with_the_managed_header(role):
    bare = []
    for path in template_files(role):
        name = path.relative_to(role / "templates")
        if path.suffix != ".j2" or path.name.endswith(NO_COMMENTS) or name.parts[0] not in PLACED:
            continue
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#!")]
        if not lines or lines[0] != "{% include 'shared/managed.j2' %}":
            bare.append(str(name))
    assert bare == []


@each_working_role
def test_link_to_the_shared_partials_is_in_place(role):
    if (role / "templates").is_dir():
        assert (role / "templates" / "shared").readlink() == Path("../../../templates")


@each_working_role
def test_no_task_hides_a_failure_or_asks_whether_it_is_tested(role):
    pattern = re.compile(r"ignore_errors:|failed_when: false|virtualization_(?:type|role)|changed_when: true")
    found = [
        (path.name, match.group())
        for path in task_files(role) + template_files(role)
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_tracked_file_names_a_package_index_or_a_build_machine():
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "deb" + ".debian.org", "security" + ".debian.org"]
    hosts += ["archive" + ".ubuntu.com", "npmjs" + ".org", "galaxy" + ".ansible.com"]
    paths = ["/work" + "/main", "/work" + "/shared", "/tmp" + "/prep"]
    pattern = re.compile("|".join(map(re.escape, hosts + paths)))
    found = []
    for path in tracked_files():
        for match in pattern.finditer(path.read_text(encoding="utf-8", errors="replace")):
            found.append((str(path.relative_to(ROOT)), match.group()))
    assert found == []


def test_no_tracked_link_leads_out_of_the_repository():
    listing = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    links = [ROOT / line.split("\t")[1] for line in listing.stdout.splitlines() if line.startswith("120000 ")]
    assert [str(path) for path in links if ROOT not in (path.resolve(), *path.resolve().parents)] == []


def test_yaml_files_begin_alike():
    # yamllint cannot check it: ansible-lint would apply that to the examples of modules, too.
    begin = {str(path.relative_to(ROOT)) for path in tracked_files() if path.suffix in (".yml", ".yaml")}
    assert [name for name in sorted(begin) if (ROOT / name).read_text(encoding="utf-8").startswith("---")] == []
