"""Conclusions: which effects become findings, and which images stand behind them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import cfalign
import worlds
from cfalign._audit.conclusions import conclude
from cfalign._findings import Finding
from cfalign._results import Conclusions, Outcome

OPTIONS = cfalign.AuditOptions(limit=20, shown=3, min_effect=0.02)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cfalign.Run:
    return cfalign.audit(
        worlds.images(60),
        worlds.audited(),
        autoencoder=worlds.autoencoder(),
        reference=worlds.heads(),
        options=OPTIONS,
        out=tmp_path_factory.mktemp("runs") / "run",
    )


def concluded(run: cfalign.Run, **more: object) -> Conclusions:
    parts = {name: run.record()[name] for name in ("bases", "heads", "audited", "attributes", "judges")}
    return conclude(run, **parts, options=replace(OPTIONS, **more))  # type: ignore[arg-type]


def test_findings_are_the_clear_foreign_effects_strongest_first(run: cfalign.Run) -> None:
    found = concluded(run)
    worth = [e for e in found.effects if e.clear and not e.own and abs(e.effect) >= OPTIONS.min_effect]
    worth.sort(key=lambda e: -abs(e.effect))
    assert 0 < len(worth) < len(found.effects)
    assert [(f.audited, f.attribute, f.effect, f.q, f.n) for f in found.findings] == [
        (e.audited, e.attribute, e.effect, e.q, e.n) for e in worth
    ]
    assert [f.rank for f in found.findings] == list(range(1, len(worth) + 1))


def test_a_limit_on_size_or_number_leaves_out_the_weakest(run: cfalign.Run) -> None:
    found = concluded(run).findings
    assert len(found) > 1
    assert concluded(run, max_findings=1).findings == found[:1]
    assert concluded(run, min_effect=abs(found[0].effect)).findings == found[:1]
    assert concluded(run, min_effect=1.0).findings == ()


def rows_behind(run: cfalign.Run, finding: Finding, base: str, downstream: str) -> list[tuple[bool, float, str]]:
    """Every usable counterfactual by hand: whether it landed, ψ in the direction of the finding, the image."""
    rows = []
    for r in run.responses().to_dicts():
        change = r["base_after"] - r["base_before"]
        if r["base"] == base and abs(change) >= OPTIONS.alignment.min_base_change:
            psi = (r[f"after.{downstream}"] - r[f"before.{downstream}"]) / change
            rows.append((Outcome(r["outcome"]).landed, math.copysign(1, finding.effect) * psi, r["image_id"]))
    return sorted(rows, key=lambda row: (not row[0], -row[1]))


def test_the_images_of_a_finding_are_the_clearest_of_both_readings(run: cfalign.Run) -> None:
    for finding in concluded(run).findings:
        for base, downstream in ((finding.attribute, finding.audited), (finding.audited, finding.attribute)):
            mine = [s for s in finding.samples if s.base == base]
            expected = rows_behind(run, finding, base, downstream)[: OPTIONS.shown]
            assert [s.image_id for s in mine] == [image for _, _, image in expected]
            for sample, (_, psi, _) in zip(mine, expected, strict=True):
                assert sample.psi == pytest.approx(math.copysign(1, finding.effect) * psi)
                change = sample.downstream_after - sample.downstream_before
                assert sample.psi == pytest.approx(change / (sample.base_after - sample.base_before))


def test_the_null_is_what_random_steps_do(run: cfalign.Run) -> None:
    for finding in concluded(run).findings:
        moved, own = 0.0, 0.0
        for r in run.responses().to_dicts():
            change = r["base_after"] - r["base_before"]
            if r["base"] == finding.attribute and abs(change) >= OPTIONS.alignment.min_base_change:
                moved += r[f"null.{finding.audited}"] - r[f"before.{finding.audited}"]
                own += change
        assert finding.null == pytest.approx(moved / own)
