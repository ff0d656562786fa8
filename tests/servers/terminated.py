"""uvicorn while coverage is measured: without this, nothing is saved when SIGTERM ends the process.

uvicorn raises the signal again after its shutdown. Coverage's own option `sigterm` would set a handler in
every process, and the completed daphne sets its own only where there is none.
"""

from __future__ import annotations

import runpy
import signal
from types import FrameType

from coverage import Coverage


def save_and_end(number: int, frame: FrameType | None) -> None:
    if (measured := Coverage.current()) is not None:
        measured.stop()
        measured.save()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, save_and_end)
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
