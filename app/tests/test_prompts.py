"""A visitor fills in a template's variables and takes the prompt along; the site keeps nothing of it."""

import logging

import pytest
from django.test import Client

from forge.models import Template
from forge.prompts import Piece, fill, variables

SECRET = "my-own-business"


@pytest.fixture
def answer(client, template):
    def send(path: str = "", **values: str):
        data = {f"value-{name}": value for name, value in values.items()}
        return client.post(template.get_absolute_url() + path, data)

    return send


def test_values_replace_their_variables_and_others_stay():
    assert fill("a {{b}} {{ c }}", {"b": "1"}) == [
        Piece("a ", ""),
        Piece("1", "b"),
        Piece(" ", ""),
        Piece("{{ c }}", "c"),
    ]


@pytest.mark.parametrize("blank", ["", " ", "\n", "\f", "\u00a0"])
def test_blanks_around_a_name_are_no_part_of_it(blank):
    body = f"{{{{{blank}name{blank}}}}}"
    assert variables(body) == ["name"]
    assert fill(body, {"name": "x"}) == [Piece("x", "name")]


def test_value_is_not_looked_into():
    assert "".join(piece.text for piece in fill("{{ a }}{{ b }}", {"a": "{{ b }}", "b": "x"})) == "{{ b }}x"


def test_page_has_one_field_for_each_variable(client, template):
    page = client.get(template.get_absolute_url()).text
    assert page.count("<textarea") == 2
    assert '<label for="id_value-thing">Thing:</label>' in page
    assert 'name="value-people"' in page


def test_page_shows_the_filled_prompt_without_javascript(answer):
    response = answer(thing="a <b>boat</b>", people="sailors")
    assert response.status_code == 200
    assert '<mark data-variable="people">sailors</mark>' in response.text
    assert "a &lt;b&gt;boat" in response.text
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("extension", "kind"), [("md", "text/markdown"), ("txt", "text/plain")])
def test_download_is_the_prompt_to_the_letter(answer, extension, kind):
    response = answer(f"prompt.{extension}", thing="boat\r\nor ship", people="sailors")
    assert response.text == "Name boat\nor ship for sailors.\n<b>boat\nor ship</b>"
    assert response["Content-Type"] == f"{kind}; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="name-a-thing.{extension}"'
    assert response["Cache-Control"] == "no-store"


def test_download_by_address_alone_is_refused(client, template):
    assert client.get(template.get_absolute_url() + "prompt.md").status_code == 405


@pytest.mark.parametrize("path", ["", "prompt.md"])
def test_value_that_is_too_long_is_said(answer, path):
    response = answer(path, thing="x" * 100_001)
    assert "at most 100000" in response.text
    assert '<mark data-variable="thing">{{ thing }}</mark>' in response.text


def test_long_value_fits(answer):
    assert "x" * 100_000 in answer("prompt.txt", thing="x" * 100_000).text


def test_odd_names_do_no_harm(client, db):
    body = "{{ csrfmiddlewaretoken }} {{ __class__ }} {{ prefix }} {{ größe }} {{ _ }}"
    template = Template.objects.create(title="Odd", slug="odd", agent_role="x", workflow_phase="plan", body=body)
    names = template.variables
    response = client.post("/templates/odd/prompt.txt", {f"value-{name}": name.upper() for name in names})
    assert response.text == " ".join(name.upper() for name in names)


def test_template_without_variables_is_ready(client, db):
    Template.objects.create(title="Plain", slug="plain", agent_role="x", workflow_phase="plan", body="As it is.")
    page = client.get("/templates/plain/").text
    assert "Fill it in" not in page
    assert 'id="download"' in page
    assert client.post("/templates/plain/prompt.md").text == "As it is."


def test_form_needs_its_token(template):
    strict = Client(enforce_csrf_checks=True)
    response = strict.post(template.get_absolute_url(), {"value-thing": SECRET})
    assert response.status_code == 403
    assert "Not sent" in response.text
    assert SECRET not in response.text


def test_values_are_neither_stored_nor_logged(answer, caplog, django_assert_num_queries):
    caplog.set_level(logging.DEBUG)
    # Two readings, no writing.
    with django_assert_num_queries(2) as queries:
        answer(thing=SECRET, people=SECRET)
    assert not any(SECRET in query["sql"] for query in queries.captured_queries)
    assert SECRET not in caplog.text


def test_error_report_hides_the_values(rf, template, monkeypatch):
    from django.views.debug import SafeExceptionReporterFilter

    from forge.views import TemplateDetailView

    def fail(self, form):
        raise RuntimeError

    monkeypatch.setattr(TemplateDetailView, "filled", fail)
    request = rf.post("/", {"value-thing": SECRET})
    request.user = type("Visitor", (), {"is_staff": False, "pk": None})()
    with pytest.raises(RuntimeError):
        TemplateDetailView.as_view()(request, slug=template.slug)
    assert SECRET not in str(SafeExceptionReporterFilter().get_post_parameters(request))


def test_inactive_template_cannot_be_filled(answer, template):
    Template.objects.filter(pk=template.pk).update(active=False)
    assert answer("prompt.md").status_code == 404


def test_elements_that_other_tests_hold_on_to(client, template):
    page = client.get(template.get_absolute_url()).text
    for name in ("variables", "generate", "copy", "copied", "download", "download-txt", "prompt", "id_value-thing"):
        assert f'id="{name}"' in page
    # Without JavaScript there is nothing to press that would do nothing.
    assert '<button id="copy" class="quiet" type="button" hidden>' in page
    assert '<script src="/static/forge/prompt.js" defer>' in page
    assert 'id="search"' in client.get("/").text
