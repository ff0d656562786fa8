"""Charts of `results.json` as SVG, one per table.

    python -m benchmarks.charts

Needs matplotlib (`pip install -e ".[bench]"`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.peers import OURS

HERE = Path(__file__).resolve().parent
OURS_COLOUR, OTHERS = "#0c7a5b", "#b4bec8"


def draw(table: dict[str, Any], path: Path) -> None:
    """Draw named bars, one group per case, this library in colour; logarithmic if values differ widely."""
    cases = list(table["rows"])
    peers = list(dict.fromkeys(peer for row in table["rows"].values() for peer in row))
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.22 * len(cases) * (len(peers) + 1)))
    height = 1 / (len(peers) + 1)
    for index, peer in enumerate(peers):
        places = [place + index * height for place, case in enumerate(cases) if peer in table["rows"][case]]
        values = [table["rows"][case][peer] for case in cases if peer in table["rows"][case]]
        bars = axes.barh(places, values, height * 0.9, color=colour(peer, peers))
        labels = [f"{f'{value:,.0f}' if value >= 100 else f'{value:.3g}'}  {peer}" for value in values]
        axes.bar_label(bars, labels, padding=3, fontsize=7)
    values = [value for row in table["rows"].values() for value in row.values()]
    if max(values) > 30 * min(values):
        axes.set_xscale("log")
    axes.set_yticks([place + height * (len(peers) - 1) / 2 for place in range(len(cases))], cases)
    axes.invert_yaxis()
    axes.set_title(table["title"], loc="left", fontsize=10)
    axes.set_xlabel(table["unit"])
    axes.margins(x=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def draw_curve(table: dict[str, Any], path: Path) -> None:
    """A line for each peer over the numbers that the cases are; this library in colour."""
    figure, axes = pyplot.subplots(figsize=(8, 4))
    peers = dict.fromkeys(peer for row in table["rows"].values() for peer in row)
    for peer in peers:
        points = [
            (int(case.replace(",", "")), row[peer]) for case, row in table["rows"].items() if peer in row
        ]
        axes.plot(*zip(*points, strict=True), marker="o", color=colour(peer, peers))
        axes.annotate(peer, points[-1], xytext=(6, 0), textcoords="offset points", fontsize=7, va="center")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_title(table["title"], loc="left", fontsize=10)
    axes.set_ylabel(table["unit"])
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def colour(peer: str, peers: Iterable[str]) -> str:
    """That of this library, or of another one; in a table without others, all bars are its own."""
    is_ours = peer.startswith(OURS) or not any(each.startswith(OURS) for each in peers)
    return OURS_COLOUR if is_ours else OTHERS


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def main() -> None:
    pyplot.switch_backend("svg")
    # The same results give the same file.
    pyplot.rcParams.update({"svg.hashsalt": "fastws", "svg.fonttype": "none", "font.size": 9})
    charts = HERE / "charts"
    charts.mkdir(exist_ok=True)
    results = json.loads((HERE / "results.json").read_text())
    for tables in results["benchmarks"].values():
        for table in tables:
            kind = draw_curve if table.get("is_curve") else draw
            kind(table, charts / f"{slug(table['title'])}.svg")


if __name__ == "__main__":
    main()
