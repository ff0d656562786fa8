"""The headers and cookies that a test client sends with its handshakes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, MutableMapping, Sequence
from http.cookiejar import Cookie, CookieJar
from http.cookies import Morsel
from typing import Any
from urllib.request import Request

# A `SimpleCookie` is a mapping to morsels; httpx's `Cookies` have a jar.
CookieTypes = Mapping[str, str] | Mapping[str, Morsel[str]] | Iterable[tuple[str, str]] | CookieJar


HeaderTypes = (
    Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]
)


class ClientHeaders(MutableMapping[str, str]):
    """The headers that a client sends with every handshake, as httpx's `Headers`.

    Names are case-insensitive, and a name may have several values.
    """

    def __init__(self, headers: HeaderTypes | None = None) -> None:
        self._pairs = header_pairs(headers or {})

    def __getitem__(self, name: str) -> str:
        values = self.get_list(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        name = name.lower()
        names = [pair[0] for pair in self._pairs]
        position = names.index(name) if name in names else len(names)
        self._pairs.insert(position, (name, value))
        self._pairs[position + 1 :] = _without(self._pairs[position + 1 :], {name})

    def __delitem__(self, name: str) -> None:
        kept = _without(self._pairs, {name.lower()})
        if len(kept) == len(self._pairs):
            raise KeyError(name)
        self._pairs = kept

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __repr__(self) -> str:
        content = dict(self._pairs) if len(self) == len(self._pairs) else self._pairs
        return f"{type(self).__name__}({content!r})"

    def update(self, headers: HeaderTypes | None = None, /) -> None:  # type: ignore[override]
        new = header_pairs(headers or {})
        self._pairs = [*_without(self._pairs, dict(new)), *new]

    def get_list(self, name: str) -> list[str]:
        return [value for own, value in self._pairs if own == name.lower()]

    def multi_items(self) -> list[tuple[str, str]]:
        return list(self._pairs)


def header_pairs(headers: HeaderTypes) -> list[tuple[str, str]]:
    """The headers as pairs of text, with names in lower case."""
    return [(_text(name).lower(), _text(value)) for name, value in all_items(headers)]


def all_items(values: Any) -> Iterable[tuple[Any, Any]]:
    """All pairs of a mapping or an iterable of pairs, with the repeated names of httpx's own types."""
    if hasattr(values, "get_list"):  # httpx's Headers and QueryParams, and ClientHeaders
        return values.multi_items()  # type: ignore[no-any-return]
    return values.items() if isinstance(values, Mapping) else values


def _text(part: str | bytes) -> str:
    return part.decode("ascii") if isinstance(part, bytes) else part


def _without(pairs: Sequence[tuple[str, str]], names: Container[str]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if pair[0] not in names]


class Cookies(dict[str, str]):
    """The cookies that a client sends with every handshake."""

    def __init__(self, cookies: CookieTypes = ()) -> None:
        super().__init__()
        self.update(cookies)

    def __setitem__(self, name: str, value: str | Morsel[str]) -> None:
        text = value.coded_value if isinstance(value, Morsel) else value
        if not isinstance(text, str):
            raise TypeError(f"The value of the cookie {name!r} must be a str or a Morsel, not {value!r}.")
        super().__setitem__(name, text)

    def update(self, cookies: CookieTypes = ()) -> None:  # type: ignore[override]
        for name, value in cookie_pairs(cookies, "http://testserver/"):
            self[name] = value

    def set(self, name: str, value: str) -> None:
        self[name] = value

    def delete(self, name: str) -> None:
        self.pop(name, None)


def merged(base: HeaderTypes, own: HeaderTypes) -> list[tuple[str, str]]:
    """The headers of `base` that `own` does not replace, then those of `own`."""
    new = header_pairs(own)
    return [*_without(header_pairs(base), dict(new)), *new]


def cookie_pairs(cookies: Any, url: str) -> Iterable[tuple[str, Any]]:
    """The names and values of cookies in any form; from a jar only those for `url`."""
    jar = getattr(cookies, "jar", cookies)
    if isinstance(jar, CookieJar):
        return [(cookie.name, cookie.value) for cookie in jar if _belongs(cookie, url)]
    if isinstance(cookies, str | bytes):
        raise TypeError("cookies= takes a mapping, pairs, a SimpleCookie or a cookie jar, not a string.")
    return cookies.items() if isinstance(cookies, Mapping) else cookies


def _belongs(cookie: Cookie, url: str) -> bool:
    """Whether a browser would send `cookie` to `url`, considering its domain, path, age and `secure`."""
    jar, request = CookieJar(), Request(url)
    jar.set_cookie(cookie)
    jar.add_cookie_header(request)
    return request.has_header("Cookie")
