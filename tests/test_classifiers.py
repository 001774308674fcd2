"""Classifiers: links, resizing, normalising, black boxes, and what breaks the contract."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import worlds
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition
from cfalign._heads.scoring import logits
from cfalign._models.weights import save_weights
from cfalign._types import Classifier
from cfalign.classifiers import Preprocessing, black_box, load, planted, wrap
from cfalign.classifiers.attribute_network import AttributeNetwork
from cfalign.classifiers.wrapped_classifier import as_logits


class Pooled(nn.Module):
    """Fixed linear map of the mean colour, [n, outputs]."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(3, outputs)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return self.linear(images.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def images(n: int = 5, size: int = 16) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


# -- links ------------------------------------------------------------------------------------------------------------


def test_every_link_gives_the_logit_of_the_probability() -> None:
    module, x = Pooled(), images()
    out = module(x)
    sigmoid = wrap(module, ["a", "b", "c"]).logits(x)
    assert torch.equal(sigmoid, out)
    softmax = wrap(module, ["a", "b", "c"], link="softmax").logits(x)
    torch.testing.assert_close(torch.sigmoid(softmax), torch.softmax(out, dim=1))
    probability = wrap(nn.Sequential(module, nn.Sigmoid()), ["a", "b", "c"], link="probability").logits(x)
    torch.testing.assert_close(probability, out, atol=1e-4, rtol=1e-4)


def test_softmax_stays_finite_where_probabilities_do_not() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, 500.0, -300.0]]).expand(len(images), -1) + 0 * images.sum()

    x = images().requires_grad_(True)
    logits = wrap(Sure(), ["a", "b", "c"], link="softmax").logits(x)
    assert torch.isfinite(logits).all()
    assert logits[0].tolist() == [-500.0, 500.0, -800.0]
    logits.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_softmax_of_many_classes() -> None:
    drawn = 8 * torch.randn(4, 21_843, generator=torch.Generator().manual_seed(0))
    drawn[0, 7] = 60.0
    p = drawn.double().softmax(dim=1)
    got = as_logits(drawn, "softmax").double()
    torch.testing.assert_close(torch.sigmoid(got), p, atol=1e-6, rtol=1e-4)
    few = torch.tensor([[3.0, 3.0], [0.5, -40.0]], requires_grad=True)
    torch.testing.assert_close(
        as_logits(few, "softmax"), torch.stack([few[:, 0] - few[:, 1], few[:, 1] - few[:, 0]], 1)
    )
    as_logits(few, "softmax")[:, 0].sum().backward()
    torch.testing.assert_close(few.grad, torch.tensor([[1.0, -1.0], [1.0, -1.0]]))


def test_resizing_and_normalising_are_differentiable_and_done_before_the_module() -> None:
    module, x = Pooled(), images(size=16).requires_grad_(True)
    wrapped = wrap(module, ["a", "b", "c"], normalize=([0.5, 0.4, 0.3], [0.2, 0.1, 0.4]), size=8)
    out = wrapped.logits(x)
    assert module.seen[-1] == (5, 3, 8, 8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.1, 0.4]).view(3, 1, 1)
    small = functional.interpolate(x, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(out, module((small - mean) / std))
    out.sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).any(dim=(1, 2, 3)).all()
    module.seen.clear()
    wrapped.logits(images(size=4))
    assert module.seen == [(5, 3, 8, 8)], "smaller images are enlarged"


def test_one_output_may_come_without_its_axis() -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3))

    assert wrap(Flat(), ["a"]).logits(images()).shape == (5, 1)


# -- names ------------------------------------------------------------------------------------------------------------


