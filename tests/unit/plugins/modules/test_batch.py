"""Several tasks in one round trip, through Ansible itself and on this machine."""

import getpass
import grp
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
OWN = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getegid()).gr_name}
SENTINEL = "S3NTINEL-of-a-batch"


@pytest.fixture
def target(tmp_path) -> Path:
    """Directory that the templates beside the play are placed in."""
    path = tmp_path / "target"
    templates = tmp_path / "templates" / str(path).lstrip("/")
    templates.mkdir(parents=True)
    (templates / "a.conf.j2").write_text("a = {{ value }}\n")
    (templates / "b.conf.j2").write_text("b = {{ value }}\n")
    return path


@pytest.fixture
def play(tmp_path):
    """A function that runs tasks on this machine and returns exit code, results by task, and all that was printed."""

    def run(tasks: list[dict], *options: str) -> tuple[int, list[dict], str]:
        playbook = tmp_path / "play.yml"
        playbook.write_text(
            yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "vars": {"value": 1}, "tasks": tasks}])
        )
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        }
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local"]
        variables = ["-e", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run(
            [*command, *variables, str(playbook), *options],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        text = done.stdout
        printed = json.loads(text[text.index("{") :])
        results = [task["hosts"]["localhost"] for task in printed["plays"][0]["tasks"]]
        return done.returncode, results, done.stdout + done.stderr

    return run


def tree(target: Path, name: str, **options) -> dict:
    source = str(target).lstrip("/") + f"/{name}.conf.j2"
    return {"groundwork.django.template_tree": {"src": source, "files": [{"path": "*", **OWN}], **options}}


def batch(*tasks: dict) -> dict:
    return {"groundwork.django.batch": {"tasks": list(tasks)}}


def test_carries_tasks_out_in_order_and_a_second_time_changes_nothing(play, target):
    tasks = [batch({"name": "Place a", **tree(target, "a")}, {"name": "Place b", **tree(target, "b")})]
    code, [result], _ = play(tasks, "--diff")
    assert (code, result["changed"]) == (0, True)
    assert [entry["name"] for entry in result["results"]] == ["Place a", "Place b"]
    assert [entry["after"] for entry in result["diff"]] == ["a = 1\n", "b = 1\n"]
    assert (target / "b.conf").read_text() == "b = 1\n"
    assert play(tasks)[1][0]["changed"] is False


def test_check_mode_says_the_same_and_changes_nothing(play, target):
    _, [result], _ = play([batch({"name": "Place a", **tree(target, "a")})], "--check")
    assert result["changed"] is True
    assert not target.exists()


def test_the_first_failure_ends_it_and_bears_the_name_of_its_task(play, target):
    refused = tree(target, "a", files=[{"path": "*", **OWN, "validate": "false %s"}])
    code, [result], _ = play([batch({"name": "Place a", **refused}, {"name": "Place b", **tree(target, "b")})])
    assert code != 0
    assert "Place a: " in result["msg"]
    assert "was refused by `false %s`" in result["msg"]
    assert not target.exists()


def test_a_condition_leaves_a_task_out(play, target):
    never = {"name": "Place a", **tree(target, "a"), "when": "value > 1"}
    _, [result], _ = play([batch(never, {"name": "Place b", **tree(target, "b"), "when": "value == 1"})])
    assert [entry["name"] for entry in result["results"]] == ["Place b"]
    _, [result], _ = play([batch(never)])
    assert result["skipped"] is True


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "Ping", "ansible.builtin.ping": {}}, 'A batch cannot hold "ansible.builtin.ping"'),
        ({"name": "Release", "groundwork.django.release": {}}, 'A batch cannot hold "groundwork.django.release"'),
        ({"groundwork.django.service": {"units": []}}, "has a name, one module"),
        ({"name": "Two", "groundwork.django.service": {}, "groundwork.django.packages": {}}, "has a name, one module"),
        ({"name": "Units", "groundwork.django.service": {"units": [], "unit": "x"}}, "Units: Unsupported parameters"),
        (
            {"name": "Tree", "groundwork.django.template_tree": {"src": "no/such"}},
            "Tree: There is no templates/no/such",
        ),
    ],
)
def test_what_it_cannot_do_is_said_by_name(play, task, message):
    code, [result], _ = play([batch(task)])
    assert code != 0
    assert message in result["msg"]


def test_a_module_alone_returns_what_it_returns(play, target):
    _, [result], _ = play(
        [
            tree(target, "a"),
        ],
        "--diff",
    )
    assert result["changed_paths"] == [str(target / "a.conf")]
    assert "results" not in result
    code, [result], _ = play([{"groundwork.django.template_tree": {"src": "no/such"}}])
    assert (code != 0, "There is no templates/no/such" in result["msg"]) == (True, True)


def test_facts_are_named_and_valued_as_those_of_setup(play, tmp_path):
    (tmp_path / "groundwork_a.fact").write_text('{"name": "a"}')
    paths = {"fact_path": str(tmp_path)}
    _, [ours, theirs], _ = play([{"groundwork.django.host_facts": paths}, {"ansible.builtin.setup": paths}])
    ours, theirs = ours["ansible_facts"], theirs["ansible_facts"]
    assert len(ours) == 6
    assert ours == {name: theirs[name] for name in ours}


def test_a_local_fact_that_is_no_json_is_left_to_setup(play, tmp_path):
    (tmp_path / "ini.fact").write_text("[a]\nb=c\n")
    (tmp_path / "program.fact").write_text('{"name": "a"}')
    (tmp_path / "program.fact").chmod(0o755)
    _, [result], _ = play([{"groundwork.django.host_facts": {"fact_path": str(tmp_path)}}])
    assert result["ansible_facts"]["ansible_local"] == {}


def test_no_secret_is_printed(play, target):
    secret = [{"path": "*", **OWN, "secret": True}]
    tasks = [batch({"name": "Place a", **tree(target, "a", files=secret)})]
    code, _, printed = play(tasks, "-vvv", "--diff", "-e", f"value={SENTINEL}")
    assert code == 0
    assert SENTINEL in (target / "a.conf").read_text()
    assert SENTINEL not in printed.replace(f"value={SENTINEL}", "")
