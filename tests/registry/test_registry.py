"""The registry and its errors for unknown names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vfm_isbench.errors import UnknownNameError, VfmIsbenchError
from vfm_isbench.registry.registry import Registry, unknown_name


@pytest.fixture
def fruit() -> Registry[int]:
    registry: Registry[int] = Registry("fruit", hint="Bring your own.")
    registry.add("apple", 1)
    registry.add("banana", 2)
    return registry


def test_entries_are_found_by_name_in_order_of_registration(fruit: Registry[int]) -> None:
    assert fruit.get("banana") == 2
    assert list(fruit) == ["apple", "banana"]
    assert "apple" in fruit
    assert "cherry" not in fruit


def test_an_unknown_name_lists_what_exists_and_suggests_the_nearest(fruit: Registry[int]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        fruit.get("appel")
    assert str(caught.value) == ("unknown fruit 'appel'. Did you mean 'apple'? Known: apple, banana. Bring your own.")
    assert isinstance(caught.value, VfmIsbenchError)


def test_nothing_is_suggested_if_nothing_is_near() -> None:
    assert str(unknown_name("fruit", "xyz", ["apple"])) == "unknown fruit 'xyz'. Known: apple."


def test_an_entry_is_never_replaced(fruit: Registry[int]) -> None:
    with pytest.raises(ValueError, match="fruit 'apple' is already registered"):
        fruit.add("apple", 3)
    assert fruit.get("apple") == 1


def test_the_decorator_registers_and_returns_its_object() -> None:
    functions: Registry[Callable[[], int]] = Registry("function")

    @functions.register("f")
    def function() -> int:
        return 7

    assert functions.get("f") is function
    assert function() == 7
