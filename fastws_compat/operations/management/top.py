"""What `ws_top` shows: the processes and their routes, with rates between two samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastws_compat.operations.management.replies import plural
from fastws_compat.operations.records import Process
from fastws_compat.terminal import printable

DASH = "-"
KIB = 1024
# The columns, and how each gets its value: as it is, or as a rate between two samples.
NUMBERS = ("open", "waiting")
RATES = {"opened/s": "opened", "closed/s": "closed", "in/s": "messages_in", "out/s": "messages_out"}
COLUMNS = ("process", "route", "open", *RATES, "KiB/s", "waiting", "lag p99", "RSS", "layer")
TEXTS = ("process", "route", "layer")


@dataclass(frozen=True, slots=True)
class Sample:
    """The processes at one moment."""

    at: float
    processes: Sequence[Process]
    # Sentences about what the answers lack.
    problems: Sequence[str] = ()

    def counts(self, process: str, route: str) -> dict[str, Any]:
        """The counts of a route in a process; none if it was not there."""
        for each in self.processes:
            if each.process == process:
                return each.routes.get(route, {})
        return {}

    def knows(self, process: str) -> bool:
        return any(each.process == process for each in self.processes)


def rows(before: Sample | None, now: Sample) -> list[dict[str, Any]]:
    """One row per process and route. Rates are None without an earlier sample of the process."""
    return [
        _row(before, now, process, route)
        for process in now.processes
        for route in process.routes or {DASH: {}}
    ]


def _row(before: Sample | None, now: Sample, process: Process, route: str) -> dict[str, Any]:
    counts = process.routes.get(route, {})
    seconds, earlier = 0.0, dict[str, Any]()
    if before is not None and before.knows(process.process):
        seconds, earlier = now.at - before.at, before.counts(process.process, route)

    def rate(*names: str) -> float | None:
        if not seconds:
            return None
        gains = [_gain(counts.get(name, 0), earlier.get(name, 0)) for name in names]
        known = [gain for gain in gains if gain is not None]
        return round(max(0, sum(known)) / seconds, 1) if len(known) == len(gains) else None

    traffic = rate("bytes_in", "bytes_out")
    return {
        "process": process.process,
        "route": route,
        **{name: counts.get(name) or 0 for name in NUMBERS},
        **{column: rate(name) for column, name in RATES.items()},
        "KiB/s": None if traffic is None else round(traffic / KIB, 1),
        "lag p99": None if process.lag is None else round(process.lag * 1000, 1),
        "RSS": None if process.rss is None else process.rss // KIB**2,
        "layer": _layer(process),
    }


def _gain(count: int | None, earlier: int | None) -> int | None:
    return None if count is None or earlier is None else count - earlier


def _layer(process: Process) -> str:
    return f"{process.layer or DASH}{'' if process.layer_up else ' (fails)'}"


@dataclass(slots=True)
class View:
    """The choices made with the keys: the order, a text that rows must contain, and one route."""

    sort: str = "open"
    text: str = ""
    route: str | None = None
    # The text that is being typed, or None.
    typing: str | None = None
    quits: bool = field(default=False)

    def press(self, key: str, routes: Sequence[str]) -> None:
        """Apply a key."""
        if self.typing is not None:
            self._type(key)
        elif key in ("q", "\x03", "\x1b"):
            self.quits = True
        elif key == "s":
            self.sort = _next(self.sort, COLUMNS)
        elif key == "r":
            self.route = _next(self.route, [None, *routes])
        elif key == "/":
            self.typing = ""

    def _type(self, key: str) -> None:
        assert self.typing is not None
        if key in ("\r", "\n"):
            self.text, self.typing = self.typing, None
        elif key == "\x1b":
            self.typing = None
        elif key in ("\x7f", "\b"):
            self.typing = self.typing[:-1]
        elif key.isprintable():
            self.typing += key

    def of(self, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that match, in order."""
        fitting = [each for each in found if self._fits(each)]
        is_text = self.sort in TEXTS
        return sorted(fitting, key=lambda each: _key(each[self.sort]), reverse=not is_text)

    def _fits(self, row: dict[str, Any]) -> bool:
        return self.route in (None, row["route"]) and self.text in f"{row['process']} {row['route']}"


def _next(value: Any, values: Sequence[Any]) -> Any:
    return values[(values.index(value) + 1) % len(values)] if value in values else values[0]


def _key(value: Any) -> tuple[bool, Any]:
    return (value is not None, 0 if value is None else value)


def table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as aligned lines: texts to the left, numbers to the right."""
    cells = [[_cell(row[name]) for name in COLUMNS] for row in found]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
    for line in [COLUMNS, *cells]:
        yield "  ".join(
            text.ljust(width) if name in TEXTS else text.rjust(width)
            for name, text, width in zip(COLUMNS, line, widths, strict=True)
        ).rstrip()


def _cell(value: Any) -> str:
    return DASH if value is None else printable(str(value))


def screen(
    view: View, found: Sequence[dict[str, Any]], sample: Sample, columns: int, lines: int
) -> Iterator[str]:
    """The lines of the live display, of which each fits into the terminal, and all together do."""
    head = [_summary(sample), *map(printable, sample.problems), _choice(view), ""]
    foot = ["", f"/{view.typing}" if view.typing is not None else "s sort   / filter   r route   q quit"]
    body = list(table(view.of(found)))
    room = max(lines - len(head) - len(foot) - 1, 2)  # the cursor is in the last line
    if len(body) > room:
        hidden = len(body) - room + 1
        body[room - 1 :] = [f"… {hidden:,} more rows: / and r show fewer"]
    return (line[:columns] for line in [*head, *body, *foot])


def _summary(sample: Sample) -> str:
    total = sum(each.open for each in sample.processes)
    time = datetime.fromtimestamp(sample.at).strftime("%H:%M:%S")
    draining = sum(each.draining for each in sample.processes)
    processes = plural(len(sample.processes), "process") + (f", {draining} draining" if draining else "")
    return f"{time} · {total:,} open · {processes}"


def _choice(view: View) -> str:
    chosen = f"sorted by {view.sort}" + (f" · {printable(view.route)}" if view.route else "")
    return f"{chosen}{f' · {view.text!r}' if view.text else ''}"
