"""A dict with attribute access, and a default that can be distinguished from a given value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")


class State:
    """A dict with attribute access: `websocket.state`, `app.state`."""

    _state: dict[str, Any]

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        super().__setattr__("_state", {} if state is None else state)

    def __setattr__(self, key: str, value: Any) -> None:
        self._state[key] = value

    def __getattr__(self, key: str) -> Any:
        try:
            return self._state[key]
        except KeyError:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{key}'")

    def __delattr__(self, key: str) -> None:
        del self._state[key]

    def __getitem__(self, key: str) -> Any:
        return self._state[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._state[key] = value

    def __delitem__(self, key: str) -> None:
        del self._state[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


class DefaultPlaceholder:
    """A default that can be distinguished from the same value passed by a caller."""

    def __init__(self, value: Any) -> None:
        #: The default itself.
        self.value = value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DefaultPlaceholder) and other.value == self.value


def Default(value: T) -> T:
    """Mark `value` as a default, which `isinstance(x, DefaultPlaceholder)` recognizes."""
    return cast(T, DefaultPlaceholder(value))
