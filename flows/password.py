"""Whether Prefect's server refused the password that it was sent."""

from __future__ import annotations

import httpx

FIX = "set PREFECT_API_AUTH_STRING to user:password"


def refused(error: Exception) -> bool:
    """Whether an error of a request is the answer that the password is wrong or missing."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403)
