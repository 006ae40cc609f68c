"""An S3-compatible server on a loopback port; what it holds is in its memory."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import requests

from tests.ports import free_port

KEY, SECRET = "mmrun-tests", "secret-of-the-artifact-store"
_START_S = 60


class S3:
    """The address of a server, and what its buckets hold."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client of MLflow needs to be told."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Make a bucket; there may be one already."""
        self._client.create_bucket(Bucket=name)

    def content(self, bucket: str) -> Mapping[str, bytes]:
        """Return everything in a bucket, by its key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {key: self._client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Run a server whose log is in ``folder``."""
    port = free_port()
    with (folder / "s3.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}", log=folder / "s3.log")
        yield S3(f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()


def _wait(server: "subprocess.Popen[bytes]", endpoint: str, *, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            requests.get(endpoint, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text()}")
