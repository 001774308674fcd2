"""Banks: made once with a decoder, then any callable is audited by forward passes alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import worlds
from cfalign._audit import consulting
from cfalign._audit.audit import audit
from cfalign._audit.bank import COLUMNS, Bank, bank, load_bank
from cfalign._audit.chunk import pixels
from cfalign._audit.consulting import ENDS
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.options import EstimateOptions, SearchOptions
from cfalign._errors import BadInput, BadModel, RunMismatch
from cfalign._heads.reference import Reference
from cfalign._regions.options import RegionOptions
from cfalign._runs.run import Run
from cfalign.classifiers import black_box, wrap

OPTIONS = AuditOptions(limit=25, chunk=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    out = tmp_path_factory.mktemp("bank") / "bank"
    autoencoder = worlds.BentAutoencoder()
    return bank(worlds.images(90), worlds.bent_heads(), autoencoder=autoencoder, options=OPTIONS, out=out)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audit(
        worlds.images(90),
        worlds.audited(),
        reference=worlds.bent_heads(),
        autoencoder=worlds.BentAutoencoder(),
        options=OPTIONS,
        out=tmp_path_factory.mktemp("direct") / "run",
    )


@pytest.mark.parametrize("subject", [worlds.audited, worlds.torch_box, worlds.numpy_box])
def test_one_more_classifier_costs_no_decoder_pass_and_gives_the_same(
    subject: Any, made: Bank, direct: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("encode", "decode"):
        monkeypatch.delattr(worlds.LinearAutoencoder, method)
    run = audit(load_bank(made.run.path), subject(), options=OPTIONS, out=tmp_path / "run")
    ours, theirs = (r.effects().sort("audited", "attribute") for r in (run, direct))
    assert ours["attribute"].to_list() == theirs["attribute"].to_list() == sorted(worlds.TARGETS)
    for column in ("effect", "incoming", "ci_low", "ci_high"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-3)
    assert ours["n"].to_list() == theirs["n"].to_list()
    assert ours["outgoing"].null_count() == len(ours), "an outgoing reading needs counterfactuals of the audited head"
    cells = run.matrix().join(direct.matrix(), on=["base", "downstream"])
    assert len(cells) == 4 * 5
    np.testing.assert_allclose(cells["psi"], cells["psi_right"], atol=2e-3)


def test_a_bank_with_a_judge_gives_what_the_audit_of_its_images_gives(tmp_path: Path) -> None:
    reference = Reference(worlds.bent_heads(), worlds.judge())
    given = {"autoencoder": worlds.BentAutoencoder(), "options": OPTIONS}
    made = bank(worlds.images(60), reference, out=tmp_path / "bank", **given)
    assert made.judges == {a: f"judge:{a}" for a in ("young", "wearing_hat")}
    assert made.heads == worlds.TARGETS
    direct = audit(worlds.images(60), worlds.numpy_box(), reference=reference, out=tmp_path / "direct", **given)
    runs = [
        audit(made, worlds.numpy_box(), options=options, out=tmp_path / f"{k}")
        for k, options in enumerate((OPTIONS, AuditOptions(shown=OPTIONS.shown)))
    ]
    for run in runs:
        assert run.record()["judges"] == direct.record()["judges"]
        assert run.record()["controls"] == direct.record()["controls"]
        ours, theirs = (r.effects().sort("attribute") for r in (run, direct))
        assert ours["n"].to_list() == theirs["n"].to_list()
        for column in ("effect", "ci_low", "ci_high", "incoming"):
            np.testing.assert_allclose(ours[column], theirs[column], atol=1e-3)
    texts = [(run.path / "effects.csv").read_bytes() for run in runs]
    assert texts[0] == texts[1], "which images count is the bank's to say"


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"search": SearchOptions(drop=0.2)}, "search.drop"),
        ({"limit": 1}, "limit"),
        ({"both_ways": False}, "both_ways"),
        ({"estimate": EstimateOptions(enabled=True)}, "estimate.enabled"),
    ],
)
def test_an_audit_refuses_what_its_bank_has_decided(
    made: Bank, chosen: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=rf"^{named}: no effect on an audit of a bank"):
        audit(made, worlds.torch_box(), options=AuditOptions(**chosen), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_audit_of_a_bank_tells_where_effects_lie_as_an_audit_of_its_images_does(
    made: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, regions=RegionOptions(spec="grid:2", images=20))
    direct = audit(
        worlds.images(90),
        worlds.torch_box(),
        reference=worlds.bent_heads(),
        autoencoder=worlds.BentAutoencoder(),
        options=options,
        out=tmp_path / "direct",
    )
    for method in ("encode", "decode"):
        monkeypatch.delattr(worlds.LinearAutoencoder, method)
    run = audit(load_bank(made.run.path), worlds.torch_box(), options=options, out=tmp_path / "run")
    ours, theirs = (r.regions("friendly") for r in (run, direct))
    assert [(s.attribute, s.region, s.n) for s in ours] == [(s.attribute, s.region, s.n) for s in theirs]
    assert {s.attribute for s in ours} == set(worlds.TARGETS)
    assert max(s.n for s in ours) == 20
    clear = [pair for pair in zip(ours, theirs, strict=True) if np.isfinite(pair[1].inside)]
    assert len(clear) >= 4
    for name in ("whole", "inside", "lost", "inside_low", "lost_high"):
        np.testing.assert_allclose(*([getattr(pair[k], name) for pair in clear] for k in (0, 1)), atol=0.02)
    assert (run.path / "regions" / "friendly" / "wearing_hat.png").is_file()
    assert run.record()["settings"]["regions"] == {"spec": "grid:2", "images": 20}
    plain = audit(made, worlds.torch_box(), options=OPTIONS, out=tmp_path / "plain")
    assert "regions" not in plain.record()["settings"]
    assert plain.regions() == ()
    assert (plain.path / "effects.csv").read_bytes() == (run.path / "effects.csv").read_bytes()


def test_regions_of_a_bank_take_masks_by_the_names_of_its_images(tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "images", 40)
    drawn = np.zeros((16, 16), dtype=np.uint8)
    drawn[:, :8] = 255
    (tmp_path / "masks" / "left").mkdir(parents=True)
    names = sorted(path.name for path in folder.iterdir())
    for name in names[:30]:
        Image.fromarray(drawn).save(tmp_path / "masks" / "left" / name)
    given = {"autoencoder": worlds.autoencoder(), "options": AuditOptions(limit=30, chunk=16)}
    made = bank(folder, worlds.heads(), out=tmp_path / "bank", **given)
    chosen = AuditOptions(regions=RegionOptions(spec=str(tmp_path / "masks"), images=40))
    run = audit(made, worlds.torch_box(), options=chosen, out=tmp_path / "run")
    of_hats = [s for s in run.regions("friendly") if s.attribute == "wearing_hat"]
    assert [s.region for s in of_hats] == ["left", "outside left"]
    rows = run.counterfactuals().filter(pl.col("base") == "wearing_hat", pl.col("base_after").is_finite())
    assert of_hats[0].n == rows.filter(pl.col("image_id").is_in(names[:30])).height
    assert 1 < of_hats[0].n < len(rows)
    with pytest.raises(BadInput, match="grid:4 or a folder"):
        audit(made, worlds.torch_box(), options=AuditOptions(regions=RegionOptions(spec="no")), out=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_classifier_called_judge_is_told_to_take_another_name(tmp_path: Path) -> None:
    reference = Reference(worlds.heads(), worlds.judge())
    made = bank(worlds.images(30), reference, autoencoder=worlds.autoencoder(), options=OPTIONS, out=tmp_path / "bank")
    twin = wrap(worlds.LinearHeads(worlds.SHORTCUT), ["young"], name="judge")
    with pytest.raises(BadInput, match=r"Two heads are called 'judge:young'"):
        audit(made, twin, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_matrix_of_a_bank_has_ones_on_its_diagonal(made: Bank, tmp_path: Path) -> None:
    run = audit(made, worlds.torch_box(), options=OPTIONS, out=tmp_path / "run")
    diagonal = run.matrix().filter(pl.col("base") == pl.col("downstream"))
    assert len(diagonal) == 4
    np.testing.assert_allclose(diagonal["psi"], 1.0, atol=1e-6)
    record = run.record()
    assert record["settings"]["kind"] == "audit"
    assert record["data"] == {"bank": made.identity()}
    assert record["models"]["classifiers"][0]["role"] == "audited"
    assert "autoencoder" not in record["models"]
    assert record["bases"] == record["attributes"] == list(worlds.TARGETS)
    assert record["heads"] == [*worlds.TARGETS, "friendly"]
    assert [f["attribute"] for f in run.findings()] == ["wearing_hat"]
    samples = run.findings()[0]["samples"]
    assert samples
    assert all((run.path / file).is_file() for s in samples for file in s["files"].values())


def test_an_audit_of_a_bank_is_no_bank(made: Bank, tmp_path: Path) -> None:
    run = audit(made, worlds.torch_box(), options=OPTIONS, out=tmp_path / "run")
    with pytest.raises(BadInput, match="an audit's directory, not a bank's"):
        load_bank(run.path)


def test_different_black_boxes_are_different_runs(made: Bank, tmp_path: Path) -> None:
    audit(made, worlds.torch_box(), options=OPTIONS, out=tmp_path / "run")
    with pytest.raises(BadInput, match=r"models\.classifiers"):
        audit(made, worlds.numpy_box(), options=OPTIONS, out=tmp_path / "run")


def test_a_head_of_the_same_name_is_its_own_concept(made: Bank, tmp_path: Path) -> None:
    module = worlds.LinearHeads(worlds.MIXING[:, :1])
    subject = black_box(lambda x: torch.sigmoid(module(x)), ["smiling"], name="mine")
    run = audit(made, subject, options=OPTIONS, out=tmp_path / "run")
    assert run.record()["audited"] == ["mine:smiling"]
    assert "smiling" not in [f["attribute"] for f in run.findings()]


def test_the_seed_of_a_bank_audit_is_recorded(made: Bank, tmp_path: Path) -> None:
    options = AuditOptions(seed=3)
    run = audit(made, worlds.torch_box(), options=options, out=tmp_path / "run")
    assert run.record()["seed"] == run.record()["settings"]["seed"] == 3
    assert run.record()["settings"]["limit"] == OPTIONS.limit, "the bank's"


def test_a_bank_remembers_skipped_images(tmp_path: Path) -> None:
    folder = worlds.write_images(tmp_path / "images", 20)
    (folder / "0000.png").write_bytes(b"not an image")
    made = bank(
        folder, worlds.heads(), autoencoder=worlds.autoencoder(), options=AuditOptions(chunk=1), out=tmp_path / "bank"
    )
    run = audit(made, worlds.torch_box(), out=tmp_path / "run")
    assert [s["image_id"] for s in run.record()["skipped"]] == ["0000.png"]
    assert run.record()["images"] == 19


def test_attributes_are_the_heads_that_get_counterfactuals(tmp_path: Path) -> None:
    made = bank(
        worlds.images(30),
        worlds.heads(),
        autoencoder=worlds.autoencoder(),
        attributes=["young", "wearing_hat", "young"],
        out=tmp_path / "bank",
    )
    assert made.attributes == ("young", "wearing_hat")
    assert made.heads == worlds.TARGETS
    run = audit(made, worlds.torch_box(), out=tmp_path / "run")
    assert run.effects()["attribute"].to_list() == ["wearing_hat", "young"]


def test_images_in_a_bank_are_the_ones_scored(made: Bank) -> None:
    """Eight bits cost less than half a grey level, and every kind of image stands beside its own scores."""
    shard = made.run.shards("tensors")[0]
    tensors = made.run.tensors(shard)
    assert set(tensors) == set(made.tensors)
    assert all(t.dtype == torch.uint8 for t in tensors.values())
    rows = pl.read_parquet(made.run.path / "responses" / f"{shard.stem}.parquet")
    walked = rows.filter(pl.col("lambda").is_not_nan())
    module = worlds.BentHeads().eval()
    for column, key in COLUMNS.items():
        assert len(tensors[key]) == len(walked)
        scores = torch.sigmoid(module(pixels(tensors[key]))).detach().numpy()
        kept = walked.select([f"{column}.{t}" for t in worlds.TARGETS]).to_numpy()
        if column in ENDS:
            before = walked.select([f"before.{t}" for t in worlds.TARGETS]).to_numpy()
            share = walked[ENDS[column]] / walked.select(pl.max_horizontal(*ENDS.values())).to_series()
            scores = before + share.fill_nan(1.0).to_numpy()[:, None] * (scores - before)
        np.testing.assert_allclose(scores, kept, atol=0.02)
        assert np.abs(scores - kept).mean() < 0.005
    assert len(tensors["originals"]) == len(tensors[made.start]) == OPTIONS.chunk


GATED = replace(OPTIONS, search=SearchOptions(residual="gated"))
DROPPED = replace(OPTIONS, search=SearchOptions(residual="dropped"))


def noisy(count: int) -> torch.Tensor:
    """Images with what the autoencoder cannot draw."""
    noise = 0.02 * torch.randn(count, 3, worlds.SIZE, worlds.SIZE, generator=torch.Generator().manual_seed(1))
    return (worlds.images(count) + noise).clamp(0, 1)


def bank_of(options: AuditOptions, out: Path) -> Bank:
    return bank(noisy(60), worlds.heads(), autoencoder=worlds.autoencoder(), options=options, out=out)


def test_where_walks_start_at_the_image_a_bank_keeps_and_scores_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: dict[str, int] = {}
    passed = consulting.respond

    for name, options in (("gated", GATED), ("dropped", DROPPED)):
        made = bank_of(options, tmp_path / name)
        tensors = made.run.tensors(made.run.shards("tensors")[0])
        assert set(tensors) == set(made.tensors)
        scored[name] = 0

        def counting(images: torch.Tensor, *given: Any, name: str = name, **more: Any) -> torch.Tensor:
            scored[name] += len(images)
            return passed(images, *given, **more)

        monkeypatch.setattr(consulting, "respond", counting)
        run = audit(made, worlds.torch_box(), out=tmp_path / f"{name}-run")
        scores, rows = run.scores(), run.counterfactuals()
        same = scores["image.friendly"].to_list() == scores["reconstruction.friendly"].to_list()
        assert same == (name == "gated")
        before = rows.join(scores, on="image_id")
        assert (before["before.friendly"] == before["reconstruction.friendly"]).all()
        assert run.start is made.run.start
        files = [tuple(s["files"]) for f in run.findings() for s in f["samples"]]
        assert set(files) == {run.start.pictures}
        pairs = len(rows.filter(pl.col("lambda").is_not_nan())) * len(set(COLUMNS.values()))
        assert scored[name] == pairs + len(scores) * (1 if name == "gated" else 2)
    assert "reconstructions" not in load_bank(tmp_path / "gated").tensors
    assert (load_bank(tmp_path / "gated").start, load_bank(tmp_path / "dropped").start) == (
        "originals",
        "reconstructions",
    )


def test_banks_of_older_versions_are_read_as_they_were_made(tmp_path: Path) -> None:
    """They do not say what became of residuals: it was dropped."""
    made = bank_of(DROPPED, tmp_path / "bank")
    expected = audit(made, worlds.torch_box(), out=tmp_path / "expected")
    file = made.run.path / "run.json"
    record = file.read_text()
    assert '"residual": "dropped"' in record
    file.write_text(record.replace('"residual": "dropped",', ""))
    older = load_bank(made.run.path)
    run = audit(older, worlds.torch_box(), options=DROPPED, out=tmp_path / "run")
    assert (older.start, run.start.value) == ("reconstructions", "reconstruction")
    assert run.scores().equals(expected.scores())
    assert (run.path / "effects.csv").read_bytes() == (expected.path / "effects.csv").read_bytes()
    with pytest.raises(BadInput, match=r"^search\.residual: no effect on an audit of a bank"):
        audit(older, worlds.torch_box(), options=replace(OPTIONS, search=SearchOptions(residual="kept")))


def test_eight_bits_are_rounded_to_the_nearest() -> None:
    drawn = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    stored = (drawn * 255).round().to(torch.uint8)
    assert (pixels(stored) - drawn).abs().max() <= 0.5 / 255 + 1e-6
    assert pixels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


def test_unfinished_banks_other_folders_and_black_boxes_are_refused(made: Bank, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a run directory"):
        load_bank(tmp_path)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    given = {"options": OPTIONS, "out": tmp_path / "bank"}
    used = worlds.BentAutoencoder()
    with pytest.raises(KeyboardInterrupt):
        bank(worlds.images(90), worlds.bent_heads(), autoencoder=used, progress=stop, **given)
    with pytest.raises(BadInput, match="is not finished"):
        load_bank(tmp_path / "bank")
    used._passes = 3
    with pytest.raises(RunMismatch, match="counts or caches while it answers"):
        bank(worlds.images(90), worlds.bent_heads(), autoencoder=used, **given)
    del used._passes
    whole = bank(worlds.images(90), worlds.bent_heads(), autoencoder=used, **given)
    assert whole.identity() == made.identity()
    for ours, theirs in zip(whole.run.shards("tensors"), made.run.shards("tensors"), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
    with pytest.raises(BadInput, match="black box"):
        bank(worlds.images(9), worlds.torch_box(), autoencoder=worlds.autoencoder(), out=tmp_path / "other")
    with pytest.raises(BadInput, match="nearest valid: young"):
        bank(
            worlds.images(9),
            worlds.heads(),
            autoencoder=worlds.autoencoder(),
            attributes=["yung"],
            out=tmp_path / "other",
        )
    with pytest.raises(BadInput, match="the bank has its own"):
        audit(made, worlds.audited(), autoencoder=worlds.autoencoder(), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_damaged_bank_is_named(tmp_path: Path) -> None:
    made = bank(worlds.images(30), worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank")
    shard = made.run.shards("tensors")[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=f"{shard.name} is damaged"):
        audit(made, worlds.torch_box(), out=tmp_path / "run")
    shard.unlink()
    with pytest.raises(BadInput, match=shard.name):
        audit(made, worlds.torch_box(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_classifier_that_answers_nan_to_a_bank(made: Bank, tmp_path: Path) -> None:
    from cfalign.classifiers import black_box

    broken = black_box(lambda x: torch.full((len(x), 1), float("nan")), ["friendly"])
    with pytest.raises(BadModel, match=r"'friendly' returned NaN or infinity for all"):
        audit(made, broken, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_head_of_nan_is_noticed_after_a_shard_without_images(tmp_path: Path) -> None:
    images = worlds.write_images_after_unreadable(tmp_path / "images", 40, unreadable=20)
    made = bank(images, worlds.heads(), autoencoder=worlds.autoencoder(), options=OPTIONS, out=tmp_path / "bank")
    broken = black_box(lambda x: torch.full((len(x), 1), float("nan")), ["friendly"])
    with pytest.raises(BadModel, match="'friendly' returned NaN or infinity for all of 12 images"):
        audit(made, broken, out=tmp_path / "run")
    assert not (tmp_path / "run" / "matrix.csv").exists()


def test_grey_images_go_through(tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for i in range(4):
        Image.new("L", (16, 16), 60 * i).save(folder / f"{i}.png")
    made = bank(folder, worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank")
    assert made.run.record()["status"] == "complete"
