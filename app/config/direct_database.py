"""The way past a pool of connections, for what needs a session of its own."""

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper


def go_direct(connection: BaseDatabaseWrapper) -> None:
    """Lead a connection to the database itself, where the settings know another way than through a pool.

    The name of its database stays, which may be that of one beside the site's.
    """
    if settings.DIRECT_DATABASE and connection.alias == DEFAULT_DB_ALIAS:
        connection.close()
        connection.settings_dict.update({**settings.DIRECT_DATABASE, "NAME": connection.settings_dict["NAME"]})
