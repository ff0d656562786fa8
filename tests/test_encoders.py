"""`jsonable_encoder`, beyond parity with FastAPI."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from pydantic import BaseModel

from fastws_compat.encoders import ENCODERS_BY_TYPE, jsonable_encoder


def test_result_is_json() -> None:
    class Item(BaseModel):
        when: datetime.datetime

    value = {"items": [Item(when=datetime.datetime(2020, 1, 2))], "at": datetime.time(1)}
    assert (
        json.dumps(jsonable_encoder(value))
        == '{"items": [{"when": "2020-01-02T00:00:00"}], "at": "01:00:00"}'
    )


def test_subclass_of_a_type_that_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    class Id:
        pass

    class OtherId(Id):
        pass

    monkeypatch.setitem(ENCODERS_BY_TYPE, Id, lambda value: "id")
    assert jsonable_encoder([Id(), OtherId()]) == ["id", "id"]


def test_row_of_the_django_orm() -> None:
    from django.contrib.auth.models import Group

    encoded: Any = jsonable_encoder(Group(id=1, name="g"), exclude={"_state"})
    assert encoded == {"id": 1, "name": "g"}


def test_loop_in_the_data() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        jsonable_encoder(loop)
