"""Channel layers with a mistyped alias, and layers that cannot be created."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer
from django.core.exceptions import ImproperlyConfigured

from fastws_compat import FastAPI, WebSocket
from fastws_compat.checks.layers import check_backends
from fastws_compat.groups import Group, record
from fastws_compat.groups.reader import ChannelReader
from fastws_compat.layers.client import layer_of
from fastws_compat.layers.local import LocalLayer
from fastws_compat.testclient import TestClient
from tests.fake_server import until
from tests.test_checks import ids

IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}


class Broken(InMemoryChannelLayer):
    def __init__(self, **config: Any) -> None:
        raise KeyError("REDIS_URL")


BROKEN = {"BACKEND": f"{__name__}.Broken"}
NOT_THERE = {"BACKEND": "no.such.Layer"}
CASES = [
    ({"default": IN_MEMORY}, "chta", r"CHANNEL_LAYERS has no 'chta'\. Its layers are: 'default'"),
    ({"defualt": IN_MEMORY}, "default", r"CHANNEL_LAYERS has no 'default'\. Its layers are: 'defualt'"),
    ({}, "chat", r"CHANNEL_LAYERS has no 'chat'\. Its layers are: none"),
    ({"default": BROKEN}, "default", r"Channel layer 'default' cannot be created: KeyError: 'REDIS_URL'"),
    ({"default": IN_MEMORY, "chat": BROKEN}, "chat", r"Channel layer 'chat' cannot be created"),
    ({"default": NOT_THERE}, "default", r"Cannot import BACKEND"),
    ({"default": {}}, "default", r"No BACKEND specified"),
]


def join(group: Group) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(group)

    with TestClient(app).websocket_connect("/ws") as socket:
        socket.receive()


WAYS = {
    "asend": lambda group: asyncio.run(group.asend("hi")),
    "send": lambda group: group.send("hi"),
    "send_on_commit": lambda group: group.send_on_commit("hi"),
    "disconnect": lambda group: group.disconnect(),
    "join": join,
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("declared", "alias", "problem"), CASES)
def test_a_missing_layer_is_an_error(
    settings: Any, declared: Any, alias: str, problem: str, way: Any
) -> None:
    settings.CHANNEL_LAYERS = declared
    with record() as sent, pytest.raises(InvalidChannelLayerError, match=problem):
        way(Group("g", layer=alias))
    assert sent == []


def test_without_any_layer_groups_are_local_to_the_process(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    assert isinstance(layer_of("default"), LocalLayer)


# System checks


@pytest.mark.parametrize("backend", [BROKEN, NOT_THERE, {}])
def test_check_of_a_layer_that_cannot_be_created(settings: Any, backend: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": IN_MEMORY, "chat": backend}
    settings.DEBUG = True
    assert "E009" in ids()


def test_check_of_a_layer_whose_error_is_a_sentence(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, **config: Any) -> None:
        raise ImproperlyConfigured("Set REDIS_URL.")

    monkeypatch.setattr(Broken, "__init__", refuse)
    settings.CHANNEL_LAYERS = {"chat": BROKEN}
    [found] = check_backends()
    assert found.msg == "The channel layer 'chat' cannot be created: ImproperlyConfigured: Set REDIS_URL."


def test_check_of_a_group_whose_layer_is_mistyped(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("wsproject.rooms")
    module.group = Group("g", layer="chta")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.DEBUG = True
    settings.CHANNEL_LAYERS = {"default": IN_MEMORY}
    assert ids() == ["E010"]
    settings.CHANNEL_LAYERS = {"default": IN_MEMORY, "chta": IN_MEMORY}
    assert ids() == []


def test_the_local_layer_with_two_channels_in_a_group() -> None:
    layer = LocalLayer()

    async def main() -> list[Any]:
        left, stays, forgotten = [await layer.new_channel() for _ in range(3)]
        for channel in (left, stays, forgotten):
            await layer.group_add("g", channel)
        await layer.group_discard("g", left)
        layer.forget(forgotten)
        await layer.group_send("g", {"text": "hi"})
        assert layer.channels[left][1].empty()
        return [await layer.receive(stays), layer.channels[stays][1].empty()]

    assert asyncio.run(main()) == [{"text": "hi"}, True]


def test_the_local_layer_with_a_channel_of_a_loop_that_has_ended() -> None:
    layer = LocalLayer()

    async def join() -> str:
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        return channel

    ended = asyncio.run(join())

    async def main() -> Any:
        here = await join()
        await layer.group_send("g", {"text": "hi"})
        return await layer.receive(here)

    assert asyncio.run(main()) == {"text": "hi"}
    assert layer.channels[ended][1].empty()


class Immediate:
    """A layer that never lets other tasks run."""

    def __init__(self) -> None:
        self.numbers = iter(range(10))

    async def new_channel(self) -> str:
        return "channel"

    async def receive(self, channel: str) -> Any:
        if (number := next(self.numbers, None)) is None:
            await asyncio.Event().wait()
        return {"number": number}


async def filled() -> LocalLayer:
    """A layer in whose only channel messages wait."""
    layer = LocalLayer()
    channel = await layer.new_channel()
    for number in range(10):
        layer.channels[channel][1].put_nowait({"number": number})
    return layer


@pytest.mark.parametrize("is_own", [True, False])
def test_other_tasks_run_between_two_messages(is_own: bool) -> None:
    """Otherwise, a member could not send what it has received before its queue is full."""
    seen: list[int] = []
    turns = 0

    async def other() -> None:
        nonlocal turns
        while len(seen) < 10:
            turns += 1
            await asyncio.sleep(0)

    async def handle(message: Any, group: Any) -> None:
        seen.append(turns)

    async def main() -> None:
        layer: Any = await filled() if is_own else Immediate()
        reader = ChannelReader(layer, None, handle, pytest.fail)
        reader.channel = next(iter(layer.channels)) if is_own else None
        running = asyncio.create_task(other())
        await reader.open()
        await until(lambda: len(seen) == 10)
        await running
        reader.close()

    asyncio.run(main())
    assert len(set(seen)) == 10
