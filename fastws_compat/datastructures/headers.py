"""Headers, stored as ASGI passes them and read by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Headers(Mapping[str, str]):
    """Headers by case-insensitive name; `[name]` is the first value, and `getlist` gives all values."""

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        raw: list[tuple[bytes, bytes]] | None = None,
        scope: MutableMapping[str, Any] | None = None,
    ) -> None:
        self._list: list[tuple[bytes, bytes]]
        if scope is not None and headers is None and raw is None:
            # Servers may pass any iterable. Put the list into the scope, so that all readers share it.
            self._list = scope["headers"] = list(scope["headers"])
        elif headers is not None:
            if raw is not None:
                raise AssertionError('Cannot set both "headers" and "raw".')
            if scope is not None:
                raise AssertionError('Cannot set both "headers" and "scope".')
            self._list = [(_name(key), value.encode("latin-1")) for key, value in headers.items()]
        elif raw is not None:
            if scope is not None:
                raise AssertionError('Cannot set both "raw" and "scope".')
            self._list = raw
        else:
            self._list = []

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """The headers as pairs of bytes, as ASGI has them."""
        return list(self._list)

    def keys(self) -> list[str]:  # type: ignore[override]
        """The names in lower case; a repeated name appears more than once."""
        return [name.decode("latin-1") for name, _ in self._list]

    def values(self) -> list[str]:  # type: ignore[override]
        """The values, in the order of `keys`."""
        return [value.decode("latin-1") for _, value in self._list]

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """The pairs of name and value, also of repeated names."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._list]

    @overload
    def get(self, key: str) -> str | None: ...
    @overload
    def get(self, key: str, default: str) -> str: ...
    @overload
    def get(self, key: str, default: T) -> str | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        """Return the first value of a header, or `default`."""
        # Mapping's own `get` catches a KeyError, which takes most of its time.
        wanted = key.lower().encode("latin-1")
        for name, value in self._list:
            if name == wanted:
                return value.decode("latin-1")
        return default

    def getlist(self, key: str) -> list[str]:
        """Return all values of a header."""
        wanted = _name(key)
        return [value.decode("latin-1") for name, value in self._list if name == wanted]

    def mutablecopy(self) -> MutableHeaders:
        """Return a copy that can be changed."""
        return MutableHeaders(raw=self._list[:])

    def __getitem__(self, key: str) -> str:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and sorted(self._list) == sorted(other._list)

    def __repr__(self) -> str:
        unique = dict(self.items())
        shown = f"{unique!r}" if len(unique) == len(self) else f"raw={self.raw!r}"
        return f"{type(self).__name__}({shown})"

    def __sentry_repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)}>"


class MutableHeaders(Headers):
    """Headers that can be changed; `raw` is the list itself."""

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """The headers as pairs of bytes, as ASGI has them."""
        return self._list

    def __setitem__(self, key: str, value: str) -> None:
        """Replace all values of `key` by one, at the position of the first."""
        name, pair = _name(key), (_name(key), value.encode("latin-1"))
        places = self._places(name)
        self._drop(places[1:])
        if places:
            self._list[places[0]] = pair
        else:
            self._list.append(pair)

    def __delitem__(self, key: str) -> None:
        """Remove all values of `key`. A missing key is not an error."""
        self._drop(self._places(_name(key)))

    def _places(self, name: bytes) -> list[int]:
        return [place for place, pair in enumerate(self._list) if pair[0] == name]

    def _drop(self, places: list[int]) -> None:
        # In place: a response shares this list.
        for place in reversed(places):
            del self._list[place]

    def __ior__(self, other: Mapping[str, str]) -> MutableHeaders:
        _check_mapping(other)
        self.update(other)
        return self

    def __or__(self, other: Mapping[str, str]) -> MutableHeaders:
        _check_mapping(other)
        new = self.mutablecopy()
        new.update(other)
        return new

    def setdefault(self, key: str, value: str) -> str:
        """The header's value. If it has none, it is set to `value`."""
        name, raw = _name(key), value.encode("latin-1")
        for other, found in self._list:
            if other == name:
                return found.decode("latin-1")
        self._list.append((name, raw))
        return value

    def update(self, other: Mapping[str, str]) -> None:
        """Set every header of a mapping, and remove its previous values."""
        for key, value in other.items():
            self[key] = value

    def append(self, key: str, value: str) -> None:
        """Add a value to the existing ones."""
        self._list.append((_name(key), value.encode("latin-1")))

    def add_vary_header(self, vary: str) -> None:
        """Add a name to the `Vary` header."""
        self["vary"] = ", ".join([*self.getlist("vary"), vary])


def _name(key: str) -> bytes:
    return key.lower().encode("latin-1")


def _check_mapping(other: object) -> None:
    if not isinstance(other, Mapping):
        raise TypeError(f"Expected a mapping but got {type(other).__name__}")
