"""Runs a command and ends it, with all its children, when standard input closes, which the operating system
does for every killed parent: `python keeper.py COMMAND ...`, as the leader of a process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 5.0  # seconds between asking and killing


def main(command: list[str]) -> int:
    """Run until the command ends or the parent is gone; returns the exit code of the command."""
    for one in (signal.SIGINT, signal.SIGTERM):  # they go to the whole group; this process has to stay till the end
        signal.signal(one, lambda *_: None)  # not SIG_IGN, which the command would inherit
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, args=(child,), daemon=True).start()
    return child.wait()


def _end_with_parent(child: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
