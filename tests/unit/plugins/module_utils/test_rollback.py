"""Going back: to which release, and past which migrations."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import migrations, rollback
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal
from ansible_collections.groundwork.django.plugins.module_utils.slots import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("releases", "slots"):
        (tmp_path / name).mkdir()
    paths = dict.fromkeys(("run_directory", "static_directory", "log_directory"), str(tmp_path))
    return Site({"name": "forge", "user": "root", "directory": str(tmp_path), **paths})


def serve(site: Site, *names: str) -> None:
    """Have releases serve one after another, as switches leave it."""
    for number, name in enumerate(names):
        for path in ("source", "venv/bin"):
            Path(site.release(name, path)).mkdir(parents=True, exist_ok=True)
        for path in ("env", "venv/bin/python"):
            Path(site.release(name, path)).touch()
        previous = site.linked(site.live) if site.live else ""
        site.note(name, complete=True, completed=f"2026-01-0{number + 1}", previous=previous)
        slot = Site.other(site.live) if site.live else "blue"
        site.put_into(slot, name)
        site.make_live(slot)


def go_back(site: Site, wanted: str = "") -> str:
    """Go back as the switch does it."""
    left, name = site.live_release, rollback.target(site, wanted)
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
    with pytest.raises(Refusal, match=r"forge has no good release before a; on the host are c \(bad\), b \(bad\), a"):
        go_back(site)


def test_it_goes_back_to_the_one_that_is_named(site):
    serve(site, "a", "b", "c")
    assert go_back(site, "a") == "a"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("c", "which is the live release of forge already"),
        ("z", "which is not on the host: choose one of c, b"),
        ("b", r"marked bad since 2026-02-01, when ada@laptop went back from it: choose another one of c, b \(bad\)"),
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


def said(pending: dict, applied: tuple = (), known: tuple = ()) -> dict:
    return {"heads": [], "pending": pending, "applied": list(applied), "known": list(known)}


def test_only_a_migration_that_older_code_cannot_live_with_is_an_obstacle(site):
    serve(site, "a", "b")
    keeps = {"creates": [], "misfits": []}
    drops = {"creates": [], "misfits": [["forge.template", "removes template.body"]]}
    migrations.keep(site, "b", said({"forge.0002_note": keeps, "forge.0003_drop": drops}))
    old = said({}, applied=("forge.0001", "forge.0002_note"), known=("forge.0001",))
    assert migrations.obstacles(site, old) == []
    old["applied"].append("forge.0003_drop")
    assert migrations.obstacles(site, old) == ["forge.0003_drop (removes template.body)"]


def test_what_happens_to_a_model_that_older_code_does_not_know_is_no_obstacle(site):
    serve(site, "a", "b")
    creates = {"creates": ["forge.note"], "misfits": []}
    alters = {"creates": [], "misfits": [["forge.note", "removes note.text"]]}
    migrations.keep(site, "b", said({"forge.0002": creates}))
    migrations.keep(site, "b", said({"forge.0003": alters}))
    assert migrations.obstacles(site, said({}, applied=("forge.0002", "forge.0003"))) == []
    assert migrations.obstacles(site, said({}, applied=("forge.0002", "forge.0003"), known=("forge.0002",))) != []


def test_a_migration_that_nobody_has_looked_at_is_an_obstacle(site):
    serve(site, "a")
    assert migrations.obstacles(site, said({}, applied=("forge.0009",))) == [
        "forge.0009 (nothing is known of what it does)"
    ]


def test_what_a_migration_does_is_kept_when_it_has_been_applied(site):
    serve(site, "a")
    migrations.keep(site, "a", said({"forge.0002": {"creates": [], "misfits": [["forge.a", "removes a.b"]]}}))
    migrations.keep(site, "a", said({}))
    assert migrations.obstacles(site, said({}, applied=("forge.0002",))) == ["forge.0002 (removes a.b)"]


def test_the_answer_is_found_among_other_output():
    assert migrations.answer('a warning\ngroundwork-migrations:{"heads": []}\nthe end\n') == {"heads": []}
    with pytest.raises(Refusal, match="did not say which migrations"):
        migrations.answer("nothing")
