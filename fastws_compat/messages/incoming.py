"""What a client may send: frames become values of In."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.choices import Choice, are_classes, with_choices
from fastws_compat.messages.errors import misfit, not_json, wrong_frame
from fastws_compat.messages.members import Members, adapter_of, members_of, name_of_type, raw_adapter

# The values of the tag in a heartbeat.
PING, PONG = "ping", "pong"


class LookFirst(Exception):
    """A frame cannot be validated at once."""


def look_first(text: str) -> Any:
    raise LookFirst


class Incoming:
    """The messages of one side, with a validator for each kind of frame."""

    __slots__ = ("_bytes", "_text", "adapter", "binary_json", "gives_choices", "members")

    def __init__(
        self,
        form: Any,
        where: str,
        namespace: Mapping[str, Any],
        binary_json: bool = False,
        has_functions: bool = False,
    ) -> None:
        self.members = members = members_of(form, "receives", where, namespace)
        # Whether `read` returns each message as a Choice, from which its function is found.
        self.gives_choices = has_functions and not are_classes(members)
        # pydantic's adapter for the JSON messages; None if there are none.
        form = with_choices(members, where, namespace) if self.gives_choices else members.form
        self.adapter = None if form is None else adapter_of(form, where)
        self._text = raw_adapter(members.text, where)
        self._bytes = raw_adapter(members.binary, where)
        self.binary_json = binary_json
        if binary_json:
            _check_binary_json(members, where)

    @property
    def validate_text(self) -> Callable[[str], Any]:
        """What turns the text of a frame into a message; LookFirst if that takes more than one call."""
        if self.members.text is str:
            return _as_it_is
        if self.adapter is None or self.gives_choices:
            return look_first
        return self.adapter.validator.validate_json

    def read(self, frame: str | bytes, failure: ValidationError | None = None) -> Any:
        """The message in a frame; MessageValidationError if it does not fit.

        `failure` is what `validate_text` has raised for the frame.
        """
        if failure is not None:
            raise misfit(failure, frame, is_json=True)
        if isinstance(frame, str):
            return self._read_raw(self.members.text, self._text, frame, takes_json=True)
        return self._read_raw(self.members.binary, self._bytes, frame, takes_json=self.binary_json)

    def _read_raw(
        self, member: Any, adapter: TypeAdapter[Any] | None, frame: str | bytes, *, takes_json: bool
    ) -> Any:
        """A frame that is a message itself if there is such a member, else JSON."""
        if member is not None:
            valid = _validated(adapter, frame)
            return Choice(member, valid) if self.gives_choices else valid
        if self.adapter is None or not takes_json:
            raise wrong_frame(frame, self._expected(frame))
        return _validated_json(self.adapter, frame)

    def _expected(self, frame: str | bytes) -> str:
        came = "text" if isinstance(frame, str) else "binary"
        return f"This route takes no {f'{came} frames' if self.members.types else 'messages'}."


def _as_it_is(text: str) -> str:
    return text


def _check_binary_json(members: Members, where: str) -> None:
    if members.binary is not None:
        raise DeclarationError(
            f"{where} has binary_json=True and takes 'bytes': a binary frame could be either. Leave one of "
            "them out."
        )
    if not members.json:
        raise DeclarationError(f"{where} has binary_json=True, but its clients send no JSON.")


def _validated(adapter: TypeAdapter[Any] | None, frame: str | bytes) -> Any:
    """A raw text or raw bytes; only an annotated type has something to check."""
    if adapter is None:
        return frame
    try:
        return adapter.validator.validate_python(frame)
    except ValidationError as exc:
        raise misfit(exc, frame, is_json=False) from None


def _validated_json(adapter: TypeAdapter[Any], frame: str | bytes) -> Any:
    try:
        return adapter.validator.validate_json(frame)
    except ValidationError as exc:
        raise misfit(exc, frame, is_json=True) from None
    except RecursionError:
        raise not_json(frame, "Invalid JSON: recursion limit exceeded") from None


def is_ping(frame: str | bytes, tag: str) -> bool:
    """Whether a frame is JSON-equal to `{"<tag>": "ping"}`."""
    if len(frame) > MAX_PING:
        return False
    try:
        return bool(json.loads(frame) == {tag: PING})
    except (ValueError, RecursionError):
        return False


def refuse_ping(members: Members, where: str) -> None:
    """Raise DeclarationError for a message that would be mistaken for a heartbeat."""
    if PING in members.tagged:
        raise DeclarationError(
            f"{where} has heartbeat=True, which answers {PING!r} itself: rename the tag of "
            f"{name_of_type(members.tagged[PING])}, or leave heartbeat out."
        )


# The longest frame, in characters, that is compared with a heartbeat; more white space is not allowed.
MAX_PING = 1024
