"""What a route's messages are: the types of both sides, compiled once, and the handling of invalid ones."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastws_compat.dependencies.annotations import is_subclass, substituted
from fastws_compat.exceptions import DeclarationError
from fastws_compat.limits import Limits
from fastws_compat.messages.frames import Call, ErrorFrame
from fastws_compat.messages.incoming import PONG, Incoming, look_first, refuse_ping
from fastws_compat.messages.members import bases_of, name_of_type, types_of
from fastws_compat.messages.names import base_of
from fastws_compat.messages.outgoing import Outgoing
from fastws_compat.messages.serializers import Serializer

OnInvalid = Literal["answer", "close", "raise"]
DEFAULT_TAG = "type"
DEFAULT_MAX_INVALID = 10
# What an error frame says besides its tag: a field of such a name cannot be the tag of errors.
SAID_BY_ERRORS = ErrorFrame.model_fields.keys() - {DEFAULT_TAG}


@dataclass(frozen=True, slots=True)
class Contract:
    """The messages of a route, for its socket and for the documents that describe it."""

    incoming: Incoming
    outgoing: Outgoing
    # The name, in a frame, of the field that tells messages apart; error frames have it too.
    tag: str
    # By class of a Call in In, the class (or union) of its reply.
    replies: Mapping[type[Any], Any]
    # Whether the endpoint has a TypedWebSocket; False where `receives=` and `sends=` only document.
    enforced: bool = True
    heartbeat: bool = False
    on_invalid: OnInvalid = "answer"
    max_invalid: int | None = DEFAULT_MAX_INVALID
    # What `receive_message` calls with the text of a frame; LookFirst if that takes more than a call.
    validate_text: Callable[[str], Any] = look_first
    # What `send_message` calls with a value, by its class.
    serializers: Mapping[type[Any], Serializer] = field(default_factory=dict)

    @property
    def pong(self) -> str:
        """The text of the frame that answers a ping."""
        return f'{{"{self.tag}":"{PONG}"}}'

    @property
    def receives(self) -> tuple[Any, ...]:
        """The member types of In in their order; empty for None. `bytes` and a raw `str` are members too."""
        return self.incoming.members.types

    @property
    def sends(self) -> tuple[Any, ...]:
        """The member types of Out in their order; empty for None."""
        return self.outgoing.members.types

    @property
    def received_by_tag(self) -> Mapping[Any, Any]:
        """By value of the tag, the member of In; empty if they have no tag."""
        return self.incoming.members.tagged

    @property
    def sent_by_tag(self) -> Mapping[Any, Any]:
        """By value of the tag, the member of Out; empty if they have no tag."""
        return self.outgoing.members.tagged

    @property
    def binary_json(self) -> bool:
        return self.incoming.binary_json

    @property
    def error_frame(self) -> type[ErrorFrame]:
        """The class of error frames: ErrorFrame, or the subclass of it in Out."""
        return self.outgoing.error_frame

    def under(self, limits: Limits) -> Contract:
        """The contract under these limits, which say what happens to invalid messages."""
        return dataclasses.replace(
            self,
            on_invalid=limits.compiled("on_invalid", "answer"),
            max_invalid=limits.compiled("max_invalid", DEFAULT_MAX_INVALID),
        )


def compile_contract(
    received: Any,
    sent: Any,
    where: str,
    *,
    namespace: Mapping[str, Any] = {},
    enforced: bool = True,
    binary_json: bool = False,
    heartbeat: bool = False,
    has_functions: bool = False,
) -> Contract:
    """The contract of a route whose clients send `received` and get `sent`.

    Raises DeclarationError for types that cannot be messages, and its subclass MissingTypeError for a type
    that is not defined yet.
    """
    incoming = Incoming(received, where, namespace, binary_json, has_functions)
    outgoing = Outgoing(sent, where, namespace)
    if heartbeat:
        refuse_ping(incoming.members, where)
    return Contract(
        incoming,
        outgoing,
        tag=_tag_of(incoming.members.tag, outgoing.members.tag, enforced=enforced),
        replies=_replies(incoming, outgoing, where),
        enforced=enforced,
        heartbeat=heartbeat,
        validate_text=_validator(incoming, heartbeat),
        serializers=outgoing.serializers,
    )


def _tag_of(*tags: str | None, enforced: bool) -> str:
    """The first of the tags that error frames can have too, where there are error frames."""
    taken = SAID_BY_ERRORS if enforced else ()
    return next((tag for tag in tags if tag and tag not in taken), DEFAULT_TAG)


def _validator(incoming: Incoming, heartbeat: bool) -> Callable[[str], Any]:
    """The validator of text frames; LookFirst if a ping may be a valid message."""
    return look_first if heartbeat and not incoming.members.tagged else incoming.validate_text


def members_of_reply(call: type[Any]) -> tuple[Any, ...]:
    """The classes that may answer a call."""
    reply = reply_type(call)
    names = getattr(sys.modules.get(call.__module__), "__dict__", {})
    return () if reply is None else types_of(reply, names)


def _replies(incoming: Incoming, outgoing: Outgoing, where: str) -> dict[type[Any], Any]:
    calls = {kind: base_of(kind) for kind in incoming.members.json if is_subclass(base_of(kind), Call)}
    for call in calls.values():
        for reply in bases_of(members_of_reply(call)) - bases_of(outgoing.members.types):
            raise DeclarationError(
                f"{where} takes {call.__name__}, whose reply {name_of_type(reply)} is not among the messages "
                "that it sends: add it to Out."
            )
    return {kind: reply_type(call) for kind, call in calls.items()}


def reply_type(call: type[Any]) -> Any:
    """The R of a class that inherits from `Call[R]`, directly or not; None if there is no R."""
    generics = list(filter(_is_call, map(_generic, call.__mro__)))
    reply = next((found["args"][0] for found in generics if found["origin"] is Call), None)
    for found in reversed(generics):  # from Call to the class itself
        variables = _generic(found["origin"])["parameters"]
        reply = substituted(reply, dict(zip(variables, found["args"], strict=True)))
    return reply


def _generic(kind: type[Any]) -> Any:
    """What pydantic knows about the type arguments of a model; empty for another class."""
    return getattr(kind, "__pydantic_generic_metadata__", {})


def _is_call(generic: Any) -> bool:
    """Whether a class is a generic subclass of Call with arguments."""
    return is_subclass(generic.get("origin"), Call)
