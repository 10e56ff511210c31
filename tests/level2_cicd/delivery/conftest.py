"""What the tests of the delivery share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import make_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout whose Makefile has three targets."""
    return make_checkout(tmp_path / "checkout")
