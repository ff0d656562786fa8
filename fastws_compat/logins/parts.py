"""Queries for many values, in parts that have no more parameters than the database accepts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.db import connections

# Parameters of a query besides the values: an expiry date, and what a manager of the project adds.
OTHERS = 99


def having(rows: Any, field: str, values: Collection[Any]) -> Iterator[Any]:
    """Querysets of the rows whose field has one of the values: a single one unless there are too many."""
    most, listed = connections[rows.db].features.max_query_params, list(values)
    size = most - OTHERS if most else len(listed) or 1
    for start in range(0, len(listed), size):
        # A set, because Django looks into each value of a list for an expression.
        yield rows.filter(**{f"{field}__in": set(listed[start : start + size])})
