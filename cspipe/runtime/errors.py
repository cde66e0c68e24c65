"""Errors that a person is meant to read."""

from __future__ import annotations

from typing import ClassVar

from cspipe.runtime.ends import End
from cspipe.runtime.wording import printable


class UserError(Exception):
    """Something the user can put right. The message says what is wrong, where, and what to do."""

    end: ClassVar[End] = End.FAILED
    """How a stage ends that raises it."""

    def __str__(self) -> str:
        """The message, whose lines are printable whatever names it tells."""
        return "\n".join(map(printable, super().__str__().split("\n")))


class NotFinite(UserError):
    """A loss, gradient or weight stopped being finite."""

    end = End.NOT_FINITE
