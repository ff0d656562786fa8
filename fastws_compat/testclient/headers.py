"""The headers and cookies that a test client sends with its handshakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from http.cookiejar import Cookie, CookieJar
from http.cookies import Morsel
from typing import Any
from urllib.request import Request

# A `SimpleCookie` is a mapping to morsels; httpx's `Cookies` have a jar.
CookieTypes = Mapping[str, str] | Mapping[str, Morsel[str]] | Iterable[tuple[str, str]] | CookieJar


class ClientHeaders(MutableMapping[str, str]):
    """The headers that a client sends with every handshake; names are case-insensitive."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __setitem__(self, name: str, value: str) -> None:
        self._values[name.lower()] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


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


def merged(
    base: Mapping[str, str] | Sequence[tuple[str, str]], own: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The headers of `base` that `own` does not replace, then those of `own`."""
    names = {name.lower() for name in own}
    pairs = base.items() if isinstance(base, Mapping) else base
    kept = [(name, value) for name, value in pairs if name not in names]
    return [*kept, *((name.lower(), value) for name, value in own.items())]


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
