"""What a client may send: frames become values of In."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.errors import misfit, not_json, wrong_frame
from fastws_compat.messages.members import Members, adapter_of, members_of, name_of_type

# The tag's values of a heartbeat.
PING, PONG = "ping", "pong"


class Incoming:
    """The messages of one side, with a validator for each kind of frame."""

    __slots__ = ("_bytes", "_text", "adapter", "binary_json", "members")

    def __init__(self, form: Any, where: str, namespace: Mapping[str, Any], binary_json: bool) -> None:
        self.members: Members = members_of(form, "receives", where, namespace)
        members = self.members
        self.adapter: TypeAdapter[Any] | None = None
        if members.form is not None:
            self.adapter = adapter_of(members.form, where)
        self._text = None if members.text in (None, str) else adapter_of(members.text, where)
        self._bytes = None if members.binary in (None, bytes) else adapter_of(members.binary, where)
        self.binary_json = binary_json
        if binary_json and members.binary is not None:
            raise DeclarationError(
                f"{where} has binary_json=True and takes 'bytes': a binary frame could be either. Leave one "
                "of them out."
            )
        if binary_json and not members.json:
            raise DeclarationError(f"{where} has binary_json=True, but its clients send no JSON.")

    @property
    def validate_json(self) -> Callable[[str | bytes], Any] | None:
        """pydantic's validator for the JSON messages; None if there are none."""
        return None if self.adapter is None else self.adapter.validator.validate_json

    def read(self, frame: str | bytes) -> Any:
        """The message in a frame; MessageValidationError if it does not fit."""
        if isinstance(frame, str):
            if self.members.text is not None:
                return _validated(self._text, frame)
            if self.adapter is None:
                raise wrong_frame(frame, self._expected("text"))
        elif self.members.binary is not None:
            return _validated(self._bytes, frame)
        elif not self.binary_json:
            raise wrong_frame(frame, self._expected("binary"))
        assert self.adapter is not None
        try:
            return self.adapter.validator.validate_json(frame)
        except ValidationError as exc:
            raise misfit(exc, frame, is_json=True) from None
        except RecursionError:
            raise not_json(frame, "Invalid JSON: recursion limit exceeded") from None

    def _expected(self, came: str) -> str:
        if not self.members.types:
            return "This route takes no messages."
        return f"This route takes no {came} frames."


def _validated(adapter: TypeAdapter[Any] | None, frame: str | bytes) -> Any:
    """A raw text or raw bytes; only an annotated type has something to check."""
    if adapter is None:
        return frame
    try:
        return adapter.validator.validate_python(frame)
    except ValidationError as exc:
        raise misfit(exc, frame, is_json=False) from None


def is_ping(frame: str | bytes, tag: str) -> bool:
    """Whether a frame is JSON-equal to `{"<tag>": "ping"}`."""
    if len(frame) > MAX_PING:
        return False
    try:
        return bool(json.loads(frame) == {tag: PING})
    except (ValueError, RecursionError):
        return False


def refuse_ping(members: Members, where: str) -> None:
    """DeclarationError for a message that a heartbeat would swallow."""
    if PING in members.tagged:
        raise DeclarationError(
            f"{where} has heartbeat=True, which answers {PING!r} itself: rename the tag of "
            f"{name_of_type(members.tagged[PING])}, or leave heartbeat out."
        )


# Characters of a frame that is compared with a heartbeat: one with more white space is none.
MAX_PING = 1024
