"""What a setting may be, said beside its field: `Annotated[float, number(0, 1)]`.

A check is a function of a setting's name and value. It raises ValueError with what is allowed.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral, Real

Check = Callable[[str, object], None]


def check_all(settings) -> None:
    """Raises ValueError unless each field of a dataclass is within the bounds of its annotation."""
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
    """A number between two others, both included."""
    return _check(f"a number from {low:g} to {high:g}", lambda n: _between(n, low, high))


def multiple(step: int, high: int) -> Check:
    """A whole number above 0, a multiple of another."""
    allowed = f"a multiple of {step}, a whole number from {step} to {high}"
    return _check(allowed, lambda n: isinstance(n, Integral) and n in range(step, high + 1, step))


def rising(low: float, high: float) -> Check:
    """Low and high, both between two numbers."""

    def is_rising(pair):
        two = isinstance(pair, (tuple, list)) and len(pair) == 2
        return two and all(_between(n, low, high) for n in pair) and pair[0] <= pair[1]

    return _check(f"low and high, which must rise from {low:g} to {high:g}", is_rising)


def names(table: Mapping, kind=(tuple, list)) -> Check:
    """One or more names of a table, in a tuple; or any number of them, as keys of a mapping."""
    some = "{name: value, ...}, names out" if kind is Mapping else "a tuple with one or more"
    choice = ", ".join(table)

    def check(name, value):
        if not isinstance(value, kind) or not (value or kind is Mapping):
            raise ValueError(f"{name} is {value!r}; give {some} of {choice}.")
        unknown = [str(one) for one in value if one not in table]
        if unknown:
            raise ValueError(f"{name} has no {', '.join(unknown)}; choose from {choice}.")

    return check


def each(table: Mapping, allowed: Check | None = None) -> Check:
    """A mapping from names of a table to what is allowed, by default the table's own or None."""

    def check(name, value):
        names(table, Mapping)(name, value)
        for one, own in value.items():
            if allowed or own is not None:
                (allowed or table[one])(f"{name}[{one!r}]", own)

    return check


def weights(table: Mapping) -> Check:
    """Weights of names of a table, not all of them 0."""

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
