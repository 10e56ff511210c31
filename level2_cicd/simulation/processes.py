"""Two processes share the jobs of a simulation, and show a bar for each."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from queue import Empty
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from level1_pipeline.settings import Settings

WORKERS = 2
Tell = Callable[[str, float], None]  # a message, and the share of the work that is done
Messages = Any  # a queue between processes: the job, what it does now, and the share that is done
_messages: Messages = None  # of this process, where it is one of the workers


def tell_as(job: str) -> Tell:
    """Where a job says what it does now; in a worker only."""
    return lambda message, done: _messages.put((job, message, done))


def share_out(settings: Settings, jobs: Mapping[str, Callable[[], None]], console: Console) -> None:
    """Do the jobs, two at a time; their output goes into a file of this home."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of each process, which begins with this environment
    context = multiprocessing.get_context("spawn")
    messages: Messages = context.Queue()
    with ProcessPoolExecutor(WORKERS, context, _begin, (settings, os.getpid(), messages)) as pool:
        _watch({name: pool.submit(job) for name, job in jobs.items()}, messages, console)


def _watch(futures: dict[str, Future[None]], messages: Messages, console: Console) -> None:
    """A bar for each job, until all are done; raises what a job raised."""
    columns = (TextColumn("{task.fields[job]:<10}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks = {name: bars.add_task("waits", total=1.0, job=name) for name in futures}
        while not all(future.done() for future in futures.values()):
            if any(future.done() and future.exception() for future in futures.values()):
                break
            try:
                name, message, done = messages.get(timeout=1.0)
                bars.update(tasks[name], description=message, completed=done)
            except Empty:
                continue
        for name, future in futures.items():
            if future.done():
                bars.update(tasks[name], description="done", completed=1.0)
    for future in futures.values():
        if not future.done():
            future.cancel()
    for future in futures.values():
        if future.done() and not future.cancelled():
            future.result()


def _begin(settings: Settings, parent: int, messages: Messages) -> None:
    """Of each process: its output goes into a file, and it ends when the one that began it is gone."""
    global _messages
    _messages = messages
    log = (settings.home / "year.log").open("a")
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
