"""The one kind of error that a person is meant to read."""


class UserError(Exception):
    """Something the user can put right. The message says what is wrong, where, and what to do."""
