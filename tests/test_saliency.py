"""Attributions against closed forms and naive replicas, and latent shift as a Captum attribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Attribution
from torch import Tensor, nn

import cfalign
from cfalign import SearchOptions
from cfalign._errors import BadInput, BadModel
from cfalign._explanation.saliency import METHODS, Scored, attributions, saliency_maps, similarity
from cfalign._heads.composition import head
from cfalign.classifiers import wrap
from linear_world import LinearAutoencoder, LinearClassifier, directions, linear_images


def linear(score_bias: float = 1.0) -> LinearClassifier:
    return LinearClassifier(directions(3, overlap=0.4), [score_bias, 0.0, -score_bias])


def test_a_linear_head_has_its_closed_form() -> None:
    """Input gradient A Qᵀ, integrated gradients that times x (from black), both the same for every image."""
    x, clf = linear_images(4), linear()
    found = attributions(x, clf["head_1"])
    gradient = (clf.basis @ clf.weight[1]).detach().view(1, 3, 4, 4)
    assert set(found) == set(METHODS[:2]), "no activation to guide at"
    assert torch.allclose(found["input gradient"], gradient.expand_as(x))
    assert torch.allclose(found["integrated gradients"], gradient * x)


def test_integrated_gradients_add_up_to_the_change_of_the_value() -> None:
    x, clf = linear_images(3).float(), relu_classifier()
    scored = Scored(head(clf, "b"))
    found = attributions(x, head(clf, "b"))["integrated gradients"]
    change = (scored(x) - scored(torch.zeros_like(x))).detach()
    assert torch.allclose(found.sum(dim=(1, 2, 3)), change, atol=0.05)


def relu_classifier(activation: type[nn.Module] = nn.ReLU) -> cfalign.classifiers.WrappedClassifier:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(48, 20), activation(), nn.Linear(20, 12), activation(), nn.Linear(12, 2)
    )
    return wrap(net, ["a", "b"])


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backprop_is_the_layer_by_layer_rule(inplace: bool) -> None:
    """R = (R above > 0) · (forward > 0) · R above, layer by layer, by hand."""
    x, clf = linear_images(5).float(), relu_classifier()
    net = clf.module
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = inplace
    found = attributions(x, head(clf, "a"))["guided backprop"]
    weights = [net[i].weight.detach() for i in (1, 3, 5)]  # type: ignore[index, union-attr]
    biases = [net[i].bias.detach() for i in (1, 3, 5)]  # type: ignore[index, union-attr]
    first = x.flatten(1) @ weights[0].T + biases[0]
    second = first.clamp_min(0) @ weights[1].T + biases[1]
    back = weights[2][0].expand(5, -1)
    back = ((back * (second > 0)).clamp_min(0)) @ weights[1]
    back = ((back * (first > 0)).clamp_min(0)) @ weights[0]
    assert torch.allclose(found.flatten(1), back, atol=1e-6)
    assert all(m.inplace == inplace for m in net.modules() if isinstance(m, nn.ReLU))


def test_guided_backprop_guides_at_smooth_activations_too() -> None:
    x = linear_images(5).float()
    found = attributions(x, head(relu_classifier(nn.SiLU), "a"))
    assert not torch.allclose(found["guided backprop"], found["input gradient"])


def test_the_model_is_left_as_it_came() -> None:
    clf = relu_classifier()
    clf.module.train()
    before = {k: v.clone() for k, v in clf.module.state_dict().items()}
    state = torch.random.get_rng_state()
    saliency_maps(linear_images(1).float(), head(clf, "a"))
    assert clf.module.training
    assert all(p.requires_grad and p.grad is None for p in clf.module.parameters())
    assert not any(m._backward_hooks or m._forward_hooks for m in clf.module.modules())
    assert all(torch.equal(before[k], v) for k, v in clf.module.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_batches_do_not_matter() -> None:
    x, clf = linear_images(7).float(), relu_classifier()
    whole, parts = (attributions(x, head(clf, "a"), batch=b) for b in (16, 2))
    for method in METHODS:
        assert torch.allclose(whole[method], parts[method], atol=1e-6)


def test_maps_are_means_of_absolute_attributions() -> None:
    x, clf = linear_images(1), linear()
    maps = saliency_maps(x, clf["head_0"])
    signed = attributions(x, clf["head_0"])
    for method, values in maps.items():
        assert torch.allclose(values, signed[method][0].abs().mean(dim=0))


# -- LatentShift ------------------------------------------------------------------------------------------------------


def shifted(x: Tensor, clf: LinearClassifier, at: int) -> Tensor:
    """x0 − x_λ from the library's own counterfactuals, NaN where the target is not predicted."""
    cf = cfalign.latent_shift(x, head(clf, f"head_{at}"), autoencoder=LinearAutoencoder())
    walked = torch.tensor([o.walked for o in cf.outcomes])[:, None, None, None]
    return torch.where(walked, cf.reconstructions - cf.images, torch.nan)


def test_latent_shift_is_a_captum_attribution() -> None:
    x, clf = linear_images(6), linear()
    method = cfalign.LatentShift(clf.logits, LinearAutoencoder())
    assert isinstance(method, Attribution)
    assert method.has_convergence_delta() is False
    found = method.attribute(x, target=0)
    assert found.shape == x.shape
    assert torch.allclose(found, shifted(x, clf, 0), equal_nan=True)
    direction = (clf.basis @ clf.weight[0]).detach()
    for row in found[~found.isnan().flatten(1).any(dim=1)]:
        cosine = torch.nn.functional.cosine_similarity(row.flatten(), direction, dim=0)
        assert cosine > 0.999, "what leaves a linear world is the head's own pattern"


