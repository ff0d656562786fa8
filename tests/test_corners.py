"""Small parts in conditions that few tests of whole connections meet."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from websockets import ConnectionClosedOK

from fastws_compat import FastAPI, WebSocket
from fastws_compat.connections import census, hooks
from fastws_compat.connections.admission import Admission
from fastws_compat.connections.counted import Counted
from fastws_compat.contrib import gathering, prometheus
from fastws_compat.exception_handlers import from_django, request_validation_exception_handler
from fastws_compat.exceptions import DeclarationError, RequestValidationError
from fastws_compat.groups import Group
from fastws_compat.groups.breaker import Breaker
from fastws_compat.groups.kinds import History, Kind
from fastws_compat.groups.stores import MemoryStore, StoreError
from fastws_compat.management.clients import NetworkClient
from tests.live_clients import client, joining_app


def test_the_handler_for_requests_answers_with_422() -> None:
    error = RequestValidationError([{"type": "missing", "loc": ("query", "n"), "msg": "Field required"}])
    response: Any = asyncio.run(request_validation_exception_handler(cast(Any, None), error))
    assert response.status_code == 422
    assert json.loads(response.body)["detail"][0]["loc"] == ["query", "n"]


def test_without_django_nothing_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.http import Http404

    translated = from_django(Http404())
    assert translated is not None
    assert translated.status_code == 404
    monkeypatch.delitem(sys.modules, "django.core.exceptions")
    assert from_django(Http404()) is None


def test_a_generator_is_no_endpoint() -> None:
    app = FastAPI()

    def endpoint(websocket: WebSocket) -> Iterator[int]:
        yield 1

    with pytest.raises(DeclarationError, match="endpoint is a generator: an endpoint has no 'yield'"):
        app.websocket("/ws")(cast(Any, endpoint))


def test_a_connection_is_accepted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(hooks, "answered", [told.append])
    connection = Counted.__new__(Counted)
    connection.note_accepted()
    connection.note_accepted()
    assert told == [connection]


def test_an_answer_after_counting_has_ended_is_not_counted() -> None:
    census._answered(cast(Any, SimpleNamespace(template="/ws", begun=0.0)))
    assert census._totals == {}


# Places of handshakes


def test_places_are_watched_without_a_time_limit_and_not_on_a_closed_loop(settings: Any) -> None:
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": None}
    loop = asyncio.new_event_loop()
    places = Admission(loop)
    places._free_places()
    assert not places._is_armed
    loop.close()
    places._arm()
    assert not places._is_armed


# Metrics


def test_the_app_enters_the_default_registry_once() -> None:
    before = list(REGISTRY._collector_to_names)
    app = prometheus.PrometheusConfig("fastws_compat.contrib.prometheus", prometheus)
    try:
        app.ready()
        app.ready()
        added = [each for each in REGISTRY._collector_to_names if each not in before]
        assert len(added) <= 1
        assert prometheus.collector in REGISTRY._collector_to_names
    finally:
        for each in [each for each in REGISTRY._collector_to_names if each not in before]:
            REGISTRY.unregister(each)


def test_groups_and_their_members_are_counted_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus.figures, "groups", lambda: {"default": (2, 5)})
    groups, members = prometheus._groups()
    assert [(each.labels, each.value) for each in groups.samples] == [({"layer": "default"}, 2)]
    assert [(each.labels, each.value) for each in members.samples] == [({"layer": "default"}, 5)]


@pytest.mark.parametrize("installed", [True, False])
def test_metrics_of_other_processes_come_with_the_operations_app(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = list(prometheus.collector.collect())
    part = {"families": [gathering.packed(metric) for metric in own]}

    async def ask(operation: str, question: Any) -> Any:
        return SimpleNamespace(parts={gathering.process_name(): [part], "other:1": [part, {}]})

    monkeypatch.setattr(gathering, "ask", ask)
    monkeypatch.setattr(gathering.apps, "is_installed", lambda name: installed)
    found = dict(gathering.gather(lambda: own))
    assert list(found) == [gathering.process_name(), *["other:1"] * installed]
    if installed:
        assert [metric.name for metric in found["other:1"]] == [metric.name for metric in own]


# Groups


def test_an_outage_that_is_known_is_logged_once_and_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker("default", MemoryStore())
    breaker.failed(StoreError("reset"))
    assert not breaker.is_open  # the next call may succeed
    breaker.failed(StoreError("reset"))
    assert caplog.text.count("messages are not kept until it recovers") == 1
    breaker.succeeded()
    assert "has recovered" in caplog.text


def test_a_newer_hole_stays_when_an_older_one_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = Breaker("default", MemoryStore())
    monkeypatch.setattr(breaker, "_start_timer", lambda: None)
    kind = Kind("*", History())
    breaker.add_hole("g", kind)
    older = breaker.hole("g")
    breaker.add_hole("g", kind)
    assert older is not None
    breaker.fill_hole("g", older)
    newer = breaker.hole("g")
    assert newer not in (None, older)
    breaker.fill_hole("g", cast(int, newer))
    assert breaker.hole("g") is None


def test_a_history_of_many_pages_is_read_to_its_end(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {"pages.*": {"history": {"count": 1000}}}}
    group = Group("pages.1")

    async def main() -> None:
        for number in range(250):
            await group.asend([number])
        assert [entry.message for entry in await group.ahistory()] == [[number] for number in range(250)]
        assert [entry.offset for entry in await group.ahistory(after=200, limit=3)] == [201, 202, 203]
        assert await group.ahistory(limit=0) == []
        assert len(await group.ahistory(limit=200)) == 200
        await group.aclear()

    asyncio.run(main())


def test_a_client_that_joins_during_an_outage_learns_its_position_afterwards(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {"late.*": {"history": True, "state": True}}}
    group = Group("late.1")
    app = joining_app(group)

    async def refuse(*arguments: Any, **options: Any) -> Any:
        raise StoreError("away")

    async def main() -> None:
        async with asyncio.timeout(30):
            await group.asend(["before"])
            with monkeypatch.context() as away:
                away.setattr(MemoryStore, "read", refuse)
                away.setattr("fastws_compat.groups.feeds.RETRY_INTERVAL", 0.05)
                async with client(app) as one:
                    joined = await one.until("joined")
                    assert (joined["epoch"], joined["offset"]) == (None, 0)
                    away.undo()
                    assert (await one.until("lost"))["offset"] == 1

    asyncio.run(main())


# Commands


def test_a_ping_to_a_closed_connection_has_no_answer() -> None:
    class Closed:
        async def ping(self) -> Any:
            raise ConnectionClosedOK(None, None)

    connected = NetworkClient.__new__(NetworkClient)
    connected._connection = cast(Any, Closed())
    assert asyncio.run(connected.ping()) is None
