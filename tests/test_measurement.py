"""One chunk measured: scores, walks, controls, and what they cost, whatever the batches and pools are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfalign._audit import measurement
from cfalign._audit.choosing import examined
from cfalign._audit.measurement import Base, ScoredEnds, WalkSettings, look, walk_all
from cfalign._counterfactuals.batch import Batch, Models, Pairs
from cfalign._counterfactuals.methods import latent_shift
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origin_gradients import at_origins
from cfalign._counterfactuals.origins import origins
from cfalign._heads.panel import Panel, panel, weights
from cfalign._results import Outcome
from linear_world import LinearAutoencoder, LinearClassifier, directions, linear_images

ONE = LinearClassifier(directions(3, overlap=0.3), (0.6, 0.2, -0.1), ("a", "b", "c"), name="one")
TWO = LinearClassifier(directions(2, overlap=-0.2), (0.3, 0.1), ("d", "e"), name="two")
PANEL = panel([ONE["a"], ONE["b"], ONE["c"]], [("two", TWO["d"]), ("both", TWO["e"] + 0.3 * ONE["a"])])
BASES = ("a", "d", "e + 0.3*a")
IMAGES = linear_images(20)
IDS = tuple(f"folder/{i:03d}.png" for i in range(20))
PAIRS = [(i, b) for b in range(3) for i in range(20)]


class Counting(LinearAutoencoder):
    """Counts images, not calls."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded, self.decoded, self.with_gradient = 0, 0, 0

    def encode(self, images: Tensor, /) -> Tensor:
        self.encoded += len(images)
        return super().encode(images)

    def decode(self, latents: Tensor, /) -> Tensor:
        self.decoded += len(latents)
        self.with_gradient += len(latents) * latents.requires_grad
        return super().decode(latents)


