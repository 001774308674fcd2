"""Whole audits through Python: what is in the run directory, and that the numbers are right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn

import worlds
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import reference_of
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.panel import panel
from cfalign._heads.reference import Reference, judged
from cfalign._results import Outcome
from cfalign._runs.run import Run
from cfalign.benchmarks.speed.counting import CountedAutoencoder
from cfalign.benchmarks.speed.counting import Counter as Passes
from cfalign.classifiers import black_box, load, wrap
from cfalign.report import write as write_report

IMAGES = 90
BASES = (*worlds.TARGETS, "friendly")


def run_audit(out: Path, images: Any = None, **more: Any) -> Run:
    settings = {"limit": 25, "chunk": 16, **more.pop("options", {})}
    given = {"reference": worlds.heads(), "autoencoder": worlds.autoencoder(), **more}
    classifier = given.pop("classifier", None) or worlds.audited()
    images = worlds.images(IMAGES) if images is None else images
    return audit(images, classifier, options=AuditOptions(**settings), out=out, **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(tmp_path_factory.mktemp("audit") / "run")


def test_every_diagonal_cell_is_one(run: Run) -> None:
    diagonal = run.matrix().filter(pl.col("base") == pl.col("downstream"))
    assert diagonal["base"].to_list() == list(BASES)
    for column in ("psi", "ratio_of_means", "median"):
        assert np.abs(diagonal[column].to_numpy() - 1).max() < 1e-6
    assert diagonal["q"].null_count() == len(diagonal)


def test_every_examined_pair_has_exactly_one_row(run: Run) -> None:
    responses, scores = run.responses(), run.scores()
    pairs = Counter(zip(responses["image_id"], responses["base"], strict=True))
    assert set(pairs.values()) == {1}
    position = {image_id: i for i, image_id in enumerate(scores["image_id"])}
    for base in BASES:
        seen = sorted(position[i] for i in responses.filter(pl.col("base") == base)["image_id"])
        assert seen == list(range(len(seen))), "a base looks at images in order, without a gap"


def test_a_base_takes_its_first_eligible_images_and_no_more(run: Run) -> None:
    scores, responses = run.scores(), run.responses()
    for base in BASES:
        positive = scores.filter(pl.col(f"reconstruction.{base}") >= 0.5)["image_id"].to_list()[:25]
        made = responses.filter((pl.col("base") == base) & (pl.col("outcome") != Outcome.NOT_ELIGIBLE))
        assert len(positive) == 25
        assert set(made["image_id"]) == set(positive)


def test_the_order_of_images_follows_the_seed(run: Run, tmp_path: Path) -> None:
    again = run_audit(tmp_path / "again")
    other = run_audit(tmp_path / "other", options={"seed": 1})
    assert again.scores()["image_id"].to_list() == run.scores()["image_id"].to_list()
    assert again.scores()["image_id"].to_list() != sorted(again.scores()["image_id"])
    assert other.scores()["image_id"].to_list() != run.scores()["image_id"].to_list()
    for name in ("matrix.csv", "effects.csv", "findings.json"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


def test_the_columns_of_responses_are_those_promised(run: Run) -> None:
    heads = [*worlds.TARGETS, "friendly"]
    first = ["image_id", "base", "outcome", "lambda", "evaluations", "image_change", "base_before", "base_after"]
    columns = run.responses().columns
    assert columns[: len(first)] == first
    rest = [f"{kind}.{head}" for kind in ("before", "after") for head in heads]
    assert columns[len(first) : len(first) + len(rest)] == rest
    more = {f"{kind}.{head}" for kind in ("null", "off", "off_null") for head in heads}
    assert more | {"distance", "off_distance", "off_evaluations"} == set(columns[len(first) + len(rest) :])
    assert (run.path / "matrix.csv").read_text().splitlines()[0] == (
        "base,downstream,psi,ratio_of_means,median,psi_logit,ci_low,ci_high,n,excluded,p,q"
    )
    assert (run.path / "effects.csv").read_text().splitlines()[0] == (
        "audited,attribute,effect,ci_low,ci_high,incoming,outgoing,n,q"
    )


def test_the_record_says_what_the_run_is(run: Run) -> None:
    record = json.loads((run.path / "run.json").read_text())
    assert (record["schema"], record["status"], record["seed"]) == (2, "complete", 0)
    assert record["cfalign"]
    assert record["torch"] == str(torch.__version__)
    assert set(record["models"]["autoencoder"]) == {"name", "hash"}
    assert [(c["name"], c["role"], c["targets"]) for c in record["models"]["classifiers"]] == [
        ("audited", "audited", ["friendly"]),
        ("heads", "reference", list(worlds.TARGETS)),
    ]
    assert record["data"]["source"] == "tensor"
    assert record["data"]["images"] == IMAGES
    assert len(record["data"]["hash"]) == 16
    assert record["heads"] == [*worlds.TARGETS, "friendly"]
    assert record["bases"] == list(BASES)
    assert (record["audited"], record["attributes"]) == (["friendly"], list(worlds.TARGETS))
    assert record["skipped"] == []
    assert record["settings"]["search"]["drop"] == 0.6
    assert set(record["outcomes"]) == set(record["exclusions"]) == set(BASES)
    assert set(record["drift"]) == set(record["heads"])
    assert max(record["drift"].values()) < 1e-5, "this autoencoder is exact"
    assert record["timing"]["seconds"] > 0
    cost, responses = record["cost"], run.responses()
    walked = responses.filter(pl.col("evaluations") > 0)
    lowered = walked.filter(pl.col("base").is_in(record["bases"]))
    assert cost["decoder_backwards"] == len(walked)
    assert cost["counterfactuals"] == len(lowered) == 25 * len(BASES)
    assert cost["raised"] == len(walked) - len(lowered) == 25 * len(worlds.TARGETS)
    assert cost["search_decodes_per_cf"] == pytest.approx(lowered["evaluations"].mean())
    assert record["judges"] == record["controls"] == {}
    switched_off = walked.filter(pl.col("base").is_in(record["attributes"]))
    assert switched_off["off_distance"].is_not_nan().all()
    assert cost["decoder_forwards"] == (
        record["images"]
        + walked["image_id"].n_unique()  # the gradients at z0 of all bases of an image
        + len(walked)  # controls
        + walked["evaluations"].sum()
        + switched_off["off_evaluations"].sum()
    )
    assert sum(sum(o.values()) for o in record["outcomes"].values()) == len(
        responses.filter(pl.col("base").is_in(record["bases"]))
    )


def test_the_cost_is_near_the_passes_that_were_made(tmp_path: Path) -> None:
    """Beside them are looks at the models before the audit, and pairs that share no backward pass."""
    passes = Passes()
    autoencoder = CountedAutoencoder(worlds.autoencoder(), passes)
    run = run_audit(tmp_path, autoencoder=autoencoder, options={"chunk": IMAGES, "shown": 0})
    cost, made = json.loads((run.path / "run.json").read_text())["cost"], passes.passes()
    assert made.decodes == pytest.approx(cost["decoder_forwards"], rel=0.1)
    assert made.decoder_backwards == pytest.approx(cost["decoder_backwards"], rel=0.2)


def test_psi_is_what_the_linear_world_says(run: Run) -> None:
    """In the logit a step along head B's gradient moves head C by ⟨w_B, w_C⟩ / ⟨w_B, w_B⟩, then standardised."""
    seen = run.responses()["image_id"].unique()
    table = run.scores().filter(pl.col("image_id").is_in(seen.implode()))
    mixing = torch.cat([worlds.MIXING, worlds.SHORTCUT], dim=1).numpy().astype(float)
    moved = mixing.T @ mixing / np.diag(mixing.T @ mixing)[:, None]

    def deviation(head: str) -> float:
        score = table[f"reconstruction.{head}"].to_numpy()
        return float(np.std(np.log(score / (1 - score))))

    scale = np.array([deviation(h) for h in BASES])
    expected = moved * scale[:, None] / scale[None, :]
    matrix = run.matrix()["psi_logit"].to_numpy().reshape(len(BASES), len(BASES))
    np.testing.assert_allclose(matrix, expected, atol=2e-3)


