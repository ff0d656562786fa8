"""The runtime of generated clients, with a type wherever TypeScript cannot infer one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# The tokens of the library's own JavaScript. A regular expression can only follow certain characters.
TOKEN = re.compile(
    r"""
    (?P<space> \s+ | //[^\n]* | /\*.*?\*/ )
    | (?P<text> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `(?:\\.|[^`\\])*` )
    | (?P<pattern> (?:(?<=[(,=:!&|?])|(?<=[(,=:!&|?]\ ))/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n])+/\w* )
    | (?P<name> [#\w$]+ )
    | (?P<mark> => | \.\.\. | . )
    """,
    re.VERBOSE | re.DOTALL,
)
OPEN, CLOSE = "([{", ")]}"
# Words before parentheses that do not contain parameters.
CONTROL = frozenset({"if", "for", "while", "switch", "catch"})
DECLARATIONS = frozenset({"let", "const"})


class Spot(NamedTuple):
    """A name or a pattern whose type is not inferred: its first and last token, and the type."""

    start: int
    end: int
    kind: str = "any"


def in_typescript(source: str) -> str:
    """JavaScript as TypeScript that passes `--strict`."""
    tokens = Tokens(source)
    for spot in tokens.spots():
        tokens.texts[spot.end] += f": {spot.kind}"
    return "".join(tokens.texts)


def in_javascript(source: str) -> str:
    """JavaScript that passes `--checkJs`, with types as comments."""
    tokens = Tokens(source)
    for spot in tokens.spots():
        tokens.texts[spot.start] = f"/** @type {{{spot.kind}}} */ {tokens.texts[spot.start]}"
    return "".join(tokens.texts)


class Tokens:
    """JavaScript in tokens, with the brackets that belong together."""

    def __init__(self, source: str) -> None:
        found = list(TOKEN.finditer(source))
        self.texts = [match[0] for match in found]
        # The indexes of the tokens without white space and comments.
        self._solid = [index for index, match in enumerate(found) if match.lastgroup != "space"]
        self._words = [self.texts[index] for index in self._solid]
        self._ends = dict(self._brackets())

    def spots(self) -> list[Spot]:
        """Every parameter, field and variable."""
        found = [*self._parameters(), *self._fields(), *self._variables()]
        return [spot._replace(start=self._solid[spot.start], end=self._solid[spot.end]) for spot in found]

    def _brackets(self) -> Iterator[tuple[int, int]]:
        opened: list[int] = []
        for index, word in enumerate(self._words):
            if word in OPEN:
                opened.append(index)
            elif word in CLOSE:
                yield opened.pop(), index

    def _end_of(self, index: int) -> int:
        """The last token of what begins at a token: a pattern in brackets, or the token itself."""
        return self._ends.get(index, index)

    def _parameters(self) -> Iterator[Spot]:
        for start, end in self._ends.items():
            if self._words[start] == "(" and self._is_function(start, end):
                yield from self._list(start + 1, end)

    def _is_function(self, start: int, end: int) -> bool:
        following = self._words[end + 1]
        return following == "=>" or (following == "{" and self._words[start - 1] not in CONTROL)

    def _list(self, start: int, end: int) -> Iterator[Spot]:
        index = start
        while index < end:
            is_rest = self._words[index] == "..."
            yield Spot(index, index + 1, "any[]") if is_rest else Spot(index, self._end_of(index))
            while index < end and self._words[index] != ",":
                index = self._end_of(index) + 1
            index += 1

    def _fields(self) -> Iterator[Spot]:
        for index, word in enumerate(self._words):
            if word == "class":
                body = self._words.index("{", index)
                yield from self._members(body + 1, self._ends[body])

    def _members(self, start: int, end: int) -> Iterator[Spot]:
        index = start
        while index < end:
            if self._words[index + 1] in ("=", ";"):
                yield Spot(index, index)
            while self._words[index] not in (";", "{"):
                index = self._end_of(index) + 1
            index = self._end_of(index) + 1

    def _variables(self) -> Iterator[Spot]:
        """Those that hold a list, an object, or a function or something else in parentheses."""
        for index, word in enumerate(self._words):
            if word in DECLARATIONS:
                end = self._end_of(index + 1)
                if self._words[end + 1] == "=" and self._words[end + 2] in OPEN:
                    yield Spot(index + 1, end)
