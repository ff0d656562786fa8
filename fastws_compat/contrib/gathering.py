"""The metrics of all processes, over the control line of `fastws_compat.operations`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from asgiref.sync import async_to_sync
from django.apps import apps
from prometheus_client.metrics_core import Metric

from fastws_compat.operations import answers
from fastws_compat.operations.census import process_name
from fastws_compat.operations.survey import ask

OPERATION = "metrics"

Collect = Callable[[], Iterable[Metric]]


def answer_with(collect: Collect) -> None:
    """Have this process reply with its metrics when another one gathers them."""

    async def respond(question: Mapping[str, Any]) -> dict[str, Any]:
        return {"families": [packed(metric) for metric in collect()]}

    answers.OPERATIONS[OPERATION] = respond


def packed(metric: Metric) -> list[Any]:
    samples = [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples]
    return [metric.name, metric.documentation, metric.type, samples]


def unpacked(family: list[Any]) -> Metric:
    name, documentation, kind, samples, *_ = family  # a newer version may send more
    metric = Metric(name, documentation, kind)
    for sample in samples:
        metric.add_sample(*sample)
    return metric


def gather(collect: Collect) -> Iterator[tuple[str, list[Metric]]]:
    """Each process that replies, with its metrics; a process that does not reply leaves a gap."""
    yield process_name(), list(collect())
    if apps.is_installed("fastws_compat.operations"):
        for process, parts in async_to_sync(ask)(OPERATION, {}).parts.items():
            if process != process_name():
                yield process, [unpacked(family) for part in parts for family in part.get("families", ())]