def test_the_planted_shortcut_is_the_only_finding(run: Run) -> None:
    findings = run.findings()
    assert [(f["audited"], f["attribute"]) for f in findings] == [("friendly", "wearing_hat")]
    samples = findings[0]["samples"]
    assert {(s["base"], s["downstream"]) for s in samples} == {
        ("wearing_hat", "friendly"),
        ("friendly", "wearing_hat"),
    }
    for sample in samples:
        assert set(sample["files"]) == set(run.start.pictures)
        assert all((run.path / file).is_file() for file in sample["files"].values())
    curves = pl.read_parquet(run.path / "curves")
    assert set(curves["step"]) == set(range(11))
    assert len(curves) == 11 * len(samples)
    last = curves.filter(pl.col("step") == 10).join(run.responses(), on=["image_id", "base"])
    assert np.abs(last["score.friendly"].to_numpy() - last["after.friendly"].to_numpy()).max() < 1e-4
    assert np.abs(last["lambda"].to_numpy() - last["lambda_right"].to_numpy()).max() < 1e-9


def test_results_do_not_depend_on_batches_or_chunks(run: Run, tmp_path: Path) -> None:
    keys = ["image_id", "base"]
    ours = run.responses().sort(keys)
    for i, options in enumerate(({"batch": 3}, {"chunk": 90}, {"chunk": 7, "batch": 5})):
        other = run_audit(tmp_path / str(i), options=options)
        table = other.responses().sort(keys)
        # a larger chunk may look at no more images than needed, so the same pairs must be there
        assert table.select(keys).equals(ours.select(keys))
        assert table["outcome"].to_list() == ours["outcome"].to_list()
        numbers = [c for c in ours.columns if ours[c].dtype == pl.Float64]
        np.testing.assert_allclose(table.select(numbers), ours.select(numbers), rtol=2e-4, atol=2e-5)
        for name in ("psi", "psi_logit"):
            np.testing.assert_allclose(other.matrix()[name], run.matrix()[name], atol=1e-4)
        np.testing.assert_allclose(other.effects()["effect"], run.effects()["effect"], atol=1e-4)


