"""Passes that memory does not hold are halved: the same numbers as smaller batches, nothing done twice, told once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cfalign as cfa
import worlds
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadModel, ModelWarning
from cfalign._explanation.saliency import attributions
from cfalign._heads.scoring import respond
from cfalign._models.passes import fitted, in_passes, lack_of_memory, sizes_kept

MESSAGE = "CUDA out of memory. Tried to allocate 20.00 GiB"
ON_THE_CPU = (
    "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)
SEEN: list[tuple[str, int]] = []
"""(who, rows) of every pass that was tried."""


class Heads(worlds.LinearHeads):
    """Memory for so many images, and for half of that where a gradient is asked for."""

    def __init__(self, most: int, mixing: Tensor = worlds.MIXING) -> None:
        super().__init__(mixing)
        self.most = most

    def forward(self, images: Tensor) -> Tensor:
        SEEN.append(("gradient" if images.requires_grad else "heads", len(images)))
        if len(images) > self.most // (2 if images.requires_grad else 1):
            raise torch.OutOfMemoryError(MESSAGE)
        return super().forward(images)


class Backwards(torch.autograd.Function):
    """Memory that is missing when the backward pass is made."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: int) -> Tensor:  # type: ignore[override]
        ctx.most = most
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        if len(slope) > ctx.most:
            raise torch.OutOfMemoryError(MESSAGE)
        return slope, None


class HeavyBackwards(worlds.LinearHeads):
    """Memory for every forward pass, and for backward passes of so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = super().forward(Backwards.apply(images, self.most))  # type: ignore[no-untyped-call]
        return found


class Autoencoder(worlds.BentAutoencoder):
    """Memory for so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(self._held(images))

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(self._held(latents))

    def _held(self, rows: Tensor) -> Tensor:
        if len(rows) > self.most:
            raise RuntimeError(ON_THE_CPU)
        return rows


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def heads(module: torch.nn.Module, targets: tuple[str, ...] = worlds.TARGETS, name: str = "heads") -> Any:
    return cfa.classifiers.wrap(module, targets, link="sigmoid", name=name, version="1")


def known(module: torch.nn.Module) -> Any:
    """A classifier that has read its outputs before, which takes passes of its own."""
    made = heads(module)
    made.logits(worlds.images(1).requires_grad_(True))
    SEEN.clear()
    return made


# -- one call ----------------------------------------------------------------------------------------------------------


def sizes(count: int, most: int, *, fits: int, even: bool = False) -> tuple[list[int], list[int]]:
    """Sizes of the passes that were tried, and of those that were made."""
    tried: list[int] = []

    def work(rows: slice) -> tuple[int, ...]:
        here = tuple(range(count))[rows]
        tried.append(len(here))
        if len(here) > fits:
            raise torch.OutOfMemoryError(MESSAGE)
        return here

    parts = in_passes(work, count, most=most, even=even)
    assert [row for part in parts for row in part] == list(range(count))
    return tried, [len(part) for part in parts]


def test_passes_that_fit_are_those_that_were_asked_for() -> None:
    assert sizes(10, 4, fits=4) == ([4, 4, 2], [4, 4, 2])
    assert sizes(10, 4, fits=4, even=True) == ([4, 3, 3], [4, 3, 3])
    assert sizes(0, 4, fits=4) == ([0], [0])


