"""Every page stays cheap with 10,000 templates. measure_pages.py prints the milliseconds for the same pages."""

import pytest

import measure_pages
from forge.models import Template
from measure_pages import STAFF_PAGES, VISITOR_PAGES, fill_library


@pytest.mark.django_db
def test_each_page_asks_the_database_a_fixed_number_of_times(client, staff, django_assert_num_queries):
    fill_library()
    assert Template.objects.count() > 10_000
    for template in Template.objects.filter(active=True)[:30]:
        template.favourites.create(user=staff)
    for pages in (VISITOR_PAGES, STAFF_PAGES):
        if pages is STAFF_PAGES:
            client.force_login(staff)
        for path, count in pages.items():
            # The first visit counts the templates for the cache.
            assert client.get(path).status_code == 200, path
            with django_assert_num_queries(count, info=path):
                client.get(path)


@pytest.mark.django_db
def test_measurement_tells_the_cost_of_each_page(monkeypatch, capsys):
    monkeypatch.setattr(measure_pages, "ROUNDS", 2)
    fill_library()
    assert measure_pages.measure() > 0
    table = capsys.readouterr().out
    assert all(path in table for path in (*VISITOR_PAGES, *STAFF_PAGES))


@pytest.mark.django_db
def test_last_page_is_reached_and_the_one_after_is_not_there(client):
    fill_library(5001)
    last = client.get("/").context["paginator"].num_pages
    assert len(client.get(f"/?page={last}").context["page_obj"]) > 0
    assert client.get(f"/?page={last + 1}").status_code == 404
