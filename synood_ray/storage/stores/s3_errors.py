"""What an S3 error means: worth a retry, the user's to fix (and how), or neither."""

from __future__ import annotations

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

_TRANSIENT_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {
    "BadDigest",  # the data were damaged on their way
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentChecksumMismatch",
}

_REJECTED = "the credentials are not accepted; check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_EXPIRED = "the credentials have expired; renew them and run the same command again"
_DENIED = "access denied; the credentials need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there"
_REGION = "the bucket is in another region; set AWS_REGION to it"
_SKEW = "this machine's clock differs too much from the server's; set the clock"
_CONDITIONAL = "this server has no create-only writes (If-None-Match: *), which a safe run needs; use another store"

_COMPLAINTS = {
    "NoSuchBucket": "the bucket does not exist; create it or choose another",
    "InvalidBucketName": "not a valid bucket name",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "Forbidden": _DENIED,
    "InvalidAccessKeyId": _REJECTED,
    "SignatureDoesNotMatch": _REJECTED,
    "InvalidToken": _REJECTED,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": _SKEW,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "NotImplemented": _CONDITIONAL,
    "QuotaExceeded": "the store is over its quota; free some space and run the same command again",
    "EntityTooLarge": "the object is larger than this server takes in one request",
}


def code_of(error: ClientError) -> str:
    """The error code; for answers without a body (HEAD) the HTTP status as text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_transient(error: ClientError) -> bool:
    """Whether the same request may succeed later."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _TRANSIENT_STATUS or code_of(error) in _TRANSIENT_CODES


def complaint(error: Exception) -> str | None:
    """One line on what the user should fix, or None if the error is not theirs."""
    if isinstance(error, ClientError):
        return _COMPLAINTS.get(code_of(error))
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no complete credentials found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, SSOError | TokenRetrievalError | CredentialRetrievalError):
        return f"the credentials could not be loaded ({error}); log in again"
    if isinstance(error, ProfileNotFound | InvalidRegionError | NoRegionError | ParamValidationError):
        return " ".join(str(error).split())
    return None
