"""A release from an archive."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import archive_source
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal

FILES = {"forge-1.2/manage.py": b"#!", "forge-1.2/app/urls.py": b"urls", "forge-1.2/forge-1.2": b"the same name"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def tar(path: Path, mode: str, files: dict[str, bytes]) -> str:
    with tarfile.open(path, f"w:{mode}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize("mode", ["", "gz", "bz2", "xz"])
def test_tar_archives_are_unpacked_without_their_top_directory(tmp_path, target, mode):
    archive_source.unpack(tar(tmp_path / "a", mode, FILES), str(target), "a")
    assert (target / "app" / "urls.py").read_bytes() == b"urls"
    assert (target / "forge-1.2").read_bytes() == b"the same name"
    assert (target / "manage.py").stat().st_mode & 0o100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "source"]


def test_zip_archives_keep_what_may_be_executed(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, mode in (("top/run", 0o755), ("top/urls.py", 0o644)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, name)
    archive_source.unpack(str(tmp_path / "a.zip"), str(target), "a.zip")
    assert (target / "run").stat().st_mode & 0o100
    assert not (target / "urls.py").stat().st_mode & 0o100


def test_an_archive_without_a_top_directory_stays_as_it_is(tmp_path, target):
    archive_source.unpack(tar(tmp_path / "a", "gz", {"manage.py": b"", "app/urls.py": b""}), str(target), "a")
    assert sorted(path.name for path in target.iterdir()) == ["app", "manage.py"]


@pytest.mark.parametrize("name", ["../outside", "/tmp/groundwork-outside"])
def test_nothing_is_written_outside_of_the_source(tmp_path, target, name):
    with pytest.raises(Refusal):
        archive_source.unpack(tar(tmp_path / "a", "gz", {name: b"x", "../../beside": b"x"}), str(target), "a")
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/groundwork-outside").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8bbroken", b"PK\x03\x04broken"])
def test_what_is_no_archive_is_refused(tmp_path, target, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(Refusal, match=r"^a (cannot be unpacked: .|holds nothing)"):
        archive_source.unpack(str(tmp_path / "a"), str(target), "a")


def test_a_file_with_another_checksum_is_refused_with_both(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    archive_source.check(str(tmp_path / "a"), "a", archive_source.digest_of(str(tmp_path / "a")))
    with pytest.raises(Refusal, match=r"a has the checksum sha256:ed7002b4\w+ instead of sha256:00:"):
        archive_source.check(str(tmp_path / "a"), "a", "00")


def test_a_url_is_downloaded_and_one_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    archive_source.download(f"file://{tmp_path}/a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"content"
    with pytest.raises(Refusal, match=r"none cannot be had: .*No such file"):
        archive_source.download(f"file://{tmp_path}/none", str(tmp_path / "b"))
