"""Analysis of one callable: its kind, and the source of each of its parameters."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from asgiref.sync import iscoroutinefunction
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fastws_compat.background import BackgroundTasks
from fastws_compat.dependencies.annotations import (
    UNEVALUATED,
    is_pydantic_v1,
    is_scalar,
    is_scalar_sequence,
    is_subclass,
    is_upload,
    loaded,
    model_of,
    name_of,
    quoted_name,
    unwrap_alias,
)
from fastws_compat.exceptions import DeclarationError, PositionalOnlyError, PydanticV1NotSupportedError
from fastws_compat.params import (
    Body,
    Declaration,
    Depends,
    File,
    Path,
    Query,
    refuse_bare_guard,
    refuse_uncalled,
)
from fastws_compat.porting import foreign
from fastws_compat.requests import HTTPConnection, Request
from fastws_compat.responses import Response

Kind = Literal["coroutine", "function", "async_generator", "generator"]
Injection = Literal["connection", "response", "background_tasks", "security_scopes"]

INJECTED: tuple[tuple[type, Injection], ...] = (
    (HTTPConnection, "connection"),
    (Response, "response"),
    (BackgroundTasks, "background_tasks"),
)
EMPTY = inspect.Parameter.empty


class Dependency(NamedTuple):
    """A parameter whose value another callable provides."""

    name: str
    depends: Depends


class Injected(NamedTuple):
    """A parameter that the library itself provides, recognized by its annotation."""

    name: str
    kind: Injection
    annotation: Any


class FieldParameter(NamedTuple):
    """A parameter that is read from the handshake."""

    name: str
    param: Declaration


Parameter = Dependency | Injected | FieldParameter


def kind_of(call: Callable[..., Any]) -> Kind:
    """How to run a callable. Sees through partials, wrappers and `__call__`."""
    candidates = list(_candidates(call))
    if any(map(inspect.isasyncgenfunction, candidates)):
        return "async_generator"
    if any(map(inspect.isgeneratorfunction, candidates)):
        return "generator"
    return (
        "coroutine"
        if any(iscoroutinefunction(candidate) for candidate in candidates if not isinstance(candidate, type))
        else "function"
    )


def _candidates(call: Callable[..., Any]) -> Iterator[Any]:
    """The functions that `call` may run; for a class, only the class itself."""
    outer, inner = _without_partials(call), unwrapped(call)
    yield from (outer, inner)
    if inspect.isclass(inner):
        return
    for owner in (outer, inner):
        method = getattr(owner, "__call__", None)  # noqa: B004
        if inspect.isroutine(owner) or method is None:
            continue
        yield from (_without_partials(method), inspect.unwrap(_without_partials(method)))


def unwrapped(call: Callable[..., Any]) -> Any:
    """The function inside partials and wrappers."""
    return inspect.unwrap(_without_partials(call))


def _without_partials(call: Any) -> Any:
    while isinstance(call, functools.partial):
        call = call.func
    return call


def parameters_of(call: Callable[..., Any], path_names: frozenset[str]) -> list[Parameter]:
    """The source of each parameter of `call`, in order.

    Raises AssertionError with FastAPI's text for a parameter that FastAPI rejects, and DeclarationError for
    one that FastAPI accepts although it cannot work on a socket.
    """
    analyzed = (
        _analyze(call, parameter, annotation, path_names)
        for parameter, annotation in annotated_parameters(call)
    )
    return [parameter for parameter in analyzed if parameter is not None]


def annotated_parameters(call: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any]]:
    for parameter in _signature(call).parameters.values():
        annotation = parameter.annotation
        if quoted_name(annotation) is not None:
            annotation = _evaluate(annotation, namespace_of(call))
        yield parameter, unwrap_alias(annotation)


def return_annotation(call: Callable[..., Any]) -> Any:
    """What `call` says that it returns; a text if a name in it is not defined."""
    return _signature(call).return_annotation


def _signature(call: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(call, eval_str=True)
    except NameError:
        # An annotation is imported only under TYPE_CHECKING. The others are evaluated one by one.
        return inspect.signature(call, **UNEVALUATED)


def namespace_of(call: Callable[..., Any]) -> dict[str, Any]:
    """The names that the annotations of `call` are written in."""
    function = unwrapped(call)
    if not hasattr(function, "__globals__"):
        function = function.__init__ if inspect.isclass(function) else type(function).__call__
    return getattr(inspect.unwrap(function), "__globals__", {})


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"parameter": annotation})
    try:
        return get_type_hints(holder, names, include_extras=True)["parameter"]
    except NameError:
        # The messages of a socket may be defined later, until the route's router is included.
        later = loaded("fastws_compat.messages.sockets", "with_missing_types")
        return later(annotation, names) if later else annotation


def _refuse_unannotated_socket(call: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if parameter.name == "websocket" and parameter.annotation is EMPTY and parameter.default is EMPTY:
        raise DeclarationError(
            f"Parameter 'websocket' of {name_of(call)} has no annotation and would be read from the "
            "query string: write 'websocket: WebSocket'."
        )


def _refuse_unresolved(call: Callable[..., Any], name: str, bare: Any) -> None:
    if (quoted := quoted_name(bare)) is not None:
        raise DeclarationError(
            f"Annotation {quoted!r} of parameter {name!r} of {name_of(call)} cannot be resolved: import or "
            "define the name at the top of its module."
        )


def _dependency(call: Callable[..., Any], name: str, depends: Depends, bare: Any, where: str) -> Dependency:
    if depends.dependency is None:
        _refuse_unresolved(call, name, bare)
        depends = dataclasses.replace(depends, dependency=bare)
    foreign.refuse_call(depends.dependency, where)
    refuse_uncalled(depends.dependency, where)
    return Dependency(name, depends)


def _injected(call: Callable[..., Any], name: str, kind: Any, bare: Any) -> Injected:
    if is_subclass(bare, Request):
        raise DeclarationError(
            f"Parameter {name!r} of {name_of(call)} is a Request, which a socket does not have: "
            "use HTTPConnection or WebSocket."
        )
    return Injected(name, kind, bare)


def _analyze(
    call: Callable[..., Any], parameter: inspect.Parameter, annotation: Any, path_names: frozenset[str]
) -> Parameter | None:
    """The source of one parameter; None if it keeps its default."""
    name, default = parameter.name, parameter.default
    where = f"Parameter {name!r} of {name_of(call)}"
    _refuse_foreign(annotation, default, where)
    _refuse_unannotated_socket(call, parameter)
    _refuse_uncallable(call, parameter)
    annotation = Any if annotation is EMPTY else annotation
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    depends, param = _declared(name, annotation, bare, default, name in path_names)
    if depends is not None:
        return _dependency(call, name, depends, bare, where)
    kind = injection_of(bare)
    if kind is not None:
        if param is not None:
            raise AssertionError(f"Cannot specify FastAPI annotation for type {bare!r}")
        if is_subclass(bare, Request) and default is not EMPTY:
            return None  # allows dependencies that serve both HTTP and sockets
        return _injected(call, name, kind, bare)
    _refuse_unresolved(call, name, bare)
    _refuse_foreign_fields(bare, where)
    if param is None:
        param = _inferred(name, annotation, bare, default, name in path_names)
    _refuse_nested_marker(bare, param, where)
    return FieldParameter(name, _bound(name, param, path_names))


def _refuse_nested_marker(annotation: Any, param: Declaration, where: str) -> None:
    """Refuse a marker below the top level. FastAPI ignores it, so that a permission check would not run."""
    for marker in foreign.pieces(annotation):
        if isinstance(marker, Depends) or (
            isinstance(marker, Declaration)
            and (marker.source != param.source or marker.alias or marker.validation_alias)
        ):
            raise DeclarationError(
                f"{where} has {type(marker).__name__}() inside another type, where it has no effect: put it "
                f"at the top level, as in 'Annotated[str | None, {type(marker).__name__}(...)]'."
            )


def _refuse_uncallable(call: Callable[..., Any], parameter: inspect.Parameter) -> None:
    """Refuse a parameter that cannot be passed by name. FastAPI fails only at the first connection."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise DeclarationError(
            f"Parameter {str(parameter).partition(':')[0]!r} of {name_of(call)} has no name that a handshake "
            "could carry: write out the parameters, or put @functools.wraps on the decorator's wrapper."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise PositionalOnlyError(
            f"Parameter {parameter.name!r} of {name_of(call)} is positional-only, and parameters are passed "
            "by name: remove the '/'."
        )


