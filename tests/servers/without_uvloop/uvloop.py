"""On the path before the installed uvloop, so that a server runs as if it were not installed."""

raise ImportError("uvloop is hidden from this test")
