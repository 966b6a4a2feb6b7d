"""A guard is armed by the first task that is about to change something, and puts back what a failure leaves."""

import pytest
from ansible_collections.groundwork.django.plugins.module_utils import batch, confirm
from ansible_collections.groundwork.django.plugins.module_utils.files import Refusal


class Guard:
    """A guard that notes in `done` what is asked of it."""

    def __init__(self, options):
        self.done, self.armed = options["done"], options.get("armed", False)
        self.options = options

    def arm(self):
        self.done.append("arm")
        self.armed = True
        if self.options.get("broken"):
            raise Refusal("no timer")

    def put_back(self):
        self.done.append("put back")

    def end(self):
        return {"port": 22} if self.armed else {}


@pytest.fixture
def run(monkeypatch):
    """A function that runs a batch of tasks that do what their names say; it returns what became of it."""

    def run(*kinds, **options):
        done = []

        def perform(_batch, task, rehearsed=False):
            kind = task["name"]
            done.append(f"rehearse {kind}" if rehearsed else kind)
            if kind == "failed" or (kind == "fails late" and not rehearsed):
                return None, {"name": kind, "changed": False, "failed": True, "msg": "no"}
            return None, {"name": kind, "changed": kind != "same"}

        monkeypatch.setattr(batch, "perform", perform)
        monkeypatch.setattr(confirm, "Guard", Guard)
        results, pending = batch.carry_out_guarded(None, [{"name": kind} for kind in kinds], {"done": done, **options})
        return results, pending, done

    return run


def test_nothing_is_armed_where_nothing_changes(run):
    results, pending, done = run("same", "same")
    assert done == ["rehearse same", "same"] * 2
    assert (len(results), pending) == (2, {})


def test_it_is_armed_before_the_first_change_and_nothing_is_rehearsed_after(run):
    results, pending, done = run("same", "changed", "same")
    assert done == ["rehearse same", "same", "rehearse changed", "arm", "changed", "same"]
    assert ([result["changed"] for result in results], pending) == ([False, True, False], {"port": 22})


def test_what_will_fail_is_told_before_anything_is_touched(run):
    results, _, done = run("failed", "changed")
    assert done == ["rehearse failed"]
    assert results[-1]["msg"] == "no"


def test_a_failure_after_a_change_is_put_back(run):
    results, pending, done = run("changed", "fails late")
    assert done[-1] == "put back"
    assert "has been put back" in results[-1]["msg"]
    assert pending == {}


def test_the_change_of_a_run_that_was_lost_is_confirmed_by_one_that_changes_nothing(run):
    assert run("same", armed=True)[1:] == ({"port": 22}, ["same"])


def test_a_guard_that_cannot_be_armed_ends_it(run):
    results, pending, done = run("same", "changed", broken=True)
    assert "changed" not in done
    assert (results[-1]["msg"], results[-1]["failed"], pending) == ("no timer", True, {})
