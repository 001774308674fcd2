"""A classifier of very many classes: what a run of it holds, says and shows."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
import torch

import cfalign
import worlds
from cfalign import report
from cfalign._audit.subject import refuse_many
from cfalign._errors import BadInput
from cfalign._findings import Finding
from cfalign._runs.columns import Column
from cfalign.report.shown import MOST, shown_heads

CLASSES = 150


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> cfalign.Run:
    """An audit of a softmax, most of whose classes are predicted for no image."""
    known = worlds.heads()
    mixing = torch.randn(CLASSES, len(known.targets), generator=torch.Generator().manual_seed(0))

    class Many(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = known.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.heads(images) @ mixing.T)

    many = cfalign.classifiers.wrap(Many(), [f"c{i}" for i in range(CLASSES)], link="softmax", name="many")
    return cfalign.audit(
        worlds.images(40),
        many,
        autoencoder=worlds.autoencoder(),
        reference=known,
        options=cfalign.AuditOptions(limit=6),
        out=tmp_path_factory.mktemp("many") / "run",
    )


def test_every_pair_has_a_row_though_only_those_with_a_counterfactual_are_wide(run: cfalign.Run) -> None:
    rows, sought, rest = run.responses(), run.counterfactuals(), run.ineligible()
    assert len(rows) == len(sought) + len(rest)
    assert len(rest) > 10 * len(sought)
    assert "not_eligible" not in sought["outcome"].to_list()
    counted = rows.group_by("base", "outcome").len().sort("base", "outcome").rows()
    recorded = run.record()["outcomes"]
    assert {(b, o): n for b, o, n in counted if b in recorded} == {
        (b, o): n for b, counts in recorded.items() for o, n in counts.items()
    }
    assert sum(len(pl.read_parquet(shard).columns) for shard in run.shards("ineligible")) == 3 * len(
        run.shards("ineligible")
    )


def test_rows_without_a_counterfactual_have_the_scores_of_their_reconstruction(run: cfalign.Run) -> None:
    rows = run.responses().filter(pl.col("outcome") == "not_eligible").join(run.scores(), on="image_id")
    for head in ("c0", "c149", "smiling"):
        assert (rows[Column.BEFORE.of(head)] == rows[Column.RECONSTRUCTION.of(head)]).all()
        assert rows[Column.AFTER.of(head)].is_nan().all()
    own = rows.filter(pl.col("base") == "c3")
    assert (own["base_before"] == own["before.c3"]).all()
    assert (rows["evaluations"] == 0).all()
    asked = run.query("outcome = 'not_eligible' and before.c3 >= 0", base="c3")
    assert len(asked) == len(own), "a query sees them as well"


def test_the_matrix_has_a_cell_for_every_pair_of_heads(run: cfalign.Run) -> None:
    bases, heads = run.record()["bases"], run.record()["heads"]
    matrix = run.matrix()
    assert matrix.select("base", "downstream").rows() == [(b, h) for b in bases for h in heads]
    idle = [b for b in bases if set(run.record()["outcomes"][b]) == {"not_eligible"}]
    assert idle
    empty = matrix.filter(pl.col("base").is_in(idle))
    assert (empty["n"] == 0).all()
    assert empty["psi"].null_count() == len(empty)
    assert {c.base for c in run.conclusions().cells} == set(matrix.filter(pl.col("n") > 0)["base"].to_list())


def test_a_report_shows_the_heads_that_matter_and_says_where_the_others_are(run: cfalign.Run) -> None:
    data = report.load(run)
    assert len(data.shown) == MOST < len(data.heads)
    made = set(run.matrix().filter(pl.col("n") > 0)["base"].to_list())
    assert set(data.attributes) <= data.shown
    assert made <= data.shown
    words = f"Of {len(data.heads)} heads, {MOST} are shown"
    page, text, record = report.html(data), report.markdown(data), report.as_json(data)
    assert words in page
    assert words in text
    assert record["left_out"].startswith(words)
    assert {e["audited"] for e in record["effects"]} == set(data.shown_audited)
    assert len(re.findall(r'<details data-head="', page)) == len(data.shown_audited)
    idle = len(data.bases) - len(made)
    assert f"No counterfactual for {idle} bases (" in text


def test_which_heads_are_shown() -> None:
    heads = [f"h{i}" for i in range(MOST + 3)]
    rows = [("h1", "h2", 5, 0.3), ("h102", "h101", 0, None), ("h99", "h100", 5, 0.9)]
    columns = {"base": pl.String, "downstream": pl.String, "n": pl.Int64, "psi": pl.Float64}
    matrix = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        q=pl.lit(0.01), ci_low=pl.col("psi") - 0.1, ci_high=pl.col("psi") + 0.1
    )
    shown = shown_heads(matrix, heads=heads, attributes=["h102"], findings=[])
    assert len(shown) == MOST
    assert list(shown) == [h for h in heads if h in shown], "in their order"
    assert {"h102", "h1", "h99", "h100", "h2"} <= set(shown), "an attribute, bases, and the largest clear cells"
    assert "h101" not in shown
    finding = Finding(1, "h101", "h98", 0.5, 0.4, 0.6, 0.001, 0.5, 0.0, 0.5, 9, ())
    assert {"h101", "h98"} <= set(shown_heads(matrix, heads=heads, attributes=[], findings=[finding]))
    assert shown_heads(matrix, heads=heads[:MOST], attributes=[], findings=[]) == tuple(heads[:MOST])


def test_the_command_says_in_one_line_which_bases_have_no_counterfactual(tmp_path: Path) -> None:
    from cfalign._cli.summary import _without_counterfactuals

    outcomes = {**{f"c{i}": {"not_eligible": 9} for i in range(30)}, "x": {"flat": 2, "not_eligible": 7}}
    record = {"outcomes": outcomes, "exclusions": {b: dict(counts) for b, counts in outcomes.items()}}
    assert _without_counterfactuals(record) == [
        "No counterfactual for 30 bases (c0, c1, c2, c3, c4 … see run.json): none of 9 images is predicted positive.",
        "No counterfactual of x counts: 2 flat, 7 not eligible.",
    ]


THOUSAND = [f"c{i}" for i in range(1000)]


def thousand() -> cfalign.classifiers.WrappedClassifier:
    """Nobody asks it anything before it is refused."""
    return cfalign.classifiers.wrap(torch.nn.Identity(), THOUSAND, link="softmax", name="thousand")


@pytest.mark.parametrize(
    ("reference", "instead"),
    [(None, r"to audit by --bases .* to look at by --downstream"), (thousand(), "heads to look at by --downstream")],
)
def test_more_attributes_than_an_audit_ends_with_are_refused(reference: object, instead: str, tmp_path: Path) -> None:
    audited = thousand() if reference is None else worlds.audited()
    with pytest.raises(BadInput, match=rf"and 1000 are too many; expected at most 300: name .*{instead}"):
        cfalign.audit(
            worlds.images(4), audited, autoencoder=worlds.autoencoder(), reference=reference, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_bank_of_more_attributes_than_an_audit_ends_with_is_refused(tmp_path: Path) -> None:
    given = {"autoencoder": worlds.autoencoder(), "out": tmp_path / "bank"}
    with pytest.raises(BadInput, match=r"and 1000 are too many; .* made of by --attributes"):
        cfalign.bank(worlds.images(4), thousand(), **given)
    assert not (tmp_path / "bank").exists()


def test_as_many_as_an_audit_ends_with_are_taken() -> None:
    refuse_many(THOUSAND[:300], instead="")
    with pytest.raises(BadInput, match="301"):
        refuse_many(THOUSAND[:301], instead="")
