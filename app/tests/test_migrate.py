import pytest
from django.core.management import call_command
from django.db import connection


@pytest.mark.django_db
def test_migrate_lifts_the_statement_timeout_and_limits_the_wait_for_locks():
    call_command("migrate", verbosity=0)
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has these limits")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
        assert cursor.fetchone() == ("0", "10s")
