"""The features of this library's params beyond FastAPI's; see also parity/test_params_objects.py."""

import dataclasses
import inspect
import warnings

import pytest
from pydantic.fields import FieldInfo

from fastws_compat import param_functions, params
from fastws_compat.exceptions import FastAPIDeprecationWarning

MARKERS = ["Path", "Query", "Header", "Cookie", "Body", "Form", "File"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Param", "query"),
        ("Path", "path"),
        ("Query", "query"),
        ("Header", "header"),
        ("Cookie", "cookie"),
        ("Body", "body"),
        ("Form", "body"),
        ("File", "body"),
    ],
)
def test_source(name, source):
    assert getattr(params, name).source == source


@pytest.mark.parametrize("name", MARKERS)
def test_marker_is_a_field_info_of_pydantics(name):
    assert isinstance(getattr(params, name)(), FieldInfo)


@pytest.mark.parametrize("name", MARKERS)
@pytest.mark.parametrize("where", [params, param_functions])
@pytest.mark.parametrize("option", ["regex", "example"])
def test_deprecated_option_names_the_line_of_the_user(name, where, option):
    declare = getattr(where, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1
        declare(**{option: "a"})

    [warning] = caught
    assert (warning.category, warning.filename, warning.lineno) == (FastAPIDeprecationWarning, __file__, line)


@pytest.mark.parametrize("name", MARKERS)
def test_function_takes_the_options_of_fastapi(name):
    import fastapi.param_functions

    theirs = inspect.signature(getattr(fastapi.param_functions, name)).parameters.keys()
    ours = inspect.signature(getattr(param_functions, name)).parameters.keys()

    assert theirs == ours - {"options"} | params.FieldOptions.__optional_keys__ - {"annotation"}


def test_first_unknown_option_is_named():
    with pytest.raises(TypeError, match="'a'"):
        params.Query(b=1, a=2)


def test_properties_read_the_field_info():
    param = params.Query(1, alias="a", annotation=int)

    assert (param.default, param.alias, param.annotation) == (1, "a", int)


def test_limit_of_a_declaration():
    assert params.Depends(max_concurrency=2).concurrency.limit == 2
    assert params.Depends().concurrency is None


def test_replace_keeps_the_limit_object():
    limited = params.Depends(max_concurrency=2)

    assert dataclasses.replace(limited, dependency=print).concurrency is limited.concurrency


def test_replace_with_another_limit_makes_another_object():
    limited = params.Depends(max_concurrency=2)

    assert dataclasses.replace(limited, max_concurrency=3).concurrency.limit == 3
    assert dataclasses.replace(limited, max_concurrency=None).concurrency is None


def test_limit_is_not_in_the_repr():
    assert "concurrency=None" not in repr(params.Depends(max_concurrency=1))
    assert "Concurrency" not in repr(params.Depends(max_concurrency=1))


@pytest.mark.parametrize("marker", [params.Depends, params.Security, param_functions.Depends])
def test_result_of_a_call_as_a_dependency(marker):
    """FastAPI raises TypeError too, when the route is declared."""
    with pytest.raises(TypeError, match="got an object of type int: pass the function itself"):
        marker(int("1"))
