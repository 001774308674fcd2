"""Unnamed features in a linear world: the audited head uses a coordinate that no reference head names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import worlds
from cfalign import report
from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.discovering import discover
from cfalign._audit.options import AuditOptions
from cfalign._discovery.discovery import Discovery, discover_in
from cfalign._discovery.landscape import Heads, Landscape
from cfalign._discovery.naming import NamedFeature, examples_in, labelled, name_feature, scale_logits
from cfalign._discovery.options import FEWEST, DiscoveryOptions
from cfalign._discovery.walks import Line
from cfalign._errors import BadInput, RunMismatch
from cfalign._findings import UnnamedFeature
from cfalign._heads.composition import head
from cfalign._heads.panel import panel
from cfalign._heads.reference import Reference
from cfalign._models.weights import save_weights
from cfalign._regions.options import RegionOptions
from cfalign._runs.run import Run
from cfalign.autoencoders import informed
from cfalign.classifiers import JoinedClassifier, black_box, load
from cfalign.classifiers.attribute_network import AttributeNetwork
from cfalign.datasets import TensorImages, grouped
from cfalign.report import unnamed
from cfalign.training.classifier import ClassifierReport

SHAPE, LATENTS = (3, 6, 6), 30
BASIS = torch.linalg.qr(torch.randn(108, LATENTS, generator=torch.Generator().manual_seed(0)).double()).Q
KNOWN, HIDDEN = 4, 6
IMAGES = 160


class WideAutoencoder(nn.Module):
    """z = Qᵀ(x − ½) and back, in more dimensions than there are heads: most random directions meet no feature."""

    residual = "dropped"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", BASIS.clone())

    def encode(self, images: torch.Tensor, /) -> torch.Tensor:
        return (images.double().flatten(1) - 0.5) @ self.basis

    def decode(self, latents: torch.Tensor, /) -> torch.Tensor:
        return 0.5 + (latents @ self.basis.T).view(-1, *SHAPE)


class WideHeads(nn.Module):
    """Heads linear in that latent."""

    differentiable = True

    def __init__(self, rows: np.ndarray, targets: Sequence[str], name: str) -> None:
        super().__init__()
        self.name, self.targets = name, tuple(targets)
        self.weight = nn.Parameter(torch.from_numpy(rows))
        self.register_buffer("basis", BASIS.clone())

    def logits(self, images: torch.Tensor, /) -> torch.Tensor:
        return (images.double().flatten(1) - 0.5) @ self.basis @ self.weight.T


OPTIONS = DiscoveryOptions(features=1, images=IMAGES, looks=12)


def axis(*numbers: int, gain: float = 8.0) -> np.ndarray:
    row = np.zeros(LATENTS)
    row[list(numbers)] = gain
    return row


def reference() -> WideHeads:
    return WideHeads(np.stack([axis(i) for i in range(KNOWN)]), [f"known_{i}" for i in range(KNOWN)], "reference")


def audited(*axes: int, target: str = "concept") -> WideHeads:
    return WideHeads(axis(*axes)[None], [target], f"audited {target}")


def images(n: int = IMAGES) -> torch.Tensor:
    rng = np.random.default_rng(3)
    z = torch.from_numpy(rng.uniform(-0.35, 0.35, size=(n, LATENTS)))
    x = 0.5 + (z @ BASIS.T).view(n, *SHAPE)
    assert 0 < x.min() < x.max() < 1
    return x.float()


def found(*models: Any, options: DiscoveryOptions = OPTIONS, people: Any = None, n: int = IMAGES) -> Discovery:
    x = images(n)
    ae = informed(WideAutoencoder(), x)
    known = reference()
    table = panel([head(known, t) for t in known.targets], [(m.name, head(m, m.targets[0])) for m in models])
    labels = table.labels[len(known.targets) :]
    landscape = Landscape.of(TensorImages(x), ae, AuditOptions().search, 64)
    heads = Heads(table, labels, known.targets)
    return discover_in(landscape, heads, list(range(n)), people, options=options, seed=0)


def coordinate(discovery: Discovery, number: int, row: np.ndarray) -> float:
    """The correlation of how far images lie along a row of the latent, and along a feature."""
    z = WideAutoencoder().encode(images(len(discovery.sample))).numpy() @ row
    return float(np.corrcoef(z, discovery.positions(number))[0, 1])


def test_the_hidden_coordinate_is_found_and_its_effect_is_that_of_walking_along_it() -> None:
    discovery = found(audited(0, HIDDEN))
    (feature,) = discovery.features
    assert feature.found
    assert coordinate(discovery, 0, axis(HIDDEN)) > 0.9
    assert feature.agreement > 0.9
    assert feature.explains > 0.9
    assert feature.n + feature.found_on == IMAGES
    assert feature.ci_low < feature.effect < feature.ci_high
    z = WideAutoencoder().encode(images()).numpy()
    low, high = np.quantile(z[:, HIDDEN], [OPTIONS.ends, 1 - OPTIONS.ends])

    def score(hidden: float) -> np.ndarray:
        return 1 / (1 + np.exp(-8 * (z[discovery.tested, 0] + hidden)))

    assert feature.effect == pytest.approx((score(high) - score(low)).mean(), abs=0.1)
    assert all(abs(change) < 0.3 for change in feature.along.values())


def test_a_head_that_uses_named_attributes_alone_has_none() -> None:
    for model in (audited(0), audited(0, 2)):
        (feature,) = found(model).features
        assert not feature.found
        assert abs(feature.effect) < 0.1


def test_what_one_direction_explains_leaves_no_second_feature() -> None:
    hidden = axis(5, gain=9.0) + axis(HIDDEN, gain=6.0)
    discovery = found(WideHeads((axis(0) + hidden)[None], ["concept"], "two"), options=replace(OPTIONS, features=3))
    assert [f.number for f in discovery.features] == [1, 2, 3]
    assert [f.found for f in discovery.features] == [True, False, False]
    assert coordinate(discovery, 0, hidden) > 0.9
    directions = np.stack([line.direction for line in discovery.lines])
    assert abs(directions[0] @ directions[1]) < 0.4


def test_a_black_box_gives_the_same() -> None:
    model = audited(0, HIDDEN)
    box = black_box(lambda x: torch.sigmoid(model.logits(x)), ["concept"], name="box", version="1")
    (one,), (other,) = found(model).features, found(box).features
    assert other.found
    assert other.effect == pytest.approx(one.effect, abs=1e-5)
    assert other.agreement == pytest.approx(one.agreement, abs=1e-4)


def test_who_else_is_audited_changes_nothing_but_q() -> None:
    alone = found(audited(0, HIDDEN)).features[0]
    beside = found(audited(1, target="other"), audited(0, HIDDEN)).features[1]
    assert replace(beside, q=0.0) == replace(alone, q=0.0)


def test_nobody_is_on_both_sides_and_people_are_drawn_instead_of_images() -> None:
    people = np.arange(IMAGES) // 4
    discovery = found(audited(0, HIDDEN), people=people)
    sides = np.zeros(IMAGES, dtype=bool)
    sides[discovery.tested] = True
    assert {tuple(sides[people == p]) for p in range(IMAGES // 4)} == {(True,) * 4, (False,) * 4}
    assert discovery.features[0].found
    same_halves = (np.arange(IMAGES) // 40) * 2 + np.arange(IMAGES) % 2
    few, alone = (found(audited(0, HIDDEN), people=who).features[0] for who in (same_halves, None))
    assert few.effect == pytest.approx(alone.effect, abs=0.02)
    assert few.ci_high - few.ci_low != alone.ci_high - alone.ci_low


def test_a_line_moves_images_to_its_ends_and_nowhere_else() -> None:
    rng = np.random.default_rng(0)
    u, d = rng.normal(size=(50, 5)), np.array([0.6, 0.8, 0, 0, 0])
    line = Line.through(d, u, 0.1)
    ends = line.ends(u)
    np.testing.assert_allclose(ends @ d, np.tile([line.low, line.high], (50, 1)))
    np.testing.assert_allclose(ends - (ends @ d)[..., None] * d, np.repeat((u - (u @ d)[:, None] * d)[:, None], 2, 1))
    assert (u @ d < line.low).mean() == pytest.approx(0.1)


def test_too_few_images_are_refused() -> None:
    blind = audited(0, HIDDEN)
    logits = blind.logits
    blind.logits = lambda x: torch.where(x.mean(dim=(1, 2, 3))[:, None] > 0.5, logits(x), torch.nan)  # type: ignore
    with pytest.raises(BadInput, match=f"at least {FEWEST} images that can be read and that all heads answer, got"):
        found(blind, n=2 * FEWEST - 30)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audited_run(tmp_path_factory.mktemp("unnamed") / "run")


def audited_run(out: Path, *, model: Any = None, known: Any = None, options: AuditOptions | None = None) -> Run:
    chosen = options or AuditOptions(limit=12, discovery=OPTIONS, shown=1)
    subject = model or audited(0, HIDDEN)
    return audit(
        images(), subject, autoencoder=WideAutoencoder(), reference=known or reference(), options=chosen, out=out
    )


def test_an_audit_keeps_features_with_their_pictures(run: Run) -> None:
    (feature,) = run.unnamed()
    assert isinstance(feature, UnnamedFeature)
    assert feature.found
    assert run.unnamed("concept") == (feature,)
    assert run.unnamed("known_0") == ()
    shown = (*feature.lowest, *feature.highest, *feature.walked)
    files = [path for one in shown for path in one.files.values()]
    assert len(files) == 8 + 3 * 4
    assert all((run.path / path).is_file() for path in (*files, feature.difference))
    assert [s.position for s in feature.lowest] == sorted(s.position for s in feature.lowest)
    assert all(high.score > low.score for high, low in zip(feature.highest, feature.lowest, strict=True))
    places = pl.read_parquet(run.path / "unnamed" / "positions.parquet")
    assert len(places) == IMAGES
    assert places["tested"].sum() == feature.n


def test_what_a_feature_does_is_split_by_region(tmp_path: Path) -> None:
    chosen = AuditOptions(limit=12, discovery=OPTIONS, shown=1, regions=RegionOptions(spec="grid:2", images=30))
    run = audited_run(tmp_path / "run", options=chosen)
    rows = [row for row in run.regions("concept") if row.attribute == "unnamed 1"]
    assert [row.region for row in rows] == [f"row {r} column {c}" for r in (1, 2) for c in (1, 2)]
    (feature,) = run.unnamed()
    assert rows[0].whole == pytest.approx(feature.effect, abs=0.1)
    assert rows[0].n == 30
    assert sum(row.inside for row in rows) == pytest.approx(1, abs=0.3)
    assert all(row.inside_low <= row.inside <= row.inside_high for row in rows)
    text = report.write(run)["md"].read_text()
    assert "Unnamed feature 1 moves `concept`" in text


def test_without_discover_an_audit_is_as_it_was(run: Run, tmp_path: Path) -> None:
    plain = audited_run(tmp_path / "run", options=AuditOptions(limit=12, shown=1))
    assert plain.unnamed() == ()
    assert "discovery" not in plain.record()["settings"]
    assert not (plain.path / "unnamed").exists()
    for name in ("matrix.csv", "effects.csv", "gaps.csv", "findings.json"):
        assert (plain.path / name).read_bytes() == (run.path / name).read_bytes()


def test_the_same_command_again_seeks_nothing_again(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    audited_run(out)
    file = out / "unnamed.json"
    before = file.stat().st_mtime_ns
    assert file.read_bytes() == (run.path / "unnamed.json").read_bytes()
    audited_run(out)
    assert file.stat().st_mtime_ns == before


def test_check_tells_of_what_has_no_name(run: Run, tmp_path: Path) -> None:
    ended = worlds.cfalign("check", run.path, "--max-effect", 1, folder=tmp_path)
    assert ended.code == 0
    assert "unnamed feature: concept -> unnamed 1 " in ended.out
    assert "no limit holds it until it has a name (cfalign name)" in ended.out


def test_the_report_shows_it_and_asks_what_it_is(run: Run) -> None:
    files = report.write(run)
    page, text = files["html"].read_text(), files["md"].read_text()
    for told in (page, text):
        assert "Unnamed features: what is this?" in told
        assert "reacts to something that no reference head names" in told
        assert "cfalign name" in told
    assert page.count("walked to the high end") >= 4
    assert '"unnamed"' in files["json"].read_text()


def test_what_cannot_be_sought_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="its own reference"):
        audit(
            images(),
            reference(),
            autoencoder=WideAutoencoder(),
            options=AuditOptions(discovery=OPTIONS),
            out=tmp_path / "own",
        )
    with pytest.raises(BadInput, match="at least 60 images"):
        audit(
            images(30),
            audited(0, HIDDEN),
            autoencoder=WideAutoencoder(),
            reference=reference(),
            options=AuditOptions(discovery=OPTIONS),
            out=tmp_path / "few",
        )
    kept = bank(
        images(), reference(), autoencoder=WideAutoencoder(), options=AuditOptions(limit=5), out=tmp_path / "bank"
    )
    with pytest.raises(BadInput, match=r"bank has none: seek them in the images by cfalign\.discover"):
        audit(kept, audited(0, HIDDEN), options=AuditOptions(limit=5, discovery=OPTIONS), out=tmp_path / "of a bank")
    assert not any((tmp_path / name).exists() for name in ("own", "few", "of a bank"))


def features_alone(**given: Any) -> tuple[UnnamedFeature, ...]:
    plain = {"autoencoder": WideAutoencoder(), "reference": reference(), "options": OPTIONS}
    return discover(images(), audited(0, HIDDEN), **{**plain, **given})


def test_discover_finds_what_an_audit_does_with_the_same_pictures(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "alone"
    found = features_alone(out=out)
    assert found == run.unnamed()
    ours, theirs = ({p.relative_to(r): p.read_bytes() for p in r.rglob("*.*")} for r in (out, run.path))
    pictures = [name for name in ours if name.parts[0] == "unnamed"]
    assert len(pictures) > 20
    assert all(ours[name] == theirs[name] for name in pictures)
    assert set(ours) == {*pictures, Path("run.json"), Path("unnamed.json")}
    file = out / "unnamed.json"
    before = file.stat().st_mtime_ns
    assert features_alone(out=out) == found
    assert file.stat().st_mtime_ns == before
    with pytest.raises(RunMismatch, match=r"discovery.images was 160, now 100"):
        features_alone(out=out, options=replace(OPTIONS, images=100))


def test_discover_without_a_folder_writes_nothing_and_has_no_pictures(run: Run) -> None:
    (feature,), (kept,) = features_alone(options=replace(OPTIONS, features=0)), run.unnamed()
    bare = {name: tuple(replace(s, files={}) for s in getattr(kept, name)) for name in ("lowest", "highest")}
    assert feature == replace(kept, **bare, walked=(), difference="")


def test_discover_takes_groups_like_an_audit(tmp_path: Path) -> None:
    people = [f"person {number // 4}" for number in range(IMAGES)]
    source = grouped(TensorImages(images()), people, column="who")
    chosen = AuditOptions(limit=4, discovery=OPTIONS, shown=0)
    known = {"autoencoder": WideAutoencoder(), "reference": reference()}
    of_audit = audit(source, audited(0, HIDDEN), options=chosen, out=tmp_path / "run", **known).unnamed()
    found = discover(source, audited(0, HIDDEN), options=OPTIONS, out=tmp_path / "alone", **known)
    assert found == of_audit
    assert found[0].ci_low != features_alone()[0].ci_low


def test_a_folder_of_discover_can_be_named_and_is_no_audit(tmp_path: Path) -> None:
    box = black_box(lambda x: torch.sigmoid(audited(0, HIDDEN).logits(x)), ["concept"], name="box", version="1")
    out = tmp_path / "alone"
    plain = {"autoencoder": WideAutoencoder(), "reference": reference(), "options": OPTIONS}
    (feature,) = discover(images(), box, out=out, **plain)
    assert feature.found
    with pytest.raises(BadInput, match="it has 1 of concept"):
        name_feature(out, "ruler", number=2)
    assert (out / "unnamed" / "concept" / "1" / "images.safetensors").is_file()
    for command in ("report", "check"):
        ended = worlds.cfalign(command, out, folder=tmp_path)
        assert ended.code == 2
        assert "it is a discovery, which concludes nothing about named attributes" in ended.err


def test_where_known_heads_leave_nothing_free_there_is_no_q_and_a_reason() -> None:
    known = WideHeads(np.stack([axis(i) for i in range(28)]), [f"known_{i}" for i in range(28)], "reference")
    (feature,) = discover(images(), audited(0, 29), autoencoder=WideAutoencoder(), reference=known, options=OPTIONS)
    assert 2 < feature.free < 3
    assert np.isnan([feature.p, feature.q]).all()
    assert not feature.found
    (told,) = unnamed.rejected([feature], str)
    assert "no q-value (the reference heads leave 2." in told
    (many,) = features_alone()
    assert many.free == pytest.approx(LATENTS - KNOWN, abs=0.3)
    assert many.reason == ""


def test_discover_refuses_what_an_audit_refuses() -> None:
    known = reference()
    with pytest.raises(BadInput, match="its own reference"):
        discover(images(), known, autoencoder=WideAutoencoder(), reference=known)
    with pytest.raises(BadInput, match="at least 60 images, got 30"):
        discover(images(30), audited(0, HIDDEN), autoencoder=WideAutoencoder(), reference=reference())


def test_images_near_the_border_count_as_neither_kind() -> None:
    spread = np.concatenate([np.linspace(-1.2, -0.8, 30), np.linspace(0.8, 1.2, 30)])
    assert labelled(spread, spread).tolist() == [0] * 30 + [1] * 30
    near = labelled(np.array([-0.5, -0.1, 0.0, 0.1, 0.5]), spread)
    np.testing.assert_array_equal(near, [0, np.nan, np.nan, np.nan, 1])


def test_features_that_were_not_found_have_no_name(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1 of concept"):
        name_feature(run, "ruler", number=2)
    with pytest.raises(BadInput, match="letters or digits"):
        name_feature(run, "?!")
    plain = audited_run(tmp_path / "plain", options=AuditOptions(limit=4))
    with pytest.raises(BadInput, match="sought no unnamed features"):
        name_feature(plain, "ruler")
    none = audited_run(tmp_path / "none", model=audited(0))
    with pytest.raises(BadInput, match="none to name"):
        name_feature(none, "ruler")


def test_joined_heads_are_those_of_their_members() -> None:
    known, other = reference(), audited(0, HIDDEN)
    both = JoinedClassifier([known, other])
    x = images(5)
    assert both.targets == (*known.targets, "concept")
    assert torch.equal(both.logits(x), torch.cat([known.logits(x), other.logits(x)], dim=1))
    assert both.differentiable
    box = black_box(lambda x: x.flatten(1)[:, :1], ["pixel"], version="1")
    assert not JoinedClassifier([known, box]).differentiable
    with pytest.raises(BadInput, match="have a head 'concept'"):
        JoinedClassifier([other, audited(1)])
    with pytest.raises(BadInput, match="at least one"):
        JoinedClassifier([])


def test_examples_of_a_feature_differ_in_it_alone(run: Run) -> None:
    """Both ends of every image, and jittered copies, lie along the feature where their names say."""
    file = run.path / "unnamed" / "concept" / "1" / "images.safetensors"
    material = load_file(file)
    pictures, lines = material["images"], load_file(run.path / "unnamed" / "lines.safetensors")
    assert pictures.shape == (IMAGES, 7, *SHAPE)
    assert pictures.dtype == torch.uint8
    assert len(material["positions"]) == IMAGES
    x = images()
    known = informed(WideAutoencoder(), x).metric
    assert known is not None
    latents = WideAutoencoder().encode(pictures.flatten(0, 1).float() / 255)
    places = known.to(latents).coordinates(latents).numpy() @ lines["directions"][0].numpy()
    low, high = lines["ends"][0].tolist()
    ends = places.reshape(IMAGES, 7)
    wanted = [low, high, low, low, high, high]
    np.testing.assert_allclose(ends[:, 1:].mean(axis=0), wanted, atol=0.2)
    middle = (low + high) / 2
    assert ((ends[:, 1:] > middle) == (np.array(wanted) > middle)).all()


def test_a_judge_learns_from_the_images_of_the_run_as_they_are(tmp_path: Path, monkeypatch: Any) -> None:
    """Of all images, those that were walked for the head and the others; none of them is a walked one."""
    monkeypatch.setattr("cfalign._audit.unnamed.EXAMPLES", 100)
    (feature,) = features_alone(out=tmp_path)
    walked, own = examples_in(Run(tmp_path), feature, "ruler")
    assert (len(walked.images.ids), len(own.images.ids)) == (7 * 100, IMAGES)
    places = pl.read_parquet(tmp_path / "unnamed" / "positions.parquet")
    assert len(places) == IMAGES
    source, x = TensorImages(images()).ids, images()
    wanted = torch.stack([x[source.index(image_id)] for image_id in places["image_id"]])
    np.testing.assert_allclose(own.images.load(range(IMAGES)).images, wanted, atol=0.5 / 255 + 1e-6)
    along = places["concept:1"].to_numpy()
    np.testing.assert_array_equal(own.labels.values[:, 0], labelled(along, along))
    np.testing.assert_array_equal(walked.labels.values[::7, 0], labelled(along, along)[:100])


def test_a_feature_that_few_images_have_gets_no_judge(tmp_path: Path) -> None:
    (feature,) = features_alone(out=tmp_path)
    assert feature.found
    file = tmp_path / "unnamed" / "concept" / "1" / "images.safetensors"
    material = load_file(file)
    places = torch.linspace(-0.1, 0.1, IMAGES, dtype=torch.float64)
    places[:9] = 5.0
    save_file({**material, "positions": places}, file)
    with pytest.raises(BadInput, match=r"^9 images of the run lie at the high end of ruler and 151 at the low one"):
        name_feature(tmp_path, "ruler")
    assert not (tmp_path / "named").exists()


def test_a_weak_head_or_judge_of_a_name_has_a_caution(run: Run) -> None:
    (feature,) = run.unnamed()

    def named(head: float, judge: float) -> NamedFeature:
        seen = [trained(auroc, held_out=17) for auroc in (head, judge)]
        return NamedFeature("ruler", run.path, feature, *seen)

    assert named(0.8, 0.95).caution == ""
    assert named(0.9, 0.79).caution == (
        "Effects of ruler may be rough: the judge has AUROC 0.79 on 17 held-out images. "
        "Name it in a run of more images."
    )
    assert "the head has AUROC nan on 17 held-out images and the judge has" in named(np.nan, 0.5).caution


def trained(auroc: float, held_out: int) -> ClassifierReport:
    """What a training of one head tells."""
    nowhere = Path("nowhere")
    return ClassifierReport(
        nowhere, nowhere, (), auroc, auroc, auroc, {}, 100, held_out, (), "", 2, 0.0, already_finished=False
    )


def test_logits_of_a_name_are_scaled_to_typical_images_of_both_kinds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.repeat([1.0, 0.0, np.nan], [30, 30, 10])
    light = np.where(values == 1, 0.9, 0.1) + 0.05 * rng.standard_normal(70)
    pixels = torch.from_numpy(light).float().clamp(0, 1)[:, None, None, None].expand(70, 3, 16, 16)
    images = TensorImages(pixels.contiguous())
    network = AttributeNetwork(["light"], size=16, widths=(4,), hidden=0).eval()
    torch.nn.init.constant_(network.features[0].weight, 0.1)  # type: ignore[arg-type]
    torch.nn.init.constant_(network.head[-1].weight, 2.0)  # type: ignore[arg-type]
    file = tmp_path / "classifier.safetensors"
    save_weights(file, network, network.config)
    before = load(str(file)).logits(pixels)[:, 0].detach().double().numpy()
    for _ in range(2):  # scaled once more, it stays the same
        scale_logits(file, images, values)
        after = load(str(file)).logits(pixels)[:, 0].detach().double().numpy()
        for kind, score in ((1, 0.95), (0, 0.05)):
            assert np.median(after[values == kind]) == pytest.approx(np.log(score / (1 - score)), abs=1e-3)
    assert (np.argsort(after) == np.argsort(before)).all()
    scale_logits(file, images, 1 - values)  # the wrong way round
    np.testing.assert_array_equal(load(str(file)).logits(pixels)[:, 0].detach().double().numpy(), after)


@pytest.mark.slow
def test_a_named_feature_is_a_reference_like_any_other(tmp_path: Path) -> None:
    """Glasses that no reference head names are found on drawn faces, named, and have their effect in a next audit."""
    import cfalign as cfa

    faces = cfa.synthetic.sample(400, seed=5)
    x = cfa.synthetic.render(faces)
    ref, ae = load("embedded"), cfa.autoencoders.load("embedded")
    keep = ["big_lips", "smiling", "bags_under_eyes", "wearing_lipstick", "young", "narrow_eyes"]
    model = load("embedded:big_lips_from_eyeglasses")
    chosen = AuditOptions(limit=10, shown=1, discovery=DiscoveryOptions(features=1, images=400))
    known = Reference(ref, load("embedded:oracle"))
    first = audit(x, model, autoencoder=ae, reference=known, downstream=keep, options=chosen, out=tmp_path / "run")
    (feature,) = first.unnamed()
    assert feature.found
    named = name_feature(first, "Thick Frames")
    assert named.name == "thick_frames"
    assert named.head.auroc > 0.95
    head_of_it = load(str(named.folder))
    truth = faces.labels()[:, cfa.synthetic.ATTRIBUTES.index("eyeglasses")] > 0.5
    scores = head_of_it.logits(x)[:, 0].detach().numpy()
    order = np.argsort(-scores)
    assert np.asarray(truth)[order[:40]].mean() > 0.9
    again = audit(
        x,
        model,
        autoencoder=ae,
        reference=JoinedClassifier([ref, head_of_it]),
        downstream=[*keep, "thick_frames"],
        options=AuditOptions(limit=40, shown=1),
        out=tmp_path / "again",
    )
    assert again.record()["judges"]["thick_frames"] == "judge:thick_frames"
    effect = again.effects().filter(pl.col("attribute") == "thick_frames").row(0, named=True)
    assert effect["effect"] > 0.3
    assert effect["ci_low"] > 0.1
