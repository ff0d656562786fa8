"""The socket whose messages have types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, Unpack, cast

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from fastws_compat.connections.misuse import NOT_ACCEPTED
from fastws_compat.connections.pipe import hang_up
from fastws_compat.connections.states import CONNECTED, DISCONNECTED, HANDLERS, disconnect_exception
from fastws_compat.datastructures import State
from fastws_compat.dependencies.annotations import is_subclass
from fastws_compat.exception_handlers import run
from fastws_compat.exceptions import PHRASES, DeclarationError, ResponseValidationError
from fastws_compat.messages.contract import Contract, compile_contract, members_of_reply
from fastws_compat.messages.errors import (
    CLOSE_CODES,
    MISFIT,
    REASONS,
    MessageValidationError,
    error_frame,
    id_of,
    parsed,
)
from fastws_compat.messages.frames import ERROR, Call, ReplyT
from fastws_compat.messages.incoming import LookFirst, is_ping
from fastws_compat.messages.members import Classes, bases_of, evaluate, name_of_type
from fastws_compat.messages.names import base_of
from fastws_compat.messages.outgoing import Outgoing
from fastws_compat.types import Message
from fastws_compat.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

if TYPE_CHECKING:
    from fastws_compat.groups.arrivals import Joined, JoinOptions
    from fastws_compat.groups.group import Group

InT = TypeVar("InT")
OutT = TypeVar("OutT")


# What `_read` returns for a frame that is not a message for the endpoint.
NOTHING: Any = object()


class Dispatcher(Protocol):
    """The functions for messages (`messages.dispatch`)."""

    async def call(self, websocket: Any, message: Any) -> None: ...


class TypedWebSocket(WebSocket[State], Generic[InT, OutT]):
    """A WebSocket whose client sends messages of the type In and gets messages of the type Out.

    It also has every method of a plain WebSocket; those do not validate.
    """

    # The defaults are in the class: a socket holds only what differs.
    _contract: Contract | None = None
    # The number of consecutive invalid messages.
    _misfits = 0
    # What `serve` calls, and the values of the handshake for it.
    _dispatch: Dispatcher | None = None
    _handshake: Any = None
    # The member of In that the last message is, where its class does not say it.
    _member: Any = None
    # Called when the socket has been accepted.
    _on_accept: Callable[[], None] | None = None
    #: In and Out; None for the class itself, which is no annotation yet.
    forms: ClassVar[tuple[Any, Any] | None] = None

    def __class_getitem__(cls, item: Any) -> Any:
        if cls is not TypedWebSocket:
            raise TypeError(f"{cls.__name__} has its messages already.")
        if not isinstance(item, tuple) or len(item) != 2:
            raise DeclarationError(
                "TypedWebSocket takes two types, what the client sends and what it gets: "
                "TypedWebSocket[Question, Answer], with None for nothing."
            )
        return _classes.get(item, lambda: _new_class(item))  # the same one each time: routes compare it

    @property
    def contract(self) -> Contract:
        """The messages of the route, compiled."""
        if self._contract is None:  # a socket that no route has made
            received, sent = self.forms or (Any, Any)
            self.bind(compile_contract(received, sent, type(self).__name__))
        return cast(Contract, self._contract)

    def bind(self, contract: Contract, dispatch: Dispatcher | None = None) -> None:
        """Use the messages of a route, and have `serve` call its functions."""
        self._contract = contract
        if dispatch is not None:
            self._dispatch = dispatch

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        await super().accept(subprotocol, headers)
        if self._on_accept is not None:
            self._on_accept()

    async def join(self, *groups: Group[Any] | str, **options: Unpack[JoinOptions]) -> Joined:
        """As for a plain WebSocket; TypeError for a group whose messages this route does not send."""
        for group in groups:
            if not isinstance(group, str) and group.outgoing is not None:
                _check_group(type(group), self.contract)
        return await super().join(*groups, **options)

    async def receive_message(self) -> InT:
        """The next valid message; an invalid one is answered as the route declares (`on_invalid`).

        Raises WebSocketDisconnect at the end.
        """
        if self.application_state is not CONNECTED:
            await self._pause_after_errors()
            raise WebSocketDisconnected(NOT_ACCEPTED)
        contract = self._contract or self.contract
        while True:
            if self.client_state is self._direct:
                # The same as `receive`, inlined, as in receive_text.
                self._receive_calls += 1
                try:
                    message = await self._receive()
                finally:
                    self._receive_returns += 1
                text = message.get("text")
                if text is None or len(text) > self._surely_fits:
                    message = await self._checked(message)
                    text = message.get("text")
            else:
                message = await self.receive()
                text = message.get("text")
            if text is not None:
                try:
                    valid = contract.validate_text(text)
                except ValidationError as exc:
                    # `_read` says what is wrong. A traceback would hold this frame, which holds the error.
                    failure = exc.with_traceback(None)
                except (RecursionError, LookFirst):
                    failure = None
                else:
                    if self._misfits:
                        self._misfits = 0
                    return valid  # type: ignore[no-any-return]
            else:
                failure = None
            if (valid := await self._read(message, failure)) is not NOTHING:
                return valid  # type: ignore[no-any-return]

    async def _read(self, message: Message, failure: ValidationError | None) -> Any:
        """The message for the endpoint in a frame; NOTHING without one, and the client has been told why.

        `failure` is what `validate_text` found wrong with it, if it was asked.
        """
        if message["type"] == "websocket.disconnect":
            raise disconnect_exception(self, message)
        contract, frame = self.contract, _frame_of(message)
        if contract.heartbeat and self._is_ping(frame):
            await self.send_text(contract.pong)
            return NOTHING
        try:
            valid = contract.incoming.read(frame, failure)
        except MessageValidationError as error:
            await self._refuse(error)
            return NOTHING
        self._misfits = 0
        if contract.incoming.gives_choices:
            self._member, valid = valid
        return valid

    def _is_ping(self, frame: str | bytes) -> bool:
        return (isinstance(frame, str) or self.contract.binary_json) and is_ping(frame, self.contract.tag)

    async def _refuse(self, error: MessageValidationError) -> None:
        """Answer an invalid message, close the socket or raise, as the route declares."""
        contract = self.contract
        self._misfits += 1
        found = parsed(error.body)
        is_error = found.get(contract.tag) == ERROR
        if contract.on_invalid == "close" or self._has_too_many_misfits():
            await self._hang_up(MISFIT if is_error else error.status)
        elif contract.on_invalid == "raise":
            self._client_error = (error, error.close_code)
            raise error
        elif not is_error:  # two programs that answer errors would never stop
            await self._answer_misfit(error, id_of(found.get("id")))

    def _has_too_many_misfits(self) -> bool:
        most = self.contract.max_invalid
        return most is not None and self._misfits > most

    async def _hang_up(self, status: int) -> None:
        """Close with the code for an invalid message of this status."""
        await hang_up(self, CLOSE_CODES[status], REASONS[status])

    async def _answer_misfit(self, error: MessageValidationError, id: str | int | None) -> None:
        handler = self.scope.get(HANDLERS, {}).get(MessageValidationError)
        if handler is None:
            await self._send_error_frame(error.status, error.detail, id)
        else:
            await run(handler, self, error)

    async def serve(self) -> None:
        """Call the function of the route's `handlers` for each message until the socket is closed."""
        if self._dispatch is None:
            await self._pause_after_errors()
            raise RuntimeError("serve() needs functions: write handlers=MessageRouter() beside the path.")
        try:
            while self.application_state is not DISCONNECTED:  # a function may have closed the socket
                await self._dispatch.call(self, await self.receive_message())
        except WebSocketDisconnect:
            pass

    async def iter_messages(self) -> AsyncIterator[InT]:
        """Every valid message until the client disconnects."""
        try:
            while True:
                yield await self.receive_message()
        except WebSocketDisconnect:
            pass

    def __aiter__(self) -> AsyncIterator[InT]:
        return self.iter_messages()

    async def send_message(self, message: OutT) -> None:
        """Send a message of Out; ResponseValidationError for anything else, which is not sent."""
        contract = self._contract or self.contract
        try:
            text = contract.serializers[type(message)](message).decode()
        except (KeyError, PydanticSerializationError, UnicodeError):
            text = None  # and the error of `_send_other` has no context
        if text is None:
            await self._send_other(message)
        elif self.application_state is self._direct:
            # As in send_text.
            try:
                await self._send({"type": "websocket.send", "text": text})
            except Exception as exc:
                raise await self._send_error(exc)
        else:
            await self.send({"type": "websocket.send", "text": text})

    async def _send_other(self, message: Any) -> None:
        """Send a value that is not an instance of a class in Out, or not a valid one."""
        try:
            frame = self.contract.outgoing.encode(message)
        except ResponseValidationError:
            await self._pause_after_errors()
            raise
        await (self.send_text(frame) if isinstance(frame, str) else self.send_bytes(frame))

    async def send_error(self, status: int, detail: Any = None, *, to: Any = None) -> None:
        """Send an error frame. If `to`, the message that it answers, is a `Call`, the frame has its id.

        Without `detail`, it has the standard phrase of the status.
        """
        detail = PHRASES.get(status, "") if detail is None else detail
        await self._send_error_frame(status, detail, id_of(to.id) if isinstance(to, Call) else None)

    async def _send_error_frame(self, status: int, detail: Any, id: str | int | None) -> None:
        contract = self.contract
        await self.send_text(error_frame(contract.error_frame, contract.tag, status, detail, id))

    async def reply(self, call: Call[ReplyT], reply: ReplyT) -> None:
        """Send the answer to a call, with the call's id.

        Raises ResponseValidationError for a reply of another class than the call requires.
        """
        check_reply(call, reply)
        await self.send_message(reply.model_copy(update={"id": call.id}))  # type: ignore[arg-type]


