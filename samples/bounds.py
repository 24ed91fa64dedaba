"""Checks of settings, written beside the field: `Annotated[float, number(0, 1)]`.

A check is a function of a setting's name and value. It raises ValueError if the value is not
allowed, and the message says what is.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral, Real

Check = Callable[[str, object], None]


def check_all(settings) -> None:
    """Runs the checks in the annotations of a dataclass. A default of None is always allowed."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        for check in getattr(field.type, "__metadata__", ()):
            if value is not None or field.default is not None:
                check(field.name, value)


def _check(allowed: str, is_allowed: Callable[..., bool]) -> Check:
    def check(name, value):
        if not is_allowed(value):
            raise ValueError(f"{name} is {value!r}; give {allowed}.")

    return check


def _between(value, low, high) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high


def number(low: float, high: float) -> Check:
    """Allows a number from `low` to `high`, both included."""
    return _check(f"a number from {low:g} to {high:g}", lambda n: _between(n, low, high))


def multiple(step: int, high: int) -> Check:
    """Allows the multiples of `step`, up to `high`."""
    allowed = f"a multiple of {step}, a whole number from {step} to {high}"
    return _check(allowed, lambda n: isinstance(n, Integral) and n in range(step, high + 1, step))


def rising(low: float, high: float) -> Check:
    """Allows a pair (a, b) with low <= a <= b <= high."""

    def is_rising(pair):
        two = isinstance(pair, (tuple, list)) and len(pair) == 2
        return two and all(_between(n, low, high) for n in pair) and pair[0] <= pair[1]

    return _check(f"low and high, which must rise from {low:g} to {high:g}", is_rising)


def names(table: Mapping, kind=(tuple, list)) -> Check:
    """Allows a tuple of keys of `table`, at least one; or a mapping from keys of `table`."""
    some = "{name: value, ...}, with names" if kind is Mapping else "a tuple of one or more"
    choice = ", ".join(table)

    def check(name, value):
        if not isinstance(value, kind) or not (value or kind is Mapping):
            raise ValueError(f"{name} is {value!r}; give {some} from {choice}.")
        unknown = [str(one) for one in value if one not in table]
        if unknown:
            raise ValueError(f"{name} has no {', '.join(unknown)}; choose from {choice}.")

    return check


def each(table: Mapping, allowed: Check | None = None) -> Check:
    """Allows a mapping from keys of `table` to values that pass a check.

    The check is `allowed`. Without it, it is the one that `table` has for the key, and None passes.
    """

    def check(name, value):
        names(table, Mapping)(name, value)
        for key, entry in value.items():
            if allowed or entry is not None:
                (allowed or table[key])(f"{name}[{key!r}]", entry)

    return check


def weights(table: Mapping) -> Check:
    """Allows a mapping from keys of `table` to weights of 0 or more, not all of them 0."""

    def are_weights(given):
        return all(_between(n, 0, 1e9) for n in given.values()) and any(given.values())

    def check(name, value):
        names(table, Mapping)(name, value)
        _check("weights of 0 or more, not all 0", are_weights)(name, value)

    return check


def _are_texts(value) -> bool:
    texts = value if isinstance(value, (tuple, list)) else [None]
    return all(isinstance(text, str) and text.strip() for text in texts)


filled_texts = _check("a tuple of texts, none of them empty", _are_texts)
