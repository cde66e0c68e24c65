"""Errors whose messages are written for the user."""

from __future__ import annotations

from typing import ClassVar

from cspipe.runtime.ends import End
from cspipe.runtime.wording import printable


class UserError(Exception):
    """A problem that the user can fix. The message says what is wrong, where, and what to do."""

    end: ClassVar[End] = End.FAILED
    """Exit status of a stage that raises this error."""

    def __str__(self) -> str:
        """Return the message; unprintable characters, which names in it may contain, are escaped in each line."""
        return "\n".join(map(printable, super().__str__().split("\n")))


class NotFinite(UserError):
    """A loss, gradient or weight stopped being finite."""

    end = End.NOT_FINITE