def test_targets_become_snake_case() -> None:
    wrapped = wrap(Pooled(), ["5_o_Clock Shadow", "Big-Nose", " Young "])
    assert wrapped.targets == ("5_o_clock_shadow", "big_nose", "young")
    assert isinstance(wrapped, Classifier)
    assert isinstance(wrapped["young"], Composition)
    assert wrapped.compose("young - 0.5*big_nose").name == "young - 0.5*big_nose"
    with pytest.raises(BadInput, match="nearest valid: young"):
        wrapped["yong"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"targets": []}, "at least one name"),
        ({"targets": "smiling"}, "list of at least one name"),
        ({"targets": ["Big Nose", "big_nose", "x"]}, "Two targets are called 'big_nose'"),
        ({"targets": ["a", "!!", "b"]}, "no letters or digits"),
        ({"link": "softmax", "targets": ["a"]}, "at least two targets"),
        ({"normalize": ([0.5, 0.5], [0.5])}, "as many means as stds"),
        ({"normalize": ([0.5], [0.0])}, "stds above 0"),
    ],
)
def test_what_cannot_be_wrapped(given: dict[str, Any], sentence: str) -> None:
    whole = {"module": Pooled(), "targets": ["a", "b", "c"], **given}
    module, targets = whole.pop("module"), whole.pop("targets")
    with pytest.raises(BadInput, match=sentence):
        wrap(module, targets, **whole)


# -- contracts --------------------------------------------------------------------------------------------------------


class Answers(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(images)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x.mean((2, 3)).T, r"\[3, 5\] for 5 images; expected \[5, 3\]"),
        (lambda x: x.mean((2, 3)).flatten(), r"shape \[15\]"),
        (lambda x: x.mean((2, 3))[:, :2], r"shape \[5, 2\]"),
        (lambda x: (x,), "returned tuple .* its logits alone"),
        (lambda x: x @ x.mean(), "raised RuntimeError: "),
    ],
)
def test_answers_of_another_shape(answer: Any, sentence: str) -> None:
    with pytest.raises(BadModel, match=sentence):
        wrap(Answers(answer), ["a", "b", "c"], name="mine").logits(images())


def negative(outputs: int) -> Pooled:
    """Its answers are certainly logits."""
    module = Pooled(outputs)
    nn.init.constant_(module.linear.bias, -5.0)
    return module


