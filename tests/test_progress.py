"""Bars of progress: who asks for them, where they are shown, and that nothing is left of them."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
from rich.console import Console

import cfalign as cfa
import worlds
from cfalign import BadInput
from cfalign._runs.bars import on_console, shown_bars, stages_html
from cfalign._runs.progress import told_to, with_bars


@with_bars
def work(*, progress: Any = None) -> int:
    tell = told_to(progress)
    for done in range(5):
        tell("walk", done, 4)
    return 7


def test_nothing_is_shown_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert work() == work(progress=None) == work(progress=False) == 7
    assert capsys.readouterr() == ("", "")


def test_true_shows_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert work(progress=True) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["walk: 1 of 4", "walk: 2 of 4", "walk: 3 of 4", "walk: 4 of 4"]


def test_a_function_is_called_with_every_report() -> None:
    seen: list[tuple[str, int, int]] = []
    work(progress=lambda *report: seen.append(report))
    assert seen == [("walk", done, 4) for done in range(5)]


@pytest.mark.parametrize("given", ["yes", 3])
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match="progress: expected True, False, or a function"):
        work(progress=given)


def test_a_terminal_gets_bars_that_end_with_an_error_too() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with pytest.raises(KeyError):
        fail_inside(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "walk" in shown
    assert "1/4" in shown
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is back


def fail_inside(console: Console) -> None:
    with on_console(console) as update:
        update("walk", 1, 4)
        raise KeyError


def test_a_notebook_gets_one_element_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real IPython.display and a shell that has a kernel, as Jupyter, VS Code and Colab have."""
    pytest.importorskip("IPython")
    from IPython.core import displaypub
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        sent: list[tuple[bool, str]] = []

        class Publisher(displaypub.DisplayPublisher):
            def publish(self, data: Any, *_: Any, update: bool = False, **__: Any) -> None:
                sent.append((update, data["text/html"]))

        shell.display_pub = Publisher()
        monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
        monkeypatch.setattr(shell, "kernel", types.SimpleNamespace(), raising=False)
        assert work(progress=True) == 7
    finally:
        InteractiveShell.clear_instance()
    assert [update for update, _ in sent] == [False, *[True] * (len(sent) - 1)]
    assert len(sent) >= 2
    assert "4 of 4" in sent[-1][1]


def test_names_of_stages_are_text_in_a_notebook() -> None:
    assert "<script" not in stages_html({"<script>alert(1)</script>": (0, 0, 0.0, 0.0)})


def test_bars_of_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_bars() as update:
        update("look", 2, 2)
    assert capsys.readouterr().err == "look: 2 of 2\n"


def test_an_audit_and_an_explanation_show_bars(capsys: pytest.CaptureFixture[str]) -> None:
    heads = worlds.heads()
    given: dict[str, Any] = {"autoencoder": worlds.autoencoder(), "progress": True}
    cfa.audit(worlds.images(40), heads, options=cfa.AuditOptions(limit=5), **given)
    assert "counterfactuals: 1 of 1" in capsys.readouterr().err
    image = next(x for x in worlds.images(40) if heads.logits(x[None])[0, 0] > 0)
    cfa.explain(image, heads["smiling"], **given)
    assert capsys.readouterr().err == "explain: 1 of 1\n"


def test_every_public_function_with_progress_takes_true() -> None:
    """All of them carry the decorator, by which a word that is no progress is refused before any work."""
    import inspect

    from cfalign import benchmarks, training

    found = [
        function
        for room in (cfa, benchmarks, training)
        for name in room.__all__
        if inspect.isfunction(function := getattr(room, name)) and "progress" in inspect.signature(function).parameters
    ]
    assert len(found) >= 17
    assert all(hasattr(function, "__wrapped__") for function in found)
    assert all(inspect.signature(f).parameters["progress"].default is None for f in found)