def refuse_foreign(call: Callable[..., Any], where: str) -> None:
    """DeclarationError for a callable of FastAPI or Starlette, or one whose parameters name their classes.

    This is for callables without a plan, where annotations that cannot be read have no meaning.
    """
    foreign.refuse_call(call, where)
    try:
        parameters = list(annotated_parameters(call))
    except Exception:
        return
    for parameter, annotation in parameters:
        _refuse_foreign(annotation, parameter.default, f"Parameter {parameter.name!r} of {name_of(call)}")


def _refuse_foreign(annotation: Any, default: Any, where: str) -> None:
    markers = [default, *foreign.pieces(annotation)]
    foreign.refuse(default, where)
    foreign.refuse_annotation(annotation, where, is_given=any(isinstance(m, Depends) for m in markers))
    for marker in markers:
        refuse_bare_guard(marker, where)
        if isinstance(marker, Declaration):
            foreign.refuse(marker.default, where)
            foreign.refuse_call(marker.default_factory, where)


def _refuse_foreign_fields(annotation: Any, where: str) -> None:
    """Refuse foreign classes in the fields of a parameter model."""
    model = model_of(annotation)
    if model is None:
        return
    for info in model.model_fields.values():
        for item in (info, *info.metadata):
            foreign.refuse(item, where)
    for annotation in _own_annotations(model):
        foreign.refuse_annotation(annotation, where)


