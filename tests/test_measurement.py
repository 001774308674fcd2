"""One chunk measured: scores, walks, controls, and what they cost, whatever the batches and pools are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cfalign import measurement
from cfalign.composition import Panel, panel
from cfalign.errors import BadModel
from cfalign.latent_shift import latent_shift
from cfalign.measurement import Walked, WalkSettings, examined, look, walk_all
from cfalign.results import Outcome
from cfalign.search import SearchOptions
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
) -> dict[tuple[str, str], dict[str, Any]]:
    """Every pair's fields by (image_id, base)."""
    autoencoder = autoencoder or LinearAutoencoder()
    seen = look(images, table, autoencoder=autoencoder, batch=batch)
    settings = WalkSettings(search=search or SearchOptions(), seed=seed, batch=batch)
    pools = list(
        walk_all(
            seen, chosen, panel=table, bases=BASES, image_ids=ids, autoencoder=autoencoder, settings=settings
        )
    )  # fmt: skip
    out = {}
    for pool in pools:
        assert len(pool) == len(pool.outcomes) == len(pool.counterfactuals) == len(pool.nulls)
        for row in range(len(pool)):
            key = (ids[pool.image[row]], BASES[pool.base[row]])
            assert key not in out
            out[key] = {f.name: getattr(pool, f.name)[row] for f in fields(Walked)}
            out[key]["pool"] = len(pool)
    return out


def test_a_chunk_is_scored_before_and_after_the_autoencoder() -> None:
    seen = look(IMAGES, PANEL, autoencoder=LinearAutoencoder(), batch=7)
    ae = LinearAutoencoder()
    x0 = ae.decode(ae.encode(IMAGES))
    torch.testing.assert_close(seen.reconstructions, x0)
    torch.testing.assert_close(seen.latents, ae.encode(IMAGES))
    for scores, x in ((seen.image_scores, IMAGES), (seen.reconstruction_scores, x0)):
        one, two = torch.sigmoid(ONE.logits(x)).detach(), torch.sigmoid(TWO.logits(x)).detach()
        expected = torch.stack([*one.T, two[:, 0], two[:, 1] + 0.3 * one[:, 0]], dim=1)
        np.testing.assert_allclose(scores, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_head_that_is_never_finite_is_named(broken: float) -> None:
    class Bad(LinearClassifier):
        def logits(self, images: Tensor, /) -> Tensor:
            return super().logits(images) + torch.tensor([0.0, torch.nan])

    bad = Bad(directions(2, overlap=0.0), (0.0, 0.0), ("good", "bad"))
    with pytest.raises(BadModel, match=r"'bad' returned NaN or infinity for all of 4 images"):
        look(linear_images(4), panel([bad["good"], bad["bad"]], []), autoencoder=LinearAutoencoder())


def test_a_head_that_is_nan_for_some_images_is_no_error() -> None:
    images = IMAGES.clone()
    images[3] = torch.nan
    seen = look(images, PANEL, autoencoder=LinearAutoencoder())
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
        torch.testing.assert_close(pair["counterfactuals"], found.images[i], atol=1e-10, rtol=0)


def test_responses_are_the_scores_of_the_images_that_are_kept() -> None:
    made = 0
    for pair in walked().values():
        for scores, image in (("after", "counterfactuals"), ("null", "nulls")):
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
        if pair["nulls"].min() <= 0 or pair["nulls"].max() >= 1:
            continue  # clipped: the latent cannot be read back
        moved = ae.encode(pair["nulls"][None])[0] - z0
        assert moved.norm().item() == pytest.approx(pair["distances"], abs=1e-9)
        if pair["distances"] > 0:
            shift = ae.encode(pair["counterfactuals"][None])[0] - z0
            towards.append((moved @ shift / moved.norm() / shift.norm()).item())
    assert len(towards) > 20
    assert abs(np.mean(towards)) < 0.15
    assert np.std(towards) == pytest.approx(1 / np.sqrt(8), abs=0.1)
    assert len({round(t, 9) for t in towards}) == len(towards)


def test_the_control_depends_on_seed_image_and_base_alone() -> None:
    whole = walked()
    some = walked([(5, 0), (2, 1), (2, 0)], batch=2)
    for key, pair in some.items():
        torch.testing.assert_close(pair["nulls"], whole[key]["nulls"], atol=1e-10, rtol=0)
    order = torch.tensor([2, 0, 1])
    turned = walked([(0, 0)], images=IMAGES[order], ids=[IDS[i] for i in order])
    torch.testing.assert_close(turned[IDS[2], "a"]["nulls"], whole[IDS[2], "a"]["nulls"], atol=1e-10, rtol=0)
    other = walked([(5, 0)], seed=1)
    assert not torch.allclose(other[IDS[5], "a"]["nulls"], whole[IDS[5], "a"]["nulls"])


@pytest.mark.parametrize(("batch", "pool_bytes"), [(1, 1), (3, 1), (7, 4 * 48 * 9), (64, 2**27)])
def test_batches_and_pools_do_not_matter(batch: int, pool_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = walked()
    monkeypatch.setattr(measurement, "POOL_BYTES", pool_bytes)
    parts = walked(PAIRS[::-1], batch=batch)
    assert set(parts) == set(whole)
    assert max(pair["pool"] for pair in parts.values()) <= max(batch, pool_bytes // (4 * 48))
    for key, pair in parts.items():
        assert pair["outcomes"] is whole[key]["outcomes"]
        np.testing.assert_allclose(pair["after"], whole[key]["after"], atol=1e-9)
        np.testing.assert_allclose(pair["null"], whole[key]["null"], atol=1e-9)


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
        for name in ("counterfactuals", "nulls"):
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
            drops.append(before[i] - pair["after"][0])
    assert len(drops) > 5
    np.testing.assert_allclose(drops, 0.2, atol=1e-6)
