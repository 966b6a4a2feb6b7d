"""Git repositories as sources."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import git_source
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with two commits, the branch main at the second, and an annotated tag at the first."""
    folder = tmp_path / "origin"
    folder.mkdir()
    temporary = git_source.tempfile.TemporaryDirectory
    monkeypatch.setattr(
        git_source.tempfile, "TemporaryDirectory", lambda dir, prefix: temporary(dir=tmp_path, prefix=prefix)
    )
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@example.org")
    git(folder, "init", "--quiet", "--initial-branch=main")
    for number in ("one", "two"):
        (folder / "file.txt").write_text(number, encoding="utf-8")
        git(folder, "add", "file.txt")
        git(folder, "commit", "--quiet", "--message", number)
        if number == "one":
            git(folder, "tag", "--annotate", "first", "--message", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repository(origin: Path, ref: str, **options: object) -> git_source.Repository:
    values = {"url": f"file://{origin}", "ref": ref, "host_keys": [], **options}
    return git_source.Repository(values, "", str(origin.parent / "mirror.git"))


def test_branch_tag_and_commit_become_a_commit(origin):
    first, second = git(origin, "rev-parse", "HEAD^"), git(origin, "rev-parse", "HEAD")
    assert repository(origin, "main").resolve() == ("refs/heads/main", second)
    assert repository(origin, "HEAD").resolve() == ("HEAD", second)
    assert repository(origin, "first").resolve() == ("refs/tags/first", first)
    assert repository(origin, "refs/heads/main").resolve() == ("refs/heads/main", second)
    assert repository(origin, first).resolve() == (first, first)


def test_name_of_nothing_and_name_of_two_things_are_refused(origin):
    with pytest.raises(Refusal, match="has no branch and no tag other"):
        repository(origin, "other").resolve()
    git(origin, "tag", "main")
    with pytest.raises(Refusal, match="is both a branch and a tag"):
        repository(origin, "main").resolve()


def test_repository_that_is_missing_is_refused_with_the_reason(origin):
    with pytest.raises(Refusal, match="cannot be read: fatal: "):
        repository(origin, "main", url=f"file://{origin}-none").resolve()


@pytest.mark.parametrize(("ref", "content"), [("main", "two"), ("first", "one")])
def test_files_of_the_commit_are_exported(origin, tmp_path, ref, content):
    source = repository(origin, ref)
    source.ref, commit = source.resolve()
    source.fetch(commit)
    target = tmp_path / "target"
    target.mkdir()
    source.export(commit, str(target))
    assert os.listdir(target) == ["file.txt"]
    assert (target / "file.txt").read_text(encoding="utf-8") == content
    # What the copy has is not asked for again.
    git(origin, "branch", "--move", "gone")
    source.fetch(commit)


def test_key_and_host_keys_lie_in_files_for_root_and_on_no_command_line(origin):
    source = git_source.Repository(
        {
            "url": "ssh://git@git.example.org/forge.git",
            "ref": "main",
            "host_keys": ["git.example.org ssh-ed25519 AAAA"],
        },
        "-----BEGIN KEY-----\nsentinel\n-----END KEY-----",
        "",
    )
    with source.credentials() as variables:
        words = variables["GIT_SSH_COMMAND"].split()
        key = Path(words[words.index("-i") + 1])
        assert key.read_text(encoding="utf-8").endswith("sentinel\n-----END KEY-----\n")
        assert key.stat().st_mode & 0o777 == 0o600
        assert "StrictHostKeyChecking=yes" in words
        assert "sentinel" not in variables["GIT_SSH_COMMAND"]
    assert not key.exists()
