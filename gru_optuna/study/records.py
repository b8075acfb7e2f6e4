"""What databases hold, turned into the types that this package wrote."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

_T = TypeVar("_T")


def checked(kind: type[_T], content: object) -> _T:
    """A value of a type, dataclasses included, from what JSON made of it.

    Keys that a dataclass has no field for are passed over: a newer version may have written them.

    Raises
    ------
    pydantic.ValidationError
        If the content is not of this type.

    >>> checked(dict[str, float], {"majority class": 1})
    {'majority class': 1.0}
    """
    adapter: TypeAdapter[_T] = _adapter(cast("Any", kind))
    return adapter.validate_python(content)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
