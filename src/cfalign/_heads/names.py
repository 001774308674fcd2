"""Names of heads: how they are kept, found by another spelling, and quoted in a composition.

A name of words becomes lower snake case, as the columns of a label table do: ``"Big Nose"`` is ``big_nose``. A name
with other signs, such as ``a+b`` or ``T-shirt/top``, is taken as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from cfalign._errors import BadInput

NOT = "not "
_WORDS = re.compile(r"[\w\s.-]+")
_BARE = re.compile(r"[\w.]*[^\W\d][\w.]*")
_NUMBER = re.compile(r"\d+e\d+", re.IGNORECASE)  # of numbers, only these look like words

QUOTED = r"(?:'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
"""A name in quotes, as a regular expression."""
_PIECES = re.compile(rf"{QUOTED}|[\w.]+['\"\w.]*|.", re.DOTALL)  # a quote inside a word is none


def head_name(given: object) -> str:
    """How a head of this name is called; empty for a name without letters or digits.

    >>> head_name("Big-Nose"), head_name("T-shirt / top")
    ('big_nose', 'T-shirt / top')
    """
    shown = "".join(sign if sign.isprintable() else " " for sign in unicodedata.normalize("NFC", str(given)))
    text = " ".join(shown.split())
    return in_words(text) if _WORDS.fullmatch(text) or not in_words(text) else text


def in_words(text: str) -> str:
    """A name in lower snake case, whatever the signs between its words; empty without letters or digits."""
    return re.sub(r"\W+", "_", unicodedata.normalize("NFC", text)).strip("_").lower()


def matching(name: str, names: Sequence[str]) -> str | None:
    """The one of ``names`` that ``name`` means: the exact one, else the only one that is spelled alike.

    Spelled alike are names that differ in case, in the signs between their words, or in the Unicode normal form.
    """
    if name in names:
        return name
    for spelled in (head_name, in_words):
        alike = [each for each in names if spelled(each) == spelled(name)] if spelled(name) else []
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def head_names(given: Sequence[str]) -> tuple[str, ...]:
    """The names of a classifier's heads.

    Raises BadInput when there are none, when one has no letters or digits, when two are alike but for their case, or
    when one begins with ``not ``, as the labels of raised attributes do.
    """
    if isinstance(given, str) or not len(given):
        raise BadInput(f"targets must be a list of at least one name, got {given!r}.")
    names = [head_name(each) for each in given]
    first: dict[str, object] = {}
    for name, own in zip(names, given, strict=True):
        if not name:
            raise BadInput(f"A target has no letters or digits in its name: {given!r}.")
        if name.startswith(NOT):
            raise BadInput(f"A target is called {own!r}; names that begin with {NOT!r} are kept for what is absent.")
        if name.lower() in first:
            raise BadInput(
                f"Two targets are called {name!r}: {first[name.lower()]!r} and {own!r}; expected names that differ by "
                "more than case, spaces and hyphens."
            )
        first[name.lower()] = own
    return tuple(names)


def quoted(name: str) -> str:
    """The name as it stands in a composition: in quotes where it is a number, or has other signs than letters, digits,
    dots and underscores.

    >>> quoted("big_nose"), quoted("3"), quoted("it's")
    ('big_nose', "'3'", "'it''s'")
    """
    plain = _BARE.fullmatch(name) and not _NUMBER.fullmatch(name)
    return name if plain else "'" + name.replace("'", "''") + "'"


def unquoted(text: str) -> str:
    """The name in quotes, which are doubled inside it; text without quotes around it as it is."""
    mark = text[:1]
    if mark not in ("'", '"') or len(text) < 2 or text[-1] != mark:
        return text
    inside = text[1:-1]
    return inside.replace(mark * 2, mark) if mark not in inside.replace(mark * 2, "") else text


def parted(text: str) -> list[str]:
    """The names in a list that is separated by commas, each with its quotes; blank ones are left out.

    >>> parted("smiling, 'a,b' + 0.3*young")
    ['smiling', "'a,b' + 0.3*young"]
    """
    parts = [""]
    for piece in _PIECES.findall(text):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]
