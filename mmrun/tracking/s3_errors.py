"""What errors of boto3 mean; it is not imported, since there are none where nobody has done so."""

import sys

_PASSING = frozenset({429, 500, 502, 503, 504})
_REFUSED = frozenset({400, 401, 403})


def is_away(error: BaseException) -> bool:
    """Tell a store that does not answer, or is overloaded, from one that says no."""
    known = sys.modules.get("botocore.exceptions")
    if known is None:
        return False
    away = (known.HTTPClientError, known.EndpointConnectionError, known.ConnectionError)
    return isinstance(error, away) or _status(error) in _PASSING


def is_refusal(error: BaseException) -> bool:
    """Tell whether the store did not accept who asked, or nobody said who asks."""
    known = sys.modules.get("botocore.exceptions")
    if known is None:
        return False
    return isinstance(error, known.NoCredentialsError) or _status(error) in _REFUSED


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)  # a dictionary here, an object in requests
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = metadata.get("HTTPStatusCode")
    return status if isinstance(status, int) else None
