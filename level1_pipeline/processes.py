"""Child processes: started in a process group of their own, waited for, and ended with everything that they started.

A child is not hit by the Ctrl-C of a terminal: whoever started it ends it. Its standard input is a pipe that nobody
writes to and that closes when we end, however we end: a child that shall not outlive us reads it until then.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from level1_pipeline.environment import without_password
from level1_pipeline.errors import NoAnswer
from level1_pipeline.settings import Settings

SECONDS_TO_END = 60  # after Ctrl-C's signal; then the process and its group are killed


@contextmanager
def child_process(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, *, piped: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a command during a block, and end it afterwards.

    Args:
        command: the program and its arguments.
        log: the end of this file receives its output (with `piped`, only its error output).
        env: its environment; default: ours.
        piped: its standard output is to be read by us.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str], seconds: float = SECONDS_TO_END) -> None:
    """Close its input, ask its group to end, and kill what is left of it when it ended or after some seconds."""
    if process.stdin:
        process.stdin.close()
    if hasattr(os, "killpg"):
        _end_group(process, seconds)
    else:  # Windows has no groups of processes, and no gentle signal for a process without a console
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _end_group(process: subprocess.Popen[str], seconds: float) -> None:
    """With what Ctrl-C sends. But what a shell starts in the background ignores that, and its children inherit it."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    gentle = signal.SIGTERM if is_ignored else signal.SIGINT
    for number, patience in ((gentle, seconds), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def wait_until_answers(url: str, seconds: float, log: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Return when an HTTP server answers with success.

    Raises:
        NoAnswer: the process has ended, or nothing answers within these seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (our own address)
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    what = f"the server at {without_password(url)} "
    what += f"did not answer within {seconds:g} s" if process is None or process.poll() is None else "ended"
    lines = [line for line in log.read_text(errors="replace").split("\n") if line.strip()] if log.exists() else []
    raise NoAnswer(f"{what}; its log {f'ends with {lines[-1].strip()!r}' if lines else 'is empty'}: {log}")


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """During this block, what a service manager or a container engine sends to end a program is what a person types."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a child with the same settings, whatever a `.env` file says: empty ones are named, too."""
    foreign = {name: value for name, value in os.environ.items() if not name.upper().startswith("MLOPS_")}
    return foreign | settings.environment()
