"""The model card: one page that holds model, data, method, findings, what was not measured, and how to repeat it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cfalign import report
from cfalign._findings import Standing, Witness


@pytest.fixture
def data(tiny_run: Any) -> Any:
    return report.load(tiny_run)


def test_a_card_is_one_page_that_says_everything(data: Any) -> None:
    card = report.model_card(data)
    assert len(card.splitlines()) < 70
    assert len(card.split()) < 700
    for title in ("Method", "Findings", "What was not measured", "Limits", "Repeat it"):
        assert f"\n### {title}\n" in card
    finding = data.conclusions.findings[0]
    assert f"[{finding.ci_low:.2f}, {finding.ci_high:.2f}]" in card
    assert f"n = {finding.n}" in card
    assert data.images_hash in card
    assert all(model.hash in card for model in data.models)
    assert f"{data.counts.images} images from `{data.source}`" in card
    assert "none were sought (`--discover`)" in card


def test_the_command_stands_there_as_it_was_given(data: Any) -> None:
    assert "The command was not recorded" in report.model_card(data)
    given = {"command": ["cfalign", "audit", "--images", "my photos"]}
    assert f"\ncfalign audit --images 'my photos' --out {data.run_dir}-again\n" in report.model_card(
        replace(data, given=given)
    )


def test_heads_without_a_witness_were_not_measured(data: Any) -> None:
    alone = dict.fromkeys(data.audited, Standing(Witness.NONE))
    counts = replace(data.conclusions.counts, standings=alone)
    card = report.model_card(replace(data, conclusions=replace(data.conclusions, findings=(), counts=counts)))
    assert f"Effects on `{data.audited[0]}`: there is no witness of what they are meant to see." in card
    assert "No findings: on these images" in card


def test_many_findings_do_not_make_it_longer_than_a_page(data: Any) -> None:
    many = tuple(replace(data.conclusions.findings[0], rank=i, attribute=f"a{i}") for i in range(40))
    card = report.model_card(replace(data, conclusions=replace(data.conclusions, findings=many)))
    assert "30 more stand in `findings.json`." in card
    assert len(card.splitlines()) < 75


def test_hostile_names_stay_names(data: Any) -> None:
    card = report.model_card(replace(data, source="a|b`c\n# <script>alert(1)</script>"))
    rows = [line for line in card.splitlines() if line.startswith("| data |")]
    assert len(rows) == 1
    assert "\n# <script>" not in card
