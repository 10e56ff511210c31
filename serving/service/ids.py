"""Ids that sort by the time they were made, as UUIDs of version 7 do.

The index of the prediction log then grows at its end; with random ids each row would touch a page of its own.
"""

from __future__ import annotations

import secrets
import time
from itertools import count

_process, _number = secrets.token_hex(6), count()


def new_id() -> str:
    """Milliseconds since 1970, this process, and a number within it; 32 hexadecimal digits."""
    return f"{time.time_ns() // 1_000_000:012x}{_process}{next(_number):08x}"
