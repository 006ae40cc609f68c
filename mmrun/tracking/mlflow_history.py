"""The points of a run in MLflow: whole histories, and stretches of them."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, cast

import mlflow.entities
from mlflow.protos.service_pb2 import GetMetricHistoryBulkInterval
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.proto_json_utils import message_to_json

from mmrun.errors import TrackingError
from mmrun.tracking.mlflow_connection import Connection, status
from mmrun.tracking.store import Point
from mmrun.tracking.stretch import whole_stretch

_SAMPLE = 2500
"""So many points of a metric a server returns for a stretch of steps at the most."""
_LAST_STEP = 2**31 - 1
"""Of stretches; histories go further."""


def history(connection: Connection, run_id: str, key: str) -> list[Point]:
    """Return every stored point of one metric, by step and then time."""
    stored = connection.ask(lambda: connection.client.get_metric_history(run_id, key))
    return _by_step(_point(metric) for metric in stored)


def between(connection: Connection, run_id: str, key: str, *, first: int, last: int) -> list[Point]:
    """Return every stored point of one metric at the steps from ``first`` to ``last``."""
    points = None
    if last <= _LAST_STEP:
        try:
            points = whole_stretch(
                lambda low, high: _sample(connection, run_id, key, low, high),
                first,
                last,
                limit=_SAMPLE,
            )
        except TrackingError as error:
            if status(error.__cause__ or error) != HTTPStatus.NOT_FOUND:
                raise  # else it is a server that knows only whole histories
    if points is not None:
        return _by_step(points)
    return [p for p in history(connection, run_id, key) if first <= p.step <= last]


def newest(run: mlflow.entities.Run) -> dict[str, Point]:
    """Return the last point of each metric."""
    metrics = run.data._metric_objs  # noqa: SLF001 (`run.data.metrics` leaves the steps out)
    return {metric.key: _point(metric) for metric in metrics}


def _point(metric: mlflow.entities.Metric) -> Point:
    """Return what MLflow calls a metric."""
    return Point(
        key=metric.key, step=metric.step, timestamp_ms=metric.timestamp, value=metric.value
    )


def _sample(connection: Connection, run_id: str, key: str, first: int, last: int) -> list[Point]:
    """Return the points of some steps; of more than ``_SAMPLE``, so many of them."""
    store = connection.client._tracking_client.store  # noqa: SLF001 (the client has no such call)
    if not isinstance(store, RestStore):
        stored = connection.ask(
            lambda: store.get_metric_history_bulk_interval([run_id], key, _SAMPLE, first, last)
        )
        return [_point(metric) for metric in stored]
    # What RestStore has under that name reads the whole history, twice.
    request = GetMetricHistoryBulkInterval(
        run_ids=[run_id], metric_key=key, start_step=first, end_step=last, max_results=_SAMPLE
    )
    body = message_to_json(request)
    call = cast("Callable[..., Any]", store._call_endpoint)  # noqa: SLF001
    answer = connection.ask(lambda: call(GetMetricHistoryBulkInterval, body))
    return [_point(metric) for metric in answer.metrics]


def _by_step(points: Iterable[Point]) -> list[Point]:
    return sorted(points, key=lambda point: (point.step, point.timestamp_ms))