def test_every_image_may_have_its_own_target() -> None:
    x, clf = linear_images(6), linear()
    method = cfalign.LatentShift(clf.logits, LinearAutoencoder())
    columns = [0, 1, 0, 2, 1, 0]
    expected = torch.stack([shifted(x, clf, at)[i] for i, at in enumerate(columns)])
    for target in (columns, torch.tensor(columns)):
        assert torch.allclose(method.attribute(x, target=target), expected, equal_nan=True)


def test_probabilities_single_outputs_and_further_arguments() -> None:
    x, clf = linear_images(6), linear()
    expected = shifted(x, clf, 0)
    as_probability = cfalign.LatentShift(lambda v: clf.logits(v).sigmoid(), LinearAutoencoder(), link="probability")
    assert torch.allclose(as_probability.attribute(x, target=0), expected, equal_nan=True, atol=1e-3)
    single = cfalign.LatentShift(lambda v, column: clf.logits(v)[:, column], LinearAutoencoder())
    assert torch.allclose(single.attribute(x, additional_forward_args=0), expected, equal_nan=True)


def test_not_predicted_is_nan_not_zero() -> None:
    x = linear_images(3)
    clf = LinearClassifier(directions(3, overlap=0.0), [-9.0, 0.0, 9.0])
    assert cfalign.LatentShift(clf.logits, LinearAutoencoder()).attribute(x, target=0).isnan().all()


def test_latent_shift_refuses_what_it_cannot_use() -> None:
    x, clf = linear_images(3), linear()
    method = cfalign.LatentShift(clf.logits, LinearAutoencoder())
    with pytest.raises(BadInput, match="has no target '7'"):
        method.attribute(x, target=7)
    with pytest.raises(BadInput, match="one for each of the 3, got 2"):
        method.attribute(x, target=[0, 1])
    with pytest.raises(BadInput, match="one tensor of images"):
        method.attribute(x[0], target=0)
    with pytest.raises(BadInput, match="Expected a target, one of the 3 columns"):
        method.attribute(x)
    with pytest.raises(BadInput, match="link must be"):
        cfalign.LatentShift(clf.logits, LinearAutoencoder(), link="odds")  # type: ignore[arg-type]
    with pytest.raises(BadModel, match=r"expected \[n\] or \[n, target\]"):
        cfalign.LatentShift(lambda v: np.zeros(3), LinearAutoencoder()).attribute(x, target=0)  # type: ignore[arg-type, return-value]


def batch_normed() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)).double()


@pytest.mark.parametrize("link", ["logit", "probability"])
def test_batch_statistics_of_a_model_in_training_mode_do_not_move(link: Any) -> None:
    net, x, options = batch_normed(), linear_images(3), SearchOptions(drop=0.01, eligible=1e-9)
    outputs = net if link == "logit" else nn.Sequential(net, nn.Sigmoid())
    expected = cfalign.LatentShift(outputs.eval(), LinearAutoencoder(), link=link, options=options)
    found = expected.attribute(x, target=1)
    assert found.isfinite().any()
    outputs.train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    given = x.clone()
    again = expected.attribute(x, target=1)
    assert all(module.training for module in outputs.modules())
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert len(before) == 3
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(x, given)
    assert torch.equal(again.nan_to_num(7.0), found.nan_to_num(7.0)), "as in evaluation mode"


def test_a_forward_func_may_fail_and_change_its_input() -> None:
    x, clf = linear_images(3), linear()

    def fails(images: Tensor) -> Tensor:
        raise RuntimeError("no such layer")

    with pytest.raises(BadModel, match=r"forward_func, given images of shape .* raised RuntimeError: no such layer"):
        cfalign.LatentShift(fails, LinearAutoencoder()).attribute(x, target=0)
    given = x.clone()
    method = cfalign.LatentShift(lambda v: clf.logits(v.sub_(0.1).add_(0.1)), LinearAutoencoder())
    method.attribute(x, target=0)
    assert torch.equal(x, given)


def test_similarity_pair_by_pair_and_image_by_image() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3, 5, 4)), rng.random((4, 3, 5, 4))
    cosine, iou = similarity(torch.from_numpy(first), torch.from_numpy(second), share=0.2)
    for a in range(2):
        for b in range(4):
            cosines, ious = [], []
            for i in range(3):
                u, v = first[a, i].ravel(), second[b, i].ravel()
                cosines.append(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
                top = [set(np.argsort(-w)[:4].tolist()) for w in (u, v)]
                ious.append(len(top[0] & top[1]) / len(top[0] | top[1]))
            assert float(cosine[a, b]) == pytest.approx(np.mean(cosines))
            assert float(iou[a, b]) == pytest.approx(np.mean(ious))


def test_a_head_looks_where_it_looks_and_an_empty_map_nowhere() -> None:
    maps = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    assert [float(v) for v in similarity(maps, maps)] == pytest.approx([1.0, 1.0])
    assert float(similarity(maps, torch.zeros_like(maps))[0]) == 0.0