class Cut(nn.Module):
    """Rests on its images, but where it is cut no gradient flows to them."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.pooled, self.cut = negative(1), cut

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.pooled(x)
        return answer.detach() + self.pooled.linear.bias * 0 if self.cut else answer


def test_a_network_that_lets_no_gradient_through_is_refused_where_one_is_needed() -> None:
    """Beside another one, whose gradient would hide that this one has none."""
    cut, whole = wrap(Cut(True), ["a"], name="cut"), wrap(Cut(False), ["b"], name="whole")
    assert logits(images(), [whole, cut]).shape == (5, 2), "without gradients it answers"
    x = images().requires_grad_()
    with pytest.raises(BadModel, match=r"No gradient flows through classifier 'cut': .* wrap it by black_box\(\)"):
        logits(x, [whole, cut])
    assert torch.autograd.grad(logits(x, [whole]).sum(), x)[0].abs().max() > 0


def test_a_quantised_network_says_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        module = torch.ao.quantization.quantize_dynamic(negative(2).eval(), {nn.Linear}, dtype=torch.qint8)
    clf = wrap(module, ["a", "b"], name="small")
    torch.testing.assert_close(clf.logits(images()), module(images()))
    with pytest.raises(BadModel, match="No gradient flows through classifier 'small': it is quantised"):
        clf.logits(images().requires_grad_())


@pytest.mark.parametrize("kind", ["lazy", "meta"])
def test_a_network_without_values_is_refused(kind: str) -> None:
    def made() -> nn.Module:
        if kind == "lazy":
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
        return nn.Sequential(nn.Flatten(), nn.Linear(768, 2, device="meta"))

    with pytest.raises(BadModel, match=r"Classifier 'empty' has no values in '1\.weight' yet; load its weights"):
        wrap(made(), ["a", "b"], name="empty").logits(images())


def test_a_module_that_takes_other_images_is_told_how_to_say_so() -> None:
    sentence = r"expected input\[.*\] to have 1 channels, but got 3 .*; if it takes other images, say so by size,"
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(BadModel, match=sentence):
        wrap(module, ["a", "b"]).logits(images())
    assert wrap(module, ["a", "b"], prepare=Preprocessing(grey=True)).logits(images()).shape == (5, 2)


def test_images_of_another_number_of_channels() -> None:
    with pytest.raises(BadModel, match="takes images of 3 channels, but these have 1"):
        wrap(Pooled(), ["a", "b", "c"], normalize=([0.5] * 3, [0.5] * 3)).logits(images()[:, :1])


# -- black boxes ------------------------------------------------------------------------------------------------------


def test_black_boxes_of_torch_and_numpy_agree() -> None:
    x = images()
    ours = black_box(lambda x: x.mean(dim=(2, 3)), ["a", "b", "c"]).logits(x)
    theirs = black_box(lambda x: x.mean(axis=(2, 3)).astype(np.float64), ["a", "b", "c"], numpy=True).logits(x)
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.sigmoid(ours), x.mean(dim=(2, 3)))
    lists = black_box(lambda x: x.mean(axis=(2, 3)).tolist(), ["a", "b", "c"], numpy=True).logits(x)
    torch.testing.assert_close(lists, ours)
    one = black_box(lambda x: x.mean(dim=(1, 2, 3)), ["a"])
    assert one.logits(x).shape == (5, 1)
    assert not one.differentiable
    assert isinstance(one, Classifier)


def test_black_boxes_get_plain_images() -> None:
    seen = []

    def look(x: Any) -> Any:
        seen.append(x)
        return np.full((len(x), 1), 0.5)

    black_box(look, ["a"], numpy=True).logits(images().requires_grad_(True))
    assert isinstance(seen[0], np.ndarray)
    assert seen[0].dtype == np.float32
    black_box(look, ["a"]).logits(images().requires_grad_(True))
    assert not seen[1].requires_grad


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x.mean((2, 3)) * 10, r"values between .* expected probabilities in \[0, 1\]"),
        (lambda x: x.mean((2, 3)) - 2, "its sigmoid or softmax first"),
        (lambda x: x.mean((2, 3)).T, r"shape \[3, 5\]"),
        (lambda x: None, r"shape \[\] for 5 images"),
        (lambda x: "text", "raised ValueError"),
        (lambda x: 1 / 0, r"'mine', given images of shape \[5, 3, 16, 16\], raised ZeroDivisionError"),
    ],
)
def test_what_a_black_box_must_not_answer(answer: Any, sentence: str) -> None:
    with pytest.raises(BadModel, match=sentence):
        black_box(answer, ["a", "b", "c"], name="mine").logits(images())


def test_certain_probabilities_and_nan() -> None:
    logits = black_box(lambda x: torch.tensor([[0.0], [1.0], [float("nan")]]), ["a"]).logits(images(3))
    assert torch.isfinite(logits[:2]).all()
    assert torch.isnan(logits[2]).all(), "NaN stays, so that it is counted"


# -- files ------------------------------------------------------------------------------------------------------------


def network() -> AttributeNetwork:
    torch.manual_seed(0)
    return AttributeNetwork(["young", "smiling"], size=16, widths=(4, 8), hidden=8)


def test_a_weight_file_is_the_classifier_that_was_saved(tmp_path: Path) -> None:
    made, x = network().eval(), images(size=16)
    path = tmp_path / "mine" / "classifier.safetensors"
    save_weights(path, made, made.config)
    for spec in (path, path.parent):
        loaded = load(str(spec))
        assert (loaded.name, loaded.targets) == ("mine", ("young", "smiling"))
        assert torch.equal(loaded.logits(x), made(x))
    assert not list(path.parent.glob(".*")), "nothing is left beside it"
    other = tmp_path / "mine" / "second.safetensors"
    save_weights(other, made, made.config, half=True)
    assert load(str(other)).name == "second"
    assert other.stat().st_size < path.stat().st_size
    torch.testing.assert_close(load(str(other)).logits(x), made(x), atol=2e-2, rtol=2e-2)


def test_files_that_are_no_classifier(tmp_path: Path) -> None:
    made, path = network(), tmp_path / "classifier.safetensors"
    with pytest.raises(BadInput, match="There is no weight file"):
        load(str(tmp_path))
    save_weights(path, made, made.config)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", b"\xff" * 400):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="cannot be read as safetensors"):
            load(str(path))
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="no cfalign description"):
        load(str(path))
    save_weights(path, made, {**made.config, "kind": "autoencoder"})
    with pytest.raises(BadInput, match="holds a 'autoencoder', expected a 'classifier'"):
        load(str(path))
    save_weights(path, made, {**made.config, "hidden": 16})
    with pytest.raises(BadInput, match=r"do not fit the network .* size mismatch for head"):
        load(str(path))
    save_weights(path, made, {**made.config, "size": 17})
    with pytest.raises(BadInput, match=r"cannot build: .* multiple of 4, got 17"):
        load(str(path))
    save_weights(path, made, {"kind": "classifier"})
    with pytest.raises(BadInput, match="cannot build"):
        load(str(path))
    for text in ("{", "7", "[1]"):
        save_file({"x": torch.zeros(1)}, path, metadata={"cfalign": text})
        with pytest.raises(BadInput, match="damaged"):
            load(str(path))


def test_specs_that_name_nothing() -> None:
    with pytest.raises(BadInput, match="Unknown classifier 'resnet50'; expected embedded"):
        load("resnet50")
    with pytest.raises(BadInput, match="No embedded classifier 'smiling_from_hats'"):
        load("embedded:smiling_from_hats")


def test_a_factory_gives_a_name_to_a_classifier_without_one() -> None:
    assert load(f"{worlds.__file__}:unnamed").name == "worlds.unnamed"
    assert load(f"{worlds.__file__}:heads").name == "heads"


def test_planted_names_say_target_and_shortcut() -> None:
    for name in planted():
        target, _, shortcut = name.removesuffix("_0").partition("_from_")
        assert target
        assert shortcut


# -- what comes before the module --------------------------------------------------------------------------------------


class Same(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_any_callable_may_prepare_the_images() -> None:
    x = images(size=4)
    wrapped = wrap(Same(), [f"p{i}" for i in range(16)], prepare=lambda x: x.mean(1, keepdim=True) * 2048 - 1024)
    torch.testing.assert_close(wrapped.logits(x), (x.mean(1) * 2048 - 1024).flatten(1))
    with pytest.raises(BadInput, match="either prepare or size and normalize"):
        wrap(Same(), ["a"], prepare=lambda x: x, size=8)
    with pytest.raises(BadModel, match=r"preprocessing of classifier 'mine', .* raised ZeroDivisionError"):
        wrap(Same(), ["a"], prepare=lambda x: x / (1 // 0), name="mine").logits(x)


def test_steps_of_the_preprocessing() -> None:
    x = torch.rand(2, 3, 7, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Preprocessing()(x), x)
    assert Preprocessing(grey=True)(x).shape == (2, 1, 7, 10)
    assert torch.equal(Preprocessing(square=True)(x), x[..., 2:9])
    assert Preprocessing(resize=14)(x).shape == (2, 3, 14, 20)
    assert Preprocessing(resize=14)(x.mT).shape == (2, 3, 20, 14)
    assert Preprocessing(resize=(5, 6))(x).shape == (2, 3, 5, 6)
    assert torch.equal(Preprocessing(resize=7)(x), x)
    assert torch.equal(
        Preprocessing(resize=(14, 20), interpolation="nearest")(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    assert torch.equal(Preprocessing(crop=(4, 4))(x), x[..., 2:6, 3:7]), "1.5 goes to 2, the even one"
    assert torch.equal(Preprocessing(crop=(4, 4), crop_down=True)(x), x[..., 1:5, 3:7])
    padded = Preprocessing(crop=(10, 4))(x)
    assert torch.equal(padded[..., 1:8, :], x[..., 3:7])
    assert padded[..., 0, :].sum() == padded[..., 8:, :].sum() == 0
    sharp = (x > 0.5).float()
    beyond = Preprocessing(resize=(7, 25), interpolation="bicubic")(sharp)
    assert beyond.min() < 0
    assert beyond.max() > 1
    clipped = Preprocessing(resize=(7, 25), interpolation="bicubic", clip=True)(sharp)
    torch.testing.assert_close(clipped, beyond.clamp(0, 1))
    with pytest.raises(BadInput, match="as many means as stds"):
        Preprocessing(mean=(0.5,))
