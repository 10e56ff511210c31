"""One snapshot, one recipe, equal predictions: in another process, with other threads, on another Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parity.predictions import predictions
from tests.support import ROOT

pytestmark = pytest.mark.integration  # trains a model in three processes


def in_another_process(threads: str) -> list[str]:
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "tests.parity.predictions"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_two_processes_with_one_and_with_two_threads_predict_the_same_bits() -> None:
    here = predictions()
    assert len(set(here)) > 100, "the predictions must not be all the same"
    assert in_another_process("1") == here
    assert in_another_process("2") == here


@pytest.mark.skipif("PARITY_REFERENCE" not in os.environ, reason="`make test-pythons` compares with the other Pythons")
def test_another_python_predicts_the_same_bits() -> None:
    assert predictions() == json.loads(Path(os.environ["PARITY_REFERENCE"]).read_text())
