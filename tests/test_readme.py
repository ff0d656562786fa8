"""The README's length and pictures; its figures, and those of docs, are from benchmarks/results.json."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.test_docs import ROOT

README = (ROOT / "README.md").read_text()
SCALING = (ROOT / "docs" / "scaling.md").read_text()
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
# Each row of the first table of docs/scaling.md: where it was measured, and its name in the results.
BROADCASTS = {
    "groups, in process (no server)": ("in process", "fastws_compat"),
    "Channels' `group_send`, in process": ("in process", "channels"),
    "groups, daphne, Redis": ("on daphne", "fastws_compat, Redis"),
    "groups, daphne, in memory": ("on daphne", "fastws_compat, in memory"),
    "a bare loop over `send`, the same daphne": ("on daphne", "bare loop"),
    "FastAPI's in-memory manager, the same daphne": ("on daphne", "fastapi's manager"),
    "a bare loop over `send`, stock daphne": ("on daphne", "bare loop, daphne stock"),
    "Channels' `group_send` to `AsyncJsonWebsocketConsumer`s, the same daphne, Redis": (
        "on daphne",
        "channels, Redis",
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


@pytest.mark.parametrize("row", BROADCASTS)
def test_figures_of_a_broadcast_in_the_docs(row: str) -> None:
    where, name = BROADCASTS[row]
    measured = [f"{rows(f'A broadcast {where}')['1,000 members'][name]:.1f}", ""]
    if where == "on daphne":
        cpu = rows("A broadcast on daphne, the server's own processor time")["1,000 members"][name]
        measured[1] = f"{cpu:.1f}"
    assert f"| {row} | {' | '.join(measured)} |".replace("|  |", "| |") in SCALING.splitlines()


def test_memory_of_an_idle_socket_in_the_docs() -> None:
    idle = rows("2,000 idle sockets on servers")["memory"]["fastws_compat, daphne"]
    assert f"An idle socket without one takes {idle:.0f} KiB on daphne." in SCALING
    assert (
        f"An idle socket takes about {idle:.0f} KiB of memory"
        in (ROOT / "docs" / "deployment.md").read_text()
    )


def test_the_sentence_about_ten_members() -> None:
    few = rows("A broadcast on daphne")["10 members"]
    assert 1.35 < few["fastws_compat, Redis"] / few["fastapi's manager, uvicorn"] < 1.65
    assert 1.75 < few["fastws_compat, Redis"] / few["fastapi's manager"] < 2.5


def test_the_ratios_to_channels_in_the_docs() -> None:
    alone, served = (
        rows(title)["1,000 members"] for title in ("A broadcast in process", "A broadcast on daphne")
    )
    alone_times = round(alone["channels"] / alone["fastws_compat"], -1)
    served_times = round(served["channels, Redis"] / served["fastws_compat, Redis"])
    manager_times = served["fastapi's manager"] / served["fastws_compat, Redis"]
    said = f"{alone_times:.0f} times as fast as Channels, and through Redis {served_times} times."
    assert f"In process, groups are {said}" in SCALING
    assert f"and still takes {manager_times:.1f} times as long" in SCALING


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
