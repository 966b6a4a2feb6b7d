"""What the virtualenv module decides, with a uv that only notes how it was called."""

import contextlib
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import venv
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.modules import virtualenv

REQUIREMENTS = """# comment
django==5.2.19 \\
    --hash=sha256:00
sqlparse==0.6.1 ; python_version > '3' \\
    --hash=sha256:11
"""

FAKE_UV = """#!/bin/sh
echo "$*" >> {log}
case "$1" in
  venv) for last; do :; done; mkdir -p "$last/bin"; ln -s {python} "$last/bin/python"; : > "$last/pyvenv.cfg" ;;
  pip) cat > {log}.stdin; touch "$(dirname "$5")/../.lock"
       if [ -e {log}.fail ]; then echo "error: no such package" >&2; exit 2; fi ;;
esac
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A place for virtualenvs, a uv that pretends, and parameters as the module gets them."""
    monkeypatch.setattr(venv, "LOCK", str(tmp_path / "run" / "lock"))
    log = tmp_path / "log"
    uv = tmp_path / "uv"
    uv.write_text(FAKE_UV.format(log=log, python=sys.executable))
    uv.chmod(0o755)

    class Bench:
        path = tmp_path / "venv"
        fail = tmp_path / "log.fail"

        def make(self, check: bool = False, diff: bool = False, **params) -> dict:
            defaults = {
                "path": str(self.path),
                "requirements": REQUIREMENTS,
                "requirements_file": None,
                "require_hashes": True,
                "packages": [],
                "python": sys.executable,
                "uv": str(uv),
                "index_url": "",
                "install_args": [],
                "cache_dir": str(tmp_path / "cache"),
                "uv_requirements": "",
            }
            return virtualenv.bring_about({**defaults, **params}, check, diff)

        def calls(self) -> list[str]:
            text = log.read_text() if log.exists() else ""
            log.unlink(missing_ok=True)
            return text.splitlines()

        def given(self) -> str:
            return Path(f"{log}.stdin").read_text()

    return Bench()


def test_makes_it_once(bench):
    assert bench.make()["changed"] is True
    made, installed = bench.calls()
    assert made.startswith("venv --quiet --no-project --clear --python ")
    assert made.endswith(str(bench.path))
    assert installed == f"pip install --quiet --python {bench.path}/bin/python --require-hashes -r -"
    assert bench.given() == REQUIREMENTS
    assert bench.make()["changed"] is False
    assert bench.calls() == []


def test_check_mode_says_so_and_runs_nothing(bench):
    result = bench.make(check=True, diff=True)
    assert result["changed"] is True
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"].splitlines()[1:] == ["django==5.2.19", "sqlparse==0.6.1"]
    assert bench.calls() == []
    assert not bench.path.exists()


def test_check_mode_on_a_bare_host_is_a_change(bench):
    assert bench.make(check=True, python="python9.99")["changed"] is True
    assert bench.make(check=True, requirements="", requirements_file="/no/such/file")["changed"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"requirements": REQUIREMENTS.replace("5.2.19", "5.2.20")},
        {"packages": ["gunicorn==23.0.0"]},
        {"install_args": ["--compile-bytecode"]},
        {"require_hashes": False},
    ],
)
def test_other_content_makes_it_again(bench, change):
    bench.make()
    assert bench.make(**change)["changed"] is True
    assert bench.make(**change)["changed"] is False


def test_an_interpreter_that_is_gone_makes_it_again(bench):
    bench.make()
    (bench.path / "bin/python").unlink()
    (bench.path / "bin/python").symlink_to("/no/such/python")
    assert bench.make()["changed"] is True


def test_an_unfinished_one_is_made_again(bench):
    bench.make()
    (bench.path / venv.STAMP).unlink()
    assert bench.make()["changed"] is True


def test_packages_need_no_hashes(bench):
    bench.make(packages=["gunicorn", "psycopg2-binary"])
    assert bench.calls()[-1] == f"pip install --quiet --python {bench.path}/bin/python -- gunicorn psycopg2-binary"


