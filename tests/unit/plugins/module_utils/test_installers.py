"""How the packages of a release get into its virtualenv, as far as the source and the values decide it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import installers
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

DEFAULTS = {
    "installer": "auto",
    "requirements": [],
    "groups": [],
    "extras": [],
    "extra_packages": ["gunicorn==23.0.0"],
    "require_hashes": False,
    "install_args": [],
    "python": sys.executable,
    "index_url": "",
    "spec": "",
}
PACKAGE = '[project]\nname = "forge"\nrequires-python = ">=3.10"\n[build-system]\nrequires = ["hatchling"]\n'
NO_PACKAGE = '[project]\nname = "forge"\nversion = "1"\n'


class FakeUv:
    """Notes what it was called with."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.variables: dict[str, str] = {}

    def run(self, arguments: list[str], _what: str, given: str | None = None, **variables: str) -> str:
        assert given is None
        self.calls.append(arguments)
        self.variables.update(variables)
        return ""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source" / "site").mkdir(parents=True)
    return tmp_path / "source"


def plan(source: Path, project: str = "", **options) -> installers.ReleaseVirtualenv:
    return installers.ReleaseVirtualenv("/venv", str(source), str(source / project), {**DEFAULTS, **options})


def installed_by(wanted: installers.ReleaseVirtualenv) -> list[str]:
    """The arguments of the first call of uv, as one text, and of the second."""
    uv = FakeUv()
    wanted.install(uv)
    return [" ".join(call).replace("--python /venv/bin/python ", "") for call in uv.calls]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["uv.lock", "requirements.txt", "pyproject.toml"], "lock"),
        (["requirements.txt", "pyproject.toml"], "requirements"),
        (["pyproject.toml", "setup.py"], "project"),
        (["setup.py"], "project"),
        (["site/uv.lock"], "lock"),
        (["requirements.txt", "site/uv.lock"], "lock"),
    ],
)
def test_auto_takes_what_the_source_has(source, files, kind):
    for name in files:
        (source / name).touch()
    assert plan(source, "site").kind == kind


def test_named_requirements_come_before_a_lock(source):
    (source / "uv.lock").touch()
    (source / "live.txt").touch()
    assert plan(source, requirements=["live.txt"]).kind == "requirements"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"the source has none of uv.lock, requirements.txt, pyproject.toml and setup.py: name its files"),
        ({"installer": "lock"}, r"the source has no uv.lock, which gunicorn_app_installer=lock needs"),
        ({"installer": "project"}, r"the source has no pyproject.toml and no setup.py"),
        ({"installer": "requirements"}, r"the source has no requirements.txt: name its files"),
    ],
)
def test_what_the_source_has_not_is_named(source, options, said):
    with pytest.raises(Refusal, match=said):
        plan(source, **options)


def test_missing_requirements_file_is_named(source):
    wanted = plan(source, requirements=["deps/all.txt"])
    with pytest.raises(Refusal, match=r"the source has no deps/all.txt, which gunicorn_app_requirements names"):
        wanted.content()


def test_requirements_are_read_with_those_they_include(source):
    (source / "base.txt").write_text("Django==5.2 \\\n    --hash=sha256:1\nzope.interface\n", encoding="utf-8")
    (source / "all.txt").write_text("-r base.txt\n-r all.txt\n# note\nGunicorn[gthread]>=23\n", encoding="utf-8")
    lines = installers.requirements_lines([str(source / "all.txt")])
    assert {installers.normal_name(line) for line in lines} - {""} == {"django", "zope-interface", "gunicorn"}
    assert not plan(source, requirements=["all.txt"]).is_local()


@pytest.mark.parametrize("line", ["-e .", ".", "./lib", "--editable=lib", "lib @ file:///srv/lib", "-f wheels"])
def test_requirement_from_the_source_itself_is_noticed(source, line):
    (source / "requirements.txt").write_text(f"{line}\n", encoding="utf-8")
    assert plan(source).is_local()


def test_releases_share_a_virtualenv_unless_something_is_installed_from_the_source(source):
    (source / "uv.lock").write_text('name = "django"\nsource = { registry = "x" }\n', encoding="utf-8")
    assert plan(source).path_in("/venvs", "a") == plan(source).path_in("/venvs", "b")
    assert plan(source).path_in("/venvs", "a") != plan(source, groups=["live"]).path_in("/venvs", "a")
    (source / "uv.lock").write_text('name = "forge"\nsource = { editable = "." }\n', encoding="utf-8")
    assert plan(source).path_in("/venvs", "a") != plan(source).path_in("/venvs", "b")


def test_a_lock_is_synced_into_the_virtualenv_without_dev(source):
    (source / "uv.lock").touch()
    uv = FakeUv()
    plan(source, groups=["live"], extras=["redis"], extra_packages=[]).install(uv)
    (call,) = uv.calls
    assert call[:4] == ["sync", "--quiet", "--frozen", "--no-dev"]
    assert call[-2:] == ["--group=live", "--extra=redis"]
    assert uv.variables == {"UV_PROJECT_ENVIRONMENT": "/venv"}


def test_a_project_is_installed_as_editable(source):
    (source / "pyproject.toml").write_text(PACKAGE, encoding="utf-8")
    wanted = plan(source, extras=["redis", "s3"], groups=["live"])
    first, second = installed_by(wanted)
    assert first == f"pip install --quiet --group={source}/pyproject.toml:live -e {source}[redis,s3]"
    assert second == "pip install --quiet -- gunicorn==23.0.0"
    assert wanted.is_local()


def test_of_a_project_that_is_no_package_the_dependencies_are_installed(source):
    (source / "pyproject.toml").write_text(NO_PACKAGE, encoding="utf-8")
    wanted = plan(source, extras=["redis"])
    assert installed_by(wanted)[0] == f"pip install --quiet --extra=redis -r {source}/pyproject.toml"
    assert not wanted.is_local()


def test_a_package_of_the_index_is_installed_beside_requirements(source):
    (source / "pins.txt").touch()
    calls = installed_by(plan(source, requirements=["pins.txt"], spec="forge==1.2", require_hashes=True))
    assert calls[:2] == [
        f"pip install --quiet --require-hashes -r {source}/pins.txt",
        "pip install --quiet -- forge==1.2",
    ]


def test_extra_packages_that_are_there_are_left_out(source, tmp_path):
    (source / "requirements.txt").touch()
    wanted = plan(source, extra_packages=["Gunicorn==23.0.0", "uvicorn-worker"])
    wanted.path = str(tmp_path / "venv")
    (tmp_path / "venv/lib/python3.11/site-packages/gunicorn-27.0.1.dist-info").mkdir(parents=True)
    uv = FakeUv()
    wanted.install(uv)
    assert uv.calls[-1][-2:] == ["--", "uvicorn-worker"]


def test_a_python_that_does_not_fit_is_refused_with_both_numbers(source):
    (source / "requirements.txt").touch()
    (source / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.10,<3.11"\n', encoding="utf-8")
    with pytest.raises(Refusal, match=r"requires Python >=3.10,<3.11, and gunicorn_app_python, .+, is 3\.\d+\.\d+ on"):
        plan(source)


def test_another_python_than_the_pinned_one_is_known(source):
    (source / "requirements.txt").touch()
    (source / ".python-version").write_text("2.7.18\n", encoding="utf-8")
    assert plan(source).differing_python() == "2.7.18"
