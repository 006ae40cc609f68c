"""The client of an MLflow server or database: opened, asked with patience, its errors told."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

import requests
import sqlalchemy
import urllib3
from filelock import FileLock
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_exponential

from mmrun import faults
from mmrun.config.masking import MASK, hidden, remember, without_secrets
from mmrun.errors import MmrunError, PluginError, TrackingError
from mmrun.tracking import s3_errors
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
_TO_INSTALL = {
    "boto3": "'mmrun[s3]'",
    "botocore": "'mmrun[s3]'",
    "psycopg": "'mmrun[postgresql]'",
    "psycopg2": "psycopg2-binary",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob",
}
"""What brings a package; of others, the name is tried."""
_NO = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|Access denied"
    "|permission denied|Unknown database"
)
"""How database servers say that trying again is of no use."""
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
        """Refuse at once a database that is down or says no; MLflow would try for minutes."""
        if not is_database(self.uri):
            return
        if urlsplit(self.uri).password == MASK:
            raise TrackingError(
                f"{self.shown} is what was recorded of the address, without its password",
                hint="set MLFLOW_TRACKING_URI to the whole address",
            )
        try:
            engine = sqlalchemy.create_engine(self.uri, poolclass=sqlalchemy.NullPool)
            engine.connect().close()
        except sqlalchemy.exc.OperationalError as error:
            told = error.orig or error
            if _NO.search(str(told)):
                raise TrackingError(
                    f"{self.shown} refused the connection: {first_line(told)}",
                    hint="check user, password and database in MLFLOW_TRACKING_URI",
                ) from error
            raise self._unreachable(told) from error
        except ImportError as error:
            raise _lacking(error, of=self.shown) from error

    def _translated(self, error: Exception, beneath: Sequence[BaseException]) -> MmrunError:
        if _may_pass(error, beneath):
            return self._unreachable([error, *beneath][-1])
        reason = hidden(str(error).partition("\n")[0])
        if (told := _of_artifacts([error, *beneath], reason)) is not None:
            return told
        if status(error) in {401, 403}:
            return self._not_allowed(status(error), reason)
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

    def _not_allowed(self, status: int | None, reason: str) -> TrackingError:
        if "Invalid Host" in reason:
            return TrackingError(
                f"{self.shown} refused the request: {reason}",
                hint="start the server with --allowed-hosts and the name that is used here",
            )
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        if status == HTTPStatus.FORBIDDEN:
            asked = reason.partition("API request to endpoint ")[2].partition(" ")[0] or reason
            return TrackingError(
                f"{self.shown} does not allow {user or 'this user'} to do that: {asked}",
                hint="ask its administrator for the permission EDIT on the experiment",
            )
        problem = f"does not know {user} with this password" if user else "asks for a login"
        return TrackingError(
            f"{self.shown} {problem}",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )

    def _unreachable(self, root: BaseException) -> UnreachableError:
        return UnreachableError(
            f"the tracking server at {self.shown} does not answer: {first_line(root)}",
            hint="start the server, or set MLFLOW_TRACKING_URI to one that runs",
        )


def _of_artifacts(errors: Sequence[BaseException], reason: str) -> MmrunError | None:
    """Return what a store of files says, where it is one of its own and MLflow asks it itself."""
    if any(s3_errors.is_away(error) for error in errors):
        return UnreachableError(
            f"the artifact store does not answer: {reason}",
            hint="check that it runs, and MLFLOW_S3_ENDPOINT_URL",
        )
    if any(s3_errors.is_refusal(error) for error in errors):
        return TrackingError(
            f"the artifact store refused the request: {reason}",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of somebody who may "
            "read and write there",
        )
    for error in errors:
        if isinstance(error, ImportError):
            return _lacking(error, of="the artifact store")
    return None


def _lacking(error: ImportError, *, of: str) -> PluginError:
    package = (error.name or "").partition(".")[0] or "that MLflow needs for it"
    return PluginError(
        f"{of} needs the package {package}, which is not installed",
        hint=f"pip install {_TO_INSTALL.get(package, package)}",
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
