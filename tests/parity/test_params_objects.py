"""`Query`, `Header`, ..., `Depends` and `Security` as objects, before any endpoint uses them."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tests.parity.asking import without_address

MARKERS = ["Path", "Query", "Header", "Cookie", "Body", "Form", "File"]
WITH_DEFAULT = MARKERS[1:]


def info(param: Any) -> FieldInfo:
    """The FieldInfo: a parameter of FastAPI is one."""
    return getattr(param, "field_info", param)


def functions(lib: Any) -> Any:
    return lib.module("fastapi.param_functions")


def classes(lib: Any) -> Any:
    return lib.module("fastapi.params")


def dependency() -> None:
    """A callable to depend on."""


@pytest.mark.parametrize("name", MARKERS)
def test_function_makes_the_class_of_its_name(lib, name):
    assert type(getattr(functions(lib), name)()) is getattr(classes(lib), name)


@pytest.mark.parametrize("name", MARKERS)
def test_front_door_has_the_function(lib, name):
    assert getattr(lib.module("fastapi"), name) is getattr(functions(lib), name)


@pytest.mark.parametrize("name", MARKERS)
def test_repr_without_default(lib, name):
    assert repr(getattr(functions(lib), name)()) == f"{name}(PydanticUndefined)"


@pytest.mark.parametrize("name", WITH_DEFAULT)
@pytest.mark.parametrize(
    ("default", "text"), [(None, "None"), (1, "1"), ("a", "a"), ([], "[]"), (..., "PydanticUndefined")]
)
def test_repr_with_default(lib, name, default, text):
    assert repr(getattr(functions(lib), name)(default)) == f"{name}({text})"


@pytest.mark.parametrize("name", WITH_DEFAULT)
@pytest.mark.parametrize(
    ("options", "required", "value"),
    [
        ({}, True, PydanticUndefined),
        ({"default": ...}, True, PydanticUndefined),
        ({"default": None}, False, None),
        ({"default": 3}, False, 3),
        ({"default_factory": dict}, False, {}),
    ],
    ids=str,
)
def test_required_and_default(lib, name, options, required, value):
    param = getattr(functions(lib), name)(**options)

    assert info(param).is_required() is required
    assert info(param).get_default(call_default_factory=True) == value
    assert param.default is info(param).default


def test_mutable_default_is_copied(lib):
    default: list[int] = []

    assert info(functions(lib).Query(default)).get_default() is not default


@pytest.mark.parametrize("name", ["Path", "Query", "Body"])
@pytest.mark.parametrize(
    "options",
    [
        {"gt": 1},
        {"ge": 1, "le": 2},
        {"lt": 2.5},
        {"gt": None, "min_length": None},
        {"min_length": 1, "max_length": 3},
        {"pattern": "^a$"},
        {"pattern": "^a$", "max_length": 3, "strict": True},
        {"multiple_of": 2},
        {"allow_inf_nan": False},
        {"max_digits": 4, "decimal_places": 2},
        {"union_mode": "left_to_right"},
        {"fail_fast": True},
        {"strict": False},
        {"gt": 1, "lt": 9, "multiple_of": 2, "strict": True, "pattern": "a"},
    ],
    ids=str,
)
def test_metadata_is_that_of_pydantics_field(lib, name, options):
    assert repr(info(getattr(functions(lib), name)(**options)).metadata) == repr(Field(**options).metadata)


@pytest.mark.parametrize("name", ["Header", "Form"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("title", "T"),
        ("description", "D"),
        ("examples", ["a"]),
        ("discriminator", "kind"),
        ("deprecated", True),
        ("validate_default", True),
        ("json_schema_extra", {"x": 1}),
        ("alias_priority", 1),
    ],
)
def test_option_arrives_in_the_field_info(lib, name, option, value):
    param = getattr(functions(lib), name)(alias="a", **{option: value})

    assert getattr(info(param), option) == value


@pytest.mark.parametrize("name", ["Query", "Header", "Body"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (None, None, None, None)),
        ({"alias": "a"}, ("a", "a", "a", 2)),
        ({"alias": None}, (None, None, None, None)),
        ({"alias": "a", "validation_alias": "v"}, ("a", "v", "a", 2)),
        ({"alias": "a", "validation_alias": None}, ("a", "a", "a", 2)),
        ({"alias": "a", "serialization_alias": "s"}, ("a", "a", "s", 2)),
        ({"alias": "a", "serialization_alias": None}, ("a", "a", "a", 2)),
        ({"validation_alias": "v"}, (None, "v", None, 2)),
        ({"serialization_alias": "s"}, (None, None, "s", 2)),
        ({"validation_alias": AliasChoices("v", "w")}, (None, AliasChoices("v", "w"), None, 2)),
        ({"validation_alias": AliasPath("v", 0)}, (None, AliasPath("v", 0), None, 2)),
        ({"alias": "a", "alias_priority": 1}, ("a", "a", "a", 1)),
    ],
    ids=str,
)
def test_aliases_follow_alias(lib, name, options, expected):
    param = getattr(functions(lib), name)(**options)

    assert param.alias == expected[0]
    assert (
        info(param).alias,
        info(param).validation_alias,
        info(param).serialization_alias,
        info(param).alias_priority,
    ) == expected


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({"gt": 1}, 2, 1),
        ({"multiple_of": 3}, 6, 7),
        ({"strict": True}, 1, "1"),
        ({"ge": 0, "le": 5}, 5, 6),
    ],
    ids=str,
)
def test_field_info_validates(lib, options, good, bad):
    number: TypeAdapter[int] = TypeAdapter(Annotated[int, info(functions(lib).Query(**options))])

    assert number.validate_python(good) == good
    with pytest.raises(ValidationError):
        number.validate_python(bad)


@pytest.mark.parametrize("name", WITH_DEFAULT)
def test_default_and_factory_together(lib, name):
    with pytest.raises(TypeError, match="cannot specify both default and default_factory"):
        getattr(functions(lib), name)(1, default_factory=list)


def test_path_with_factory(lib):
    assert not info(functions(lib).Path(default_factory=list)).is_required()


@pytest.mark.parametrize("name", MARKERS)
def test_unknown_option(lib, name):
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'maximum'$"):
        getattr(functions(lib), name)(maximum=1)


@pytest.mark.parametrize("name", MARKERS)
def test_options_are_keyword_only(lib, name):
    with pytest.raises(TypeError, match="positional argument"):
        getattr(functions(lib), name)(..., 1)


@pytest.mark.parametrize("default", [None, 1, "a", PydanticUndefined])
@pytest.mark.parametrize("where", [functions, classes])
def test_path_with_default(lib, where, default):
    with pytest.raises(AssertionError, match=r"^Path parameters cannot have a default value$"):
        where(lib).Path(default)


def test_path_with_ellipsis(lib):
    assert info(functions(lib).Path(...)).is_required()


@pytest.mark.parametrize("name", ["Path", "Query", "Header", "Cookie", "Form"])
@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [("example", "a", "examples"), ("example", None, "examples"), ("regex", "^a$", "pattern")],
)
def test_deprecated_option_warns_at_the_line_that_uses_it(lib, name, option, value, instead):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(functions(lib), name)(**{option: value})

    [warning] = caught
    assert str(warning.message) == f"`{option}` has been deprecated, please use `{instead}` instead"
    assert warning.category is lib.FastAPIDeprecationWarning
    assert warning.filename == __file__


def test_both_deprecated_options_warn_in_order(lib):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        functions(lib).Query(regex="a", example="b")

    assert [str(item.message).split("`")[1] for item in caught] == ["example", "regex"]


def test_regex_none_is_silent(lib):
    assert info(functions(lib).Query(regex=None)).metadata == []


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"regex": "^a$"}, "^a$"),
        ({"regex": "^a$", "pattern": "^b$"}, "^b$"),
        ({"regex": "^a$", "pattern": None}, "^a$"),
    ],
    ids=str,
)
def test_regex_acts_as_pattern(lib, options, pattern):
    with pytest.warns(lib.FastAPIDeprecationWarning):
        param = functions(lib).Query(**options)

    assert repr(info(param).metadata) == repr(Field(pattern=pattern).metadata)


def test_example_is_kept(lib):
    with pytest.warns(lib.FastAPIDeprecationWarning):
        assert functions(lib).Query(example="a").example == "a"


def test_options_of_fastapi(lib):
    examples = {"one": {"value": 1}}

    assert functions(lib).Query(openapi_examples=examples).openapi_examples == examples
    assert functions(lib).Query().openapi_examples is None
    assert functions(lib).Query().include_in_schema is True
    assert functions(lib).Body(include_in_schema=False).include_in_schema is False


@pytest.mark.parametrize("given", [True, False])
def test_convert_underscores(lib, given):
    assert functions(lib).Header(convert_underscores=given).convert_underscores is given
    assert functions(lib).Header().convert_underscores is True
    assert not hasattr(functions(lib).Query(), "convert_underscores")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("Body", "application/json"),
        ("Form", "application/x-www-form-urlencoded"),
        ("File", "multipart/form-data"),
    ],
)
def test_media_type(lib, name, media_type):
    assert getattr(functions(lib), name)().media_type == media_type
    assert getattr(functions(lib), name)(media_type="text/plain").media_type == "text/plain"
    assert getattr(functions(lib), name)().embed is None


@pytest.mark.parametrize("embed", [True, False, None])
def test_embed(lib, embed):
    assert functions(lib).Body(embed=embed).embed is embed


@pytest.mark.parametrize("name", ["path", "query", "header", "cookie"])
def test_in_is_a_param_type(lib, name):
    param = getattr(functions(lib), name.title())()

    assert param.in_ is classes(lib).ParamTypes[name]
    assert param.in_.value == name


def test_order_of_param_types(lib):
    assert [item.name for item in classes(lib).ParamTypes] == ["query", "header", "path", "cookie"]


@pytest.mark.parametrize(
    ("child", "parent", "related"),
    [
        ("Path", "Param", True),
        ("Query", "Param", True),
        ("Header", "Param", True),
        ("Cookie", "Param", True),
        ("Body", "Param", False),
        ("Form", "Body", True),
        ("File", "Form", True),
        ("Security", "Depends", True),
        ("Depends", "Body", False),
    ],
)
def test_family(lib, child, parent, related):
    assert issubclass(getattr(classes(lib), child), getattr(classes(lib), parent)) is related


@pytest.mark.parametrize("name", MARKERS)
def test_annotation_option_of_the_class(lib, name):
    assert getattr(classes(lib), name)(annotation=int).annotation is int
    assert getattr(classes(lib), name)().annotation is None


def test_two_params_are_never_equal(lib):
    assert functions(lib).Query() != functions(lib).Query()


def test_params_do_not_share_their_field_info(lib):
    first, second = functions(lib).Query(gt=1), functions(lib).Query(gt=1)

    assert info(first) is not info(second)
    assert info(first).metadata is not info(second).metadata


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "dependency=None, use_cache=True, scope=None, max_concurrency=None"),
        ({"use_cache": False}, "dependency=None, use_cache=False, scope=None, max_concurrency=None"),
        ({"scope": "function"}, "dependency=None, use_cache=True, scope='function', max_concurrency=None"),
        ({"max_concurrency": 2}, "dependency=None, use_cache=True, scope=None, max_concurrency=2"),
    ],
    ids=str,
)
def test_repr_of_depends(lib, options, text):
    assert repr(functions(lib).Depends(**options)) == f"Depends({text})"


def test_repr_of_security(lib):
    assert repr(functions(lib).Security(scopes=["a"])) == (
        "Security(dependency=None, use_cache=True, scope=None, max_concurrency=None, scopes=['a'])"
    )


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ({}, {}, True),
        ({"dependency": dependency}, {"dependency": dependency}, True),
        ({"dependency": dependency}, {"dependency": print}, False),
        ({"dependency": dependency}, {}, False),
        ({"use_cache": False}, {"use_cache": False}, True),
        ({"use_cache": False}, {}, False),
        ({"scope": "request"}, {"scope": "request"}, True),
        ({"scope": "request"}, {"scope": "function"}, False),
        ({"max_concurrency": 1}, {"max_concurrency": 1}, False),
        ({"max_concurrency": 1}, {}, False),
        ({"max_concurrency": None}, {}, True),
    ],
    ids=without_address,
)
def test_equality_and_hash_of_depends(lib, first, second, equal):
    one, other = functions(lib).Depends(**first), functions(lib).Depends(**second)

    assert (one == other) is equal
    assert len({one, other}) == (1 if equal else 2)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ({}, {}, True),
        ({"scopes": ("a",)}, {"scopes": ("a",)}, True),
        ({"scopes": ("a",)}, {"scopes": ("b",)}, False),
        ({"scopes": ("a",)}, {}, False),
        ({"scopes": ["a"]}, {"scopes": ["a"]}, True),
        ({"scopes": ["a"]}, {"scopes": ("a",)}, False),
    ],
    ids=str,
)
def test_equality_of_security(lib, first, second, equal):
    assert (
        functions(lib).Security(dependency, **first) == functions(lib).Security(dependency, **second)
    ) is equal


def test_security_is_not_an_equal_depends(lib):
    assert functions(lib).Security(dependency) != functions(lib).Depends(dependency)


def test_security_with_a_list_has_no_hash(lib):
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(functions(lib).Security(dependency, scopes=["a"]))


def test_depends_with_a_limit_equals_itself(lib):
    limited = functions(lib).Depends(dependency, max_concurrency=1)

    assert {limited: "found"}[limited] == "found"


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, "1", [], object()], ids=without_address)
def test_invalid_max_concurrency(lib, value):
    with pytest.raises(ValueError, match=r"^max_concurrency must be a positive integer or None$"):
        functions(lib).Depends(max_concurrency=value)


@pytest.mark.parametrize("name", ["dependency", "use_cache", "scope", "max_concurrency"])
def test_depends_is_frozen(lib, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(functions(lib).Depends(), name, None)


def test_replace_keeps_the_limit(lib):
    limited = functions(lib).Depends(max_concurrency=2)
    inferred = dataclasses.replace(limited, dependency=dependency)

    assert inferred.dependency is dependency
    assert inferred != limited
    assert inferred == dataclasses.replace(limited, dependency=dependency)


def test_replace_with_another_limit(lib):
    limited = functions(lib).Depends(max_concurrency=2)
    once, twice = (dataclasses.replace(limited, max_concurrency=3) for _ in range(2))

    assert once.max_concurrency == 3
    assert once != twice


def test_replace_without_limit(lib):
    limited = functions(lib).Depends(max_concurrency=2)

    assert dataclasses.replace(limited, max_concurrency=None) == functions(lib).Depends()


def test_replace_keeps_the_class(lib):
    assert dataclasses.replace(functions(lib).Security(scopes=("a",)), dependency=dependency) == functions(
        lib
    ).Security(dependency, scopes=("a",))


def test_positions_of_the_depends_class(lib):
    assert classes(lib).Depends(dependency, False, "request") == functions(lib).Depends(
        dependency, use_cache=False, scope="request"
    )
    with pytest.raises(TypeError):
        classes(lib).Depends(dependency, False, "request", 1)


def test_positions_of_the_security_class(lib):
    security = classes(lib).Security(dependency, False, "function", ("a",), max_concurrency=1)

    assert (security.use_cache, security.scope, security.scopes, security.max_concurrency) == (
        False,
        "function",
        ("a",),
        1,
    )


@pytest.mark.parametrize("option", ["scope", "max_concurrency"])
def test_security_function_has_no_such_option(lib, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        functions(lib).Security(dependency, **{option: None})


@pytest.mark.parametrize("name", ["Depends", "Security"])
def test_options_of_dependencies_are_keyword_only(lib, name):
    with pytest.raises(TypeError, match="positional argument"):
        getattr(functions(lib), name)(dependency, False)


def test_max_concurrency_and_scopes_default_to_none(lib):
    assert functions(lib).Depends().max_concurrency is None
    assert functions(lib).Security().scopes is None
