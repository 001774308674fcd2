"""Heads that give one answer are found, said once, and never held against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

import cfalign
import worlds
from cfalign._analysis.duplicates import KNOWN, duplicates, repeated
from cfalign._audit.gate import check
from cfalign._findings import Witness
from cfalign._results import Duplicate

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(12, 3)) * 3


def found(columns: dict[str, np.ndarray], **more: object) -> list[tuple[str, str, bool]]:
    scores = np.stack(list(columns.values()), axis=1)
    return [(d.head, d.of, d.complement) for d in duplicates(scores, list(columns), **more)]  # type: ignore[arg-type]


def test_copies_and_complements_are_found_whatever_their_order() -> None:
    a, b, c = (expit(column) for column in LOGITS.T)
    columns = {"smile": a, "no smile": 1 - a, "hat": b, "smile again": a + 1e-9, "young": c}
    expected = {("no smile", "smile", True), ("smile again", "smile", False)}
    assert set(found(columns)) == expected
    assert set(found(dict(reversed(columns.items())))) == expected
    assert set(found(columns, first=["no smile"])) == {("smile", "no smile", True), ("smile again", "no smile", True)}


def test_what_is_only_alike_is_no_duplicate() -> None:
    a = expit(LOGITS[:, 0])
    assert found({"a": a, "b": expit(LOGITS[:, 0] + 0.05)}) == []
    assert found({"a": a, "b": expit(1.01 * LOGITS[:, 0])}) == []
    one_off = a.copy()
    one_off[7] = 1 - one_off[7]
    assert found({"a": a, "b": one_off}) == [], "one image is enough to tell them apart"


def test_constant_saturated_and_undefined_heads_are_no_duplicates() -> None:
    constant = np.full(12, 0.3)
    assert found({"a": constant, "b": constant, "c": 1 - constant}) == []
    sides = np.where(np.arange(12) % 2, 1e-9, 1 - 1e-9)
    assert found({"a": sides, "b": sides}) == [], "two sure heads that agree on twelve images may differ elsewhere"
    mixed = np.where(np.arange(12) < KNOWN, expit(LOGITS[:, 0]), sides)
    assert found({"a": mixed, "b": mixed}) == [("b", "a", False)]
    beyond = np.where(np.arange(12) == 3, 1.2, constant + np.arange(12) / 30)
    assert found({"a": beyond, "b": beyond}) == []
    unknown = np.where(np.arange(12) == 3, np.nan, expit(LOGITS[:, 0]))
    assert found({"a": unknown, "b": unknown}) == []
    assert duplicates(np.zeros((0, 2)), ["a", "b"]) == ()


def test_the_same_target_of_another_classifier_is_its_own_concept() -> None:
    a = expit(LOGITS[:, 0])
    assert found({"smiling": a, "other:smiling": a, "other:frowning": 1 - a}) == [("other:frowning", "smiling", True)]


def test_many_heads_are_compared_in_blocks() -> None:
    some = expit(RNG.normal(size=(200, 150)))
    columns = {f"h{i}": some[:, i] for i in range(150)} | {f"copy of h{i}": 1 - some[:, i] for i in (0, 77, 149)}
    assert set(found(columns)) == {(f"copy of h{i}", f"h{i}", True) for i in (0, 77, 149)}


def two_classes(name: str = "two") -> cfalign.Classifier:
    """The usual two outputs of a softmax: one concept under two names."""
    known = worlds.audited()
    column = known.targets.index(known.targets[0])

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = known.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logit = self.net(images)[:, [column]]
            return torch.cat([torch.zeros_like(logit), logit], dim=1)

    return cfalign.classifiers.wrap(Two(), ["nothing", "x"], link="softmax", name=name)


def test_the_two_classes_of_a_softmax_are_no_finding_about_each_other(tmp_path: Path) -> None:
    run = cfalign.audit(
        worlds.images(40),
        two_classes(),
        autoencoder=worlds.autoencoder(),
        out=tmp_path / "run",
        options=cfalign.AuditOptions(limit=15),
    )
    assert run.record()["duplicates"] == [{"head": "nothing", "of": "x", "complement": True}]
    assert run.conclusions().counts.duplicates == (Duplicate("nothing", "x", True),)
    assert len(run.effects()) == 0
    assert run.findings() == []
    assert run.relations() == []
    assert check(run, allow_responses=True).unexpected == ()
    assert run.matrix().filter(base="x", downstream="nothing")["psi"].item() == pytest.approx(-1, abs=1e-3)
    cfalign.report.write(run)
    assert "Heads that give one answer count once: `nothing` is 1 − `x`." in (run.path / "report.md").read_text()


def test_a_finding_about_two_complements_is_said_once(tmp_path: Path) -> None:
    options = cfalign.AuditOptions(limit=20, min_effect=0.02)
    both, one = (
        cfalign.audit(
            worlds.images(60),
            clf,
            bases=bases,
            autoencoder=worlds.autoencoder(),
            reference=worlds.heads(),
            options=options,
            out=tmp_path / name,
        )
        for name, clf, bases in (("both", two_classes(), None), ("one", two_classes(), ["x"]))
    )
    assert one.findings()
    assert [f["audited"] for f in both.findings()] == ["x"] * len(one.findings())
    mirrored, plain = both.effects("nothing"), both.effects("x")
    assert sorted(mirrored["attribute"]) == sorted(plain["attribute"]), "each head keeps its rows"
    assert len(check(both, max_effect=0.02).unexpected) == len(check(one, max_effect=0.02).unexpected) > 0
    named = {f"nothing -> {one.findings()[0]['attribute']}": 0.0}
    assert len(check(both, expected=named, max_effect=1.0).unexpected) == 1, "a limit that names it is kept"


def test_an_attribute_under_two_names_has_one_effect_with_two_signs(tmp_path: Path) -> None:
    known = worlds.heads()
    first = known.targets[0]

    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = known.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = self.net(images)
            return torch.cat([logits, -logits[:, :1]], dim=1)

    doubled = cfalign.classifiers.wrap(Doubled(), [*known.targets, f"without_{first}"], name="doubled")
    plain, twice = (
        cfalign.audit(
            worlds.images(60),
            worlds.audited(),
            autoencoder=worlds.autoencoder(),
            reference=cfalign.Reference(heads, None),
            out=tmp_path / name,
            options=cfalign.AuditOptions(limit=20, min_effect=0.02),
        )
        for name, heads in (("plain", known), ("twice", doubled))
    )
    expected = {e.attribute: e for e in plain.conclusions().effects}
    seen = {e.attribute: e for e in twice.conclusions().effects}
    assert set(seen) == {*expected, f"without_{first}"}
    for name, e in expected.items():
        assert seen[name].effect == pytest.approx(e.effect, abs=1e-6), "as without the second name"
    mirror = seen[f"without_{first}"]
    assert mirror.effect == -seen[first].effect
    assert (mirror.ci_low, mirror.ci_high) == (-seen[first].ci_high, -seen[first].ci_low)
    assert f"without_{first}" not in {f["attribute"] for f in twice.findings()}
    gaps = {g.attribute: g for g in twice.conclusions().gaps}
    assert gaps[f"without_{first}"].gap == pytest.approx(-gaps[first].gap, nan_ok=True)
    assert gaps[f"without_{first}"].n_with == gaps[first].n_without


def test_which_heads_repeat_another_one_in_the_same_part() -> None:
    copies = [Duplicate("frown", "smile", True), Duplicate("mine", "smile", False), Duplicate("hat_2", "hat", False)]
    assert repeated(copies, ["smile", "frown", "hat"]) == {"frown"}
    assert repeated(copies, ["mine", "young"]) == set(), "a copy of a head that is not among them repeats nothing"
    assert repeated(copies, ["frown", "mine", "hat_2"]) == {"mine"}, "of two copies one is told"


def test_a_head_that_is_a_copy_of_an_attribute_needs_a_judge_for_effects(tmp_path: Path) -> None:
    known = worlds.heads()

    class Renamed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = known.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(-self.net(images)[:, [known.targets.index("eyeglasses")]])

    bare_eyes = cfalign.classifiers.wrap(Renamed(), ["bare_eyes"], name="bare")

    def audited(judge: cfalign.Classifier | None) -> cfalign.Run:
        return cfalign.audit(
            worlds.images(60),
            bare_eyes,
            autoencoder=worlds.autoencoder(),
            reference=cfalign.Reference(known, judge),
            out=tmp_path / ("judged" if judge else "alone"),
            options=cfalign.AuditOptions(limit=20, min_effect=0.02),
        )

    alone = audited(None)
    standing = alone.conclusions().counts.standings["bare_eyes"]
    assert standing.witness is Witness.NONE, "its only witness is itself"
    assert "gives the very answers" in standing.reason
    assert alone.effects()["effect"].null_count() == len(alone.effects()) > 0
    run = audited(worlds._wrapped(worlds.LinearHeads(0.7 * worlds.MIXING), name="second"))
    assert run.conclusions().counts.standings["bare_eyes"].witness is not Witness.NONE
    assert run.record()["duplicates"] == [{"head": "bare_eyes", "of": "eyeglasses", "complement": True}]
    assert "eyeglasses" not in run.effects()["attribute"].to_list(), "it is that attribute"
    assert run.effects()["effect"].null_count() == 0, "the judge tells how much of eyeglasses there is"
    assert run.record()["inseparable"] == ["smiling & eyeglasses"], "their counterfactuals move each other"
    assert run.findings() == []
    assert check(run, max_effect=0.02).unmeasured == ("bare_eyes -> smiling",)
