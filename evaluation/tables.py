"""Markdown tables."""


def cell(value, percent=False) -> str:
    """The text of (value, low, high), a number with its interval; "-" for None."""
    if value is None:
        return "-"
    scale, digits = (100, 1) if percent else (1, 2)
    middle, low, high = (f"{number * scale:.{digits}f}" for number in value)
    return f"{middle} ({low}-{high})" + (" %" if percent else "")


def table(titles, rows) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