def _own_annotations(model: type[BaseModel]) -> Iterator[Any]:
    """The annotations of the project's classes: pydantic does not keep a FieldInfo from `Annotated`."""
    for cls in model.__mro__[: model.__mro__.index(BaseModel)]:
        # A name that cannot be found here was resolved by pydantic in its own way.
        with contextlib.suppress(NameError):
            yield from inspect.get_annotations(cls, eval_str=True).values()


def injection_of(annotation: Any) -> Injection | None:
    """What the library itself passes for a parameter with this annotation."""
    for special, kind in INJECTED:
        if is_subclass(annotation, special):
            return kind
    scopes = loaded("fastws_compat.security.oauth2", "SecurityScopes")
    return "security_scopes" if is_subclass(annotation, scopes) else None


def _declared(
    name: str, annotation: Any, bare: Any, default: Any, in_path: bool
) -> tuple[Depends | None, Declaration | None]:
    """The marker in `Annotated` or in the default value. FastAPI allows only one of the two."""
    marker = _last_marker(annotation)
    if isinstance(default, Depends):
        if isinstance(marker, Depends):
            raise AssertionError(
                f"Cannot specify `Depends` in `Annotated` and default value together for {name!r}"
            )
        if marker is not None:
            raise AssertionError(
                f"Cannot specify a FastAPI annotation in `Annotated` and `Depends` as a default value "
                f"together for {name!r}"
            )
        return default, None
    if isinstance(default, FieldInfo):
        if isinstance(marker, Declaration):
            raise AssertionError(
                f"Cannot specify FastAPI annotations in `Annotated` and default value together for {name!r}"
            )
        if not isinstance(default, Declaration):
            raise AssertionError(f"non-body parameters must be in path, query, header or cookie: {name}")
        if marker is not None:
            return marker, None
        param = copy.copy(default)
        param.annotation = bare
        return None, param
    if isinstance(marker, Declaration):
        return None, _annotated(name, marker, annotation, default, in_path)
    return marker, None