def _frame_of(message: Message) -> str | bytes:
    text: str | None = message.get("text")
    return message.get("bytes") or b"" if text is None else text


async def message_validation_exception_handler(
    websocket: TypedWebSocket[Any, Any], exc: MessageValidationError
) -> None:
    """Answer with an error frame: the built-in handler of invalid messages."""
    await websocket._send_error_frame(exc.status, exc.detail, id_of(parsed(exc.body).get("id")))


def check_reply(call: Any, reply: Any) -> None:
    """Raise ResponseValidationError unless the class of `reply` is one that the call requires."""
    expected = members_of_reply(type(call))
    if type(reply) not in expected and not isinstance(reply, tuple(expected)):
        names = " or ".join(map(name_of_type, expected))
        error = {"type": "reply_type", "loc": ("message",), "msg": f"Input should be {names}", "input": reply}
        raise ResponseValidationError([error], body=reply)


# Joining groups


def _check_group(group: type[Group[Any]], contract: Contract) -> None:
    foreign = _foreign_members(group, contract.outgoing)  # type: ignore[arg-type]
    if foreign:
        raise TypeError(
            f"A member of {group.__name__} gets {foreign}, which is not among the messages that the route "
            "sends: add it to Out."
        )


@lru_cache
def _foreign_members(group: Any, outgoing: Outgoing) -> str:
    """The messages of a group that a route does not send, in words."""
    own = bases_of(outgoing.members.types)
    members = group.outgoing.members.types
    return ", ".join(name_of_type(member) for member in members if base_of(member) not in own)


_classes = Classes()


def _new_class(forms: tuple[Any, Any]) -> type[TypedWebSocket[Any, Any]]:
    name = f"TypedWebSocket[{', '.join(map(name_of_type, forms))}]"
    return type(
        name, (TypedWebSocket,), {"forms": forms, "__module__": __name__, "__doc__": TypedWebSocket.__doc__}
    )


def with_missing_types(annotation: Any, names: Mapping[str, Any]) -> Any:
    """The class that an annotation names although types of its messages are not defined yet.

    Any other annotation is returned unchanged.
    """
    found = evaluate(annotation, names)
    return found if is_subclass(found, TypedWebSocket) else annotation
