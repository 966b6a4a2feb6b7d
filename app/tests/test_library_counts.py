"""The lists' counts come from a cache, and follow each change of a template."""

from io import StringIO

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import transaction

from forge import library
from forge.models import Template


def make(number: int, role: str = "Cook", phase: str = "plan", **more) -> Template:
    return Template.objects.create(
        title=f"T {number}", slug=f"t-{number}", agent_role=role, workflow_phase=phase, body="x", **more
    )


@pytest.fixture
def shelf(db):
    Template.objects.all().delete()
    return [make(1), make(2, phase="build"), make(3, role="Baker"), make(4, role="Baker", active=False)]


def test_counts_of_phases_and_roles(shelf):
    counts = library.counts(for_staff=False)
    assert counts.total() == 3
    assert counts.total(phase="plan") == 2
    assert counts.total(phase="plan", role="Cook") == 1
    assert counts.roles == ["Baker", "Cook"]
    assert counts.phases("Cook")[:3] == [("discover", "Discover", 0), ("plan", "Plan", 1), ("build", "Build", 1)]
    assert library.counts(for_staff=True).total() == 4


def test_of_very_many_roles_the_usual_ones_are_offered(shelf, monkeypatch):
    monkeypatch.setattr(library, "ROLES_MAX", 1)
    make(5, role="Baker")
    assert library.counts(for_staff=False).roles == ["Baker"]


def test_second_look_asks_the_database_nothing(shelf, django_assert_num_queries):
    library.counts(for_staff=False)
    with django_assert_num_queries(0):
        library.counts(for_staff=False)


@pytest.mark.parametrize(
    ("change", "total"),
    [
        (lambda shelf: make(9), 4),
        (lambda shelf: shelf[0].delete(), 2),
        (lambda shelf: Template.objects.all().delete(), 0),
    ],
)
def test_change_is_seen_at_once(shelf, django_capture_on_commit_callbacks, change, total):
    assert library.counts(for_staff=False).total() == 3
    with django_capture_on_commit_callbacks(execute=True):
        change(shelf)
    assert library.counts(for_staff=False).total() == total


def test_who_counted_before_the_change_does_not_bring_the_old_counts_back(
    shelf, monkeypatch, django_capture_on_commit_callbacks
):
    """A reader counts, a writer commits, and only then the reader stores what it counted."""
    real = library._count

    def count_slowly(for_staff):
        rows = real(for_staff)
        monkeypatch.setattr(library, "_count", real)
        with django_capture_on_commit_callbacks(execute=True):
            make(9)
        return rows

    monkeypatch.setattr(library, "_count", count_slowly)
    assert library.counts(for_staff=False).total() == 3
    assert library.counts(for_staff=False).total() == 4


@pytest.mark.django_db(transaction=True)
def test_change_that_is_taken_back_forgets_nothing():
    library.counts(for_staff=False)
    before = cache.get(library.GENERATION_KEY)
    with pytest.raises(RuntimeError), transaction.atomic():
        make(1)
        raise RuntimeError
    assert cache.get(library.GENERATION_KEY) == before
    make(2)
    assert cache.get(library.GENERATION_KEY) != before


def test_sync_renews_the_counts(shelf, django_capture_on_commit_callbacks):
    library.counts(for_staff=False)
    with django_capture_on_commit_callbacks(execute=True):
        call_command("sync_templates", stdout=StringIO())
    assert library.counts(for_staff=False).total() == 15


def test_warm_cache_spares_the_visitor_the_counting(shelf, client, django_assert_num_queries):
    out, err = StringIO(), StringIO()
    call_command("warm_cache", stdout=out, stderr=err)
    assert out.getvalue() == "Counted 4 templates in 2 roles.\n"
    assert "private to each process" in err.getvalue()
    # The ids of the page, and its templates.
    with django_assert_num_queries(2):
        page = client.get("/")
    assert 'Plan <span class="count">2</span>' in page.text


def test_warm_cache_has_no_complaint_about_a_shared_cache(shelf, settings, tmp_path):
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    err = StringIO()
    call_command("warm_cache", stdout=StringIO(), stderr=err)
    assert err.getvalue() == ""
    assert any(tmp_path.iterdir())


def test_list_is_right_when_the_cache_counts_too_many(shelf, client):
    """Processes without a common cache may be a minute behind."""
    client.get("/")
    Template.objects.filter(slug="t-1").delete()
    page = client.get("/")
    assert page.status_code == 200
    assert [template.slug for template in page.context["page_obj"]] == ["t-2", "t-3"]