class _Counting(nn.Module):
    """Uses the global random state and has every kind of mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bent = worlds.BentHeads()
        self.drop = nn.Dropout(0.3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.drop(self.bent(images)) + 0 * torch.rand(1)


def test_models_and_random_state_are_left_as_they_came(tmp_path: Path) -> None:
    module, encoder, box = _Counting(), worlds.BentAutoencoder(), worlds.BentHeads(worlds.SHORTCUT)
    encoder.norm.eval()
    module.bent.mix.requires_grad_(False)
    module.bent.linear.read.grad = torch.ones_like(module.bent.linear.read)
    models = (module, encoder, box)
    subject = black_box(lambda x: torch.sigmoid(box(x)), ["friendly"], name="box")

    def state() -> list[Any]:
        modes = [[m.training for m in model.modules()] for model in models]
        flags = [[(p.requires_grad, p.grad is None) for p in model.parameters()] for model in models]
        values = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
        return [modes, flags, values]

    before, random_state = state(), torch.random.get_rng_state()
    run_audit(
        tmp_path / "run", classifier=subject, reference=wrap(module, worlds.TARGETS, name="heads"), autoencoder=encoder
    )
    after = state()
    assert after[:2] == before[:2]
    for old, new in zip(before[2], after[2], strict=True):
        assert all(torch.equal(old[k], new[k]) for k in old), "weights and running statistics"
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_models_are_restored_when_the_audit_fails(tmp_path: Path) -> None:
    encoder = worlds.BentAutoencoder()
    with pytest.raises(BadModel):
        run_audit(tmp_path / "run", classifier=worlds.nan_heads(), autoencoder=encoder)
    assert encoder.training
    assert encoder.basis.requires_grad


def test_a_base_that_is_never_predicted_has_empty_cells(tmp_path: Path) -> None:
    run = run_audit(tmp_path / "run", reference=worlds.never_positive())
    cells = run.matrix().filter(pl.col("base") == "young")
    assert cells["n"].to_list() == [0] * len(BASES)
    for column in ("psi", "ratio_of_means", "median", "psi_logit", "ci_low", "ci_high", "p", "q"):
        assert cells[column].null_count() == len(cells)
    effects = run.effects().filter(pl.col("attribute") == "young")
    assert effects["n"].to_list() == [0]
    assert effects["effect"].null_count() == 1
    assert run.record()["outcomes"]["young"] == {"not_eligible": IMAGES}


def test_counterfactuals_that_do_not_count_are_counted(tmp_path: Path) -> None:
    """A requested drop below the least base change leaves no image in any cell."""
    run = run_audit(tmp_path / "run", options={"search": SearchOptions(drop=0.2, floor=0.0, off_drop=0.2)})
    matrix = run.matrix()
    assert matrix["n"].sum() == 0
    assert matrix["psi"].null_count() == len(matrix)
    assert matrix["excluded"].to_list() == [25] * len(matrix)
    assert run.record()["exclusions"]["smiling"]["base_change_too_small"] == 25
    assert run.effects()["n"].to_list() == [0] * len(worlds.TARGETS)
    assert run.findings() == []


def test_effects_are_read_where_attributes_are_off_whatever_the_requested_drop(run: Run, tmp_path: Path) -> None:
    """Counterfactuals too short for any cell: effects stay, with no incoming ψ, no images, and a report."""
    short = run_audit(tmp_path / "run", options={"search": SearchOptions(drop=0.2)})
    assert short.matrix()["n"].sum() == 0
    ours, theirs = short.effects(), run.effects()
    assert ours["n"].to_list() == [50] * len(worlds.TARGETS)
    np.testing.assert_allclose(ours["effect"], theirs["effect"], atol=0.02)
    assert ours["incoming"].null_count() == len(ours)
    assert [(f["attribute"], f["samples"]) for f in short.findings()] == [("wearing_hat", [])]
    assert write_report(short.path)["html"].is_file()


def test_off_points_lie_further_on(run: Run) -> None:
    rows = run.responses().filter(pl.col("evaluations") > 0)
    attributes = rows.filter(pl.col("base").is_in(worlds.TARGETS))
    own = rows.filter(pl.col("base") == "friendly")
    assert own["off_distance"].is_nan().all(), "only attributes are walked on"
    assert own["off_evaluations"].sum() == 0
    further = attributes.filter(pl.col("outcome") == "reached")  # a floor may be met again from its near side
    assert len(further)
    assert (further["off_distance"] >= further["distance"] - 1e-9).all()
    for base in worlds.TARGETS:
        here = attributes.filter(pl.col("base") == base)
        # a drop of 0.85 where the score has that much above the floor, else down to the floor, within 0.03
        goal = np.maximum(here["base_before"] - 0.85, 0.05)
        assert np.abs(here[f"off.{base}"].to_numpy() - goal).max() <= 0.031


def test_raised_rows_are_of_the_complement(run: Run) -> None:
    """Attributes are raised, nothing else; how far is measured in 1 − score, and they go straight to where it is on."""
    scores, responses = run.scores(), run.responses()
    raised = responses.filter(~pl.col("base").is_in(BASES))
    assert raised["base"].unique().sort().to_list() == sorted(f"not {t}" for t in worlds.TARGETS)
    for target in worlds.TARGETS:
        rows = raised.filter(pl.col("base") == f"not {target}")
        np.testing.assert_array_equal(rows["base_before"], 1 - rows[f"before.{target}"].to_numpy())
        walked = rows.filter(pl.col("evaluations") > 0)
        np.testing.assert_array_equal(walked["base_after"], 1 - walked[f"after.{target}"].to_numpy())
        lacking = scores.filter(pl.col(f"reconstruction.{target}") <= 0.5)["image_id"].to_list()[:25]
        assert set(walked["image_id"]) == set(lacking), "a limit of its own: the first 25 that lack it"
        goal = np.minimum(walked[f"before.{target}"] + 0.85, 0.95)
        assert np.abs(walked[f"off.{target}"].to_numpy() - goal).max() <= 0.031
        for head in BASES:
            np.testing.assert_array_equal(walked[f"off.{head}"], walked[f"after.{head}"])
        assert walked["off_evaluations"].sum() == 0


def test_without_both_ways_the_rows_are_those_of_the_bases(run: Run, tmp_path: Path) -> None:
    one_way = run_audit(tmp_path / "run", options={"both_ways": False})
    keys = ["image_id", "base"]
    expected = run.responses().filter(pl.col("base").is_in(BASES)).sort(keys)
    assert_frame_equal(one_way.responses().sort(keys), expected, rel_tol=1e-5, abs_tol=1e-6)
    assert one_way.effects()["n"].to_list() == [25] * len(worlds.TARGETS)
    assert one_way.record()["cost"]["raised"] == 0
    columns = ["base", "downstream", "psi", "ci_low", "ci_high", "n", "excluded", "p", "q"]
    assert_frame_equal(one_way.matrix().select(columns), run.matrix().select(columns), rel_tol=1e-4, abs_tol=1e-5)
    assert one_way.record()["outcomes"] == run.record()["outcomes"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(tmp_path_factory.mktemp("judge") / "run", reference=Reference(worlds.heads(), worlds.judge()))


JUDGED = {"young": "judge:young", "wearing_hat": "judge:wearing_hat"}


def test_a_judge_is_in_the_shards_and_in_no_conclusion(run: Run, watched: Run) -> None:
    record, responses, scores = watched.record(), watched.responses(), watched.scores()
    assert record["judges"] == JUDGED
    assert [(c["name"], c["role"]) for c in record["models"]["classifiers"]][-1] == ("second", "judge")
    kinds = ("before", "after", "null", "off", "off_null")
    columns = {f"{kind}.{label}" for kind in kinds for label in JUDGED.values()}
    assert columns == {c for c in responses.columns if "judge" in c}
    images = {f"{kind}.{label}" for kind in ("image", "reconstruction") for label in JUDGED.values()}
    assert images == {c for c in scores.columns if "judge" in c}
    assert record["heads"] == [*worlds.TARGETS, "friendly"]
    assert record["bases"] == list(BASES)
    for part in ("drift", "outcomes", "exclusions"):
        assert not [name for name in record[part] if "judge" in name]
    for name in ("matrix.csv", "effects.csv", "findings.json"):
        assert "judge" not in (watched.path / name).read_text()
    assert (watched.path / "matrix.csv").read_bytes() == (run.path / "matrix.csv").read_bytes()
    assert write_report(watched.path)["html"].is_file()


def test_the_share_that_a_judge_follows(watched: Run) -> None:
    rows = watched.responses().filter(pl.col("off_distance").is_not_nan())
    assert set(watched.record()["controls"]) == set(JUDGED)
    for attribute, judge in JUDGED.items():
        change = {
            label: np.concatenate(
                [
                    sign * (some[f"off.{label}"] - some[f"before.{label}"]).to_numpy()
                    for sign, base in ((-1, attribute), (1, f"not {attribute}"))
                    for some in [rows.filter(pl.col("base") == base)]
                ]
            )
            for label in (attribute, judge)
        }
        share = watched.record()["controls"][attribute]
        assert share["n"] == len(change[judge]) == 50
        assert share["judge_share"] == pytest.approx(change[judge].sum() / change[attribute].sum())
        assert share["ci_low"] < share["judge_share"] < share["ci_high"]
        assert 0.3 < share["judge_share"] < 1


def test_an_effect_is_the_change_between_absent_and_present(run: Run, watched: Run) -> None:
    """Whoever watches, the hat is worth what the audited score differs by: in this world the head reads hardly more."""
    table = watched.scores()
    has = table["reconstruction.wearing_hat"].to_numpy() >= 0.5
    audited = table["reconstruction.friendly"].to_numpy()
    gap = audited[has].mean() - audited[~has].mean()
    for each in (run, watched):
        effect = each.effects().filter(pl.col("attribute") == "wearing_hat")["effect"][0]
        assert effect == pytest.approx(gap, abs=0.15)
    assert [f["attribute"] for f in watched.findings()] == ["wearing_hat"]


def test_spans_are_of_the_images_that_attributes_looked_at(tmp_path: Path) -> None:
    """Not of those that happen to share a chunk with the last of them."""
    whole, single = (run_audit(tmp_path / str(chunk), options={"chunk": chunk, "limit": 5}) for chunk in (90, 1))
    assert len(single.scores()) < len(whole.scores()) == IMAGES
    np.testing.assert_allclose(single.effects()["effect"], whole.effects()["effect"], atol=1e-4)


@pytest.mark.parametrize(
    ("judge", "sentence"),
    [
        (worlds.heads, "The judge is the reference classifier itself"),
        (worlds.audited, r"The judge 'audited' knows none of the attributes \(smiling, young, eyeglasses, …\)"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused(judge: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=sentence):
        run_audit(tmp_path / "run", reference=Reference(worlds.heads(), judge()))
    heads = worlds.heads()
    with pytest.raises(BadInput, match="The judge is the reference classifier itself"):
        run_audit(tmp_path / "run", reference=Reference(heads, heads))
    assert not (tmp_path / "run").exists()


def test_a_classifier_called_judge(tmp_path: Path) -> None:
    """Only where its column would be one of the judge's it needs another name."""
    reference = Reference(worlds.heads(), worlds.judge())
    plain = wrap(worlds.LinearHeads(worlds.SHORTCUT), ["friendly"], name="judge")
    run = run_audit(tmp_path / "run", classifier=plain, reference=reference)
    assert run.record()["audited"] == ["friendly"]
    assert run.record()["judges"] == JUDGED
    twin = wrap(worlds.LinearHeads(worlds.SHORTCUT), ["young"], name="judge")
    with pytest.raises(BadInput, match=r"Two heads are called 'judge:young': give the audited classifier another name"):
        run_audit(tmp_path / "twin", classifier=twin, reference=reference)
    assert run_audit(tmp_path / "alone", classifier=twin).record()["audited"] == ["judge:young"]


