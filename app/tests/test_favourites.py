"""Who is signed in keeps templates at hand."""

import pytest
from django.test import Client

from forge.models import Favourite, Template


@pytest.fixture
def user(django_user_model):
    return django_user_model.objects.create_user("bob")


@pytest.fixture
def url(template):
    return template.get_absolute_url() + "favourite/"


def test_keep_and_let_go(client, user, template, url):
    client.force_login(user)
    assert "You keep no template yet" in client.get("/favourites/").text
    assert '<button class="quiet" name="keep" value="true">☆ Keep' in client.get(template.get_absolute_url()).text
    assert client.post(url, {"keep": "true"})["Location"] == template.get_absolute_url()
    assert '<button class="quiet" name="keep" value="false">★ Let go' in client.get(template.get_absolute_url()).text
    assert template.title in client.get("/favourites/").text
    client.post(url, {"keep": "false"})
    assert template.title not in client.get("/favourites/").text


def test_sending_twice_does_no_harm(client, user, url):
    client.force_login(user)
    for keep, count in (("true", 1), ("true", 1), ("false", 0), ("false", 0)):
        client.post(url, {"keep": keep})
        assert Favourite.objects.count() == count


def test_each_sees_their_own(client, user, staff, template, url):
    client.force_login(user)
    client.post(url, {"keep": "true"})
    assert str(Favourite.objects.get()) == "bob: Name a thing"
    client.force_login(staff)
    assert template.title not in client.get("/favourites/").text


def test_visitor_is_led_to_the_sign_in_and_back(client, template, url):
    response = client.post(url, {"keep": "true"})
    assert response["Location"] == f"/login/?next={template.get_absolute_url()}"
    assert client.get("/favourites/")["Location"] == "/login/?next=/favourites/"
    assert (
        f'/login/?next={template.get_absolute_url()}">Sign in to keep it'
        in client.get(template.get_absolute_url()).text
    )


def test_token_and_post_are_needed(user, url):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    assert strict.post(url, {"keep": "true"}).status_code == 403
    assert strict.get(url).status_code == 405
    assert not Favourite.objects.exists()


def test_template_that_became_inactive_is_hidden_but_kept(client, user, template, url):
    client.force_login(user)
    client.post(url, {"keep": "true"})
    Template.objects.filter(pk=template.pk).update(active=False)
    assert template.title not in client.get("/favourites/").text
    assert client.post(url, {"keep": "true"}).status_code == 404
    assert Favourite.objects.count() == 1


def test_long_list_has_pages(client, user):
    client.force_login(user)
    for number in range(30):
        Template.objects.create(
            title=f"T {number}", slug=f"t-{number}", agent_role="x", workflow_phase="plan", body="x"
        ).favourites.create(user=user)
    page = client.get("/favourites/?page=2")
    assert len(page.context["page_obj"]) == 6
    assert "Page 2 of 2" in page.text
