"""Generator endpoints: one-way streams, whose items are sent as they come."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, get_args, get_origin

from fastws_compat import conf
from fastws_compat.connections.interrupt import Cleanup, absorb_cancellation, current_task
from fastws_compat.connections.states import DISCONNECTED
from fastws_compat.dependencies.annotations import is_subclass, name_of
from fastws_compat.dependencies.signature import annotated_parameters, namespace_of, return_annotation
from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.members import NOTHING, evaluate
from fastws_compat.messages.sockets import TypedWebSocket
from fastws_compat.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
# The parameter through which the endpoint of a stream gets its socket.
SOCKET = "fastws_socket"

Endpoint = Callable[..., Any]


def as_coroutine(endpoint: Endpoint) -> Endpoint:
    """A generator endpoint as a coroutine function that sends what it yields.

    Raises DeclarationError for a generator that does not say what it yields.
    """
    own = _own_socket(endpoint)
    kind = _socket_class(endpoint, own, _item_type(endpoint))

    async def stream(**arguments: Any) -> None:
        websocket: TypedWebSocket[None, Any] = arguments.pop(SOCKET)
        running = Stream(websocket, endpoint(**arguments))
        if own is None:
            await websocket.accept()
        await running.run()

    stream.__name__ = stream.__qualname__ = name_of(endpoint)
    stream.__module__ = getattr(endpoint, "__module__", __name__)
    parameters = [
        found.replace(annotation=annotation) for found, annotation in annotated_parameters(endpoint)
    ]
    hidden = inspect.Parameter(SOCKET, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
    stream.__signature__ = inspect.Signature([*parameters, hidden])  # type: ignore[attr-defined]
    return stream


def _own_socket(endpoint: Endpoint) -> Any:
    """The class of the socket that the generator itself takes; None if it takes none."""
    classes = (annotation for _, annotation in annotated_parameters(endpoint))
    return next((found for found in classes if is_subclass(found, WebSocket)), None)


def _item_type(endpoint: Endpoint) -> Any:
    annotation = return_annotation(endpoint)
    if isinstance(annotation, str):
        annotation = evaluate(annotation, namespace_of(endpoint))
    if get_origin(annotation) not in STREAMS:
        name = name_of(endpoint)
        raise DeclarationError(
            f"WebSocket endpoint {name} is a generator: an endpoint has no 'yield', unless it says what it "
            f"yields: write 'async def {name}(...) -> AsyncIterator[Item]'."
        )
    return get_args(annotation)[0]


def _socket_class(endpoint: Endpoint, own: Any, item: Any) -> Any:
    """The class of the stream's socket, whose client sends nothing."""
    where = f"WebSocket endpoint {name_of(endpoint)}"
    if not is_subclass(own, TypedWebSocket) or own.forms is None:
        return TypedWebSocket[None, item]
    received, sent = own.forms
    if received not in NOTHING:
        raise DeclarationError(f"{where} is a stream, which reads nothing: write TypedWebSocket[None, ...].")
    if sent != item:
        raise DeclarationError(f"{where} yields {item}, but its TypedWebSocket sends {sent}: write the same.")
    return own


class Stream:
    """One run of a generator endpoint: its items are sent while the client is watched.

    The generator runs in the connection's own task, because timeouts inside it belong to that task. A second
    task reads: it answers the client's messages, and cancels the generator when the client leaves.
    """

    def __init__(self, websocket: TypedWebSocket[None, Any], items: AsyncGenerator[Any, None]) -> None:
        self._websocket = websocket
        self._items = items
        self._task = current_task()
        self._reader: asyncio.Task[None] | None = None
        self._client_left = False
        # How often the task was cancelled from here.
        self._cancels = 0
        self._failure: Exception | None = None
        self._cleanup = Cleanup("a stream")
        websocket._on_accept = self._start_reading

    def _start_reading(self) -> None:
        self._reader = asyncio.create_task(self._read())

    async def run(self) -> None:
        """Send every item; return when there are no more or when the client has left."""
        with self._cleanup:
            try:
                await self._send_while_connected()
            finally:
                self._websocket._on_accept = None
                try:
                    await self._stop_reading()
                finally:
                    await self._close()
        if self._failure is not None:
            raise self._failure

    async def _send_while_connected(self) -> None:
        try:
            await self._send_items()
        except asyncio.CancelledError:
            self._absorb()
        except WebSocketDisconnect:
            if not self._client_left and self._reader is None:
                raise

    async def _send_items(self) -> None:
        async for item in self._items:
            if self._client_left:
                break  # pragma: no cover - CPython 3.11 does not trace it (python/cpython#106749)
            await self._websocket.send_message(item)

    async def _read(self) -> None:
        try:
            # In is None, so each frame is answered, and nothing comes out until the client leaves.
            await anext(self._websocket.iter_messages(), None)
        except WebSocketDisconnected:
            pass
        except Exception as exc:
            self._failure = exc
        has_lost = self._websocket._unread  # an answer failed, because the client has left
        if self._websocket.application_state is DISCONNECTED and not has_lost:
            return  # the generator has closed the socket, and may have more to do
        self._client_left = True
        while True:
            self._cancels += 1
            self._task.cancel()
            await asyncio.sleep(conf.get("CLEANUP_TIMEOUT") or 10)

    def _absorb(self) -> None:
        """Take back what was cancelled from here; raise what was cancelled elsewhere."""
        cancels, self._cancels = self._cancels, 0
        if not cancels or not absorb_cancellation(cancels):
            raise asyncio.CancelledError

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        if self._cancels:  # the client left at the moment when the generator ended
            self._absorb()

    async def _close(self) -> None:
        """Have the generator clean up, in this task and within `CLEANUP_TIMEOUT`."""
        self._cleanup.begin()
        await self._cleanup.limit(self._items.aclose())
