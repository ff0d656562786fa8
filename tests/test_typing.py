"""What type checkers say of `tests/typing/messages.py`: errors where a line says so, and nowhere else."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "typing" / "messages.py"
COMMANDS = {"mypy": ["mypy", "--strict"], "pyright": ["pyright"]}


@pytest.mark.parametrize("checker", COMMANDS)
def test_errors_are_where_they_are_expected(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", *COMMANDS[checker], str(SAMPLE)]
    output = subprocess.run(command, capture_output=True, text=True, cwd=SAMPLE.parents[2]).stdout
    found = {int(line) for line in re.findall(r"messages\.py:(\d+)(?::\d+)?(?: -|:) error", output)}
    lines = enumerate(SAMPLE.read_text().splitlines(), 1)
    assert found == {number for number, line in lines if "# E:" in line}, output
