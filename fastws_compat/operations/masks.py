"""How a process masks personal data of clients for users who may not see it."""

from __future__ import annotations

import re

from fastws_compat.connections.addresses import masked

# `203.0.113.x`, or the first 48 bits of an IPv6 address.
address = masked
# The names under which browsers are shown, in the order in which they are searched: most agents also contain
# the names that come later.
BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Vivaldi": "Vivaldi",
    "SamsungBrowser": "Samsung Internet",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "HeadlessChrome": "Chrome",
    "Chrome": "Chrome",
    "CriOS": "Chrome",
    "Chromium": "Chromium",
    "Safari": "Safari",
}
# The name of a program at the beginning of its agent, such as "okhttp/4.12".
PROGRAM = re.compile(r"[A-Za-z][A-Za-z_-]{1,30}")
# The first word of a group's name, which says what kind of group it is.
KIND = re.compile(r"[A-Za-z]+")


def agent(text: str | None) -> str | None:
    """The name of the browser or program."""
    if not text:
        return None
    for sign, name in BROWSERS.items():
        if sign in text:
            return name
    found = PROGRAM.match(text)
    return found[0] if found else None


def group(name: str) -> str:
    """The first word of a group's name; the rest identifies one group, as parameters do in paths."""
    found = KIND.match(name)
    kind = found[0] if found else ""
    return name if kind == name else f"{kind}…"
