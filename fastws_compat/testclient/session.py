"""One connection of a test client, as the test sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Literal, Self, cast

from fastws_compat.porting import foreign
from fastws_compat.testclient.conversation import Conversation
from fastws_compat.testclient.denial import WebSocketDenialResponse
from fastws_compat.testclient.portal import Portal
from fastws_compat.types import ASGIApp, Message, Scope
from fastws_compat.websockets import WebSocketDisconnect

Mode = Literal["text", "binary"]

INTERRUPTIONS = (KeyboardInterrupt, SystemExit)


class WebSocketTestSession:
    """The client's side of one connection, which is open inside `with`."""

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        portal_factory: Callable[[], AbstractContextManager[Portal]],
        *,
        timeout: float | None,
        grace: float,
    ) -> None:
        #: The application under test.
        self.app = app
        #: The scope of the connection.
        self.scope = scope
        #: Returns the portal to the event loop that the application runs in.
        self.portal_factory = portal_factory
        #: Calls functions in the application's event loop, while the connection is open.
        self.portal: Portal | None = None
        #: The subprotocol that the endpoint accepted; None if it accepted none.
        self.accepted_subprotocol: str | None = None
        #: The headers that the endpoint passed to `accept`.
        self.extra_headers: list[tuple[bytes, bytes]] | None = None
        self._timeout = timeout
        self._grace = grace
        self._accepted = False
        self._opened: Conversation | None = None
        # The route that has taken the connection; also where something above it has copied the scope.
        self._route: Any = None

    @property
    def _conversation(self) -> Conversation:
        if self._opened is None:
            raise RuntimeError("Open the connection first: `with client.websocket_connect(...) as socket:`.")
        return self._opened

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.portal = portal = stack.enter_context(self.portal_factory())
            self._accepted = False
            self._opened = Conversation(portal, self.app, self.scope)
            stack.push(self._end)
            self.send({"type": "websocket.connect"})
            answer = self._get("response to the handshake", None)
            self._raise_on_close(answer)
            self._accepted = True
            self._route = self._conversation.route
            self.accepted_subprotocol = answer.get("subprotocol")
            self.extra_headers = answer.get("headers")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def _end(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        conversation = self._conversation
        ended_itself = conversation.ended
        grace = self._hang_up(exc)
        in_time = conversation.finish(grace)
        own = conversation.exception
        if own is None and not in_time and (exc is None or isinstance(exc, WebSocketDisconnect)):
            raise _grace_exceeded(conversation, grace)
        if own is None or own is exc or isinstance(exc, INTERRUPTIONS):
            return
        if exc is not None and not ended_itself and foreign.means(own, WebSocketDisconnect):
            return  # the failure of the test matters more than how the application handled the disconnect
        raise own

    def _hang_up(self, exc: BaseException | None) -> float:
        """Disconnect and return how many seconds the application may then take to finish."""
        if isinstance(exc, INTERRUPTIONS):
            return 0
        if not self._accepted:
            return self._grace if isinstance(exc, WebSocketDisconnect) else 0
        self._conversation.put(_disconnect(1000))
        self._conversation.wait_settled()
        return self._grace if self._conversation.knows_end else 0

    def send(self, message: Message) -> None:
        """Send an ASGI message to the application; raises the application's exception if it has failed."""
        if self._conversation.exception is not None:
            raise self._conversation.exception
        self._conversation.put(message)

    def send_text(self, data: str) -> None:
        """Send a text message to the endpoint."""
        self.send({"type": "websocket.receive", "text": data})

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message to the endpoint."""
        self.send({"type": "websocket.receive", "bytes": data})

    def send_json(self, data: Any, mode: Mode = "text") -> None:
        """Send an object as JSON, in a text message or a binary one."""
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        if mode == "text":
            self.send_text(text)
        else:
            self.send_bytes(text.encode())

    def send_message(self, message: Any) -> None:
        """Send a message that the route takes: a model, `bytes` or `str`, as its types say."""
        from fastws_compat.testclient import messages

        self.send(messages.encode(messages.contract_of(self._route, self.scope["path"]), message))

    def receive_message(self, *, timeout: float | None = None) -> Any:
        """The application's next message: one of the classes that the route sends, or an ErrorFrame.

        Raises WebSocketDisconnect with the code when the application closes.
        """
        from fastws_compat.testclient import messages

        contract = messages.contract_of(self._route, self.scope["path"])
        return messages.decode(contract, self._receive_frame(timeout))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Disconnect with a code, which the application's `receive` raises or returns."""
        self.send(_disconnect(code, reason))

    def receive(self, *, timeout: float | None = None) -> Message:
        """The application's next ASGI message; TimeoutError after `timeout` or the client's own timeout."""
        return self._get("message", timeout)

    def receive_text(self, *, timeout: float | None = None) -> str:
        """Return the text of the next message from the endpoint."""
        return cast(str, self._receive_frame(timeout)["text"])

    def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """Return the content of the next message from the endpoint, which must be binary."""
        return cast(bytes, self._receive_frame(timeout)["bytes"])

    def receive_json(self, mode: Mode = "text", *, timeout: float | None = None) -> Any:
        """Return the next message from the endpoint, parsed as JSON."""
        message = self._receive_frame(timeout)
        return json.loads(message["text"] if mode == "text" else message["bytes"].decode())

    def _receive_frame(self, timeout: float | None) -> Message:
        message = self.receive(timeout=timeout)
        self._raise_on_close(message)
        return message

    def _get(self, expected: str, timeout: float | None) -> Message:
        conversation = self._conversation
        message = conversation.get(expected, self._timeout if timeout is None else timeout)
        if message is None:
            raise RuntimeError(f"{conversation} has returned and sent no {expected}.")
        return message

    def _raise_on_close(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(code=message.get("code", 1000), reason=message.get("reason", ""))
        if message["type"] == "websocket.http.response.start":
            raise WebSocketDenialResponse(
                status_code=message["status"], headers=message.get("headers", ()), content=self._read_body()
            )

    def _read_body(self) -> bytes:
        body: list[bytes] = []
        more = True
        while more:
            message = self._get("further part of the denial response", None)
            body.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(body)


def _grace_exceeded(conversation: Conversation, grace: float) -> TimeoutError:
    return TimeoutError(
        f"{conversation} was still running {grace:g} s after its connection had ended and was cancelled; "
        "TestClient(grace=...) allows more time."
    )


def _disconnect(code: int, reason: str | None = None) -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
