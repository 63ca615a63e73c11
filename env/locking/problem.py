"""The one error of this package."""


class LockError(Exception):
    """Something a person can set right; its text starts with an id."""
