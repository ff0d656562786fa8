"""Parameter markers as data: `Query` and its siblings are `FieldInfo`s, and `Depends` holds a callable."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from inspect import isfunction
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack

from pydantic import AliasChoices, AliasPath, Discriminator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fastws_compat.concurrency import Concurrency
from fastws_compat.dependencies.annotations import is_subclass, loaded, name_of
from fastws_compat.exceptions import DeclarationError, FastAPIDeprecationWarning
from fastws_compat.porting import foreign

if TYPE_CHECKING:
    from typing_extensions import deprecated as Deprecated

Source = Literal["path", "query", "header", "cookie", "body"]
DependencyScope = Literal["function", "request"]


class ParamTypes(Enum):
    """Where in the handshake a parameter is read."""

    #: In the query string.
    query = "query"
    #: In a header.
    header = "header"
    #: In the path.
    path = "path"
    #: In a cookie.
    cookie = "cookie"


class FieldOptions(TypedDict, total=False):
    """The options of a declared parameter: pydantic's, and the few that FastAPI adds."""

    default_factory: Callable[[], Any] | None
    annotation: Any
    alias: str | None
    alias_priority: int | None
    validation_alias: str | AliasPath | AliasChoices | None
    serialization_alias: str | None
    title: str | None
    description: str | None
    gt: float | None
    ge: float | None
    lt: float | None
    le: float | None
    min_length: int | None
    max_length: int | None
    pattern: str | re.Pattern[str] | None
    regex: str | None
    discriminator: str | Discriminator | None
    strict: bool | None
    validate_default: bool | None
    union_mode: Literal["smart", "left_to_right"] | None
    fail_fast: bool | None
    multiple_of: float | None
    allow_inf_nan: bool | None
    max_digits: int | None
    decimal_places: int | None
    examples: list[Any] | None
    example: Any
    openapi_examples: dict[str, Any] | None
    deprecated: Deprecated | str | bool | None
    include_in_schema: bool
    json_schema_extra: dict[str, Any] | Callable[[dict[str, Any]], None] | None


# Type checkers regard FieldInfo as final.
_FieldInfo: Any = FieldInfo


class Declaration(_FieldInfo):  # type: ignore[misc]
    """One declared parameter: `source` says where its value is read, the FieldInfo how it is validated.

    It subclasses FieldInfo, as FastAPI's markers do, so that pydantic recognizes it inside models.
    """

    #: Where the value is read: "path", "query", "header", "cookie" or "body".
    source: ClassVar[Source]

    def __init__(self, default: Any = PydanticUndefined, **options: Unpack[FieldOptions]) -> None:
        self._check(options)
        #: An example for documents; `examples` is the newer way.
        self.example = options.pop("example", None)
        #: Examples in OpenAPI's own form.
        self.openapi_examples = options.pop("openapi_examples", None)
        #: Whether documents have the parameter.
        self.include_in_schema = options.pop("include_in_schema", True)
        regex = options.pop("regex", None)
        if regex is not None:
            options["pattern"] = options.get("pattern") or regex
        if "alias" in options:
            options["validation_alias"] = options.get("validation_alias") or options["alias"]
            options["serialization_alias"] = options.get("serialization_alias") or options["alias"]
        super().__init__(default=default, **{"annotation": None, **options})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.default})"

    def _check(self, options: FieldOptions) -> None:
        for unknown in sorted(options.keys() - FieldOptions.__optional_keys__):
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {unknown!r}")
        if "example" in options:
            _warn_deprecated("example", "examples")
        if options.get("regex") is not None:
            _warn_deprecated("regex", "pattern")


class Param(Declaration):
    """A parameter that the handshake sends as text."""

    #: Where the handshake has the value, as FastAPI's enum.
    in_: ClassVar[ParamTypes] = ParamTypes.query
    source: ClassVar[Source] = "query"


class Path(Param):
    """A part of the path. It is always present, so it has no default."""

    in_ = ParamTypes.path
    source = "path"

    def __init__(self, default: Any = ..., **options: Unpack[FieldOptions]) -> None:
        if default is not ...:
            raise AssertionError("Path parameters cannot have a default value")
        super().__init__(default, **options)


class Query(Param):
    """A query parameter."""


class Header(Param):
    """A header of the handshake. The parameter `x_token` reads the header `x-token`."""

    in_ = ParamTypes.header
    source = "header"

    def __init__(
        self,
        default: Any = PydanticUndefined,
        *,
        convert_underscores: bool = True,
        **options: Unpack[FieldOptions],
    ) -> None:
        #: Whether the underscores of the parameter stand for hyphens.
        self.convert_underscores = convert_underscores
        super().__init__(default, **options)


class Cookie(Param):
    """A cookie of the handshake."""

    in_ = ParamTypes.cookie
    source = "cookie"


