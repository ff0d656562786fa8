"""Optional modules, which something else may have imported."""

from __future__ import annotations

import sys
from typing import Any


def loaded(name: str) -> Any:
    """The module if something has imported it; None also while another thread is still importing it."""
    module = sys.modules.get(name)
    if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
        return None
    return module
