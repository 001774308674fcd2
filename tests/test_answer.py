"""The answer of a run in one sentence, in every case: nothing, effects, responses, features without a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cfalign import report
from cfalign._findings import Finding, FindingKind, Standing, UnnamedFeature, Witness
from cfalign.report.answer import answer

NAN = float("nan")
A, B, C = "x_net:big_lips", "y_net:chubby", "z_net:young"
JUDGED, ALONE = Standing(Witness.JUDGE), Standing(Witness.NONE, "nobody else knows", "train a second network")


def effect(audited: str, attribute: str, size: float, rank: int = 1, **more: Any) -> Finding:
    numbers = {"ci_low": size - 0.1, "ci_high": size + 0.1, "q": 0.001, "incoming": size, "null": 0.0, "outgoing": NAN}
    return Finding(
        rank=rank, audited=audited, attribute=attribute, effect=size, n=60, samples=(), **{**numbers, **more}
    )


def response(audited: str, attribute: str, size: float) -> Finding:
    return replace(effect(audited, attribute, NAN), kind=FindingKind.RESPONSE, change=size)


def unnamed(audited: str, size: float, *, found: bool = True) -> UnnamedFeature:
    names = ("ci_low", "ci_high", "whole", "named", "chance", "p", "q", "unexplained", "explains", "told", "agreement")
    numbers = dict.fromkeys(names, 0.1)
    return UnnamedFeature(audited=audited, number=1, effect=size, n=60, found_on=60, found=found, **numbers)


@pytest.fixture
def told(tiny_run: Any) -> Any:
    """The sentence of a run with these heads, findings and unnamed features; ``alone``: heads without a witness."""
    data = report.load(tiny_run)

    def sentence(audited: tuple[str, ...], *found: Any, alone: tuple[str, ...] = ()) -> str:
        standings = {a: ALONE if a in alone else JUDGED for a in audited}
        findings = tuple(f for f in found if isinstance(f, Finding))
        counts = replace(data.counts, standings=standings)
        conclusions = replace(data.conclusions, findings=findings, counts=counts)
        features = tuple(f for f in found if isinstance(f, UnnamedFeature))
        return answer(replace(data, audited=audited, conclusions=conclusions, unnamed=features), str)

    return sentence


def test_effects_are_named_with_their_size(told: Any) -> None:
    assert told((A, B, C), effect(A, "eyeglasses", 0.65), effect(B, "pale_skin", 0.41), unnamed(C, 0.55)) == (
        "2 of 3 audited heads react to attributes that are not their own: big_lips to eyeglasses (+0.65), chubby to "
        "pale_skin (+0.41); young reacts to something that no reference head names (+0.55)."
    )
    assert told((A,), effect(A, "hat", -0.31)) == ("big_lips reacts to an attribute that is not its own: hat (−0.31).")


def test_a_head_with_both_kinds_of_finding_also_reacts_to_what_has_no_name(told: Any) -> None:
    assert told((A,), effect(A, "hat", 0.3), unnamed(A, 0.2)).endswith(
        "; big_lips also reacts to something that no reference head names (+0.20)."
    )


def test_of_many_findings_the_three_largest_are_named_and_the_rest_counted(told: Any) -> None:
    many = [effect(A, f"a{i}", (0.2, -0.9, 0.3, 0.5, 0.4)[i], rank=i + 1) for i in range(5)]
    assert told((A, B), *many) == (
        "1 of 2 audited heads reacts to attributes that are not its own: big_lips to a1 (−0.90), big_lips to a3 "
        "(+0.50), big_lips to a4 (+0.40) and 2 more."
    )


def test_all_heads_react(told: Any) -> None:
    assert told((A, B), effect(A, "hat", 0.3), effect(B, "tie", 0.2)).startswith("All 2 audited heads react to ")


def test_attributes_that_cannot_be_told_apart_are_named_together(told: Any) -> None:
    joint = effect(A, "beard & not no_beard", 0.4, kind=FindingKind.JOINT, members=("beard", "no_beard"))
    assert told((A,), joint) == "big_lips reacts to an attribute that is not its own: beard with not no_beard (+0.40)."


def test_nothing_found(told: Any) -> None:
    assert told((A, B, C)) == "None of the 3 audited heads reacts clearly to a named attribute that is not its own."
    assert told((A,)) == "big_lips does not react clearly to a named attribute that is not its own."
    assert told((A, B), unnamed(A, 0.1, found=False)) == (
        "None of the 2 audited heads reacts clearly to a named attribute that is not its own, nor to anything without "
        "a name."
    )


def test_nothing_could_be_measured(told: Any) -> None:
    assert told((A, B), alone=(A, B)) == (
        "None of the 2 audited heads has a witness, so no effect can be measured, and no other attribute's "
        "counterfactuals move them clearly."
    )
    assert told((A,), alone=(A,)) == (
        "big_lips has no witness, so no effect can be measured, and no other attribute's counterfactuals move it "
        "clearly."
    )
    assert told((A, B), alone=(B,)) == (
        "big_lips does not react clearly to a named attribute that is not its own; of chubby no effect can be "
        "measured, for want of a witness."
    )
    assert told((A, B, C), effect(A, "hat", 0.3), alone=(B,)).endswith(
        "; of chubby no effect can be measured, for want of a witness."
    )


def test_responses_say_that_their_cause_is_open(told: Any) -> None:
    assert told((A, B), response(A, "hat", -0.4), alone=(A, B)) == (
        "1 of 2 audited heads answers when other attributes are taken off, but whether it uses them is open for want "
        "of a witness: big_lips without hat (−0.40)."
    )
    assert told((A, B), effect(A, "hat", 0.3), response(B, "tie", -0.2), alone=(B,)) == (
        "1 of 2 audited heads reacts to an attribute that is not its own: big_lips to hat (+0.30); 1 head without a "
        "witness answers when other attributes are taken off, but whether it uses them is open: chubby without tie "
        "(−0.20)."
    )


def test_only_features_without_a_name(told: Any) -> None:
    assert told((A, B), unnamed(A, 0.2), unnamed(B, -0.5)) == (
        "None of the 2 audited heads reacts clearly to a named attribute that is not its own; big_lips and chubby "
        "react to something that no reference head names (up to −0.50)."
    )


def test_heads_with_one_target_keep_the_names_of_their_classifiers(told: Any) -> None:
    assert "old:smiling to hat" in told(("old:smiling", "new:smiling"), effect("old:smiling", "hat", 0.3))


def test_no_audited_head(told: Any) -> None:
    assert told(()).startswith("No classifier head was audited: this run tells how ")


def test_all_three_forms_have_the_sentence(tiny_run: Any) -> None:
    data = report.load(tiny_run)
    sentence = answer(data, str)
    assert report.as_json(data)["answer"] == sentence
    assert f"**{sentence}**" in report.markdown(data).replace("`", "")
    assert sentence in report.html(data).replace("<code>", "").replace("</code>", "").replace("<wbr>", "")
