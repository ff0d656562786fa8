"""The README's length, its pictures, and its figures, which are those of benchmarks/results.json."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.test_docs import ROOT

README = (ROOT / "README.md").read_text()
LARGEST_PICTURE = 200_000
# Each row of the README's table: the table and the case in the results, and the measurement in each column.
MEASURED = {
    "echo on daphne": (
        "Echo on servers, 50 sockets",
        "text",
        ("fastws_compat, daphne", "channels, daphne stock", "fastapi, daphne stock"),
    ),
    "echo on uvicorn": (
        "Echo on servers, 50 sockets",
        "text",
        ("fastws_compat, uvicorn", "channels, uvicorn", "fastapi, uvicorn"),
    ),
    "broadcast on daphne through Redis": (
        "A broadcast on daphne",
        "1,000 members",
        ("fastws_compat, Redis", "channels, Redis", "fastapi's manager"),
    ),
    "memory on daphne": (
        "2,000 idle sockets on servers",
        "memory",
        ("fastws_compat, daphne", "channels, daphne stock", "fastapi, daphne stock"),
    ),
}


def rows(title: str) -> dict[str, dict[str, float]]:
    """The medians of a table of the benchmarks."""
    results: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    [table] = [table for part in results["benchmarks"].values() for table in part if table["title"] == title]
    return dict(table["rows"])


def figures(row: str) -> list[float]:
    line = re.search(rf"^\| {row}, .*?\|(.*)\|$", README, re.MULTILINE)
    assert line is not None, f"The README has no row {row!r}."
    return [float(re.findall(r"[\d.,]*\d", cell)[0].replace(",", "")) for cell in line[1].split("|")]


@pytest.mark.parametrize("row", MEASURED)
def test_figures_are_those_of_the_benchmarks(row: str) -> None:
    title, case, columns = MEASURED[row]
    measured = [rows(title)[case][column] for column in columns]
    assert figures(row) == [round(value, 0 if value > 1000 else 1) for value in measured]


def test_the_sentence_about_ten_members() -> None:
    few = rows("A broadcast on daphne")["10 members"]
    assert 2.5 < few["fastws_compat, Redis"] / few["fastapi's manager"] < 3.5


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    [picture] = [number for number, line in enumerate(lines) if "docs/pictures/chat.png" in line]
    assert picture < 60


def test_pictures_exist_and_are_small() -> None:
    for path in re.findall(r'(?:src="|!\[[^\]]*\]\()([^")]+)', README):
        assert (ROOT / path).is_file(), path
    for picture in (ROOT / "docs" / "pictures").glob("*.png"):
        assert picture.stat().st_size <= LARGEST_PICTURE, picture.name
