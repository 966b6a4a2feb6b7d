from django.contrib.sessions.backends import db

from . import ReadOnlySessions


class SessionStore(ReadOnlySessions, db.SessionStore):
    pass
