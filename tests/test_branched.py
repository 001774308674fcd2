"""The branched network of face attributes, and how its checkpoint is found and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds
from cfalign._errors import BadInput
from cfalign._models.weights import parameters
from cfalign.classifiers import load, wrap
from cfalign.classifiers.families.branched_network import ATTRIBUTES, BranchedNetwork
from cfalign.classifiers.preprocessing import Preprocessing

# What the authors' implementation gives at width 8 for the weights of `seeded` and the image of `test_outputs`.
RECORDED = [
    *(-0.0023, 0.2298, 0.4704, -0.3044, 0.1078, -2.0985, -0.0213, -0.5619, 0.2804, -0.1256, 0.1817, -0.3012),
    *(-0.4867, 0.8482, -0.3091, 0.7128, -0.3257, 1.2889, 1.6307, 0.9489, 1.6739, -1.3582, -2.8984, -0.5895),
    *(0.6535, -1.0867, -1.2602, -1.4278, -0.4009, 2.4098, -3.518, 2.5436, 0.0727, 2.2917, 0.8251, -1.3515),
    *(0.8468, 8.3088, 0.2027, 0.1018),
]


def seeded(network: nn.Module) -> dict[str, Tensor]:
    """Weights that differ in every tensor and keep activations near 1."""
    rng = np.random.default_rng(0)
    state = {}
    for key, there in network.state_dict().items():
        if key.startswith("celeba") or key.endswith("num_batches_tracked"):
            state[key] = there
            continue
        drawn = torch.from_numpy(rng.standard_normal(tuple(there.shape))).float()
        if key.endswith("running_var"):
            state[key] = drawn.abs() + 0.5
        elif there.ndim > 1:
            state[key] = drawn * (2 / there[0].numel()) ** 0.5
        else:
            state[key] = 0.1 * drawn + (1.0 if key.endswith("weight") else 0.0)
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the published one: Lightning's, names under `model.`."""
    path = tmp_path_factory.mktemp("cache") / "BranchedTiny.ckpt"
    state = {f"model.{k}": v for k, v in seeded(BranchedNetwork()).items()}
    torch.save({"epoch": 3, "global_step": 7, "state_dict": state}, path)
    return path


def test_outputs() -> None:
    network = BranchedNetwork(8).eval()
    network.load_state_dict(seeded(network))
    image = torch.from_numpy(np.random.default_rng(1).random((1, 3, 224, 224))).float()
    torch.testing.assert_close(network(image)[0], torch.tensor(RECORDED), atol=1e-4, rtol=0)


def test_structure() -> None:
    network = BranchedNetwork()
    assert parameters(network) == 8_830_254
    counts = [len(getattr(network, n)) for n in ("from_6_to_11", *(f"layers{i}" for i in range(12, 17)))]
    assert counts == [2, 3, 10, 18, 33, 40]
    assert len(set(ATTRIBUTES)) == 40
    names = list(network.state_dict())
    assert len(names) == 642
    assert names[:3] == ["celeba_aligned_means", "celeba_aligned_stds", "to_layer_6.0.weight"]
    assert {"from_6_to_11.1.12.running_var", "layers13.9.2.weight", "layers16.39.0.weight"} < set(names)


def test_the_checkpoint_in_the_cache_folder(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFALIGN_CACHE", str(checkpoint.parent))
    found, named = load("celeba:branched-tiny"), load(f"celeba:{checkpoint}")
    assert found.name == "branched_tiny"
    assert found.targets == named.targets == ATTRIBUTES
    network = BranchedNetwork()
    network.load_state_dict(seeded(network))
    x = torch.rand(1, 3, 218, 178, generator=torch.Generator().manual_seed(0))
    smaller = nn.functional.interpolate(x, (224, 224), mode="bilinear")
    torch.testing.assert_close(found.logits(x), network.eval()(smaller), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.logits(x), named.logits(x))
    assert found.prepare == Preprocessing(channels=3, resize=(224, 224), antialias=False)


def test_a_whole_audit() -> None:
    """At width 8, a fortieth of the work."""
    images, network = cfa.synthetic.render(cfa.synthetic.sample(8, seed=0)), BranchedNetwork(8).eval()
    network.load_state_dict(seeded(network))
    clf = wrap(network, ATTRIBUTES, prepare=Preprocessing(channels=3, resize=(224, 224), antialias=False))
    with torch.no_grad():
        scores = torch.sigmoid(clf.logits(images)).mean(dim=0)
    base = clf.targets[int((scores - 0.75).abs().argmin())]  # random weights: a head that is mostly predicted
    run = cfa.audit(images, clf, autoencoder=cfa.autoencoders.load("embedded"), bases=[base])
    responses = run.responses()
    assert responses["base"].to_list().count(base) == 8
    assert responses["base"].to_list().count(f"not {base}") == 8  # every outcome has a row, both ways
    assert (responses["base_after"] < responses["base_before"]).sum() >= 4
    assert run.matrix().height == 40


def test_gradients_reach_the_latent(checkpoint: Path) -> None:
    clf, autoencoder = load(f"celeba:{checkpoint}"), cfa.autoencoders.load("embedded")
    z = autoencoder.encode(cfa.synthetic.render(cfa.synthetic.sample(1, seed=0))).detach().requires_grad_(True)
    clf.logits(autoencoder.decode(z))[:, 14].sum().backward()
    assert z.grad is not None
    assert (z.grad != 0).any()


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFALIGN_CACHE", str(tmp_path / "own"))
    with pytest.raises(BadInput, match=r"BranchedTiny\.ckpt is not in .*own; `cfalign models fetch branched-tiny`"):
        load("celeba:branched-tiny")
    monkeypatch.delenv("CFALIGN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BadInput, match=r"in .*/\.cache/cfalign; `cfalign models"):
        load("celeba:branched-tiny")
    with pytest.raises(BadInput, match=r"no file 'branched-tine'; expected celeba:branched-tiny"):
        load("celeba:branched-tine")
    ended = worlds.cfalign(
        "audit",
        *worlds.options(
            images=worlds.write_images(tmp_path / "images", 2),
            classifier="celeba:branched-tiny",
            autoencoder=f"{worlds.__file__}:autoencoder",
            out=tmp_path / "run",
        ),
        folder=tmp_path,
    )
    assert ended.code == 2
    assert "models fetch branched-tiny" in ended.err
    assert "Traceback" not in ended.err


def test_checkpoints_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.ckpt"
    whole = torch.load(checkpoint)["state_dict"]
    for change, sentence in (
        (lambda s: s.pop("model.layers14.17.0.bias"), r"lacks 'layers14\.17\.0\.bias'"),
        (lambda s: s.update({"model.extra": torch.zeros(1)}), "do not fit .*extra"),
        (
            lambda s: s.update({"model.b": s.pop("model.layers12.0.0.bias")}),
            r"lacks 'layers12\.0\.0\.bias'",
        ),
        (lambda s: s.update({"model.layers16.39.0.bias": torch.zeros(2)}), r"do not fit .*layers16\.39\.0\.bias"),
    ):
        state = dict(whole)
        change(state)
        torch.save({"state_dict": state}, path)
        with pytest.raises(BadInput, match=rf"mine\.ckpt {sentence}"):
            load(f"celeba:{path}")
    path.write_bytes(checkpoint.read_bytes()[:100_000])
    with pytest.raises(BadInput, match=r"mine\.ckpt is cut short or damaged"):
        load(f"celeba:{path}")
    torch.save({"state_dict": {"a": 1}}, path)
    with pytest.raises(BadInput, match="no names and tensors"):
        load(f"celeba:{path}")
