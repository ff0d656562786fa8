"""The keys that are pressed in a terminal."""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

# A key: what a terminal sends for an arrow or a function key begins with an escape.
KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)|.", re.DOTALL)
CHUNK = 1024
HANG_UP = "\x03"


class Keyboard:
    """Reads keys from a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._keys: deque[str] = deque()

    def pressed(self, seconds: float) -> str | None:
        """The next key; None if none is pressed for some seconds, and Ctrl-C once the terminal is gone."""
        if not self._keys and select.select([self._terminal], [], [], seconds)[0]:
            self._keys.extend(self._read())
        return self._keys.popleft() if self._keys else None

    def _read(self) -> list[str]:
        try:
            data = os.read(self._terminal, CHUNK)
        except OSError:
            data = b""
        return KEY.findall(self._decoder.decode(data)) if data else [HANG_UP]


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """The keyboard of the terminal, which meanwhile neither shows keys nor waits for whole lines."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    tty.setcbreak(stdin)
    try:
        yield Keyboard(stdin)
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
