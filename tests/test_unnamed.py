"""The benchmarks of unnamed features and of classifiers with nothing to find: what their numbers count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cfalign import benchmarks
from cfalign.benchmarks.nulls import Nulls, NullsOptions
from cfalign.benchmarks.nulls.drawing import nulls_figure
from cfalign.benchmarks.nulls.result import NullAudit
from cfalign.benchmarks.unnamed import Unnamed, UnnamedOptions
from cfalign.benchmarks.unnamed.drawing import unnamed_figure
from cfalign.benchmarks.unnamed.result import UnnamedShortcut
from cfalign.training.recipes.nulls import KINDS, NullClassifier, load_null, make_all, nulls

NAN = float("nan")


def row(target: str, seed: int = 0, **given: float) -> UnnamedShortcut:
    plain = UnnamedShortcut(
        name=f"{target}#{seed}",
        target=target,
        shortcut="hat",
        dose=0.9,
        seed=seed,
        truth=0.3,
        auroc=0.9,
        precision_at_10=1.0,
        effect=0.3,
        ci_low=0.2,
        ci_high=0.4,
        q=0.001,
        unexplained=0.5,
        explains=0.4,
        agreement=0.8,
        found=True,
        named_effect=NAN,
        named_low=NAN,
        named_high=NAN,
    )
    return replace(plain, **given)  # type: ignore[arg-type]


def test_pairs_count_by_the_means_over_their_seeds() -> None:
    rows = (
        row("a", 0, auroc=0.9, precision_at_10=1.0, truth=0.05),
        row("a", 1, auroc=1.0, precision_at_10=0.5, truth=0.25, found=False),
        row("b", 0, auroc=0.6, precision_at_10=0.8),
        row("c", 0, auroc=0.7, precision_at_10=0.1, truth=0.02),
        row("a", 0, dose=0.0, found=False),
        row("b", 0, dose=0.0, found=True),
    )
    found = Unnamed(rows, UnnamedOptions()).headline
    assert found["pairs"] == 3
    assert found["auroc_median"] == pytest.approx(0.7)
    assert found["auroc_median_used"] == pytest.approx((0.95 + 0.6) / 2)
    assert (found["pairs_used"], found["precision_at_10_pairs"]) == (2, 1)
    assert (found["planted_used"], found["planted_used_found"]) == (2, 1)
    assert (found["null_audits"], found["null_audits_flagged"]) == (2, 1)
    assert found["named"] == 0


def test_a_name_holds_where_its_interval_has_the_truth() -> None:
    named = {"named_effect": 0.2, "named_low": 0.1}
    rows = (row("a", **named, named_high=0.35), row("b", **named, named_high=0.25), row("c"))
    result = Unnamed(rows, UnnamedOptions())
    assert (result.headline["named"], result.headline["named_held"]) == (2, 1)
    told = result.lines()
    assert "in 1 of 2" in told[-1]
    assert "named +0.20 [0.10, 0.25]" in "\n".join(told)
    assert len(unnamed_figure(result).axes) == 2


def audit(name: str, **given: object) -> NullAudit:
    plain = NullAudit(name, "permuted", 0, "", False, 0.01, 0.0, 30, 29)
    return replace(plain, **given)  # type: ignore[arg-type]


def test_any_finding_named_or_not_flags_an_audit() -> None:
    audits = (
        audit("a"),
        audit("b", findings=2, first="young +0.20"),
        audit("c", unnamed=True),
        audit("d", kind="unplanted"),
    )
    result = Nulls(audits, NullsOptions())
    found = result.headline
    assert (found["audits"], found["audits_with_a_finding"]) == (4, 2)
    assert (found["audits_with_a_named_finding"], found["audits_with_an_unnamed_feature"]) == (1, 1)
    assert found["coverage_at_zero"] == pytest.approx(29 / 30)
    assert found["flagged_share_low"] < 0.5 < found["flagged_share_high"]
    text = "\n".join(result.lines())
    assert "b: young +0.20" in text
    assert "c: an unnamed feature" in text
    assert len(nulls_figure(result).axes) == 1
    assert np.isnan(Nulls((), NullsOptions()).headline["coverage_at_zero"])


def test_null_classifiers_are_of_three_kinds_and_come_from_their_seeds(tmp_path: Path) -> None:
    wanted = nulls(2)
    assert [one.kind for one in wanted] == [kind for kind in KINDS for _ in range(2)]
    assert len({one.stream for one in wanted}) == len(wanted)
    untrained = [NullClassifier("untrained", number) for number in range(2)]
    make_all(untrained, tmp_path / "a", workers=1)
    make_all(untrained, tmp_path / "b", workers=1)
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        load_null(one, tmp_path / folder).logits(x)
        for one, folder in ((untrained[0], "a"), (untrained[0], "b"), (untrained[1], "a"))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_glasses_are_found_without_a_name_and_nothing_in_their_twin(tmp_path: Path) -> None:
    options = UnnamedOptions(pairs=(("big_lips", "eyeglasses"),), seeds=(0,), images=300, judged=200, interventions=8)
    result = benchmarks.unnamed(options=options, models=tmp_path / "models", out=tmp_path / "out", workers=1)
    planted, twin = result.rows
    assert planted.found
    assert planted.auroc > 0.95
    assert planted.precision_at_10 >= 0.9
    assert not twin.found
    again = benchmarks.unnamed(options=options, models=tmp_path / "models", out=tmp_path / "out", workers=1)
    assert repr(again.as_dict()) == repr(result.as_dict())  # NaN is not itself


@pytest.mark.slow
def test_nothing_is_found_in_a_few_null_classifiers(tmp_path: Path) -> None:
    options = NullsOptions(each=1, faces=200, limit=8, interventions=6)
    result = benchmarks.nulls(options=options, models=tmp_path / "models", out=tmp_path / "out", workers=1)
    assert [a.kind for a in result.audits] == list(KINDS)
    assert result.headline["audits_with_a_finding"] == 0
    assert result.headline["intervals"] > 30
