import pytest
from django.contrib.sessions.models import Session
from django.test import Client


@pytest.fixture
def ann(django_user_model, db):
    return django_user_model.objects.create_user("ann", password="right")


def sign_in() -> Client:
    client = Client()
    assert client.post("/login/", {"username": "ann", "password": "right"}).status_code == 302
    return client


def signed_in(client: Client) -> bool:
    return "Sign out" in client.get("/").text


def test_nobody_is_signed_out_when_redis_dies(ann, with_redis):
    client = sign_in()
    with_redis.die()
    assert signed_in(client)
    assert signed_in(sign_in())


def test_nobody_is_signed_out_when_redis_has_lost_everything(ann, with_redis):
    from django.core.cache import cache

    client = sign_in()
    cache.clear()
    assert signed_in(client)


def test_who_signs_out_during_an_outage_stays_signed_out(ann, with_redis):
    client = sign_in()
    copy = Client()
    copy.cookies = client.cookies.copy()
    with_redis.die()
    client.post("/logout/")
    with_redis.live()
    assert not signed_in(copy)


def test_session_comes_from_redis_without_a_query(ann, with_redis, django_assert_num_queries):
    client = sign_in()
    client.get("/templates/missing/")
    # The user and the template that is not there; the session is the query less.
    with django_assert_num_queries(2):
        client.get("/templates/missing/")


def test_sessions_are_in_the_database_without_redis(ann):
    sign_in()
    assert Session.objects.count() == 1