class Body(Declaration):
    """A part of the body. A handshake has no body, so a required value is always missing."""

    source = "body"

    def __init__(
        self,
        default: Any = PydanticUndefined,
        *,
        embed: bool | None = None,
        media_type: str = "application/json",
        **options: Unpack[FieldOptions],
    ) -> None:
        #: Whether FastAPI expects the value under the name of the parameter.
        self.embed = embed
        #: The media type of the body.
        self.media_type = media_type
        super().__init__(default, **options)


class Form(Body):
    """A field of a form."""

    def __init__(
        self,
        default: Any = PydanticUndefined,
        *,
        media_type: str = "application/x-www-form-urlencoded",
        **options: Unpack[FieldOptions],
    ) -> None:
        super().__init__(default, media_type=media_type, **options)


class File(Form):
    """A file of a multipart form."""

    def __init__(
        self,
        default: Any = PydanticUndefined,
        *,
        media_type: str = "multipart/form-data",
        **options: Unpack[FieldOptions],
    ) -> None:
        super().__init__(default, media_type=media_type, **options)


@dataclass(frozen=True, slots=True)
class Depends:
    """Call `dependency` and pass its result. A declaration with a limit equals only copies of itself."""

    #: The callable; None for the class that the parameter is annotated with.
    dependency: Callable[..., Any] | None = None
    #: Whether one call serves every parameter of the connection that declares the same.
    use_cache: bool = True
    #: When the code after `yield` runs: "function" means when the endpoint has returned.
    scope: DependencyScope | None = None
    #: Maximum number of calls at a time in this process.
    max_concurrency: int | None = field(default=None, kw_only=True)
    #: The limit itself. As a field, it survives `dataclasses.replace`.
    concurrency: Concurrency | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        given: Any = self.dependency
        # What is foreign is refused where it is used, with a sentence that names the place.
        if given is not None and not callable(given) and foreign.origin(given) is None:
            kind = type(given).__name__
            raise TypeError(
                f"Depends() got an object of type {kind}: pass the function itself, not its result."
            )
        limit = self.max_concurrency
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError("max_concurrency must be a positive integer or None")
        if limit is None:
            object.__setattr__(self, "concurrency", None)
        elif self.concurrency is None or self.concurrency.limit != limit:
            object.__setattr__(self, "concurrency", Concurrency(limit))


@dataclass(frozen=True, slots=True)
class Security(Depends):
    """`Depends` with OAuth2 scopes, which `SecurityScopes` collects."""

    #: The OAuth2 scopes that are required here.
    scopes: Sequence[str] | None = None


def dependency_list(dependencies: Any, where: str) -> list[Depends]:
    """What a `dependencies=` lists; DeclarationError if it is not a list of this library's `Depends`."""
    if not dependencies:
        return []
    if not isinstance(dependencies, Iterable) or isinstance(dependencies, str | bytes | Mapping):
        raise DeclarationError(f"{where} is not a list: write dependencies=[Depends(...)].")
    found = list(dependencies)  # it may be an iterator
    for depends in found:
        _check_dependency(depends, where)
    return found


def _check_dependency(depends: Any, where: str) -> None:
    foreign.refuse(depends, where)
    if not isinstance(depends, Depends):
        name = name_of(depends)
        if not callable(depends) or name in ("Depends", "Security"):
            raise DeclarationError(f"{where} has {name}, which is not a dependency: write Depends(function).")
        raise DeclarationError(f"{where} has {name} without Depends: write Depends({name}).")
    foreign.refuse_call(depends.dependency, where)
    refuse_uncalled(depends.dependency, where)


def refuse_uncalled(dependency: Any, where: str) -> None:
    """Refuse what makes a guard and is none: called with parameters of the query, it would let all in."""
    if _is_scheme(dependency) or getattr(dependency, "makes_guards", False) is True:
        name = name_of(dependency)
        raise DeclarationError(
            f"{where} has Depends({name}), which lets everybody in: write Depends({name}(...))."
        )


def _is_scheme(dependency: Any) -> bool:
    """Whether a class is a scheme that takes options, and not one that a project creates from the socket."""
    if not is_subclass(dependency, loaded("fastws_compat.security.base", "SecurityBase")):
        return False
    owner = next(each for each in dependency.__mro__ if "__init__" in vars(each))
    return owner is object or owner.__module__.startswith("fastws_compat.")


def refuse_bare_guard(value: Any, where: str) -> None:
    """Refuse a guard as the default or in the annotation of a parameter, which the query would provide."""
    is_marked = isfunction(value) and not vars(value).keys().isdisjoint(("is_guard", "makes_guards"))
    if is_marked or isinstance(value, loaded("fastws_compat.security.base", "SecurityBase")):
        raise DeclarationError(
            f"{where} has {name_of(value)} without Depends, which lets everybody in: put it into Depends()."
        )


def _warn_deprecated(option: str, instead: str) -> None:
    warnings.warn(
        f"`{option}` has been deprecated, please use `{instead}` instead",
        category=FastAPIDeprecationWarning,
        stacklevel=_user_level(),
    )


def _user_level() -> int:
    """The `stacklevel` of the line that declares the parameter, through either a function or a class."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("fastws_compat.param"):
        level, frame = level + 1, frame.f_back
    return level
