"""A tracking server that has not all that MLflow's own server has today."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest

from mmrun.tracking.mlflow_store import MlflowStore
from tests.unit.tracking.points import point

POINTS = [point(step / 7, step=step, at=1000 + step) for step in range(20)]


class OlderServer(BaseHTTPRequestHandler):
    """Knows whole histories, and no stretches of them."""

    asked: list[str]
    missing: str

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.asked.append(path.rpartition("/")[2])
        if path != "/api/2.0/mlflow/metrics/get-history":
            self._answer(404, self.missing)
            return
        metrics = [
            {"key": p.key, "value": p.value, "timestamp": p.timestamp_ms, "step": p.step}
            for p in POINTS
        ]
        self._answer(200, json.dumps({"metrics": metrics}))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(
    params=["<h1>Not Found</h1>", json.dumps({"error_code": "ENDPOINT_NOT_FOUND", "message": "?"})],
    ids=["a page", "MLflow's error"],
)
def older_server(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (OlderServer,), {"asked": asked, "missing": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_where_no_stretches_are_offered_the_whole_history_is_read(
    older_server: tuple[str, list[str]],
) -> None:
    uri, asked = older_server

    found = MlflowStore(uri, patience_s=0).between("0" * 32, "loss", first=5, last=7)

    assert found == POINTS[5:8]
    assert asked == ["get-history-bulk-interval", "get-history"]
