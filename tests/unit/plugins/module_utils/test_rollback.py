"""Going back: to which release, and past which migrations."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import migrations, rollback
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site

PATHS = dict.fromkeys(("run_directory", "static_directory", "log_directory"), "/nonexistent")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("releases", "slots"):
        (tmp_path / name).mkdir()
    return Site({"name": "forge", "user": "root", "directory": str(tmp_path), **PATHS})


def serve(site: Site, *names: str) -> None:
    """Have releases serve one after another, as switches leave it."""
    for number, name in enumerate(names):
        for path in ("source", "venv/bin"):
            Path(site.release(name, path)).mkdir(parents=True, exist_ok=True)
        for path in ("env", "venv/bin/python"):
            Path(site.release(name, path)).touch()
        site.note(name, complete=True, completed=f"2026-01-0{number + 1}", bad=None)
        rollback.remember(site, name, back=False)
        slot = Site.other(site.live) if site.live else "blue"
        site.put_into(slot, name)
        site.make_live(slot)


def go_back(site: Site, wanted: str = "") -> str:
    """Go back as the switch does it."""
    left, name = site.live_release, rollback.target(site, wanted)
    rollback.remember(site, name, back=True)
    slot = Site.other(site.live)
    site.put_into(slot, name)
    site.make_live(slot)
    site.note(left, bad={"since": "2026-02-01", "operator": "ada@laptop"})
    return name


def test_it_goes_back_to_the_release_that_served_before(site):
    serve(site, "a", "b", "c")
    assert go_back(site) == "b"


def test_going_back_twice_goes_back_twice(site):
    serve(site, "a", "b", "c")
    assert [go_back(site), go_back(site)] == ["b", "a"]
    sentence = (
        "forge has no good release that served before a; on the host are c (bad), b (bad) beside it: "
        "release a correction instead."
    )
    with pytest.raises(Refusal, match=f"^{re.escape(sentence)}$"):
        go_back(site)


def test_the_first_release_of_a_site_has_none_before_it(site):
    serve(site, "a")
    with pytest.raises(Refusal, match="before a; on the host is no other one: release a correction instead"):
        go_back(site)


def test_a_release_that_never_served_has_to_be_named(site):
    serve(site, "a", "b")
    rollback.forget(site, ["a"])
    with pytest.raises(
        Refusal, match="before b; on the host are a beside it: name one with -e groundwork_release=<id>"
    ):
        go_back(site)
    assert go_back(site, "a") == "a"


def test_a_release_that_came_into_service_again_is_gone_back_from_to_all_before_it(site):
    serve(site, "a", "b", "c", "b")
    assert [go_back(site), go_back(site)] == ["c", "a"]


def test_going_back_to_a_named_one_passes_over_those_between_from_then_on(site):
    serve(site, "a", "b", "c", "d")
    go_back(site, "b")
    serve(site, "e")
    assert [go_back(site), go_back(site)] == ["b", "a"]


def test_a_release_that_was_lost_and_built_again_knows_what_came_before_it(site):
    serve(site, "a", "b", "c")
    shutil.rmtree(site.release("c"))
    serve(site, "c")
    assert go_back(site) == "b"


def test_a_switch_that_was_killed_half_way_forgets_nothing(site):
    serve(site, "a", "b")
    rollback.remember(site, "c", back=False)
    assert rollback.target(site, "") == "a"
    serve(site, "c")
    assert go_back(site) == "b"


def test_a_site_whose_history_is_lost_begins_a_new_one_with_what_serves(site):
    serve(site, "a", "b")
    Path(site.directory, rollback.FILE).unlink()
    serve(site, "c")
    assert go_back(site) == "b"


def test_it_goes_back_to_the_one_that_is_named(site):
    serve(site, "a", "b", "c")
    assert go_back(site, "a") == "a"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("c", "which is the live release of forge already"),
        ("z", "which is not on the host: choose one of a.$"),
        ("b", "marked bad since 2026-02-01, when ada@laptop went back from it: choose one of a.$"),
    ],
)
def test_a_release_it_cannot_go_back_to_is_refused_by_name(site, wanted, sentence):
    serve(site, "a", "b", "c")
    site.note("b", bad={"since": "2026-02-01", "operator": "ada@laptop"})
    with pytest.raises(Refusal, match=sentence):
        rollback.target(site, wanted)


def test_a_bad_release_is_passed_over(site):
    serve(site, "a", "b", "c")
    site.note("b", bad={"since": "2026-02-01", "operator": "ada@laptop"})
    assert rollback.target(site, "") == "a"


def test_a_release_that_was_pruned_is_passed_over(site):
    serve(site, "a", "b", "c")
    Path(site.release("b", "env")).unlink()
    assert rollback.target(site, "") == "a"


def said(pending: dict, applied: tuple = (), known: tuple = (), squashed: tuple = ()) -> dict:
    return {"pending": pending, "applied": list(applied), "known": list(known), "squashed": list(squashed)}


def test_only_a_migration_that_older_code_cannot_live_with_is_an_obstacle(site):
    serve(site, "a", "b")
    keeps = {"creates": [], "misfits": []}
    drops = {"creates": [], "misfits": [["forge.template", "removes template.body"]]}
    migrations.keep(site, "b", said({"forge.0002_note": keeps, "forge.0003_drop": drops}))
    old = said({}, applied=("forge.0001", "forge.0002_note"), known=("forge.0001",))
    assert migrations.obstacles(site, "a", old) == []
    old["applied"].append("forge.0003_drop")
    assert migrations.obstacles(site, "a", old) == ["forge.0003_drop (removes template.body)"]


def test_what_happens_to_a_model_that_older_code_does_not_know_is_no_obstacle(site):
    serve(site, "a", "b")
    creates = {"creates": ["forge.note"], "misfits": []}
    alters = {"creates": [], "misfits": [["forge.note", "removes note.text"]]}
    migrations.keep(site, "b", said({"forge.0002": creates}))
    migrations.keep(site, "b", said({"forge.0003": alters}))
    assert migrations.obstacles(site, "a", said({}, applied=("forge.0002", "forge.0003"))) == []
    assert migrations.obstacles(site, "a", said({}, applied=("forge.0002", "forge.0003"), known=("forge.0002",))) != []


def test_a_migration_that_nobody_has_looked_at_is_an_obstacle(site):
    serve(site, "a")
    assert migrations.obstacles(site, "a", said({}, applied=("forge.0009",))) == [
        "forge.0009 (nothing is known of what it does)"
    ]


def test_a_migration_that_was_there_before_the_release_is_no_obstacle(site):
    serve(site, "a", "b")
    migrations.keep(site, "a", said({}, applied=("gone.0001",)))
    migrations.keep(site, "b", said({}, applied=("gone.0001", "forge.0009")))
    old = said({}, applied=("gone.0001", "forge.0009"))
    assert migrations.obstacles(site, "a", old) == ["forge.0009 (nothing is known of what it does)"]


def test_a_correction_that_lives_with_a_dropped_column_can_be_gone_back_to(site):
    serve(site, "a", "b", "c")
    drops = {"creates": [], "misfits": [["forge.a", "removes a.b"]]}
    applied = said({}, applied=("forge.0002",))
    migrations.keep(site, "a", said({}))
    migrations.keep(site, "b", said({"forge.0002": drops}, known=("forge.0002",)))
    for name in ("c", "a"):
        migrations.keep(site, name, applied)
    assert migrations.obstacles(site, "c", applied) == []
    # Releasing the old code once more does not prove that it works: it may have failed at the probe.
    assert migrations.obstacles(site, "a", applied) == ["forge.0002 (removes a.b)"]


def test_a_squashed_migration_whose_parts_are_applied_is_no_obstacle(site):
    serve(site, "a", "b")
    migrations.keep(site, "b", said({}, squashed=("forge.0001_squashed",)))
    assert migrations.obstacles(site, "a", said({}, applied=("forge.0001_squashed",))) == []


def test_of_a_migration_that_was_mended_before_it_ran_the_newest_word_counts(site):
    serve(site, "a", "b")
    drops = {"creates": [], "misfits": [["forge.a", "removes a.b"]]}
    keeps = {"creates": [], "misfits": []}
    applied = said({}, applied=("forge.0002",))
    for does, words in ((drops, ["forge.0002 (removes a.b)"]), (keeps, []), (drops, ["forge.0002 (removes a.b)"])):
        migrations.keep(site, "b", said({"forge.0002": does}))
        assert migrations.obstacles(site, "a", applied) == words


def test_another_host_learns_all_that_the_one_that_migrates_knows(site, tmp_path):
    serve(site, "a", "b")
    other = Site({"name": "forge", "user": "root", "directory": str(tmp_path / "other"), **PATHS})
    Path(other.release("c")).mkdir(parents=True)
    migrations.keep(site, "b", said({"forge.0002": {"creates": [], "misfits": []}}))
    found = migrations.keep(site, "c", said({}, applied=("gone.0001",)))
    migrations.learn(other, "c", found)
    assert migrations.obstacles(other, "c", said({}, applied=("forge.0002", "gone.0001"))) == []


def test_what_a_migration_does_is_kept_when_it_has_been_applied(site):
    serve(site, "a")
    migrations.keep(site, "a", said({"forge.0002": {"creates": [], "misfits": [["forge.a", "removes a.b"]]}}))
    migrations.keep(site, "a", said({}))
    assert migrations.obstacles(site, "a", said({}, applied=("forge.0002",))) == ["forge.0002 (removes a.b)"]


def test_the_answer_is_found_among_other_output():
    assert migrations.answer('a warning\ngroundwork-migrations:{"known": []}\nthe end\n') == {"known": []}
    with pytest.raises(Refusal, match="did not say which migrations"):
        migrations.answer("nothing")
