"""Every page stays cheap with 10,000 templates. measure_pages.py prints the milliseconds for the same pages."""

from contextlib import redirect_stdout
from io import StringIO
from unittest.mock import patch

import pytest
from django.contrib.auth import get_user_model
from django.test import TestCase

import measure_pages
from forge.models import Template
from measure_pages import STAFF_PAGES, VISITOR_PAGES, fill_library

pytestmark = pytest.mark.django_db


class TenThousandTests(TestCase):
    """The library is filled once for all of them."""

    @classmethod
    def setUpTestData(cls) -> None:
        fill_library()

    def test_each_page_asks_the_database_a_fixed_number_of_times(self) -> None:
        self.assertGreater(Template.objects.count(), 10_000)
        staff = get_user_model().objects.create_superuser("ann")
        for template in Template.objects.filter(active=True)[:30]:
            template.favourites.create(user=staff)
        for pages in (VISITOR_PAGES, STAFF_PAGES):
            if pages is STAFF_PAGES:
                self.client.force_login(staff)
            for path, count in pages.items():
                # The first visit counts the templates for the cache.
                self.assertEqual(self.client.get(path).status_code, 200, path)
                with self.subTest(path), self.assertNumQueries(count):
                    self.client.get(path)

    def test_measurement_tells_the_cost_of_each_page(self) -> None:
        with patch.object(measure_pages, "ROUNDS", 2), redirect_stdout(StringIO()) as table:
            self.assertGreater(measure_pages.measure(), 0)
        for path in (*VISITOR_PAGES, *STAFF_PAGES):
            self.assertIn(path, table.getvalue())

    def test_last_page_is_reached_and_the_one_after_is_not_there(self) -> None:
        last = self.client.get("/").context["paginator"].num_pages
        self.assertGreater(len(self.client.get(f"/?page={last}").context["page_obj"]), 0)
        self.assertEqual(self.client.get(f"/?page={last + 1}").status_code, 404)