def test_compositions_have_no_judge() -> None:
    heads = worlds.heads()
    table = panel([], [("heads", heads["smiling"] + 0.3 * heads["young"])])
    assert judged(table, table.labels, worlds.judge()) == (table, {})


def test_the_embedded_heads_have_the_embedded_oracle() -> None:
    known = reference_of(load("embedded"))
    assert getattr(known.judge, "spec", None) == "embedded:oracle"
    assert reference_of(worlds.heads()).judge is None
    assert reference_of(Reference(load("embedded"), None)).judge is None


def test_a_head_with_the_name_of_raised_counterfactuals_is_refused(tmp_path: Path) -> None:
    names = ["young", "not young", "eyeglasses", "wearing_hat"]
    reference = worlds.heads()
    reference.targets = tuple(names)  # `wrap` takes no spaces, a classifier of one's own may have them
    with pytest.raises(BadInput, match=r"A head is called 'not young', as the counterfactuals that raise 'young' are"):
        run_audit(tmp_path / "run", reference=reference)
    assert not (tmp_path / "run").exists()
    run = run_audit(tmp_path / "run", reference=reference, options={"both_ways": False})
    assert run.record()["attributes"] == names


def test_incoming_is_the_matrix_read_the_other_way(run: Run) -> None:
    cells = {(c["base"], c["downstream"]): c for c in run.matrix().iter_rows(named=True)}
    for e in run.effects().iter_rows(named=True):
        assert e["incoming"] == cells[e["attribute"], e["audited"]]["ratio_of_means"]
        assert e["outgoing"] == cells[e["audited"], e["attribute"]]["psi"]