def walked(
    chosen: Sequence[tuple[int, int]] = PAIRS,
    *,
    images: Tensor = IMAGES,
    table: Panel = PANEL,
    ids: Sequence[str] = IDS,
    autoencoder: Any = None,
    seed: int = 0,
    batch: int = 64,
    search: SearchOptions | None = None,
    attributes: Sequence[str] = (),
    names: Sequence[str] = BASES,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Every pair's fields by (image_id, base)."""
    autoencoder = autoencoder or LinearAutoencoder()
    settings = WalkSettings(search or SearchOptions(), seed=seed, batch=batch)
    seen = look(images, table, autoencoder=autoencoder, search=settings.search, batch=batch)
    bases = [Base(b, table[b], "both" if b in attributes else "drop") for b in names]
    pools = list(
        walk_all(seen, chosen, panel=table, bases=bases, image_ids=ids, autoencoder=autoencoder, settings=settings)
    )
    out = {}
    for pool in pools:
        point = pool.counterfactual
        assert len(pool) == len(point.ends) == len(point.ends.images) == len(pool.controls.images)
        for row in range(len(pool)):
            key = (ids[pool.image[row]], names[pool.base[row]])
            assert key not in out
            plain = ("outcomes", "lambdas", "evaluations", "image_change")
            out[key] = {name: getattr(point.ends, name)[row] for name in plain}
            out[key] |= _row(point, row)
            out[key]["off"] = None if pool.off is None else _row(pool.off, row)
            out[key] |= {"control_scores": pool.controls.scores[row], "controls": pool.controls.images[row]}
            out[key]["further_evaluations"] = pool.further_evaluations[row]
            out[key]["pool"] = len(pool)
    return out


def _row(end: ScoredEnds, row: int) -> dict[str, Any]:
    """One pair of an end."""
    return {"scores": end.scores[row], "distances": end.ends.distances[row], "images": end.ends.images[row]}


def test_a_chunk_is_scored_before_and_after_the_autoencoder() -> None:
    seen = look(IMAGES, PANEL, autoencoder=LinearAutoencoder(), search=SearchOptions(residual="dropped"), batch=7)
    ae = LinearAutoencoder()
    x0 = ae.decode(ae.encode(IMAGES))
    torch.testing.assert_close(seen.reconstructions, x0)
    torch.testing.assert_close(seen.origins.latents, ae.encode(IMAGES))
    for scores, x in ((seen.image_scores, IMAGES), (seen.reconstruction_scores, x0)):
        one, two = torch.sigmoid(ONE.logits(x)).detach(), torch.sigmoid(TWO.logits(x)).detach()
        expected = torch.stack([*one.T, two[:, 0], two[:, 1] + 0.3 * one[:, 0]], dim=1)
        np.testing.assert_allclose(scores, expected.numpy(), atol=1e-12)


def test_a_head_that_is_nan_for_some_images_is_no_error() -> None:
    images = IMAGES.clone()
    images[3] = torch.nan
    seen = look(images, PANEL, autoencoder=LinearAutoencoder(), search=SearchOptions(residual="dropped"))
    assert np.isnan(seen.image_scores[3]).all()
    assert np.isfinite(np.delete(seen.image_scores, 3, axis=0)).all()


@pytest.mark.parametrize("base", range(3))
def test_every_pair_is_what_latent_shift_makes_of_it(base: int) -> None:
    found = latent_shift(IMAGES, PANEL[BASES[base]], autoencoder=LinearAutoencoder())
    ours = walked()
    for i, image_id in enumerate(IDS):
        pair = ours[image_id, BASES[base]]
        assert pair["outcomes"] is found.outcomes[i]
        assert pair["evaluations"] == found.evaluations[i]
        for name, expected in (("lambdas", found.lambdas), ("distances", found.distances)):
            assert pair[name] == pytest.approx(expected[i], nan_ok=True)
        assert pair["image_change"] == pytest.approx(found.image_change[i])
        torch.testing.assert_close(pair["images"], found.images[i], atol=1e-10, rtol=0)


def test_responses_are_the_scores_of_the_images_that_are_kept() -> None:
    made = 0
    for pair in walked().values():
        for scores, image in (("scores", "images"), ("control_scores", "controls")):
            logits = torch.cat([c.logits(pair[image][None]) for c in (ONE, TWO)], dim=1)
            expected = PANEL.scores(logits)[0]
            if pair["outcomes"].walked:
                np.testing.assert_allclose(pair[scores], expected, atol=1e-12)
                made += 1
            else:
                assert np.isnan(pair[scores]).all()
    assert 20 < made < 2 * len(PAIRS)


def test_the_control_goes_as_far_in_another_direction() -> None:
    ae = LinearAutoencoder()
    start = ae.encode(IMAGES)
    towards = []
    for (image_id, _), pair in walked().items():
        z0 = start[IDS.index(image_id)]
        if pair["controls"].min() <= 0 or pair["controls"].max() >= 1:
            continue  # clipped: the latent cannot be read back
        moved = ae.encode(pair["controls"][None])[0] - z0
        assert moved.norm().item() == pytest.approx(pair["distances"], abs=1e-9)
        if pair["distances"] > 0:
            shift = ae.encode(pair["images"][None])[0] - z0
            towards.append((moved @ shift / moved.norm() / shift.norm()).item())
    assert len(towards) > 20
    assert abs(np.mean(towards)) < 0.15
    assert np.std(towards) == pytest.approx(1 / np.sqrt(8), abs=0.1)
    assert len({round(t, 9) for t in towards}) == len(towards)


def test_the_control_depends_on_seed_image_and_base_alone() -> None:
    whole = walked()
    some = walked([(5, 0), (2, 1), (2, 0)], batch=2)
    for key, pair in some.items():
        torch.testing.assert_close(pair["controls"], whole[key]["controls"], atol=1e-10, rtol=0)
    order = torch.tensor([2, 0, 1])
    turned = walked([(0, 0)], images=IMAGES[order], ids=[IDS[i] for i in order])
    torch.testing.assert_close(turned[IDS[2], "a"]["controls"], whole[IDS[2], "a"]["controls"], atol=1e-10, rtol=0)
    other = walked([(5, 0)], seed=1)
    assert not torch.allclose(other[IDS[5], "a"]["controls"], whole[IDS[5], "a"]["controls"])


@pytest.mark.parametrize(("batch", "pool_bytes"), [(1, 1), (3, 1), (7, 4 * 48 * 9), (64, 2**27)])
def test_batches_and_pools_do_not_matter(batch: int, pool_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = walked()
    monkeypatch.setattr(measurement, "POOL_BYTES", pool_bytes)
    parts = walked(PAIRS[::-1], batch=batch)
    assert set(parts) == set(whole)
    assert max(pair["pool"] for pair in parts.values()) <= max(batch, pool_bytes // (4 * 48))
    for key, pair in parts.items():
        assert pair["outcomes"] is whole[key]["outcomes"]
        np.testing.assert_allclose(pair["scores"], whole[key]["scores"], atol=1e-9)
        np.testing.assert_allclose(pair["control_scores"], whole[key]["control_scores"], atol=1e-9)


def test_a_pool_holds_bases_that_need_the_same_modules() -> None:
    called: list[int] = []

    class Watched(LinearClassifier):
        def logits(self, images: Tensor, /) -> Tensor:
            called.append(len(images) * images.requires_grad)
            return super().logits(images)

    watched = Watched(directions(2, overlap=0.0), (0.0, 0.0), ("d", "e"), name="two")
    table = panel([ONE["a"], ONE["b"], ONE["c"]], [("two", watched["d"]), ("both", watched["e"] + 0.3 * ONE["a"])])
    walked([(i, 0) for i in range(20)], table=table)
    assert not any(called)
    walked([(i, 1) for i in range(20)], table=table)
    assert sum(called) == 20


def test_what_it_costs() -> None:
    """Per image one encode and one decode; per pair one decode with gradient, k for the search, one for the control."""
    counting = Counting()
    found = walked(autoencoder=counting)
    spent = sum(int(pair["evaluations"]) for pair in found.values())
    assert counting.encoded == 20
    assert counting.with_gradient == len(PAIRS)
    assert counting.decoded == 20 + len(PAIRS) + spent + len(PAIRS)
    assert spent <= 2 * len(PAIRS)


def test_pairs_without_a_counterfactual_keep_their_reconstruction() -> None:
    ae = LinearAutoencoder()
    x0 = ae.decode(ae.encode(IMAGES))
    found = walked(search=SearchOptions(eligible=0.8))
    left = {key: pair for key, pair in found.items() if pair["outcomes"] is Outcome.NOT_ELIGIBLE}
    assert len(left) > 10
    for (image_id, _), pair in left.items():
        assert np.isnan(pair["lambdas"])
        assert pair["distances"] == 0
        for name in ("images", "controls"):
            torch.testing.assert_close(pair[name], x0[IDS.index(image_id)])


@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=12),
    st.lists(st.integers(0, 6), min_size=3, max_size=3),
)
def test_images_are_examined_in_order_until_a_base_has_enough(eligible: list[list[bool]], wanted: list[int]) -> None:
    table = np.array(eligible)
    found = examined(table, wanted)
    for base in range(3):
        have = 0
        for image in range(len(table)):
            assert found[image, base] == (have < wanted[base])
            have += table[image, base]
        assert (found[:, base] & table[:, base]).sum() == min(wanted[base], table[:, base].sum())


def test_the_settings_are_those_of_the_search() -> None:
    small = walked(search=SearchOptions(drop=0.2))
    drops = []
    ae = LinearAutoencoder()
    before = torch.sigmoid(ONE.logits(ae.decode(ae.encode(IMAGES))))[:, 0].detach().numpy()
    for i, image_id in enumerate(IDS):
        pair = small[image_id, "a"]
        if pair["outcomes"] is Outcome.REACHED:
            drops.append(before[i] - pair["scores"][0])
    assert len(drops) > 5
    np.testing.assert_allclose(drops, 0.2, atol=1e-6)


# --- switched off -------------------------------------------------------------------------------------------


def start_scores(column: int) -> Any:
    ae = LinearAutoencoder()
    return PANEL.scores(torch.cat([c.logits(ae.decode(ae.encode(IMAGES))) for c in (ONE, TWO)], dim=1))[:, column]


def test_attributes_are_walked_on_along_the_same_ray() -> None:
    ae = LinearAutoencoder()
    found, z0 = walked(attributes=("a",)), ae.encode(IMAGES)
    start, further = start_scores(0), 0
    for i, image_id in enumerate(IDS):
        pair = found[image_id, "a"]
        off = pair["off"]
        if not pair["outcomes"].walked:
            assert off["distances"] == 0
            assert np.isnan(off["scores"]).all()
            continue
        assert off["scores"][0] == pytest.approx(max(start[i] - 0.85, 0.05), abs=0.03)
        assert off["distances"] >= pair["distances"] - 1e-9
        one, other = (ae.encode(x[None])[0] - z0[i] for x in (pair["images"], off["images"]))
        if min(off["images"].min(), 1 - off["images"].max()) > 0 and pair["distances"] > 0:
            assert (one @ other / one.norm() / other.norm()).item() == pytest.approx(1.0)
            further += off["distances"] > pair["distances"] + 0.01
        moved = ae.encode(pair["controls"][None])[0] - z0[i]
        if min(pair["controls"].min(), 1 - pair["controls"].max()) > 0:
            assert moved.norm().item() == pytest.approx(off["distances"], abs=1e-9)
        logits = torch.cat([c.logits(off["images"][None]) for c in (ONE, TWO)], dim=1)
        np.testing.assert_allclose(off["scores"], PANEL.scores(logits)[0], atol=1e-12)
    assert further > 3


def test_walking_on_leaves_the_counterfactual_as_it_is() -> None:
    plain, more = walked(), walked(attributes=("a", "d"))
    for key, pair in more.items():
        assert (pair["off"] is None) == (key[1] not in ("a", "d"))
        assert pair["outcomes"] is plain[key]["outcomes"]
        assert pair["evaluations"] == plain[key]["evaluations"]
        np.testing.assert_allclose(pair["scores"], plain[key]["scores"], atol=1e-9)


def test_the_null_of_the_nearer_end_lies_on_the_line_to_the_control() -> None:
    ae, settings = LinearAutoencoder(), WalkSettings(SearchOptions())
    seen = look(IMAGES, PANEL, autoencoder=ae, search=SearchOptions(residual="dropped"))
    bases = (Base("a", PANEL["a"], "both"),)
    chosen = [(i, 0) for i in range(len(IMAGES))]
    (pool,) = walk_all(seen, chosen, panel=PANEL, bases=bases, image_ids=IDS, autoencoder=ae, settings=settings)
    assert pool.further is not None
    before, control = seen.reconstruction_scores[pool.image], pool.controls.scores
    near, far = pool.counterfactual.ends, pool.further.ends
    walked = near.walked & (far.distances > near.distances)
    share = (near.distances[walked] / far.distances[walked])[:, None]
    expected = before[walked] + share * (control[walked] - before[walked])
    assert walked.sum() > 3
    np.testing.assert_allclose(pool.null(pool.counterfactual, before)[walked], expected, atol=1e-12)
    np.testing.assert_allclose(pool.null(pool.further, before)[walked], control[walked], atol=1e-12)
    assert np.isnan(pool.null(pool.counterfactual, before)[~near.walked]).all()


def test_what_walking_on_costs() -> None:
    """On a straight ray the drop seen so far predicts where it ends: one more decode; both ends have one control."""
    counting = Counting()
    found = walked([(i, 0) for i in range(20)], attributes=("a",), autoencoder=counting)
    spent = sum(int(pair["evaluations"] + pair["further_evaluations"]) for pair in found.values())
    assert counting.with_gradient == 20
    assert counting.decoded == 20 + 20 + spent + 20
    assert max(pair["further_evaluations"] for pair in found.values()) == 1


def test_the_schedule_is_walked_on_by_the_refined_search() -> None:
    found = walked(attributes=("a",), search=SearchOptions(strategy="schedule", max_image_change=1.0))
    start = start_scores(0)
    for i, image_id in enumerate(IDS):
        pair = found[image_id, "a"]
        if pair["outcomes"].walked:
            assert pair["off"]["scores"][0] == pytest.approx(max(start[i] - 0.85, 0.05), abs=0.03)


def test_a_base_beside_an_attribute_of_the_same_module_is_not_walked_on() -> None:
    ae = LinearAutoencoder()
    seen = look(IMAGES, PANEL, autoencoder=ae, search=SearchOptions(residual="dropped"))
    pools = list(
        walk_all(
            seen,
            [(i, b) for i in range(4) for b in (0, 1)],
            panel=PANEL,
            bases=(Base("a", PANEL["a"]), Base("b", PANEL["b"], "both")),
            image_ids=IDS,
            autoencoder=ae,
            settings=WalkSettings(SearchOptions()),
        )
    )
    assert sorted((*set(pool.base.tolist()), pool.off is None) for pool in pools) == [(0, True), (1, False)]


def test_an_image_is_decoded_at_z0_once_for_all_of_its_bases() -> None:
    counting, table = Counting(), panel([ONE["a"], ONE["b"], ONE["c"]], [])
    found = walked(autoencoder=counting, table=table, names=ONE.targets)
    assert len(found) == 60
    assert counting.with_gradient == 20
    for (image, base), pair in list(found.items())[::7]:
        one = (IDS.index(image), ONE.targets.index(base))
        alone = walked([one], table=table, names=ONE.targets)[image, base]
        np.testing.assert_allclose(pair["distances"], alone["distances"], rtol=1e-9)
        torch.testing.assert_close(pair["images"], alone["images"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("batch", [1, 3, 7, 64])
def test_gradients_at_z0_are_those_of_every_pair_alone(batch: int) -> None:
    """Images with one to three bases, in blocks whose layers are full, half empty and nearly empty."""
    rng = np.random.default_rng(batch)
    chosen = [(i, b) for b in range(3) for i in range(20) if rng.random() < (1.0, 0.6, 0.1)[b]]
    image, base = np.array(chosen).T
    table = weights([ONE["abc"[b]] for b in base], (ONE,))
    start = origins(IMAGES, LinearAutoencoder(), search=SearchOptions(residual="dropped"))
    made = Batch(start, Pairs(torch.from_numpy(image), table), Models(LinearAutoencoder(), (ONE,), batch))
    values, gradients = at_origins(made)
    for row in range(len(chosen)):
        seen = made.evaluate(np.array([row]), made.origin[row : row + 1], gradient=True)
        torch.testing.assert_close(values[row], seen.values[0].double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(gradients[row], seen.gradients[0], atol=1e-9, rtol=0)


def test_classifiers_that_the_search_asked_do_not_score_its_ends_again() -> None:
    asked: list[int] = []

    class Counted(LinearClassifier):
        def logits(self, images: Tensor, /) -> Tensor:
            asked.append(len(images))
            return super().logits(images)

    counted = Counted(directions(3, overlap=0.0), (0.0, 0.0, 0.0), ("a", "b", "c"), name="counted")
    table = panel([counted["a"], counted["b"], counted["c"]], [])
    found = walked([(i, 0) for i in range(20)], table=table, names=counted.targets)
    spent = sum(int(pair["evaluations"]) for pair in found.values())
    assert sum(asked) == 20 + 20 + 20 + spent + 20  # x, x0, the gradient, the search, the controls
    made = [pair for pair in found.values() if pair["outcomes"].walked]
    assert len(made) > 5
    for pair in made:
        np.testing.assert_allclose(pair["scores"], table.scores(counted.logits(pair["images"][None]))[0], atol=1e-9)
