"""Classification of annotations, which decides where FastAPI reads a parameter from."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ForwardRef, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from fastws_compat.datastructures import UploadFile

T = TypeVar("T")

SEQUENCES = (Sequence, list, tuple, set, frozenset, deque)

# Options of inspect.signature() for a callable whose annotations contain names that only type checkers can
# resolve. Since Python 3.14, annotations are evaluated when they are read, which would raise NameError.
UNEVALUATED: dict[str, Any] = {}
if sys.version_info >= (3, 14):  # pragma: no cover - the gate measures an older version
    from annotationlib import Format

    UNEVALUATED["annotation_format"] = Format.FORWARDREF


def is_subclass(annotation: Any, classes: type[T] | tuple[type[T], ...]) -> TypeGuard[type[T]]:
    """issubclass() for any object; False for one that is not a class, including `list[int]`."""
    return isinstance(annotation, type) and issubclass(annotation, classes)


def is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def is_sequence(annotation: Any) -> bool:
    """Whether the annotation accepts several values: a list, set, tuple etc., or a union with one."""
    if get_origin(annotation) is Annotated:
        return is_sequence(get_args(annotation)[0])
    if is_union(annotation):
        return any(map(is_sequence, get_args(annotation)))
    return _is_sequence_class(annotation) or _is_sequence_class(get_origin(annotation))


def is_scalar(annotation: Any) -> bool:
    """Whether one string can hold a value. Not so for a model, mapping, sequence, dataclass or upload."""
    return annotation is Ellipsis or not _is_complex(annotation)


def is_scalar_sequence(annotation: Any) -> bool:
    """Whether repeated strings can hold a value: a sequence of scalars, or a union with one."""
    if get_origin(annotation) is Annotated:
        return is_scalar_sequence(get_args(annotation)[0])
    if is_union(annotation):
        choices = get_args(annotation)
        sequences = [is_scalar_sequence(choice) for choice in choices]
        return any(sequences) and all(
            many or is_scalar(choice) for many, choice in zip(sequences, choices, strict=True)
        )
    return is_sequence(annotation) and all(map(is_scalar, get_args(annotation)))


def is_upload(annotation: Any) -> bool:
    """Whether FastAPI would treat the parameter as one or more uploaded files."""
    if is_union(annotation) and any(is_upload(choice) for choice in get_args(annotation)):
        return True
    if is_sequence(annotation) and get_args(annotation):
        return all(map(is_upload, get_args(annotation)))
    return is_subclass(annotation, UploadFile)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model that the annotation names, alone or as `Model | None`."""
    if is_union(annotation):
        choices = [choice for choice in get_args(annotation) if choice is not type(None)]
        if len(choices) == 1 and len(get_args(annotation)) == 2:
            annotation = choices[0]
    return annotation if is_subclass(annotation, BaseModel) else None


def is_pydantic_v1(annotation: Any) -> bool:
    """Whether the annotation contains a `pydantic.v1` model. Does not import that package."""
    if is_union(annotation) or is_sequence(annotation):
        return any(map(is_pydantic_v1, get_args(annotation)))
    return isinstance(annotation, type) and any(
        base.__module__ == "pydantic.v1.main" and base.__name__ == "BaseModel" for base in annotation.__mro__
    )


def loaded(module: str, name: str) -> Any:
    """A class of a module, or () if the module is not imported: then no instance of it can exist."""
    return getattr(sys.modules.get(module), name, ())


def unquoted(annotation: str | ForwardRef) -> tuple[str, dict[str, Any]]:
    """The source of an annotation in quotes or with a name that is not defined, and its own names.

    Since Python 3.14, `Known | Missing` is a reference in which a name made up by Python stands for `Known`.
    """
    if isinstance(annotation, str):
        return annotation, {}
    return annotation.__forward_arg__, getattr(annotation, "__extra_names__", None) or {}


def quoted_name(annotation: Any) -> str | None:
    """The first part of an annotation that is in quotes or has a name that is not defined."""
    if isinstance(annotation, str | ForwardRef):
        source, own_names = unquoted(annotation)
        for name, value in own_names.items():  # pragma: no cover - only since Python 3.14
            source = source.replace(name, value.__name__ if isinstance(value, type) else repr(value))
        return source
    return next(filter(None, map(quoted_name, _types_in(annotation))), None)


def _types_in(annotation: Any) -> tuple[Any, ...]:
    """The arguments of an annotation, without the values of a Literal and the metadata of Annotated."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return arguments[:1]
    return () if origin is Literal else arguments


def unwrap_alias(annotation: Any) -> Any:
    """The type behind a `type X = ...` or `type X[T] = ...` statement (PEP 695), or behind several."""
    if _is_alias(annotation):
        return unwrap_alias(annotation.__value__)
    alias = get_origin(annotation)
    if not _is_alias(alias):
        return annotation
    return unwrap_alias(
        substituted(alias.__value__, dict(zip(alias.__type_params__, get_args(annotation), strict=False)))
    )


def _is_alias(annotation: Any) -> bool:
    return type(annotation).__name__ == "TypeAliasType"


def substituted(annotation: Any, arguments: Mapping[Any, Any]) -> Any:
    """A generic type with these arguments for its type variables."""
    if isinstance(annotation, TypeVar):
        return arguments.get(annotation, annotation)
    if is_union(annotation):  # does not know the variables of pydantic's classes in it
        members = tuple(substituted(one, arguments) for one in get_args(annotation))
        return Union[members]  # noqa: UP007 - as many as there are
    if get_origin(annotation) is Annotated:
        inside, *metadata = get_args(annotation)
        return Annotated[(substituted(inside, arguments), *metadata)]
    generic = getattr(annotation, "__pydantic_generic_metadata__", None)
    variables = generic["parameters"] if generic else getattr(annotation, "__parameters__", ())
    return annotation[tuple(arguments.get(one, one) for one in variables)] if variables else annotation


def name_of(call: Callable[..., Any]) -> str:
    return getattr(call, "__name__", None) or type(call).__name__


def _is_sequence_class(annotation: Any) -> bool:
    return is_subclass(annotation, SEQUENCES) and not is_subclass(annotation, (str, bytes))


def _is_complex(annotation: Any) -> bool:
    if is_union(annotation):
        return any(map(_is_complex, get_args(annotation)))
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_complex(get_args(annotation)[0])
    return (
        _is_complex_class(annotation)
        or _is_complex_class(origin)
        or hasattr(origin, "__pydantic_core_schema__")
        or hasattr(origin, "__get_pydantic_core_schema__")
    )


def _is_complex_class(annotation: Any) -> bool:
    return (
        is_subclass(annotation, (BaseModel, Mapping, UploadFile))
        or _is_sequence_class(annotation)
        or dataclasses.is_dataclass(annotation)
    )
