"""Stores for tests: that of an earlier release, and other processes that open one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from level1_pipeline.store.database import Store

OLD_HOME = Path(__file__).parents[1] / "level1_pipeline" / "store" / "old_home"


def old_store(dialect: str) -> str:
    """SQL that makes the store of the commit before there were migrations: rows of a real simulated summer."""
    return (OLD_HOME / f"{dialect}_schema.sql").read_text() + (OLD_HOME / "rows.sql").read_text()


def start_processes(target: Callable[..., None], count: int, *arguments: Any) -> Sequence[BaseProcess]:
    """Start `count` real processes that run `target(*arguments)`; what it needs is imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["level1_pipeline.store.database", "alembic.command"])
    children = [context.Process(target=target, args=arguments) for _ in range(count)]
    for child in children:
        child.start()
    return children


def exit_codes(children: Sequence[BaseProcess]) -> list[int | None]:
    """Wait for processes, and say how they ended."""
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]


def read_audit_log(url: str) -> None:
    """Open a store in a process of its own."""
    Store(url).audit_log("flight_delay")