def test_requirements_file_on_the_host(bench, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(REQUIREMENTS)
    options = {"requirements": "", "requirements_file": str(path)}
    assert bench.make(**options)["changed"] is True
    assert bench.calls()[-1].endswith(f"--require-hashes -r {path}")
    assert bench.make(**options)["changed"] is False
    path.write_text(REQUIREMENTS + "\n")
    assert bench.make(**options)["changed"] is True


def test_a_failure_is_one_sentence_and_keeps_the_old_one(bench):
    bench.make()
    stamp = (bench.path / venv.STAMP).read_text()
    bench.fail.touch()
    with pytest.raises(Refusal) as refusal:
        bench.make(packages=["nothing"])
    assert str(refusal.value).startswith(f"Installing the packages of {bench.path} failed (exit 2):\nerror: no such")
    assert (bench.path / venv.STAMP).read_text() == stamp
    assert sorted(path.name for path in bench.path.parent.glob("venv*")) == ["venv"]


def test_a_failure_of_the_first_leaves_nothing(bench):
    bench.fail.touch()
    with pytest.raises(Refusal):
        bench.make()
    assert not bench.path.exists()
    bench.fail.unlink()
    assert bench.make()["changed"] is True


def test_the_finished_one_survives_a_kill(bench, monkeypatch):
    """A run killed while it installs leaves an unfinished one and the old one beside it."""
    bench.make()
    os.rename(bench.path, f"{bench.path}.previous")
    (bench.path / "bin").mkdir(parents=True)
    assert bench.make()["changed"] is True
    assert sorted(path.name for path in bench.path.parent.glob("venv*")) == ["venv"]


def test_one_that_another_run_made_while_this_one_waited_is_kept(bench, monkeypatch):
    @contextlib.contextmanager
    def busy():
        with monkeypatch.context() as alone:
            alone.setattr(virtualenv, "lock", contextlib.nullcontext)
            bench.make()
        yield

    monkeypatch.setattr(virtualenv, "lock", busy)
    assert bench.make()["changed"] is False
    assert len(bench.calls()) == 2


def test_what_is_no_virtualenv_is_not_replaced(bench):
    bench.path.mkdir()
    (bench.path / "precious").write_text("x")
    with pytest.raises(Refusal, match="is no virtualenv, it holds precious"):
        bench.make()
    assert (bench.path / "precious").exists()


def test_a_link_is_not_replaced(bench, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    bench.path.symlink_to("elsewhere")
    with pytest.raises(Refusal, match="is no directory"):
        bench.make()


def test_it_is_readable_by_all(bench):
    umask = os.umask(0o077)
    try:
        bench.make()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o755
    assert stat.S_IMODE((bench.path / venv.STAMP).stat().st_mode) == 0o644
    assert not (bench.path / ".lock").exists()


def test_a_missing_interpreter_is_named(bench):
    with pytest.raises(Refusal, match=r"There is no Python interpreter python9\.99 on the host"):
        bench.make(python="python9.99")


def test_uv_is_installed_from_its_hashes_once(tmp_path, monkeypatch):
    calls = []

    def run(command, what, environment=None, given=None):
        calls.append((command, environment, given))
        (tmp_path / "uv/bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / "uv/bin/uv").write_text("")
        (tmp_path / "uv/bin/uv").chmod(0o755)
        return ""

    monkeypatch.setattr(venv, "run_tool", run)
    uv = venv.Uv(str(tmp_path / "uv"), "/cache", "https://user:pass@index.test/simple")
    assert uv.ensure("uv==1 --hash=sha256:00\n") is True
    assert calls[0][0][1:4] == ["-m", "venv", "--clear"]
    assert "--require-hashes" in calls[1][0]
    assert calls[1][2] == "uv==1 --hash=sha256:00\n"
    assert calls[1][1] == {"PIP_INDEX_URL": "https://user:pass@index.test/simple"}
    assert not any("pass" in word for command, _, _ in calls for word in command)
    assert uv.ensure("uv==1 --hash=sha256:00\n") is False
    assert uv.ensure("uv==2 --hash=sha256:00\n") is True


def test_missing_ensurepip_is_explained(tmp_path, monkeypatch):
    def run_tool(*_arguments):
        raise Refusal("failed")

    monkeypatch.setattr(venv, "run_tool", run_tool)
    monkeypatch.setattr(venv, "run", lambda _command: (0, "", ""))
    with pytest.raises(Refusal, match=r"^failed$"):
        venv.Uv(str(tmp_path / "uv"), "/cache").ensure("uv==1\n")
    monkeypatch.setattr(venv, "run", lambda _command: (1, "", "No module named 'ensurepip'"))
    with pytest.raises(Refusal, match="install the package python3-venv"):
        venv.Uv(str(tmp_path / "uv"), "/cache").ensure("uv==1\n")


def test_the_collection_carries_the_pinned_uv():
    root = Path(__file__).resolve().parents[4]
    pinned = venv.pinned((root / "files/uv.txt").read_text())
    assert len(pinned) == 1
    assert pinned[0] in (root / "requirements/dev.txt").read_text()


def test_stamp_tells_what_is_inside(bench):
    bench.make(packages=["gunicorn"])
    stamp = json.loads((bench.path / venv.STAMP).read_text())
    assert stamp["packages"] == ["django==5.2.19", "gunicorn", "sqlparse==0.6.1"]
    assert stamp["python"] == os.path.realpath(sys.executable)