@pytest.mark.parametrize(("count", "most"), [(1, 1), (7, 3), (64, 64), (65, 64), (101, 8), (5, 9)])
def test_even_passes_are_those_of_tensor_split(count: int, most: int) -> None:
    made = [len(part) for part in torch.arange(count).tensor_split(-(-count // most))]
    assert sizes(count, most, fits=most, even=True)[1] == made


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
def test_a_pass_is_halved_and_the_next_ones_begin_with_its_size() -> None:
    assert sizes(20, 16, fits=5) == ([16, 8, 4, 4, 4, 4, 4], [4, 4, 4, 4, 4])
    assert sizes(10, 8, fits=4, even=True) == ([5, 3, 3, 2, 2], [3, 3, 2, 2])


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
def test_what_was_done_before_is_not_done_again() -> None:
    room, tried = [8], []

    def work(rows: slice) -> int:
        tried.append((rows.start, rows.stop))
        if rows.start >= 8:
            room[0] = 3  # another process takes the rest
        if rows.stop - rows.start > room[0]:
            raise RuntimeError(ON_THE_CPU)
        return rows.stop - rows.start

    assert in_passes(work, 14, most=8) == [8, 3, 3]
    assert tried == [(0, 8), (8, 14), (8, 11), (11, 14)]


def test_it_is_told_once_in_a_call_of_many_passes(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(ModelWarning) as told, sizes_kept():
        first, second = sizes(8, 8, fits=2), sizes(8, 8, fits=2)
    assert (first[0][:3], second[0]) == ([8, 4, 2], [2, 2, 2, 2])
    (sentence,) = [str(one.message) for one in told]
    assert sentence.startswith(f"Memory does not hold passes of 8 images (OutOfMemoryError: {MESSAGE}): they are of 2")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", sentence)]


def test_one_image_that_does_not_fit_is_named_with_what_was_tried() -> None:
    with pytest.raises(BadModel, match="tried at once: 5, 3, 2 and 1") as caught:
        sizes(5, 16, fits=0)
    assert MESSAGE in str(caught.value)
    assert "--size" in str(caught.value)
    assert "--device" in str(caught.value)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    net = heads(Heads(0))
    with pytest.raises(BadModel, match=r"Classifier 'heads', given images of shape \[1, 3, 16, 16\], raised OutOfMem"):
        respond(worlds.images(3), [net])


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), BadModel("no"), KeyError("memory")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    def work(rows: slice) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        in_passes(work, 4, most=4)
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(MESSAGE),
        RuntimeError(ON_THE_CPU),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."),
        MemoryError(),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception) -> None:
    around = BadModel("Classifier 'net' raised it.")
    around.__cause__ = error
    assert lack_of_memory(error) is error
    assert lack_of_memory(around) is error


def test_what_the_failed_pass_held_is_free_before_the_next_one() -> None:
    import weakref

    held: list[weakref.ref[Tensor]] = []

    def work(rows: slice) -> bool:
        images = torch.zeros(rows.stop - rows.start, 8)
        alone = all(ref() is None for ref in held)
        held.append(weakref.ref(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError(MESSAGE)
        return alone

    with pytest.warns(ModelWarning):
        assert in_passes(work, 2, most=2) == [True, True]


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
def test_a_least_size_that_does_not_fit_is_left_to_the_caller() -> None:
    def attempt(size: int) -> int:
        if size > 2:
            raise torch.OutOfMemoryError(MESSAGE)
        return size

    assert fitted(attempt, most=16) == 2
    with pytest.raises(torch.OutOfMemoryError):
        fitted(attempt, most=16, least=3)


# -- whole calls -------------------------------------------------------------------------------------------------------


def assert_same(found: cfa.Counterfactuals, wanted: cfa.Counterfactuals) -> None:
    assert found.outcomes == wanted.outcomes
    assert sum(outcome.walked for outcome in found.outcomes) > 5
    np.testing.assert_array_equal(found.evaluations, wanted.evaluations)
    np.testing.assert_allclose(found.base_after, wanted.base_after, atol=1e-6)
    np.testing.assert_allclose(found.lambdas, wanted.lambdas, rtol=1e-4)
    torch.testing.assert_close(found.images, wanted.images, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
@pytest.mark.parametrize("method", ["latent-shift", "iterated", "pixels"])
def test_counterfactuals_are_those_of_a_smaller_batch(method: Any) -> None:
    x = worlds.images(24)
    given: dict[str, Any] = {"method": method, "drop": 0.3}
    wanted = cfa.counterfactuals(
        x, heads(worlds.LinearHeads())["smiling"], autoencoder=worlds.BentAutoencoder(), batch=3, **given
    )
    limited = known(Heads(5))
    found = cfa.counterfactuals(x, limited["smiling"], autoencoder=Autoencoder(5), batch=24, **given)
    assert_same(found, wanted)
    refused = [size for kind, size in SEEN if size > (2 if kind == "gradient" else 5)]
    assert len(refused) <= 6  # 24, 12, 6 and so on, once for each kind, however many steps there are


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
def test_passes_of_counterfactuals_are_counted() -> None:
    limited = known(Heads(5))
    search = SearchOptions(max_evaluations=2, tolerance=1e-9)
    cfa.latent_shift(
        worlds.images(24), limited["smiling"], autoencoder=worlds.LinearAutoencoder(), batch=24, options=search
    )
    gradients = [size for kind, size in SEEN if kind == "gradient"]
    assert gradients == [24, 12, 6, 3, *[2] * 12]
    forwards = [size for kind, size in SEEN if kind == "heads"]
    refused = [size for size in forwards if size > 5]
    assert refused == forwards[: len(refused)]
    assert refused == sorted(refused, reverse=True)
    assert len(refused) > 0


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
@pytest.mark.parametrize("bases", [1, 2])
def test_a_backward_pass_is_halved_with_its_forward_pass(bases: int) -> None:
    from cfalign._counterfactuals.batch import Batch, Models, Pairs
    from cfalign._counterfactuals.origin_gradients import at_origins
    from cfalign._counterfactuals.origins import origins
    from cfalign._heads.panel import weights
    from cfalign._models.guard import undisturbed

    def gradients(module: torch.nn.Module, batch: int) -> tuple[Tensor, Tensor]:
        classifier, autoencoder = heads(module), worlds.BentAutoencoder()
        table = weights([classifier[name] for name in worlds.TARGETS[:bases]], [classifier])
        image = torch.arange(8).repeat_interleave(bases)
        pairs = Pairs(image, table[torch.arange(bases).repeat(8)])
        with undisturbed(autoencoder, classifier):
            start = origins(worlds.images(8), autoencoder, search=SearchOptions())
            return at_origins(Batch(start, pairs, Models(autoencoder, [classifier], batch)))

    for one, other in zip(gradients(HeavyBackwards(3), 8), gradients(worlds.LinearHeads(), 2), strict=True):
        assert one.abs().min() > 0
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
def test_saliency_maps_are_those_of_a_smaller_batch() -> None:
    pytest.importorskip("captum", reason="captum is not installed")
    x = worlds.images(6)
    wanted = attributions(x, heads(worlds.LinearHeads())["smiling"], batch=2)
    found = attributions(x, known(Heads(4))["smiling"], batch=6)
    for method, maps in wanted.items():
        torch.testing.assert_close(found[method], maps, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::cfalign._errors.ModelWarning")
@pytest.mark.parametrize("kind", ["audit", "bank"])
def test_a_run_has_the_numbers_of_a_smaller_batch(kind: str, tmp_path: Path) -> None:
    def made(name: str, reference: Any, autoencoder: Any, batch: int) -> cfa.Run:
        options = cfa.AuditOptions(limit=12, chunk=16, batch=batch)
        given: dict[str, Any] = {"autoencoder": autoencoder, "options": options}
        if kind == "audit":
            audited = heads(worlds.LinearHeads(worlds.SHORTCUT), ("friendly",), "audited")
            return cfa.audit(worlds.images(48), audited, reference=reference, out=tmp_path / name, **given)
        bank = cfa.bank(worlds.images(48), reference, out=tmp_path / f"{name}-bank", **given)
        return cfa.audit(bank, worlds.torch_box(), out=tmp_path / name)

    wanted = made("small", heads(worlds.LinearHeads()), worlds.BentAutoencoder(), 3)
    found = made("halved", heads(Heads(5)), Autoencoder(5), 16)
    ours, theirs = found.effects(), wanted.effects()
    names = ["audited", "attribute", "n"]
    assert len(ours) > 2
    assert ours.select(names).equals(theirs.select(names))
    np.testing.assert_allclose(ours["effect"], theirs["effect"], atol=2e-3 if kind == "bank" else 1e-5)


def test_an_audit_tells_it_by_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = cfa.AuditOptions(limit=12, chunk=16, batch=16)
    with caplog.at_level(logging.WARNING, logger="cfalign"), pytest.warns(ModelWarning, match="Memory does not hold"):
        cfa.audit(
            worlds.images(48), heads(Heads(9)), autoencoder=worlds.LinearAutoencoder(), options=options, out=tmp_path
        )
    said = [record.getMessage() for record in caplog.records if "Memory does not hold" in record.getMessage()]
    assert len(said) == len(set(said)) == 2, said
    assert any("passes of 16 images" in text and "of 8 from here on" in text for text in said)
    assert any("passes with a gradient of" in text for text in said)
