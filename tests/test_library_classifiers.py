"""Classifiers of libraries give what the library gives: preprocessing, names of classes, links, published weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cfalign._errors import BadInput, BadModel
from cfalign.classifiers import load
from tiny_models import as_images, loaded, pixels, quiet, timm_file, tiny_vit, torchvision_file, xrv_network


@pytest.fixture(autouse=True)
def _warnings_stay_errors() -> Iterator[None]:
    """torchxrayvision switches off the warnings of the whole process when it is imported."""
    with warnings.catch_warnings():
        yield


# -- torchvision -------------------------------------------------------------------------------------------------------


def test_torchvision_preprocessing_of_every_model() -> None:
    models = quiet("torchvision").models
    from cfalign.classifiers.families.torchvision import preprocessing

    weights = [w for model in models.list_models(module=models) for w in models.get_model_weights(model)]
    presets = {str(w.transforms()): w.transforms() for w in weights}
    assert len(presets) > 20
    for preset in presets.values():
        ours = preprocessing(preset)
        for height, width in ((64, 64), (230, 301), (401, 260)):
            x = as_images(pixels(height, width))
            torch.testing.assert_close(ours(x), preset(x), atol=1e-5, rtol=0)
    preset = models.ResNet18_Weights.DEFAULT.transforms()
    exact = pixels(256, 256)
    torch.testing.assert_close(
        preprocessing(preset)(as_images(exact))[0], preset(Image.fromarray(exact)), atol=1e-5, rtol=0
    )
    larger = pixels(400, 300)
    difference = (preprocessing(preset)(as_images(larger))[0] - preset(Image.fromarray(larger))).abs().max()
    assert difference < 1 / 255 / 0.224, "Pillow rounds what it resizes to 8 bits"


def test_torchvision_names_and_links(tmp_path: Path) -> None:
    clf = loaded(torchvision_file(tmp_path))
    assert (clf.name, clf.link, clf.targets) == ("faces", "softmax", ("big_nose", "young", "hat"))
    models = quiet("torchvision").models
    for count, targets, link in ((1, ("class_0",), "sigmoid"), (2, ("class_0", "class_1"), "softmax")):
        path = tmp_path / f"{count}.pt"
        torch.save(models.squeezenet1_1(num_classes=count).state_dict(), path)
        clf = loaded(f"torchvision:squeezenet1_1:{path}")
        assert (clf.targets, clf.link) == (targets, link)
    torch.save(models.squeezenet1_1().state_dict(), path)
    clf = loaded(f"torchvision:squeezenet1_1:{path}")
    assert len(set(clf.targets)) == 1000
    assert clf.targets[0] == "tench"


def test_torchvision_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the library's own cache; what is not there needs a network."""
    models = quiet("torchvision").models
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for spec in ("torchvision:squeezenet1_1", "torchvision:squeezenet1_1:IMAGENET1K_V1"):
        with pytest.raises(BadInput, match=r"could not be loaded: URLError: .*; put https://.* into .*checkpoints, or"):
            load(spec)
    weights = models.SqueezeNet1_1_Weights.DEFAULT
    network = models.squeezenet1_1().eval()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / Path(weights.url).name)
    clf = loaded("torchvision:squeezenet1_1")
    assert (clf.name, clf.link, clf.targets[1]) == ("squeezenet1_1", "softmax", "goldfish")
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.sigmoid(clf.logits(x)), network(weights.transforms()(x)).softmax(1))


# -- timm --------------------------------------------------------------------------------------------------------------


def test_timm_preprocessing_of_every_configuration() -> None:
    timm = quiet("timm")
    from cfalign.classifiers.families.timm import preprocessing

    told = [timm.get_pretrained_cfg(name).to_dict() for name in timm.list_pretrained()]
    configurations = [timm.data.resolve_data_config(pretrained_cfg=t) for t in told]
    border = [c for c in configurations if c["crop_mode"] == "border"]
    oblong = [c for c in configurations if c["crop_mode"] == "center" and c["input_size"][1] != c["input_size"][2]]
    for told in (*border, *oblong):
        with pytest.raises(BadInput, match="which cfalign does not have; name a factory"):
            preprocessing(told)
    assert 0 < len(border) + len(oblong) < 20, "of 1800 models"
    rest = [c for c in configurations if c not in border and c not in oblong]
    rest.sort(key=lambda c: -max(c["input_size"]))
    kinds = {(c["interpolation"], c["crop_mode"], c["crop_pct"], str(c["mean"])): c for c in rest}
    assert len(kinds) > 20
    for told in kinds.values():  # of every kind the smallest
        ours = preprocessing(told)
        theirs = timm.data.create_transform(**told)
        side = ours.resize if isinstance(ours.resize, int) else ours.resize[0]
        exact = pixels(side, side)
        torch.testing.assert_close(ours(as_images(exact))[0], theirs(Image.fromarray(exact)), atol=1e-5, rtol=0)
        larger = pixels(side + 40, side + 77)
        difference = (ours(as_images(larger))[0] - theirs(Image.fromarray(larger))).abs().amax(dim=(1, 2))
        assert (difference < 1.5 / 255 / torch.tensor(told["std"])).all(), "Pillow rounds between its two passes"


