"""Bodies with {{ variables }} in them: cut into pieces, and filled."""

import re
from collections.abc import Mapping
from typing import NamedTuple

VARIABLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")


class Segment(NamedTuple):
    """A piece of a body: either text, or the name of a variable."""

    text: str
    is_variable: bool


class Piece(NamedTuple):
    """A piece of a prompt: its text, and the variable that it stands for ("" for the body's own text)."""

    text: str
    variable: str


def split(body: str) -> list[Segment]:
    """Cut a body at its variables, so that a page can mark them without writing HTML by hand."""
    # A split by one group alternates: text, name, text.
    return [Segment(piece, bool(index % 2)) for index, piece in enumerate(VARIABLE.split(body)) if piece]


def variables(body: str) -> list[str]:
    """Return the names of the variables, each once, in the order of the body."""
    return list(dict.fromkeys(VARIABLE.findall(body)))


def fill(body: str, values: Mapping[str, str]) -> list[Piece]:
    """Put the values into a body. A variable without one stays as it is written; values are not looked into."""
    return [
        Piece(values.get(text) or f"{{{{ {text} }}}}", text) if is_variable else Piece(text, "")
        for text, is_variable in split(body)
    ]
