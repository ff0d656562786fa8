"""What the gate leaves out: slow tests unless they are named, and full sizes unless they are asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import sizes
from tests.conftest import pytest_configure


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ("", "not slow"),
        ("loops", "(loops) and not slow"),
        ("servers or browser", "(servers or browser) and not slow"),
        ("slow", "slow"),
        ("slow or sized", "slow or sized"),
        ("loops and not slow", "loops and not slow"),
    ],
)
def test_slow_tests_run_only_if_they_are_named(given: str, chosen: str) -> None:
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=given))
    pytest_configure(cast(pytest.Config, config))
    assert config.option.markexpr == chosen


def test_a_load_is_small_unless_it_is_named_or_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "IS_FULL", False)
    assert sizes.size("FASTWS_SOME_SIZE", 3, 1000) == 3
    monkeypatch.setattr(sizes, "IS_FULL", True)
    assert sizes.size("FASTWS_SOME_SIZE", 3, 1000) == 1000
    monkeypatch.setenv("FASTWS_SOME_SIZE", "7")
    assert sizes.size("FASTWS_SOME_SIZE", 3, 1000) == 7