def test_images_whose_score_is_nan_have_a_row_and_do_not_use_up_the_limit(tmp_path: Path) -> None:
    kept = []
    for chunk in (16, 64):
        run = run_audit(
            tmp_path / str(chunk), classifier=worlds.nan_sometimes(), reference=None, options={"chunk": chunk}
        )
        outcomes = run.record()["outcomes"]["smiling"]
        assert outcomes["not_finite"] > 3
        assert outcomes["reached"] + outcomes.get("floor", 0) == 25
        made = run.responses().filter((pl.col("base") == "smiling") & (pl.col("evaluations") > 0))
        kept.append(set(made["image_id"]))
        cells = run.matrix()
        assert cells.filter(pl.col("base") == "smiling")["n"].to_list() == [25] * 4
    assert kept[0] == kept[1]


def test_a_chunk_of_nothing_but_nan_does_not_end_the_run(tmp_path: Path) -> None:
    run = run_audit(tmp_path / "run", classifier=worlds.nan_sometimes(), reference=None, options={"chunk": 1})
    assert run.record()["outcomes"]["smiling"]["not_finite"] > 3


def test_a_head_of_nan_is_noticed_after_a_chunk_without_images(tmp_path: Path) -> None:
    images = worlds.write_images_after_unreadable(tmp_path / "images", 40, unreadable=20)
    with pytest.raises(BadModel, match="'smiling' returned NaN or infinity for all of 12 images"):
        run_audit(tmp_path / "run", images, classifier=worlds.nan_heads(), reference=None)
    assert not (tmp_path / "run" / "matrix.csv").exists()


