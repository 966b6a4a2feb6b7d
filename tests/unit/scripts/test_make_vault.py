"""Secrets through ansible-vault: a script makes them, completes them and never overwrites them."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "make_vault.py"


@pytest.fixture
def project(tmp_path):
    """A copy of the script in a project of its own, with one environment that wants one secret."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "make_vault.py").write_text(SCRIPT.read_text())
    environment = tmp_path / "group_vars" / "prod"
    environment.mkdir(parents=True)
    (environment / "site.yml").write_text('secrets: {A: "{{ vault_site_a }}"}\n')
    return tmp_path


def make(project, *arguments):
    return subprocess.run(
        [sys.executable, str(project / "scripts" / "make_vault.py"), *arguments], capture_output=True, text=True
    )


def content(project):
    command = ["view", "--vault-password-file", str(project / ".vault-password-prod")]
    result = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-vault"), *command, str(project / "group_vars/prod/vault.yml")],
        capture_output=True,
        text=True,
        check=True,
    )
    return yaml.safe_load(result.stdout)


def test_every_name_gets_a_long_random_value_and_none_is_printed(project):
    result = make(project, "prod")
    assert result.returncode == 0, result.stderr
    value = content(project)["vault_site_a"]
    assert len(value) == 50
    assert value not in result.stdout + result.stderr
    assert value not in (project / "group_vars/prod/vault.yml").read_text()


def test_only_the_owner_reads_the_password(project):
    make(project, "prod")
    mode = stat.S_IMODE((project / ".vault-password-prod").stat().st_mode)
    assert mode == 0o600


def test_a_second_run_keeps_what_there_is_and_adds_what_is_missing(project):
    make(project, "prod")
    before = content(project)
    (project / "group_vars/prod/more.yml").write_text('other: "{{ vault_site_b }}"\n')
    make(project, "prod")
    after = content(project)
    assert after["vault_site_a"] == before["vault_site_a"]
    assert set(after) == {"vault_site_a", "vault_site_b"}


def test_a_vault_without_its_password_is_not_touched(project):
    make(project, "prod")
    (project / ".vault-password-prod").unlink()
    before = (project / "group_vars/prod/vault.yml").read_bytes()
    result = make(project, "prod")
    assert result.returncode != 0 and ".vault-password-prod does not" in result.stderr
    assert (project / "group_vars/prod/vault.yml").read_bytes() == before


def test_an_unknown_environment_is_named_with_the_known_ones(project):
    result = make(project, "production")
    assert result.returncode != 0
    assert '"production"' in result.stderr and "prod" in result.stderr
