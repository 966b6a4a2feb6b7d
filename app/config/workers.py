"""What gunicorn has to call so that the metrics of its workers add up.

In its configuration, with PROMETHEUS_MULTIPROC_DIR in the environment:

    def on_starting(server):
        from config import workers
        workers.on_starting(server)

    def child_exit(server, worker):
        from config import workers
        workers.child_exit(server, worker)
"""

import os
from pathlib import Path
from typing import Any

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def on_starting(server: Any) -> None:
    """Make the directory, and remove what the processes of an earlier start have left there."""
    if os.environ.get(VARIABLE):
        directory = Path(os.environ[VARIABLE])
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.glob("*.db"):
            file.unlink()


def child_exit(server: Any, worker: Any) -> None:
    """Take the worker's gauges away. Its counts stay, or the sums would fall."""
    if os.environ.get(VARIABLE):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
