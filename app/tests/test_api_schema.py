"""Whatever the schema allows, and some that it does not, the API answers without an error of its own."""

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.wsgi import application
from forge.api.throttles import VisitorThrottle
from forge.models import Template

EXAMPLES = 150
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def schema(client, staff, template, monkeypatch):
    monkeypatch.setattr(VisitorThrottle, "THROTTLE_RATES", {"anon": None})
    for number in range(30):
        Template.objects.create(title="Same", slug=f"s-{number}", agent_role="x", workflow_phase="plan", body="{{ x }}")
    client.force_login(staff)
    loaded = schemathesis.openapi.from_dict(client.get("/api/schema/").json())
    loaded.app = application
    # As Django's own test client does: the end of a request would close the connection that holds the test's data.
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield loaded
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


@pytest.mark.parametrize(
    ("path", "statuses"), [("/api/templates/", {200, 400}), ("/api/templates/{slug}/", {200, 404})]
)
def test_no_request_is_too_much(schema, path, statuses):
    operation = schema[path]["GET"]
    seen = set()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(case=st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode), known=st.booleans())
    def ask(case, known):
        if known and "slug" in case.path_parameters:
            case.path_parameters["slug"] = "name-a-thing"
        response = case.call(headers={"Host": "testserver"})
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    assert seen == statuses
