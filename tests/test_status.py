"""Status and close codes by name."""

from __future__ import annotations

import pytest

from fastws_compat import status
from fastws_compat.exceptions import StarletteDeprecationWarning


def test_old_name_warns_where_it_is_written() -> None:
    with pytest.warns(StarletteDeprecationWarning, match="HTTP_422_UNPROCESSABLE_CONTENT") as caught:
        code = status.HTTP_422_UNPROCESSABLE_ENTITY
    assert code == status.HTTP_422_UNPROCESSABLE_CONTENT
    assert caught[0].filename == __file__


def test_unknown_name_is_no_attribute() -> None:
    assert not hasattr(status, "HTTP_299_NOTHING")


def test_every_name_begins_with_its_code() -> None:
    for name in dir(status):
        if name not in status._renamed:
            assert int(name.split("_")[1]) == getattr(status, name)
