"""Templates that are written elsewhere: Markdown files in a directory or on a git forge."""


class SyncError(Exception):
    """Why a sync cannot go on: one sentence, without a secret in it. Nothing has been changed."""