def test_timm_names_and_links(tmp_path: Path) -> None:
    timm = quiet("timm")
    clf = loaded(timm_file(tmp_path))
    assert (clf.name, clf.link, clf.targets) == ("faces", "softmax", ("class_0", "class_1", "class_2"))
    path = tmp_path / "imagenet.pt"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), path)
    clf = loaded(f"timm:resnet10t:{path}")
    assert clf.targets[0] == "tench"
    assert {"crane_134", "crane_517"} < set(clf.targets), "two classes of one name"
    folder = tmp_path / "folder"
    model = timm.create_model("resnet10t", pretrained=False, num_classes=2)
    timm.models.save_for_hf(model, folder, model_config={"label_names": ["cat", "dog"]})
    clf = loaded(f"timm:local-dir:{folder}")
    assert (clf.name, clf.targets) == ("folder", ("cat", "dog"))
    x = torch.rand(1, 3, 64, 64)
    model.eval()
    torch.testing.assert_close(torch.sigmoid(clf.logits(x)), model(clf.prepare(x)).softmax(dim=1))


def test_timm_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quiet("timm")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match=r"weights of timm:resnet10t could not be loaded: .*; give a file of your own"):
        load("timm:resnet10t")


# -- transformers ------------------------------------------------------------------------------------------------------


def processors() -> list[Any]:
    transformers = quiet("transformers")
    quiet("torchvision")
    t = transformers
    return [
        t.ViTImageProcessor(size={"height": 32, "width": 32}),
        t.ViTImageProcessor(size={"height": 32, "width": 48}, resample=3, do_normalize=False),
        t.ViTImageProcessor(do_resize=False, image_mean=[0.1, 0.2, 0.3], image_std=[0.2, 0.3, 0.4]),
        t.ViTImageProcessor(size={"height": 32, "width": 32}, resample=0, rescale_factor=1 / 127.5),
        t.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
        t.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
        t.ConvNextImageProcessor(size={"shortest_edge": 384}),
        t.BitImageProcessor(size={"shortest_edge": 37}, crop_size={"height": 32, "width": 32}),
        t.DeiTImageProcessor(size={"height": 37, "width": 37}, crop_size={"height": 32, "width": 32}),
        t.EfficientNetImageProcessor(size={"height": 32, "width": 32}, resample=2, include_top=True),
        t.EfficientNetImageProcessor(size={"height": 32, "width": 32}, rescale_offset=True, rescale_factor=1 / 127.5),
    ]


def test_preprocessing_of_transformers() -> None:
    from cfalign.classifiers.families.huggingface import preprocessing

    for processor in processors():
        ours = preprocessing(processor, channels=3)
        side = ours.resize if isinstance(ours.resize, int) else (ours.resize or (50, 50))[0]
        wide = side if isinstance(ours.resize, int) else (ours.resize or (50, 50))[1]
        exact = pixels(side, wide)
        theirs = processor(images=Image.fromarray(exact), return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(ours(as_images(exact)), theirs, atol=1e-5, rtol=0)
        larger = pixels(side + 40, side + 77)
        theirs = processor(images=Image.fromarray(larger), return_tensors="pt")["pixel_values"]
        level = 1.5 / 255 / torch.tensor(ours.std).view(1, 3, 1, 1)
        assert ((ours(as_images(larger)) - theirs).abs() < level).all(), "8-bit rounding between and after two passes"


def test_transformers_names_and_links(tmp_path: Path) -> None:
    clf = loaded(tiny_vit(tmp_path / "pets"))
    assert (clf.name, clf.link, clf.targets) == ("pets", "softmax", ("tabby_cat_0", "tabby_cat_1", "dog"))
    transformers = quiet("transformers")
    model = transformers.ViTForImageClassification.from_pretrained(tmp_path / "pets").eval()
    image = pixels(32, 32)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "pets")
    values = processor(images=Image.fromarray(image), return_tensors="pt")
    expected = model(**values).logits.softmax(dim=1)
    torch.testing.assert_close(torch.sigmoid(clf.logits(as_images(image))), expected, atol=1e-5, rtol=0)
    assert loaded(tiny_vit(tmp_path / "many", problem_type="multi_label_classification")).link == "sigmoid"


def test_grey_transformers_refuse_colours(tmp_path: Path) -> None:
    transformers = quiet("transformers")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.25])
    clf = loaded(tiny_vit(tmp_path, processor=processor, num_channels=1))
    assert clf.logits(torch.rand(2, 1, 40, 40)).shape == (2, 3)
    with pytest.raises(BadModel, match="takes images of 1 channels, but these have 3"):
        clf.logits(torch.rand(2, 3, 40, 40))