def test_nan_of_an_autoencoder_is_not_blamed_on_the_classifier(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="The autoencoder returned NaN or infinity for all of 16 images"):
        run_audit(tmp_path / "run", autoencoder=worlds.nan_autoencoder())


def test_own_heads_are_the_default_reference(tmp_path: Path) -> None:
    run = run_audit(tmp_path / "run", classifier=worlds.heads(), reference=None, bases=["smiling", "eyeglasses"])
    record = run.record()
    assert record["heads"] == list(worlds.TARGETS)
    assert record["bases"] == record["audited"] == record["attributes"] == ["smiling", "eyeglasses"]
    assert len(run.matrix()) == 8


def test_downstream_names_the_columns(tmp_path: Path) -> None:
    run = run_audit(
        tmp_path / "own", classifier=worlds.heads(), reference=None, bases=["smiling"], downstream=["young", "young"]
    )
    assert run.record()["heads"] == ["young", "smiling"]
    run = run_audit(tmp_path / "reference", downstream=["wearing_hat", "young", "young"])
    assert run.record()["heads"] == ["wearing_hat", "young", "friendly"]
    assert run.record()["attributes"] == ["wearing_hat", "young"]


def test_a_composition_is_a_base(tmp_path: Path) -> None:
    heads = worlds.heads()
    run = run_audit(tmp_path / "run", classifier=heads, reference=None, bases=["smiling", "smiling + 0.3*young"])
    assert run.record()["bases"] == ["smiling", "smiling + 0.3*young"]
    diagonal = run.matrix().filter(pl.col("base") == pl.col("downstream"))
    np.testing.assert_allclose(diagonal["psi"], 1.0, atol=1e-6)
    assert len(diagonal) == 2


