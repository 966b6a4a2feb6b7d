from django.contrib.sessions.backends import cached_db

from . import ReadOnlySessions


class SessionStore(ReadOnlySessions, cached_db.SessionStore):
    pass
