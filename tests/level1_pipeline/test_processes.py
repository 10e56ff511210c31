"""A child process is waited for, and ends with all that it started, whatever it does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from level1_pipeline.errors import NoAnswer
from level1_pipeline.processes import child_process, end, free_port, wait_until_answers

pytestmark = pytest.mark.integration
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen(["sleep", "600"])
print(grandchild.pid, flush=True)
time.sleep(600)
"""


def test_a_child_that_does_not_listen_is_killed_with_what_it_started(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUBBORN]
    with child_process(command, tmp_path / "log", piped=True) as child:
        assert child.stdout
        grandchild = psutil.Process(int(child.stdout.readline()))
        end(child, seconds=0.1)
        assert child.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_that_cannot_hear_ctrl_c_because_we_run_in_the_background_is_asked_to_end(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with child_process([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log") as child:
            end(child, seconds=300)
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.returncode == -signal.SIGTERM


def test_a_child_ends_with_the_block_and_its_output_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    code = "import sys; print('begun', flush=True); sys.stdin.read()"
    for times in (1, 2):
        with child_process([sys.executable, "-c", code], log) as child:
            deadline = time.monotonic() + 60
            while log.read_text().count("begun") < times and time.monotonic() < deadline:
                time.sleep(0.01)
        assert child.returncode is not None
        assert log.read_text().count("begun") == times


def test_a_server_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    url, log = f"http://127.0.0.1:{free_port()}/", tmp_path / "log"
    with child_process([sys.executable, "-c", "raise SystemExit('the port is in use\\n')"], log) as child:
        child.wait()
        with pytest.raises(NoAnswer, match=r"ended; its log ends with 'the port is in use': .*log"):
            wait_until_answers(url, 60, log, child)
    with pytest.raises(NoAnswer, match=r"within 0\.2 s"):
        wait_until_answers(url, 0.2, log)
    log.write_text("")
    with pytest.raises(NoAnswer, match="its log is empty"):
        wait_until_answers(url, 0.2, log)


def test_a_server_that_answers_is_ready(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with child_process([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], log) as child:
        wait_until_answers(f"http://127.0.0.1:{port}/", 60, log, child)
    assert subprocess.run(["kill", "-0", str(child.pid)], capture_output=True).returncode
