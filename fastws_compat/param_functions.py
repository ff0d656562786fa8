"""The functions that users call to declare parameters. They return `params` objects, typed as `Any`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from pydantic_core import PydanticUndefined

from fastws_compat import params
from fastws_compat.params import DependencyScope, FieldOptions


def Path(default: Any = ..., **options: Unpack[FieldOptions]) -> Any:
    """Read a path parameter."""
    return params.Path(default, **options)


def Query(default: Any = PydanticUndefined, **options: Unpack[FieldOptions]) -> Any:
    """Read a query parameter."""
    return params.Query(default, **options)


def Header(
    default: Any = PydanticUndefined, *, convert_underscores: bool = True, **options: Unpack[FieldOptions]
) -> Any:
    """Read a header; `x_token` reads `x-token` unless `convert_underscores` is off."""
    return params.Header(default, convert_underscores=convert_underscores, **options)


def Cookie(default: Any = PydanticUndefined, **options: Unpack[FieldOptions]) -> Any:
    """Read a cookie."""
    return params.Cookie(default, **options)


def Body(
    default: Any = PydanticUndefined,
    *,
    embed: bool | None = None,
    media_type: str = "application/json",
    **options: Unpack[FieldOptions],
) -> Any:
    """Read the body. A WebSocket handshake has none, so this gives the default or a validation error."""
    return params.Body(default, embed=embed, media_type=media_type, **options)


def Form(
    default: Any = PydanticUndefined,
    *,
    media_type: str = "application/x-www-form-urlencoded",
    **options: Unpack[FieldOptions],
) -> Any:
    """Read a form field; on a WebSocket it behaves like `Body`."""
    return params.Form(default, media_type=media_type, **options)


def File(
    default: Any = PydanticUndefined,
    *,
    media_type: str = "multipart/form-data",
    **options: Unpack[FieldOptions],
) -> Any:
    """Read an uploaded file; on a WebSocket it behaves like `Body`."""
    return params.File(default, media_type=media_type, **options)


def Depends(
    dependency: Callable[..., Any] | None = None,
    *,
    use_cache: bool = True,
    scope: DependencyScope | None = None,
    max_concurrency: int | None = None,
) -> Any:
    """Call `dependency`, or the class in the annotation, and pass what it returns or yields."""
    return params.Depends(dependency, use_cache, scope, max_concurrency=max_concurrency)


def Security(
    dependency: Callable[..., Any] | None = None,
    *,
    scopes: Sequence[str] | None = None,
    use_cache: bool = True,
) -> Any:
    """`Depends` with the OAuth2 scopes that the dependency and its sub-dependencies require."""
    return params.Security(dependency, use_cache, scopes=scopes)
