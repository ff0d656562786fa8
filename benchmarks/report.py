"""Code shared by all benchmarks: measuring peers in turn, medians, ratios and tables."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Ratio:
    """One column divided by another; `aim` is the target: "<= 2.5", ">= 0.9" or nothing."""

    over: str
    under: str
    aim: str = ""

    @property
    def name(self) -> str:
        return f"{self.over} / {self.under}"


@dataclass
class Table:
    """The samples of each peer (column) in each case (row)."""

    title: str
    unit: str
    rows: dict[str, Samples] = field(default_factory=dict)
    ratios: dict[str, list[Ratio]] = field(default_factory=dict)
    # Whether the chart shows lines over the cases, which are numbers then.
    is_curve: bool = False

    def add(self, case: str, samples: Samples, *ratios: Ratio) -> None:
        self.rows[case] = samples
        self.ratios[case] = [ratio for ratio in ratios if ratio.over in samples and ratio.under in samples]

    def data(self) -> dict[str, Any]:
        """The table for `results.json`: medians, and for ratios the medians of the ratios of all rounds."""
        return {
            "title": self.title,
            "unit": self.unit,
            **({"is_curve": True} if self.is_curve else {}),
            "rows": {
                case: {peer: statistics.median(values) for peer, values in samples.items()}
                for case, samples in self.rows.items()
            },
            "ratios": {
                case: [
                    {**asdict(ratio), "name": ratio.name, "value": self._ratio(case, ratio)}
                    for ratio in ratios
                ]
                for case, ratios in self.ratios.items()
            },
        }

    def _ratio(self, case: str, ratio: Ratio) -> float:
        samples = self.rows[case]
        pairs = zip(samples[ratio.over], samples[ratio.under], strict=True)
        return statistics.median(over / under for over, under in pairs)


def rounds(most: int, quick: bool) -> int:
    """How many times each peer is measured; BENCH_ROUNDS in the environment shortens a run."""
    return 1 if quick else min(most, int(os.environ.get("BENCH_ROUNDS", most)))


def in_turn(count: int, peers: Mapping[str, Callable[[], float]]) -> Samples:
    """Measure each peer once per round, so that other load on the machine affects all of them."""
    samples: Samples = {peer: [] for peer in peers}
    for _ in range(count):
        for peer, measure in peers.items():
            samples[peer].append(measure())
    return samples


def main(doc: str | None, tables: Callable[[bool], Iterable[Table]]) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    quick = parser.parse_args().quick
    end_in_order()
    for table in tables(quick):
        print(markdown(table.data()), flush=True)


def end_in_order() -> None:
    """Make SIGTERM raise an exception in this process, so that the servers it started are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def markdown(table: dict[str, Any]) -> str:
    """A table of `Table.data()` as Markdown, with the ratios in the last column."""
    peers = list(dict.fromkeys(peer for row in table["rows"].values() for peer in row))
    lines = [
        f"**{table['title']}** ({table['unit']})\n",
        f"| | {' | '.join(peers)} | ratios |",
        f"| --- |{' ---: |' * len(peers)} --- |",
    ]
    for case, row in table["rows"].items():
        cells = [_number(row[peer]) if peer in row else "" for peer in peers]
        lines.append(f"| {case} | {' | '.join(cells)} | {'; '.join(_ratios(table, case))} |")
    return "\n".join(lines) + "\n"


def _ratios(table: dict[str, Any], case: str) -> Iterator[str]:
    for ratio in table["ratios"][case]:
        aim = f" ({ratio['aim']})" if ratio["aim"] else ""
        yield f"{ratio['name']}: {_number(ratio['value'])}{aim}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
