"""What template_tree does on the host, on real files below tmp_path."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import files as fs
from ansible_collections.groundwork.django.plugins.module_utils import tree

OWNER = str(os.geteuid())
GROUP = str(os.getegid())
NOBODY = "no-such-user-here"
SENTINEL = "S3NTINEL"


def item(path: Path, content: str = "x = 1\n", **changes) -> dict:
    base = {"owner": OWNER, "group": GROUP, "mode": "0644", "validate": "", "create_only": False, "secret": False}
    return {"path": str(path), "content": content, **base, **changes}


def plan(*files: dict, directories: tuple[dict, ...] = (), assemble: tuple[dict, ...] = (), manifest: str = "") -> dict:
    return {
        "files": list(files),
        "directories": list(directories),
        "directory_mode": "0755",
        "assemble": list(assemble),
        "manifest": manifest,
    }


def everything_below(path: Path) -> list[str]:
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


@pytest.fixture(autouse=True)
def manifests(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "manifests"
    monkeypatch.setattr(tree, "MANIFESTS", str(path))
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_places_files_with_mode_and_missing_directories(root):
    result = tree.place(plan(item(root / "etc/a/b.conf", mode="0640")))
    assert (root / "etc/a/b.conf").read_text() == "x = 1\n"
    assert mode_of(root / "etc/a/b.conf") == 0o640
    assert mode_of(root / "etc/a") == 0o755
    assert result["changed_paths"] == [str(root / "etc/a/b.conf")]
    assert result["changed"] is True
    assert "diff" not in result


def test_what_was_placed_can_be_put_back(root, manifests):
    tree.place(plan(item(root / "kept"), item(root / "changed", mode="0600"), item(root / "gone"), manifest="demo"))
    before = {path: (root / path).read_text() for path in everything_below(root)}
    recorded = (manifests / "demo.json").read_text()
    placed = tree.Placed()
    files = [item(root / "kept"), item(root / "changed", "x = 2\n", mode="0644"), item(root / "new/deep/file")]
    tree.place(plan(*files, manifest="demo"), placed=placed)
    assert everything_below(root) == ["changed", "kept", "new", "new/deep", "new/deep/file"]
    placed.put_back()
    assert {path: (root / path).read_text() for path in everything_below(root)} == before
    assert mode_of(root / "changed") == 0o600
    assert (manifests / "demo.json").read_text() == recorded


def test_the_first_thing_placed_can_be_put_back_too(root, manifests):
    placed = tree.Placed()
    tree.place(plan(item(root / "etc/a"), manifest="demo"), placed=placed)
    placed.put_back()
    assert everything_below(root) == everything_below(manifests) == []


def test_second_run_changes_nothing(root):
    wanted = plan(
        item(root / "a.conf"),
        item(root / "b/c.conf"),
        directories=({"path": str(root / "d"), "owner": OWNER, "group": GROUP, "mode": "0750"},),
        manifest="demo",
    )
    tree.place(wanted)
    before = {path: (root / path).lstat().st_ctime_ns for path in everything_below(root)}
    result = tree.place(wanted, diff=True)
    assert (result["changed"], result["changed_paths"], result["removed_paths"]) == (False, [], [])
    assert result["diff"] == []
    assert {path: (root / path).lstat().st_ctime_ns for path in everything_below(root)} == before


def test_payload_survives_bytes_that_are_no_text(root):
    content = bytes(range(256))
    entry = item(root / "raw.bin", content.decode("utf-8", "surrogateescape"))
    tree.place(json.loads(json.dumps(plan(entry))))
    assert (root / "raw.bin").read_bytes() == content


@pytest.mark.parametrize("target_exists", [True, False])
def test_check_mode_says_the_same_and_changes_nothing(root, target_exists):
    if target_exists:
        (root / "a.conf").write_text("old\n")
    wanted = plan(
        item(root / "a.conf"),
        item(root / "new/b.conf"),
        directories=({"path": str(root / "d"), "owner": OWNER, "group": GROUP},),
        manifest="demo",
    )
    before = everything_below(root.parent)
    checked = tree.place(wanted, check=True, diff=True)
    assert everything_below(root.parent) == before
    assert checked == tree.place(wanted, diff=True)


def test_check_mode_takes_an_unknown_owner_for_a_change(root):
    (root / "a.conf").write_text("x = 1\n")
    wanted = plan(item(root / "a.conf", owner=NOBODY, group=NOBODY))
    result = tree.place(wanted, check=True, diff=True)
    assert result["changed_paths"] == [str(root / "a.conf")]
    assert f"{NOBODY}:{NOBODY} 0644" in result["diff"][0]["after"]


@pytest.mark.parametrize("kind", ["owner", "group"])
def test_an_unknown_owner_is_named(root, kind):
    with pytest.raises(fs.Refusal, match=rf"{NOBODY} that .*a\.conf shall belong to does not exist"):
        tree.place(plan(item(root / "a.conf", **{kind: NOBODY})))
    assert everything_below(root) == []


def test_diff_shows_content_and_attributes(root):
    (root / "a.conf").write_text("old\n")
    (root / "a.conf").chmod(0o600)
    (content, attributes) = tree.place(plan(item(root / "a.conf", "new\n")), diff=True)["diff"]
    assert (content["before"], content["after"]) == ("old\n", "new\n")
    assert content["before_header"] == content["after_header"] == str(root / "a.conf")
    assert attributes["before"].endswith(" 0600\n")
    assert attributes["after"].endswith(" 0644\n")


def test_mode_alone_is_changed_without_rewriting(root):
    (root / "a.conf").write_text("x = 1\n")
    (root / "a.conf").chmod(0o600)
    inode = (root / "a.conf").stat().st_ino
    result = tree.place(plan(item(root / "a.conf")), diff=True)
    assert mode_of(root / "a.conf") == 0o644
    assert (root / "a.conf").stat().st_ino == inode
    assert [entry["after"][-5:-1] for entry in result["diff"]] == ["0644"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_and_group_are_kept(root):
    wanted = plan(
        item(root / "a.conf", owner="1234", group="4321"),
        directories=({"path": str(root / "d"), "owner": "1234", "group": "4321", "mode": "2750"},),
    )
    tree.place(wanted)
    os.chown(root / "a.conf", 0, 0)
    os.chown(root / "d", 0, 0)
    assert tree.place(wanted)["changed_paths"] == [str(root / "a.conf"), str(root / "d")]
    for path in (root / "a.conf", root / "d"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    assert mode_of(root / "d") == 0o2750
    assert tree.place(wanted)["changed"] is False


def test_a_validator_sees_the_final_name_beside_the_target(root):
    log = root.parent / "log"
    check = f'sh -c \'stat -c "%n %a" "$1" > {log}\' sh %s'
    tree.place(plan(item(root / "forge.service", validate=check, mode="0640")))
    path, mode = log.read_text().split()
    assert Path(path).name == "forge.service"
    assert Path(path).parent.parent == root
    assert mode == "640"


def test_a_refused_file_leaves_all_untouched(root):
    (root / "a.conf").write_text("old\n")
    before = everything_below(root.parent)
    wanted = plan(
        item(root / "a.conf"),
        item(root / "deep/er/b.conf", validate="sh -c 'echo bad line 3 >&2; exit 7' %s"),
        directories=({"path": str(root / "d"), "owner": OWNER, "group": GROUP},),
        manifest="demo",
    )
    with pytest.raises(fs.Refusal) as refusal:
        tree.place(wanted)
    assert "b.conf was refused by `sh -c" in str(refusal.value)
    assert "(exit 7)" in str(refusal.value)
    assert "bad line 3" in str(refusal.value)
    assert (root / "a.conf").read_text() == "old\n"
    assert everything_below(root.parent) == before


def test_only_a_changed_file_is_validated(root):
    tree.place(plan(item(root / "a.conf")))
    assert tree.place(plan(item(root / "a.conf", validate="false %s")))["changed"] is False


def test_a_missing_validator_is_an_error_but_not_in_check_mode(root):
    wanted = plan(item(root / "a.conf", validate="no-such-validator -c %s"))
    assert tree.place(wanted, check=True)["warnings"] == []
    with pytest.raises(fs.Refusal, match="cannot be checked by `no-such-validator -c %s`"):
        tree.place(wanted)


def test_a_refusal_in_check_mode_is_a_warning(root):
    result = tree.place(plan(item(root / "a.conf", validate="sh -c 'echo no >&2; false' %s")), check=True)
    assert result["changed"] is True
    assert "was refused" in result["warnings"][0]
    assert everything_below(root) == []


def test_create_only_leaves_what_is_there(root):
    (root / "a.conf").write_text("of the host\n")
    (root / "a.conf").chmod(0o600)
    (root / "link").symlink_to("elsewhere")
    wanted = plan(
        item(root / "a.conf", create_only=True),
        item(root / "link", create_only=True),
        item(root / "b.conf", create_only=True),
    )
    assert tree.place(wanted)["changed_paths"] == [str(root / "b.conf")]
    assert (root / "a.conf").read_text() == "of the host\n"
    assert mode_of(root / "a.conf") == 0o600
    assert (root / "link").is_symlink()


def test_a_secret_is_in_no_result(root):
    path = root / "env"
    entry = item(path, f"{SENTINEL}1\n", secret=True, mode="0640")
    shown = [tree.place(plan(entry), check=check, diff=True) for check in (True, False)]
    entry["content"] = f"{SENTINEL}2\n"
    shown += [tree.place(plan(entry), check=check, diff=True) for check in (True, False)]
    assert all(result["changed"] for result in shown)
    assert SENTINEL not in json.dumps(shown)
    assert "content is secret" in json.dumps(shown)


def test_a_secret_is_not_in_what_its_validator_says(root):
    entry = item(root / "env", f"{SENTINEL}\n", secret=True, validate="sh -c 'cat \"$1\" >&2; false' sh %s")
    with pytest.raises(fs.Refusal) as refusal:
        tree.place(plan(entry))
    assert SENTINEL not in str(refusal.value)


def test_a_removed_file_that_others_may_not_read_is_not_shown(root):
    tree.place(plan(item(root / "env", SENTINEL, mode="0600"), item(root / "a"), manifest="demo"))
    result = tree.place(plan(item(root / "a"), manifest="demo"), diff=True)
    assert result["removed_paths"] == [str(root / "env")]
    assert SENTINEL not in json.dumps(result)


def test_manifest_removes_what_is_no_longer_rendered(root, manifests):
    tree.place(plan(item(root / "a"), item(root / "b"), manifest="demo"))
    assert json.loads((manifests / "demo.json").read_text())["paths"] == [str(root / "a"), str(root / "b")]
    smaller = plan(item(root / "a"), manifest="demo")
    checked = tree.place(smaller, check=True, diff=True)
    assert checked["removed_paths"] == [str(root / "b")]
    assert (root / "b").exists()
    assert tree.place(smaller, diff=True) == checked
    assert not (root / "b").exists()
    assert json.loads((manifests / "demo.json").read_text())["paths"] == [str(root / "a")]
    assert tree.place(smaller)["changed"] is False


def test_what_was_placed_first_is_removed_last(root, monkeypatch):
    paths = [root / "a", root / "b", root / "c"]
    tree.place(plan(*map(item, paths), manifest="demo"))
    unlink = os.unlink
    removed = []
    monkeypatch.setattr(tree.os, "unlink", lambda path: (removed.append(path), unlink(path)))
    tree.place(plan(manifest="demo"))
    assert removed == [str(path) for path in reversed(paths)]


def test_manifest_never_removes_what_somebody_else_made(root):
    (root / "foreign").write_text("of a package\n")
    (root / "same").write_text("x = 1\n")
    tree.place(
        plan(item(root / "foreign"), item(root / "same"), item(root / "kept", create_only=True), manifest="demo")
    )
    assert (root / "foreign").read_text() == "x = 1\n"
    result = tree.place(plan(item(root / "a"), manifest="demo"))
    assert result["removed_paths"] == []
    assert {"foreign", "same", "kept"} <= set(everything_below(root))


def test_manifest_leaves_a_path_that_is_a_link_now(root):
    tree.place(plan(item(root / "a"), item(root / "b"), manifest="demo"))
    (root / "b").unlink()
    (root / "b").symlink_to("a")
    assert tree.place(plan(item(root / "a"), manifest="demo"))["changed"] is False
    assert (root / "b").is_symlink()


def test_names_of_manifests_do_not_meddle(root):
    tree.place(plan(item(root / "a"), manifest="one"))
    tree.place(plan(item(root / "b"), manifest="two"))
    assert sorted(everything_below(root)) == ["a", "b"]


@pytest.mark.parametrize("step", ["replace", "unlink", "sync_directory", "last manifest"])
def test_a_run_killed_in_between_converges(root, step, monkeypatch):
    tree.place(plan(item(root / "a"), item(root / "gone"), manifest="demo"))
    wanted = plan(item(root / "a", "y = 2\n"), item(root / "new/b"), manifest="demo")
    count = {"write_json": 0}

    def die(*_arguments):
        raise tree.Killed(signal.SIGTERM)

    with monkeypatch.context() as patch:
        if step == "unlink":
            patch.setattr(tree.os, "unlink", die)
        elif step == "last manifest":
            write = fs.write_json

            def second(*arguments):
                count["write_json"] += 1
                return die() if count["write_json"] == 2 else write(*arguments)

            patch.setattr(fs, "write_json", second)
        else:
            patch.setattr(fs, step, die)
        with contextlib.suppress(tree.Killed):
            tree.place(wanted)
    assert not [path for path in everything_below(root) if fs.STAGE_PREFIX in path]
    tree.place(wanted)
    assert everything_below(root) == ["a", "new", "new/b"]
    assert (root / "a").read_text() == "y = 2\n"
    last = plan(item(root / "a", "y = 2\n"), manifest="demo")
    assert tree.place(last)["removed_paths"] == [str(root / "new/b")]


def _start_slow_run(root: Path, tmp_path: Path) -> subprocess.Popen:
    """A process that is stopped by us while its validator runs."""
    wanted = plan(item(root / "a.conf", validate="sh -c 'sleep 60' %s"))
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); import conftest, json\n"
        "from ansible_collections.groundwork.django.plugins.module_utils import tree\n"
        f"tree.MANIFESTS = {str(tmp_path)!r}\n"
        f"tree.place(json.loads({json.dumps(wanted)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 20
    while not any(fs.STAGE_PREFIX in path and path.endswith("a.conf") for path in everything_below(root)):
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def test_a_terminated_run_leaves_no_temporary_file(root, tmp_path):
    process = _start_slow_run(root, tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(10)
    assert everything_below(root) == []


def test_the_rest_of_a_killed_run_is_removed_by_the_next(root, tmp_path):
    process = _start_slow_run(root, tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    assert len(everything_below(root)) == 2
    tree.place(plan(item(root / "b.conf")))
    assert everything_below(root) == ["b.conf"]


def test_a_link_at_the_target_is_refused_by_name(root):
    (root / "a.conf").symlink_to("/dev/null")
    with pytest.raises(fs.Refusal, match=r"a\.conf is a symbolic link to /dev/null"):
        tree.place(plan(item(root / "a.conf")))
    assert (root / "a.conf").is_symlink()


def test_a_directory_at_the_target_is_refused_by_name(root):
    (root / "a.conf").mkdir()
    with pytest.raises(fs.Refusal, match=r"a\.conf is not a regular file"):
        tree.place(plan(item(root / "a.conf")))


def test_a_link_on_the_way_is_followed_unless_a_stranger_made_it(root, monkeypatch):
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    tree.place(plan(item(root / "link/a.conf")))
    assert (root / "real/a.conf").exists()
    if os.geteuid() == 0:
        os.lchown(root / "link", 1234, 1234)
        with pytest.raises(fs.Refusal, match="a link made by 1234"):
            tree.place(plan(item(root / "link/b.conf")))


def test_a_mount_point_is_written_in_place(root, monkeypatch):
    (root / "hosts").write_text("a much longer content than the new one\n")
    inode = (root / "hosts").stat().st_ino
    rename = os.rename

    def busy(source, target):
        if str(target).endswith("hosts"):
            raise OSError(16, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(fs.os, "rename", busy)
    tree.place(plan(item(root / "hosts", mode="0600")))
    assert (root / "hosts").read_text() == "x = 1\n"
    assert (root / "hosts").stat().st_ino == inode
    assert mode_of(root / "hosts") == 0o600


def test_a_new_secret_is_never_readable_by_others(root, monkeypatch):
    seen = []
    write = os.fdopen

    def look(descriptor, *arguments, **more):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, *arguments, **more)

    monkeypatch.setattr(fs.os, "fdopen", look)
    os.umask(0o000)
    try:
        tree.place(plan(item(root / "env", mode="0640")))
    finally:
        os.umask(0o022)
    assert seen == [0o600]
    assert mode_of(root / "env") == 0o640


@pytest.mark.parametrize("text", ["644", "0644", "4755"])
def test_modes_are_octal(text):
    assert fs.parse_mode(text) == int(text, 8)


@pytest.mark.parametrize("text", ["u=rw", "0888", "", "00644", "420 "])
def test_other_modes_are_refused(text):
    with pytest.raises(fs.Refusal, match="is not a mode"):
        fs.parse_mode(text)


def test_a_long_or_binary_content_is_not_shown(root):
    long, binary = "x" * 300_000, "\udcff\0"
    (first, second) = tree.place(plan(item(root / "a", long), item(root / "b", binary)), diff=True)["diff"]
    assert "300000 bytes, too long" in first["after"]
    assert second["after"] == "content is binary\n"


def assembled(root: Path) -> dict:
    entry = item(root / "hba.conf", mode="0640", parts=str(root / "hba.d/*.conf"))
    del entry["content"]
    return entry


def test_an_assembled_file_is_made_of_the_parts_of_all_callers(root):
    (root / "hba.d").mkdir()
    (root / "hba.d/b.conf").write_text("of another site")
    (root / "hba.d/c.txt").write_text("no part")
    mine = plan(item(root / "hba.d/a.conf", "mine\n"), assemble=(assembled(root),), manifest="a")
    expected = tree.place(mine, check=True)["changed_paths"]
    assert tree.place(mine)["changed_paths"] == expected == [str(root / "hba.conf"), str(root / "hba.d/a.conf")]
    assert (root / "hba.conf").read_text() == "mine\nof another site\n"
    assert mode_of(root / "hba.conf") == 0o640
    assert tree.place(mine)["changed"] is False


def test_an_assembled_file_loses_a_removed_part_and_is_never_removed(root):
    first = plan(
        item(root / "hba.d/a.conf", "a\n"),
        item(root / "hba.d/b.conf", "b\n"),
        assemble=(assembled(root),),
        manifest="a",
    )
    tree.place(first)
    second = plan(item(root / "hba.d/a.conf", "a\n"), assemble=(assembled(root),), manifest="a")
    assert tree.place(second, check=True)["changed_paths"] == [str(root / "hba.conf")]
    tree.place(second)
    assert (root / "hba.conf").read_text() == "a\n"
    tree.place(plan(manifest="a"))
    assert everything_below(root) == ["hba.conf", "hba.d"]


def test_a_part_that_is_only_created_keeps_what_is_there(root):
    (root / "hba.d").mkdir()
    (root / "hba.d/a.conf").write_text("edited\n")
    tree.place(plan(item(root / "hba.d/a.conf", "ours\n", create_only=True), assemble=(assembled(root),)))
    assert (root / "hba.conf").read_text() == "edited\n"