def test_folders_of_transformers_that_do_not_fit(tmp_path: Path) -> None:
    transformers = quiet("transformers")
    from safetensors.torch import load_file, save_file

    spec = tiny_vit(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = load_file(weights)
    for change, sentence in (
        (lambda s: s.pop("classifier.bias"), r"missing classifier\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda s: s.update({"classifier.bias": torch.zeros(4)}), "could not be loaded|mismatched"),
    ):
        state = dict(whole)
        change(state)
        save_file(state, weights, metadata={"format": "pt"})
        with pytest.raises(BadInput, match=sentence):
            load(spec)
    save_file(whole, weights, metadata={"format": "pt"})
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadInput, match="could not be loaded"):
        load(spec)
    save_file(whole, weights, metadata={"format": "pt"})
    settings = tmp_path / "preprocessor_config.json"
    content = json.loads(settings.read_text())
    for change, sentence in (
        ({"resample": 1}, "Pillow's filter 1; expected one of"),
        ({"size": {"longest_edge": 32}}, "could not be loaded|expected height and width"),
        ({"do_pad": True, "pad_size": {"height": 40, "width": 40}}, "could not be loaded|does not know"),
    ):
        settings.write_text(json.dumps({**content, **change}))
        with pytest.raises(BadInput, match=sentence):
            load(spec)
    settings.unlink()
    with pytest.raises(
        BadInput, match=r"could not be loaded: .*; expected a folder with config\.json, preprocessor_config"
    ):
        load(spec)
    regression = tiny_vit(tmp_path / "other", problem_type="regression")
    with pytest.raises(BadInput, match="is a regression"):
        load(regression)
    with pytest.raises(BadInput, match="There is no folder"):
        load(f"hf:{tmp_path / 'nowhere'}")
    assert transformers


# -- torchxrayvision ---------------------------------------------------------------------------------------------------


def test_xrv_equals_the_library(tmp_path: Path) -> None:
    network = xrv_network()
    path = tmp_path / "chest.pt"
    torch.save(network.state_dict(), path)
    clf = loaded(f"xrv:{path}")
    assert clf.targets[:2] == ("atelectasis", "consolidation")
    assert len(clf.targets) == 18
    network.input_resolution = 224
    utils = quiet("torchxrayvision.utils")
    for height, width in ((224, 224), (300, 300), (64, 64)):
        image = pixels(height, width, channels=1)
        grey = torch.from_numpy(utils.normalize(image[..., 0], 255)[None, None])
        theirs = network(grey)
        torch.testing.assert_close(clf.logits(as_images(image)), theirs, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(clf.logits(as_images(image).expand(-1, 3, -1, -1)), theirs, atol=1e-5, rtol=1e-4)
    tall = pixels(301, 224, channels=1)
    cut = quiet("torchxrayvision.datasets").XRayCenterCrop()(utils.normalize(tall[..., 0], 255)[None])
    torch.testing.assert_close(clf.logits(as_images(tall)), network(torch.from_numpy(cut[None])), atol=1e-5, rtol=1e-4)


def test_xrv_thresholds() -> None:
    models = quiet("torchxrayvision.models")
    from cfalign.classifiers.families.xrv import calibrated

    logits = torch.linspace(-12, 12, 400)[:, None].repeat(1, 3).requires_grad_(True)
    thresholds = torch.tensor([0.02, 0.5, 0.9])
    ours = calibrated(logits, thresholds)
    torch.testing.assert_close(
        torch.sigmoid(ours), models.op_norm(torch.sigmoid(logits), thresholds), atol=1e-6, rtol=1e-5
    )
    ours.sum().backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()
    far = calibrated(torch.tensor([[-80.0], [80.0]]), torch.tensor([0.02]))
    assert torch.isfinite(far).all()


def test_published_weights_of_xrv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the library keeps them: a pickled network in the home folder."""
    models = quiet("torchxrayvision.models")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".torchxrayvision" / "models_data"
    folder.mkdir(parents=True)
    network = models.DenseNet().eval()
    torch.save(network, folder / Path(models.model_urls["rsna"]["weights_url"]).name)
    clf = loaded("xrv:densenet121-res224-rsna", trust=True)
    assert (clf.name, clf.targets) == ("densenet121-res224-rsna", ("pneumonia", "lung_opacity"))
    network.op_threshs = torch.tensor(models.model_urls["rsna"]["op_threshs"])
    x = torch.rand(1, 3, 224, 224)
    theirs = network(x.mean(1, keepdim=True) * 2048 - 1024)[:, [8, 16]]
    torch.testing.assert_close(torch.sigmoid(clf.logits(x)), theirs, atol=1e-6, rtol=1e-5)


def test_xrv_needs_trust_for_pickles() -> None:
    quiet("torchxrayvision.models")
    with pytest.raises(BadInput, match=r"xrv:densenet121-res224-all are a pickle, .* give --trust"):
        load("xrv:densenet121-res224-all")
    with pytest.raises(
        BadInput, match=r"no DenseNet 'densenet121', and there is no such file; nearest valid: densenet121-"
    ):
        load("xrv:densenet121")
