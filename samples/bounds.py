"""What a setting may be, said beside its field: `Annotated[float, Number(0, 1)]`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import inf
from numbers import Integral, Real
from typing import get_type_hints

Check = Callable[[str, object], None]  # (name, value); raises ValueError with what is allowed


def check_fields(settings) -> None:
    """Raises ValueError unless each field of a dataclass is within the bounds of its annotation."""
    checks = _checks(type(settings))
    for field in fields(settings):
        value = getattr(settings, field.name)
        for check in checks[field.name] if value is not None or field.default is not None else ():
            check(field.name, value)


@functools.cache
def _checks(kind: type) -> dict[str, tuple[Check, ...]]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True, eq=False)  # hashed by jsonargparse
class Number:
    """A number between two others, both included."""

    low: float
    high: float
    multiple_of: int = 0  # above 0: a whole number, a multiple of this

    def __call__(self, name: str, value) -> None:
        step, whole = self.multiple_of, isinstance(value, Integral)
        if step and (not whole or value % step or not self.low <= value <= self.high):
            raise ValueError(f"{name} is {value!r}; use a multiple of {step}, a whole number.")
        if not _is_number(value) or not self.low <= value <= self.high:
            raise ValueError(
                f"{name} is {value!r}; give a number from {self.low:g} to {self.high:g}."
            )


@dataclass(frozen=True, eq=False)  # hashed by jsonargparse
class Rising:
    """Low and high, both between two numbers."""

    low: float
    high: float

    def __call__(self, name: str, value) -> None:
        pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value))
        if not pair or not self.low <= value[0] <= value[1] <= self.high:
            raise ValueError(
                f"{name} is {value!r}; give low and high, which must rise "
                f"from {self.low:g} to {self.high:g}."
            )


def _check_names(name: str, names, table) -> None:
    unknown = [str(one) for one in names if one not in table]
    if unknown:
        raise ValueError(f"{name} has no {', '.join(unknown)}; choose from {', '.join(table)}.")


@dataclass(frozen=True, eq=False)  # hashed by jsonargparse
class Weighed:
    """Weights of names of a table, not all of them 0."""

    table: Mapping

    def __call__(self, name: str, value) -> None:
        if not isinstance(value, Mapping):
            some = {one: 1 for one in list(self.table)[:2]}
            raise ValueError(f"{name} is {value!r}; give names and their weights, such as {some}.")
        _check_names(name, value, self.table)
        numbers = list(value.values())
        if not all(_is_number(one) and 0 <= one < inf for one in numbers) or not any(numbers):
            raise ValueError(f"{name} is {dict(value)}; give weights of 0 or more, not all 0.")


@dataclass(frozen=True, eq=False)  # hashed by jsonargparse
class Each:
    """A mapping from names of a table to values that are checked, or None."""

    table: Mapping
    check: Check | None = None  # of every value; None: the table has one for each name
    complete: bool = False  # no name may be missing

    def __call__(self, name: str, value) -> None:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {value!r}; give a mapping from {', '.join(self.table)}.")
        _check_names(name, value, self.table)
        missing = [one for one in self.table if one not in value]
        if self.complete and missing:
            raise ValueError(f"{name} has no range for {', '.join(missing)}; add one.")
        for one, own in value.items():
            if own is not None:
                (self.check or self.table[one])(f"{name}[{one!r}]", own)


@dataclass(frozen=True, eq=False)  # hashed by jsonargparse
class Some:
    """One or more names of a table."""

    table: Mapping

    def __call__(self, name: str, value) -> None:
        if isinstance(value, str) or not value:
            what = "empty" if not value else repr(value)
            raise ValueError(
                f"{name} is {what}; give a tuple with one or more of {', '.join(self.table)}."
            )
        _check_names(name, value, self.table)


def filled_texts(name: str, value) -> None:
    """Any number of texts, none of them empty."""
    if isinstance(value, str) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError(f"{name} is {value!r}; give a tuple of texts, none of them empty.")
