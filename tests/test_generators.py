"""Generator dependencies that are open on a connection end as on contextlib's exit stack, and cost less."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.dependencies.generators import Opened, Teardown, enter, open_generator
from tests.fake_server import converse

Log = list[object]


def ends(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    async def generator() -> AsyncIterator[int]:
        try:
            yield name
        except BaseException as exc:
            log.append((name, repr(exc), repr(exc.__context__)))
            raise
        log.append((name, "ended"))

    return generator


def swallows(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    async def generator() -> AsyncIterator[int]:
        try:
            yield name
        except Exception as exc:
            log.append((name, "swallowed", repr(exc)))

    return generator


def fails(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    async def generator() -> AsyncIterator[int]:
        try:
            yield name
        finally:
            log.append((name, "failed"))
            raise ValueError(name)

    return generator


def waits(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    async def generator() -> AsyncIterator[int]:
        try:
            yield name
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.append((name, "waited"))

    return generator


def yields_twice(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    async def generator() -> AsyncIterator[int]:
        try:
            yield name
            yield name
        finally:
            log.append((name, "closed"))

    return generator


def yields_nothing(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    async def generator() -> AsyncIterator[int]:
        log.append((name, "yields nothing"))
        for item in ():
            yield item

    return generator


class Proxy:
    """A generator as a tracing tool wraps it: what it returns can only be awaited."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __anext__(self) -> Any:
        return Awaited(self._generator.__anext__())

    def athrow(self, *args: Any) -> Any:
        return Awaited(self._generator.athrow(*args))

    def aclose(self) -> Any:
        return Awaited(self._generator.aclose())


class Awaited:
    def __init__(self, work: Any) -> None:
        self._work = work

    def __await__(self) -> Iterator[Any]:
        return self._work.__await__()  # type: ignore[no-any-return]


def is_proxied(log: Log, name: int) -> Callable[[], AsyncIterator[int]]:
    generator = waits(log, name)
    return cast(Any, lambda: Proxy(generator()))


KINDS = [ends, swallows, fails, waits, yields_twice, yields_nothing, is_proxied]
BODIES = [None, KeyError("body"), asyncio.CancelledError("body")]


async def on_an_exit_stack(generators: list[Any], body: BaseException | None, log: Log) -> None:
    async with AsyncExitStack() as stack:
        for generator in generators:
            log.append(await stack.enter_async_context(asynccontextmanager(generator)()))
        if body is not None:
            raise body


async def as_open_generators(
    generators: list[Any], managed: list[bool], body: BaseException | None, log: Log
) -> None:
    opened: Opened = []

    async def work() -> None:
        for generator, is_managed in zip(generators, managed, strict=True):
            if is_managed:
                log.append(await enter(opened, asynccontextmanager(generator)()))
            else:
                log.append(await open_generator(opened, generator()))
        if body is not None:
            raise body

    with Teardown() as teardown:
        await teardown.after(work(), opened)


def outcome(run: Callable[[Log], Any]) -> tuple[Log, str]:
    log: Log = []

    async def main() -> str:
        try:
            await run(log)
        except BaseException as exc:
            return f"{exc!r} after {exc.__context__!r}, because of {exc.__cause__!r}"
        return "no exception"

    return log, asyncio.run(main())


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), max_size=4),
    st.sampled_from(BODIES),
)
@example([(yields_twice, False), (waits, False)], None)  # chance does not always find it
@example([(waits, False), (yields_twice, False)], None)
def test_they_end_as_on_an_exit_stack(
    kinds: list[tuple[Callable[[Log, int], Any], bool]], body: BaseException | None
) -> None:
    def made(log: Log) -> list[Any]:
        return [kind(log, name) for name, (kind, _) in enumerate(kinds)]

    def fresh() -> BaseException | None:
        return None if body is None else type(body)(*body.args)

    managed = [is_managed for _, is_managed in kinds]
    theirs = outcome(lambda log: on_an_exit_stack(made(log), fresh(), log))
    assert outcome(lambda log: as_open_generators(made(log), managed, fresh(), log)) == theirs


async def connect(app: FastAPI) -> None:
    messages = iter([{"type": "websocket.connect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        pass

    scope = {"type": "websocket", "path": "/", "root_path": "", "query_string": b"", "headers": []}
    await app(scope, receive, send)


def timers(app: FastAPI) -> list[float]:
    """The delays of the timers that a connection sets."""

    async def main() -> list[float]:
        loop, seen = asyncio.get_running_loop(), []
        call_later = loop.call_later

        def spy(delay: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
            seen.append(delay)
            handles.append(call_later(delay, *args, **options))
            return handles[-1]

        handles: list[asyncio.TimerHandle] = []
        await connect(app)  # the first connection of a loop starts the monitor
        loop.call_later = spy  # type: ignore[assignment]
        await connect(app)
        assert all(handle.cancelled() for handle in handles)
        return seen

    return asyncio.run(main())


@pytest.mark.parametrize(("waiting", "expected"), [((), []), ((0,), [10]), ((0, 1), [10, 10])])
def test_only_a_cleanup_that_waits_sets_a_timer(waiting: tuple[int, ...], expected: list[float]) -> None:
    app = FastAPI()

    def resource(number: int) -> Callable[[], AsyncIterator[None]]:
        async def generator() -> AsyncIterator[None]:
            yield
            if number in waiting:
                event = asyncio.Event()
                asyncio.get_running_loop().call_soon(event.set)
                await event.wait()

        return generator

    needed = [Depends(resource(0)), Depends(resource(1), scope="function")]

    @app.websocket("/", dependencies=needed)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    assert timers(app) == expected


def exit_stacks() -> list[AsyncExitStack]:
    return [item for item in gc.get_objects() if isinstance(item, AsyncExitStack)]


def test_an_open_connection_with_a_generator_holds_no_exit_stack() -> None:
    app, seen = FastAPI(), []

    async def resource() -> AsyncIterator[None]:
        yield

    @app.websocket("/", dependencies=[Depends(resource)])
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        seen.extend(exit_stacks())

    asyncio.run(connect(app))  # what a process does only once, such as imports, may use some
    seen.clear()
    gc.collect()
    of_others = exit_stacks()  # kept alive, so that no new one has the identity of an old one
    asyncio.run(connect(app))
    assert [stack for stack in seen if all(stack is not other for other in of_others)] == []


def test_a_cleanup_that_never_ends_is_cancelled_again_and_again(settings: Any) -> None:
    app, log = FastAPI(), []
    settings.FASTWS = {"CLEANUP_TIMEOUT": 0.01}

    def resource(name: str) -> Callable[[], AsyncIterator[None]]:
        async def generator() -> AsyncIterator[None]:
            yield
            try:
                await asyncio.Event().wait()
            finally:
                log.append(name)
                await asyncio.Event().wait()

        return generator

    needed = [Depends(resource("request")), Depends(resource("function"), scope="function")]

    @app.websocket("/", dependencies=needed)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    asyncio.run(asyncio.wait_for(connect(app), 30))
    assert log == ["function"]  # the request's one is thrown the cancellation, and has nothing to wait for


def test_another_thread_is_importing_anyio(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the first sync dependency and the first generator of a process begin at the same time."""
    spec = ModuleSpec("anyio._backends._asyncio", None)
    spec._initializing = True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, spec.name, module_from_spec(spec))
    app = FastAPI()

    async def resource() -> AsyncIterator[str]:
        yield "open"

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, state: str = Depends(resource)) -> None:
        await websocket.accept()
        await websocket.send_text(state)

    sent = converse(app)
    assert [message.get("text") for message in sent] == [None, "open", None]
