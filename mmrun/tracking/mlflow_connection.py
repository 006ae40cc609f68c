"""The client of an MLflow server or database: opened, asked with patience, its errors told."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

import requests
import urllib3
from filelock import FileLock
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_exponential

from mmrun import faults
from mmrun.config.masking import hidden, remember, without_secrets
from mmrun.errors import MmrunError, TrackingError
from mmrun.tracking.address import is_database, split_login, sqlite_file, with_sqlite_file
from mmrun.tracking.store import UnreachableError

Answer = TypeVar("Answer")

QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again; MLflow would for 4 minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""MLflow's own variables, set where the user did not."""
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a tracking server says of itself."""

    version: str | None
    """Of its MLflow; None where it does not tell."""
    clock_s: float | None
    """Its time when it answered."""


class Connection:
    """Asks one tracking server or database."""

    def __init__(self, uri: str, *, patience_s: float) -> None:
        """Open it; a new SQLite database is made first."""
        remember({"uri": uri})
        self.uri, user, password = split_login(uri)
        _prepare_mlflow(user=user, password=password)
        self.shown = without_secrets(self.uri)
        """The URI as people may see it."""
        self._patience_s = patience_s
        self.client = self._opened()

    def ask(self, call: Callable[[], Answer], *, patience_s: float | None = None) -> Answer:
        """Return the answer of ``call``, asking again while the server may come back."""
        patience_s = self._patience_s if patience_s is None else patience_s
        handled = sys.exception()  # what is handled around this call has nothing to do with it

        def once() -> Answer:
            try:
                return call()
            except MmrunError:
                raise
            except Exception as error:  # each store and proxy has errors of its own
                raise self._translated(error, tuple(_beneath(error, until=handled))) from error

        trials = Retrying(
            retry=retry_if_exception_type(UnreachableError),
            stop=stop_before_delay(patience_s),
            wait=wait_exponential(multiplier=0.25, max=4),
            reraise=True,
        )
        return trials(once)

    def server(self) -> Server | None:
        """Return what answers over HTTP; None where the store is a database without a server."""
        if urlsplit(self.uri).scheme not in {"http", "https"}:
            return None
        answer = self.ask(
            lambda: http_request(  # type: ignore[no-untyped-call]
                get_default_host_creds(self.uri),  # type: ignore[no-untyped-call]
                "/version",
                "GET",
            )
        )
        at = answer.headers.get("Date")
        return Server(
            version=answer.text.strip() if answer.ok else None,
            clock_s=parsedate_to_datetime(at).timestamp() if at else None,
        )

    def _opened(self) -> MlflowClient:
        file = sqlite_file(self.uri)
        if file is None:
            self._knock()
            return self.ask(lambda: MlflowClient(self.uri))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock")):
                if not file.exists():
                    self._make_database(file)
                return self.ask(lambda: MlflowClient(self.uri))
        except OSError as error:
            raise TrackingError(
                f"cannot open {self.shown}: {error}",
                hint="set MLFLOW_TRACKING_URI to a place that can be written",
            ) from error

    def _make_database(self, file: Path) -> None:
        """Make the tables in a file beside: MLflow cannot open one whose maker died half-way."""
        made = file.with_name(f".{file.name}.new")
        made.unlink(missing_ok=True)
        self.ask(lambda: MlflowClient(with_sqlite_file(self.uri, made)))
        faults.reach("database.made")
        made.replace(file)

    def _knock(self) -> None:
        """Refuse a database server that is down at once; MLflow would try for minutes."""
        parts = urlsplit(self.uri)
        if not is_database(self.uri) or parts.hostname is None or parts.port is None:
            return
        address = (parts.hostname, parts.port)
        try:
            socket.create_connection(address, timeout=self._patience_s or 1).close()
        except OSError as error:
            raise self._unreachable(error) from error

    def _translated(self, error: Exception, beneath: Sequence[BaseException]) -> TrackingError:
        if _may_pass(error, beneath):
            return self._unreachable([error, *beneath][-1])
        reason = hidden(str(error).partition("\n")[0])
        if status(error) in {401, 403}:
            return TrackingError(
                f"{self.shown} refused the request: {reason}",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for 'Invalid Host "
                "header' start the server with --allowed-hosts",
            )
        if "maintenance mode" in reason:
            return TrackingError(
                f"MLflow no longer keeps runs in plain folders: {self.shown}",
                hint="use a database, such as MLFLOW_TRACKING_URI=sqlite:///mlflow.db",
            )
        if reason.startswith("API request to endpoint") or "unsupported URI" in reason:
            return TrackingError(
                f"{self.shown} is not an MLflow tracking server: {reason.strip()[:200]}",
                hint="check MLFLOW_TRACKING_URI, or tracking.uri in the experiment file",
            )
        return TrackingError(f"the tracking store {self.shown} refused: {reason}")

    def _unreachable(self, root: BaseException) -> UnreachableError:
        return UnreachableError(
            f"the tracking server at {self.shown} does not answer: {first_line(root)}",
            hint="start the server, or set MLFLOW_TRACKING_URI to one that runs",
        )


def _prepare_mlflow(*, user: str | None, password: str | None) -> None:
    """Quieten MLflow, and hand it the login of a URI through its own variables."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if user:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password or "")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)


def _may_pass(error: BaseException, beneath: Sequence[BaseException]) -> bool:
    """Tell a server that is away or overloaded from one that says no."""
    if isinstance(error, requests.HTTPError):
        return status(error) in _PASSING
    if isinstance(error, requests.RequestException):
        return True
    if isinstance(error, InvalidUrlException) or not isinstance(error, MlflowException):
        return False
    return code(error) == "TEMPORARILY_UNAVAILABLE" or any(
        isinstance(under, requests.RequestException | urllib3.exceptions.HTTPError)
        for under in beneath
    )


def _beneath(error: BaseException, *, until: BaseException | None) -> Iterator[BaseException]:
    """Yield what led to ``error``, the nearest first; MLflow wraps some failures twice."""
    while (under := error.__cause__ or error.__context__) not in {None, until}:
        yield under
        error = under


def code(error: BaseException | None) -> str | None:
    """Return MLflow's name for what went wrong."""
    return error.error_code if isinstance(error, MlflowException) else None


def status(error: BaseException) -> int | None:
    """Return the HTTP status that a failure came with, if it came with one."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    if not isinstance(error, MlflowException):
        return None
    return cast("int", error.get_http_status_code())  # type: ignore[no-untyped-call]


def first_line(error: BaseException) -> str:
    """Return what people need of an error's text, without secrets."""
    return hidden(str(error).strip().partition("\n")[0]) or type(error).__name__
