"""Mappings whose keys may have several values, such as a query string or a form."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V", covariant=True)


class ImmutableMultiDict(Mapping[K, V]):
    """A mapping whose keys may have several values: `[key]` is the last, and `getlist` gives all."""

    _dict: dict[K, V]
    _list: list[tuple[K, V]]

    def __init__(
        self, *args: ImmutableMultiDict[K, V] | Mapping[K, V] | Iterable[tuple[K, V]], **kwargs: Any
    ) -> None:
        if len(args) >= 2:
            raise AssertionError("Too many arguments.")
        self._list = _pairs(args[0] if args else None)
        if kwargs:
            self._list += cast("list[tuple[K, V]]", list(kwargs.items()))
        self._dict = dict(self._list)

    def getlist(self, key: Any) -> list[V]:
        """Return all values of a key."""
        return [value for name, value in self._list if name == key]

    def keys(self) -> KeysView[K]:
        """The keys, each once."""
        return self._dict.keys()

    def values(self) -> ValuesView[V]:
        """The last value of each key."""
        return self._dict.values()

    def items(self) -> ItemsView[K, V]:
        """Each key with its last value; `multi_items` returns all pairs."""
        return self._dict.items()

    def multi_items(self) -> list[tuple[K, V]]:
        """Return all pairs of key and value, with repeated keys."""
        return list(self._list)

    def __getitem__(self, key: K) -> V:
        return self._dict[key]

    # Mapping's own `get` catches a KeyError, which is slow; type checkers need its overloads.
    if not TYPE_CHECKING:  # pragma: no branch - type checkers do not run it

        def get(self, key, default=None):
            """Return the last value of a key, or `default`."""
            return self._dict.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._dict

    def __iter__(self) -> Iterator[K]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        first = itemgetter(0)
        return sorted(self._list, key=first) == sorted(other._list, key=first)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.multi_items()!r})"

    def __sentry_repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)}>"


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if not value:
        return []
    if hasattr(value, "multi_items"):
        return list(value.multi_items())
    return list(value.items() if hasattr(value, "items") else value)


class MultiDict(ImmutableMultiDict[Any, Any]):
    """A multi-dict that can be changed."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.setlist(key, [value])

    def __delitem__(self, key: Any) -> None:
        self._list = self._without(key)
        del self._dict[key]

    def _without(self, key: Any) -> list[tuple[Any, Any]]:
        return [(name, value) for name, value in self._list if name != key]

    def pop(self, key: Any, default: Any = None) -> Any:
        """Remove a key with all its values and return the last, or `default`."""
        self._list = self._without(key)
        return self._dict.pop(key, default)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the newest key with all its values, and return the key and its last value."""
        key, value = self._dict.popitem()
        self._list = self._without(key)
        return key, value

    def poplist(self, key: Any) -> list[Any]:
        """Remove a key and return all of its values."""
        values = self.getlist(key)
        self.pop(key)
        return values

    def clear(self) -> None:
        """Remove everything."""
        self._dict.clear()
        self._list.clear()

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the last value of a key. If it has none, add `default` first."""
        if key not in self._dict:
            self.append(key, default)
        return self._dict[key]

    def setlist(self, key: Any, values: list[Any]) -> None:
        """Replace all values of a key."""
        if values:
            self._list = [*self._without(key), *((key, value) for value in values)]
            self._dict[key] = values[-1]
        else:
            self.pop(key)

    def append(self, key: Any, value: Any) -> None:
        """Add a value to those of a key."""
        self._list.append((key, value))
        self._dict[key] = value

    def update(self, *args: MultiDict | Mapping[Any, Any] | list[tuple[Any, Any]], **kwargs: Any) -> None:
        """Replace the values of all keys that the arguments have."""
        new = MultiDict(*args, **kwargs)
        self._list = [pair for pair in self._list if pair[0] not in new] + new._list
        self._dict.update(new._dict)


class QueryParams(ImmutableMultiDict[str, str]):
    """The query string as a multi-dict of strings."""

    def __init__(
        self,
        *args: ImmutableMultiDict[Any, Any] | Mapping[Any, Any] | list[tuple[Any, Any]] | str | bytes,
        **kwargs: Any,
    ) -> None:
        value = args[0] if len(args) == 1 and not kwargs else None
        if type(value) is bytes or isinstance(value, (str, bytes)):
            self._list = pairs = _parse_query(value)
            self._dict = dict(pairs)
        else:
            self._convert(*args, **kwargs)

    def _convert(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *(_parse_query(arg) if isinstance(arg, (str, bytes)) else arg for arg in args), **kwargs
        )
        self._list = [(str(key), str(value)) for key, value in self._list]
        self._dict = {str(key): str(value) for key, value in self._dict.items()}

    def __str__(self) -> str:
        return urlencode(self._list)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _parse_query(query: str | bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    text = query.decode("latin-1") if isinstance(query, bytes) else query
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # Nothing is encoded, so splitting gives the result of parse_qsl() in a quarter of the time.
    pairs = []
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            pairs.append((name, value))
    return pairs
