"""Path convertors, beyond parity with Starlette."""

from __future__ import annotations

import pytest

from fastws_compat.convertors import Convertor, register_url_convertor


def test_convertor_without_methods() -> None:
    with pytest.raises(NotImplementedError):
        Convertor[str]().convert("a")
    with pytest.raises(NotImplementedError):
        Convertor[str]().to_string("a")


def test_registered_name_replaces_another(monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Convertor[str]] = {}
    monkeypatch.setattr("fastws_compat.convertors.CONVERTOR_TYPES", table)
    first, second = Convertor[str](), Convertor[str]()
    register_url_convertor("mine", first)
    register_url_convertor("mine", second)
    assert table == {"mine": second}
