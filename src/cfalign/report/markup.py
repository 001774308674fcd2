"""Names and sentences as HTML: everything that came from outside is escaped here."""

from __future__ import annotations

import re

from markupsafe import Markup, escape


def soft(name: str) -> Markup:
    """A name that may break after an underscore, a colon, a point or a slash."""
    words = escape(name)
    for mark in ("_", ":", ".", "/"):
        words = words.replace(mark, Markup(f"{mark}<wbr>"))
    return words


def code(name: str) -> Markup:
    """A name in code type; long ones may break as ``soft`` says."""
    return Markup("<code>{}</code>").format(soft(name))


def whole(sentence: str) -> Markup:
    """A sentence made by ``wording`` with escaped names; its numbers do not break across lines."""
    return Markup(
        re.sub(
            r"(?<![\w;])((?:n|q|ψ) (?:=|<|–) ?[−+–]?[\d.]*\d)",
            r'<span class="nb">\1</span>',
            sentence.replace(" < 0.001", " &lt; 0.001"),
        ).replace("q &lt; 0.001", '<span class="nb">q &lt; 0.001</span>')
    )


def with_code(sentence: str) -> Markup:
    """A sentence made by ``wording`` with escaped names; what stands in backticks is a command."""
    return Markup(re.sub(r"`([^`<>]+)`", r"<code>\1</code>", sentence))


def with_marks(sentence: str) -> Markup:
    """A sentence made by ``wording`` without a name in it; stars emphasise, and x0 and x_λ are set as the equation."""
    set_as = sentence.replace("x0", "x<sub>0</sub>").replace("x_λ", "x<sub>λ</sub>")
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", set_as))
