"""The living child processes of a process, one of which may end while a test looks."""

from __future__ import annotations

from contextlib import suppress

import psutil


def living_children(pid: int, word: str = "") -> list[psutil.Process]:
    """All below a process whose command line holds `word`. One that ends meanwhile, or has ended, is left out."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is one of these, too
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found
