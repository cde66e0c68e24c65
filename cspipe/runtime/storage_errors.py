"""Translation of S3's errors into messages that say what to do. No credential ever enters a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from cspipe.runtime.ends import End
from cspipe.runtime.errors import UserError

BUSY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException")
NO_ANSWER = (BotoConnectionError, HTTPClientError, IncompleteReadError, ConnectionError, TimeoutError)
CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class StorageError(UserError):
    """An operation on S3 failed; the message names the server or object and what to do."""


class Unreachable(StorageError):
    """S3 does not answer, or is too busy; it may answer later."""

    end = End.S3_AWAY


class Missing(StorageError):
    """There is no such object."""


class Damaged(StorageError):
    """An object's content is not what was stored."""


class Lost(StorageError):
    """A conditional write found that someone else had written first."""


@contextmanager
def as_storage_errors(action: str, place: str, bucket: str, endpoint: str) -> Iterator[None]:
    """Turn boto3's errors in the body into StorageErrors of one line; errors of this machine's disk stay OSErrors.

    action: "read", "write", ...; place: the object's s3:// address; endpoint: the server's address.
    """
    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError, ConnectionError, TimeoutError) as error:
        cause = _cause(error)
        if isinstance(cause, OSError) and not isinstance(cause, NO_ANSWER):
            raise cause from None
        parts = urlsplit(endpoint)  # it may hold a user and a password
        server = f"S3 at {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()}"
        raise _explain(cause, server, f"{action} {place}", bucket) from None


def _cause(error: Exception) -> Exception:
    """Return the error of the request itself, which boto3's errors of a transfer wrap."""
    inner = getattr(error, "last_exception", None) or error.__context__
    return _cause(inner) if isinstance(error, Boto3Error) and isinstance(inner, Exception) else error


def _explain(error: Exception, server: str, what: str, bucket: str) -> StorageError:
    if isinstance(error, ClientError):
        return _refusal(error, server, what, bucket)
    if "Credentials" in type(error).__name__ or "CredentialRetrieval" in type(error).__name__:
        return StorageError(f"{server}: no credentials to {what}; set {CREDENTIALS}")
    if isinstance(error, NO_ANSWER):
        why = f"({type(error).__name__}, to {what})"
        return Unreachable(f"{server} is unreachable {why}; start it, or correct AWS_ENDPOINT_URL")
    if isinstance(error, FlexibleChecksumError):
        return Damaged(f"{server}: cannot {what}: altered since it was stored ({error})")
    return StorageError(f"{server}: cannot {what} ({error})")


def _refusal(error: ClientError, server: str, what: str, bucket: str) -> StorageError:
    answer = error.response.get("Error", {})
    code, status = answer.get("Code", ""), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return StorageError(f"{server}: there is no bucket {bucket!r}; create it, or correct CSPIPE_S3")
    if code == "NoSuchKey" or status == 404:
        return Missing(f"{server}: no object to {what}")
    if status in (409, 412):
        return Lost(f"{server}: cannot {what}: someone else has written it since")
    if code in BUSY or status == 429 or status >= 500:
        return Unreachable(f"{server} does not serve ({code}, to {what}); try again later")
    if code == "RequestTimeTooSkewed":
        return StorageError(f"{server}: this machine's clock is wrong by minutes; set it")
    if any(word in code for word in ("AccessKey", "Signature", "Token")):
        return StorageError(f"{server}: wrong credentials ({code}); correct {CREDENTIALS}")
    if status == 403:
        return StorageError(f"{server}: no permission to {what}; allow it to the owner of these keys")
    return StorageError(f"{server}: cannot {what} ({code}: {answer.get('Message', '')})")
