"""How large the loads of tests are: small by default, and of a realistic size in `.ci/slow`."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("FASTWS_FULL_SIZE") == "1"


def size(name: str, small: int, full: int) -> int:
    """The number in the environment variable `name`, else `small`, or `full` with FASTWS_FULL_SIZE=1."""
    return int(os.environ.get(name, full if IS_FULL else small))
