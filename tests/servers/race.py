"""A program: processes that reach for one run at the same moment.

``python -m tests.servers.race TRACKING_URI RUN_ID NUMBER``; prints what each of them got.
"""

import json
import multiprocessing
import sys
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (loaded once, before the others begin)

from mmrun.errors import TrackingError
from mmrun.tracking.lease import Lease
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.process import this_process


def reach(uri: str, run_id: str, *, start: Barrier, done: Barrier, told: SimpleQueue[str]) -> None:
    """Take the run, or say why not; whoever has it keeps it until all have tried."""
    lease = Lease(MlflowStore(uri), run_id, steal=False)
    start.wait()
    refusal = None
    try:
        lease.acquire()
    except TrackingError as error:
        refusal = {"code": error.exit_code, "problem": str(error), "hint": error.hint}
    me = this_process()
    told.put(json.dumps({"pid": me.pid, "host": me.host, "refusal": refusal}))
    done.wait()
    lease.release()


def main(uri: str, run_id: str, number: int) -> None:
    """Let ``number`` processes race."""
    forked = multiprocessing.get_context("fork")  # each has loaded MLflow when it begins
    start, done, told = forked.Barrier(number), forked.Barrier(number), forked.SimpleQueue()
    racers = [
        forked.Process(
            target=reach, args=(uri, run_id), kwargs={"start": start, "done": done, "told": told}
        )
        for _ in range(number)
    ]
    for racer in racers:
        racer.start()
    for _ in racers:
        sys.stdout.write(told.get() + "\n")
    for racer in racers:
        racer.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