def test_classifiers_that_share_a_target_are_told_apart(tmp_path: Path) -> None:
    twin = wrap(worlds.LinearHeads(worlds.SHORTCUT), ["smiling"], name="twin")
    run = run_audit(tmp_path / "run", classifier=[twin, worlds.audited()])
    assert run.record()["audited"] == ["twin:smiling", "friendly"]
    assert run.effects("smiling")["audited"].unique().to_list() == ["twin:smiling"]
    for finding in run.findings():
        assert (finding["audited"], finding["attribute"]) != ("twin:smiling", "smiling")


def test_top_gives_the_images_behind_a_cell(run: Run) -> None:
    top = run.top("wearing_hat", "friendly", k=5)
    assert len(top) == 5
    assert top["psi"].null_count() == 0
    assert not top["psi"].is_nan().any()
    assert top["psi"].abs().is_sorted(descending=True)
    with pytest.raises(BadInput, match="no cell"):
        run.top("wearing_hat", "nothing")


def test_a_black_box_is_audited_but_is_no_base(tmp_path: Path) -> None:
    run = run_audit(tmp_path / "run", classifier=worlds.numpy_box())
    assert run.record()["bases"] == list(worlds.TARGETS)
    effects = {row["attribute"]: row for row in run.effects("friendly").iter_rows(named=True)}
    assert effects["wearing_hat"]["effect"] > 0.5
    assert effects["wearing_hat"]["outgoing"] is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"autoencoder": None}, "needs an autoencoder"),
        ({"bases": ["friendli"]}, "nearest valid: friendly"),
        ({"downstream": ["yung"]}, "nearest valid: young"),
        ({"classifier": [worlds.audited(), worlds.torch_box()]}, "Two classifiers are called 'audited'"),
        ({"classifier": worlds.torch_box(), "reference": None}, "black box"),
    ],
)
def test_what_cannot_be_audited(given: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=sentence):
        run_audit(tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_no_classifier_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least one classifier"):
        audit(worlds.images(4), [], autoencoder=worlds.autoencoder(), out=tmp_path / "run")


def test_without_out_the_run_is_in_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = audit(worlds.images(20), worlds.heads(), autoencoder=worlds.autoencoder(), options=AuditOptions(shown=0))
    assert run.path.parent == tmp_path
    assert (run.path / "matrix.csv").is_file()


def test_the_embedded_heads_have_it_beside_a_folder_of_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded:oracle").touch()
    known = reference_of(load("embedded"))
    assert getattr(known.classifier, "spec", None) == "embedded"
    assert getattr(known.judge, "spec", None) == "embedded:oracle"
