"""Typed messages as the client of a test sends and reads them."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, TypeAdapter

from fastws_compat.messages.contract import Contract
from fastws_compat.messages.frames import ERROR, ErrorFrame
from fastws_compat.messages.inputs import as_input, as_sent
from fastws_compat.messages.members import Members
from fastws_compat.types import Message


def contract_of(route: Any, path: str) -> Contract:
    """The messages of a route; RuntimeError if it does not declare them."""
    contract: Contract | None = getattr(route, "contract", None)
    if contract is None:
        raise RuntimeError(
            f"The route at {path} does not say what its messages are: give it a TypedWebSocket[In, Out] or "
            "receives= and sends=, or use send_json() and receive_json()."
        )
    return contract


def encode(contract: Contract, message: Any) -> Message:
    """The frame of a message that a client sends; it is not validated, because the route does that."""
    if isinstance(message, bytes | bytearray | str):
        return _encode_raw(contract.incoming.members, message)
    return _json_frame(message)


def _encode_raw(members: Members, message: bytes | bytearray | str) -> Message:
    """The frame of a text or of bytes: as it is if the route takes that, else as JSON."""
    member = members.text if isinstance(message, str) else members.binary
    if member is not None:
        return _raw_frame(message)
    if not members.json:
        raise TypeError(f"The route does not take {type(message).__name__} from its client.")
    return _json_frame(message)


def _raw_frame(message: bytes | bytearray | str) -> Message:
    if isinstance(message, str):
        return {"type": "websocket.receive", "text": message}
    return {"type": "websocket.receive", "bytes": bytes(message)}


def _json_frame(message: Any) -> Message:
    value = as_sent(type(message), json.loads(_dumped(message)))
    return {"type": "websocket.receive", "text": json.dumps(value, ensure_ascii=False, separators=(",", ":"))}


def decode(contract: Contract, message: Message) -> Any:
    """The message of Out, or the ErrorFrame, in a frame of the application."""
    text: str | None = message.get("text")
    if text is None:
        return message["bytes"]
    if contract.outgoing.members.text is None and _is_error(contract, value := json.loads(text)):
        return _error(contract, value)
    return contract.outgoing.decode(text)


def _dumped(message: Any) -> bytes:
    if isinstance(message, BaseModel):
        return message.model_dump_json(by_alias=True, round_trip=True).encode()
    return TypeAdapter(type(message)).dump_json(message, by_alias=True, round_trip=True)


def _is_error(contract: Contract, value: Any) -> bool:
    return isinstance(value, dict) and value.get(contract.tag) == ERROR


def _error(contract: Contract, value: dict[str, Any]) -> ErrorFrame:
    kind = contract.error_frame
    if kind is not ErrorFrame:
        return kind.model_validate(as_input(kind, value), by_alias=True, by_name=True)
    return ErrorFrame(status=value["status"], detail=value["detail"], id=value.get("id"))