def _last_marker(annotation: Any) -> Depends | Declaration | None:
    if get_origin(annotation) is not Annotated:
        return None
    markers = [item for item in get_args(annotation)[1:] if isinstance(item, Depends | Declaration)]
    return markers[-1] if markers else None


def _annotated(name: str, marker: Declaration, annotation: Any, default: Any, in_path: bool) -> Declaration:
    param = _merged(marker, annotation)
    if param.default is not PydanticUndefined:
        raise AssertionError(
            f"`{type(marker).__name__}` default value cannot be set in `Annotated` for {name!r}. "
            "Set the default value with `=` instead."
        )
    if default is not EMPTY:
        if in_path:
            raise AssertionError("Path parameters cannot have default values")
        param.default = default
    return param


def _inferred(name: str, annotation: Any, bare: Any, default: Any, in_path: bool) -> Declaration:
    """A parameter without a marker: from the path by its name, else the query for a scalar, else the body."""
    default = PydanticUndefined if default is EMPTY else default
    if in_path:
        param: Declaration = Path(annotation=annotation)
    elif is_upload(bare):
        param = File(default, annotation=annotation)
    elif not is_scalar(bare):
        param = Body(default, annotation=annotation)
    else:
        param = Query(default, annotation=annotation)
    if get_origin(annotation) is not Annotated:
        return param
    default = param.default
    param = _merged(param, annotation)
    param.default = default
    if in_path:
        # A path parameter is always present; the same annotation may be a query parameter elsewhere.
        param.default_factory = None
    return param


def _merged(declaration: Declaration, annotation: Any) -> Declaration:
    """A copy of the declaration with everything that `Annotated` lists, from pydantic and from this library.

    It is a copy because many routes may share the declaration.
    """
    merged, info = copy.copy(declaration), FieldInfo.from_annotation(annotation)
    for name in FieldInfo.__slots__:
        setattr(merged, name, getattr(info, name))
    return merged


def _choice_in_path(alias: Any, path_names: frozenset[str]) -> Any:
    """Of several aliases, the one that the path has."""
    choices = alias.choices if isinstance(alias, AliasChoices) else ()
    return next((choice for choice in choices if choice in path_names), alias)


def _bound(name: str, param: Declaration, path_names: frozenset[str]) -> Declaration:
    """The parameter with the name of its value in the handshake. Refuses types that no string can hold."""
    if name in path_names and not isinstance(param, Path):
        raise AssertionError(f"Cannot use `{type(param).__name__}` for path param {name!r}")
    if is_pydantic_v1(param.annotation):
        raise PydanticV1NotSupportedError(
            f"pydantic.v1 models are not supported: use a pydantic v2 model for {name!r}, "
            f"not {param.annotation!r}."
        )
    if isinstance(param, Path):
        param.validation_alias = _choice_in_path(param.validation_alias, path_names)
    if not param.alias:
        param.alias = name.replace("_", "-") if getattr(param, "convert_underscores", False) else name
    _refuse_unsupported_type(name, param, name in path_names)
    return param


def _refuse_unsupported_type(name: str, param: Declaration, is_path: bool) -> None:
    if is_path and not is_scalar(param.annotation):
        raise AssertionError("Path params must be of one of the supported types")
    if isinstance(param, Query) and not _fits_query(param.annotation):
        raise AssertionError(f"Query parameter {name!r} must be one of the supported types")


def _fits_query(annotation: Any) -> bool:
    return is_scalar(annotation) or is_scalar_sequence(annotation) or model_of(annotation) is not None
