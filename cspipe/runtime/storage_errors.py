"""What S3's refusals mean for the person who has to put them right. No credential ever enters a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error, RetriesExceededError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from cspipe.runtime.ends import End
from cspipe.runtime.errors import UserError

NO_OBJECT = ("404", "NoSuchKey", "NotFound")
BAD_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidClientTokenId")
BUSY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException")
CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class StorageError(UserError):
    """S3 did not do what it was asked; the message names the place and what to do."""


class Unreachable(StorageError):
    """S3 does not answer, or is too busy to; it may answer later."""

    end = End.S3_AWAY


class Missing(StorageError):
    """There is no such object."""


class Damaged(StorageError):
    """An object's content is not what was stored."""


class Lost(StorageError):
    """A conditional write found that someone else had written first."""


@contextmanager
def explained(action: str, place: str, bucket: str, endpoint: str) -> Iterator[None]:
    """Turn boto3's errors in the body into StorageErrors of one line.

    action: "read", "write", ...; place: the object's s3:// address; endpoint: the server's address.
    """
    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError, HTTPError, OSError) as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise _explain(cause, action, place, bucket, _without_password(endpoint)) from None


def code_of(error: ClientError) -> str:
    """S3's name of what went wrong, such as NoSuchBucket."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """The HTTP status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _cause(error: Exception) -> Exception | None:
    """The error of the request itself, which transfers wrap; None for one of this machine's disk."""
    if isinstance(error, RetriesExceededError):
        return error.last_exception if isinstance(error.last_exception, Exception) else error
    if isinstance(error, Boto3Error) and isinstance(error.__context__, Exception):
        return _cause(error.__context__)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return None
    return error


def _explain(error: Exception, action: str, place: str, bucket: str, endpoint: str) -> StorageError:
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return StorageError(f"S3 at {endpoint}: no credentials to {action} {place}; set {CREDENTIALS}")
    if isinstance(error, ClientError):
        return _refusal(error, action, place, bucket, endpoint)
    if isinstance(error, BotoConnectionError | HTTPClientError | HTTPError | IncompleteReadError | OSError):
        why = type(error).__name__
        return Unreachable(
            f"S3 at {endpoint} is unreachable ({why}, to {action} {place}); start it, or correct AWS_ENDPOINT_URL"
        )
    return StorageError(f"S3 at {endpoint}: cannot {action} {place} ({error})")


def _refusal(error: ClientError, action: str, place: str, bucket: str, endpoint: str) -> StorageError:
    code, status = code_of(error), status_of(error)
    if code == "NoSuchBucket":
        return StorageError(f"S3 at {endpoint}: there is no bucket {bucket!r}; create it, or correct CSPIPE_S3")
    if code in NO_OBJECT or status == 404:
        return Missing(f"S3 at {endpoint}: there is no object {place}")
    if code in BAD_KEYS:
        return StorageError(f"S3 at {endpoint}: wrong credentials ({code}); correct {CREDENTIALS}")
    if code == "RequestTimeTooSkewed":
        return StorageError(f"S3 at {endpoint}: this machine's clock is wrong by minutes; set it")
    if code in BUSY or status >= 500:
        return Unreachable(f"S3 at {endpoint} does not serve ({code}, to {action} {place}); try again later")
    if code == "AccessDenied" or status == 403:
        return StorageError(f"S3 at {endpoint}: no permission to {action} {place}; allow it to the owner of these keys")
    message = error.response.get("Error", {}).get("Message", "")
    return StorageError(f"S3 at {endpoint}: cannot {action} {place} ({code}: {message})")


def _without_password(endpoint: str) -> str:
    """The address without the user and password that someone may have put into it."""
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
