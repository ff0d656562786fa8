"""The logger that everything here writes to."""

from __future__ import annotations

import logging

logger = logging.getLogger("fastws_compat")
