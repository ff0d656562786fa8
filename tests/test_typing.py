"""The samples in `tests/typing` have errors where a line says so, and nowhere else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "typing"
COMMANDS = {"mypy": ["mypy", "--strict"], "pyright": ["pyright"]}


@pytest.mark.parametrize("checker", COMMANDS)
def test_errors_are_where_they_are_expected(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", *COMMANDS[checker], str(SAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SAMPLES.parents[1], check=False)
    assert done.returncode == 0, done.stdout
