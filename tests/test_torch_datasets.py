"""Torch data sets and loaders as images: what is read, under which names, and what is refused with a reason."""

from __future__ import annotations

import functools
import logging
import pickle
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import cfalign as cfa
import worlds
from cfalign import BadInput
from cfalign.datasets import DatasetImages, TensorImages, open_dataset, open_images
from cfalign.training import ClassifierTraining, train_classifier

MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Items(Dataset[Any]):
    """A list of items as a data set; those that are errors are raised."""

    def __init__(self, items: list[Any], transform: Callable[[Any], Any] | None = None) -> None:
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        item = self.items[i]
        if isinstance(item, Exception):
            raise item
        return item if self.transform is None else self.transform(item)


class FolderLike(Items):
    """What torchvision's ImageFolder has: root, samples, classes, targets, a transform."""

    def __init__(self, root: Path, transform: Callable[[Any], Any] | None = None) -> None:
        self.root, self.classes = str(root), sorted(p.name for p in root.iterdir())
        paths = [p for name in self.classes for p in sorted((root / name).iterdir())]
        self.samples = [(str(p), self.classes.index(p.parent.name)) for p in paths]
        self.targets = [label for _, label in self.samples]
        super().__init__(self.samples, transform)

    def __getitem__(self, i: int) -> Any:
        path, label = self.samples[i]
        image = Image.open(path).convert("RGB")
        return (image if self.transform is None else self.transform(image)), label


class Stream(IterableDataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


class Shuffled(Stream):
    def __iter__(self) -> Iterator[Any]:
        return (self.items[i] for i in torch.randperm(len(self.items)).tolist())


def crop(image: Tensor) -> Tensor:
    """A random crop, as a transform of training draws it."""
    top, left = torch.randint(0, 9, (2,)).tolist()
    return image[:, top : top + 24, left : left + 24]


def pictures(count: int, side: int = 16) -> list[Tensor]:
    return list(torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)))


def refusal(source: Any, **more: Any) -> str:
    with pytest.raises(BadInput) as caught:
        open_dataset(source, **more)[0].fingerprint()
    return str(caught.value)


# -- what is read ------------------------------------------------------------------------------------------------------


def test_images_are_read_by_index_and_only_when_asked_for() -> None:
    images = pictures(200)
    asked: list[int] = []

    class Counting(Items):
        def __getitem__(self, i: int) -> Any:
            asked.append(i)
            return super().__getitem__(i)

    source = open_images(Counting([(image, 0) for image in images]))
    assert len(set(asked)) <= 32
    asked.clear()
    loaded = source.load([7, 190])
    assert asked == [7, 190]
    assert source.ids[:3] == ("0", "1", "2")
    torch.testing.assert_close(loaded.images, torch.stack([images[7], images[190]]), rtol=0, atol=0)
    assert repr(source) == "DatasetImages('Counting', 200 images, 16x16)"


@pytest.mark.parametrize(
    "item",
    [
        lambda x: x,
        lambda x: (x, 3),
        lambda x: [x, {"boxes": []}],
        lambda x: {"image": x, "label": 1},
        lambda x: {"pixel_values": x},
        lambda x: x[None],
        lambda x: x.double().numpy(),
        lambda x: x.permute(1, 2, 0).numpy(),
        lambda x: x.permute(1, 2, 0).numpy().astype(">f4"),
        lambda x: x.clone().requires_grad_(),
    ],
)
def test_the_forms_of_an_item_give_the_same_image(item: Callable[[Tensor], Any]) -> None:
    images = pictures(3)
    found = open_images(Items([item(image) for image in images])).load(range(3)).images
    torch.testing.assert_close(found, torch.stack(images), rtol=0, atol=0)


def test_bytes_grey_and_pictures() -> None:
    values = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    wanted = values.permute(2, 0, 1).float() / 255
    for form in (values, values.permute(2, 0, 1), values.numpy(), Image.fromarray(values.numpy())):
        torch.testing.assert_close(open_images(Items([form])).load([0]).images[0], wanted, rtol=0, atol=0)
    grey = values[..., 0]
    for form in (grey, grey[None], grey.numpy(), grey.numpy()[..., None], Image.fromarray(grey.numpy())):
        found = open_images(Items([form])).load([0]).images[0]
        torch.testing.assert_close(found, (grey.float() / 255).expand(3, -1, -1), rtol=0, atol=0)


def test_a_size_crops_and_resizes_images_of_any_size() -> None:
    items = [torch.rand(3, 20, 30), torch.rand(3, 64, 40), Image.new("RGB", (50, 20), "white")]
    source = open_images(Items(items), size=16)
    assert source.load(range(3)).images.shape == (3, 3, 16, 16)
    assert "Image 1 of the data set Items has 40x64 pixels, others have 30x20; give a size" in refusal(Items(items))


def test_a_picture_is_read_as_its_file_is(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "a" / "cats", 3)
    worlds.write_images(tmp_path / "a" / "dogs", 2, seed=1)
    of_files, of_pictures = open_images(tmp_path / "a", size=8), open_images(FolderLike(tmp_path / "a"), size=8)
    assert of_pictures.ids == of_files.ids
    assert of_pictures.ids[0] == "cats/0000.png"
    torch.testing.assert_close(of_pictures.load(range(5)).images, of_files.load(range(5)).images, rtol=0, atol=0)


def test_names_follow_a_subset_and_fall_back_to_the_index(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "a" / "cats", 4)
    folder = FolderLike(tmp_path / "a")
    assert open_images(Subset(folder, [3, 1])).ids == ("cats/0003.png", "cats/0001.png")
    assert open_images(ConcatDataset([folder, folder])).ids == tuple(map(str, range(8)))
    folder.samples = [(path, 0) for path in [folder.samples[0][0]] * 4]
    assert open_images(folder).ids == ("0", "1", "2", "3")


def test_subsets_share_what_was_read_and_have_their_own_hash() -> None:
    images = pictures(6)
    source = open_images(Items(images))
    part = source.subset(["4", "2"])
    torch.testing.assert_close(part.load([0]).images[0], images[4], rtol=0, atol=0)
    assert part.fingerprint() == source.subset(["4", "2"]).fingerprint() != source.fingerprint()
    assert source.fingerprint() == open_images(Items([(image, 1) for image in images])).fingerprint()
    assert source.fingerprint() != open_images(Items([images[1], images[0], *images[2:]])).fingerprint()


def test_a_source_can_be_sent_to_another_process() -> None:
    source = open_images(TensorDataset(torch.stack(pictures(3))))
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint() == source.fingerprint()


# -- loaders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"batch_size": 4}, {"shuffle": True}, {"batch_size": 3, "drop_last": True}])
def test_a_loader_is_read_as_its_data_set(more: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    data = TensorDataset(torch.stack(pictures(10)), torch.arange(10))
    with caplog.at_level(logging.INFO, logger="cfalign"):
        source = open_images(DataLoader(data, **more))
    assert source.ids == tuple(map(str, range(10)))
    assert source.fingerprint() == open_images(data).fingerprint()
    assert caplog.text.count("The DataLoader shuffles") == ("shuffle" in more)


def test_a_loader_that_leaves_out_or_repeats_is_refused() -> None:
    data = TensorDataset(torch.stack(pictures(10)))
    sampler = WeightedRandomSampler([1.0] * 10, 10)
    for loader in (
        DataLoader(data, sampler=sampler),
        DataLoader(data, batch_sampler=BatchSampler(sampler, 2, False)),
        DataLoader(data, sampler=SequentialSampler(range(4))),
        DataLoader(data, batch_sampler=[[0, 1], [1, 2]]),
    ):
        assert "may leave some out or repeat them; give its data set (loader.dataset)" in refusal(loader)


def test_the_collate_function_of_a_loader_is_used() -> None:
    def collate(batch: list[Any]) -> dict[str, Any]:
        return {"pixel_values": torch.stack([1 - x for x, _ in batch]), "labels": torch.tensor([y for _, y in batch])}

    images = pictures(5)
    pairs = Items(list(zip(images, [0, 1, 1, 0, 1], strict=True)))
    source, labels = open_dataset(DataLoader(pairs, batch_size=2, collate_fn=collate), label_names=["odd"])
    torch.testing.assert_close(source.load(range(5)).images, 1 - torch.stack(images), rtol=0, atol=0)
    assert labels is not None
    assert labels.values[:, 0].tolist() == [0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    "given",
    [
        lambda pairs: Stream(pairs),
        lambda pairs: Stream([image for image, _ in pairs]),
        lambda pairs: DataLoader(Stream(pairs), batch_size=3),
        lambda pairs: DataLoader(Stream(pairs), batch_size=3, collate_fn=list),
        lambda pairs: DataLoader(Stream([x for x, _ in pairs]), batch_size=3, collate_fn=list),
        lambda pairs: DataLoader(Stream(pairs), batch_size=None),
        lambda pairs: DataLoader(Stream([torch.stack([x for x, _ in pairs])]), batch_size=None),
    ],
)
def test_a_stream_is_read_once_and_kept(given: Callable[[Any], Any]) -> None:
    images = pictures(7)
    source = open_images(given([(image, i % 2) for i, image in enumerate(images)]))
    assert isinstance(source, TensorImages)
    assert source.ids == tuple(map(str, range(7)))
    torch.testing.assert_close(source.load(range(7)).images, torch.stack(images), rtol=0, atol=0)


def test_a_generator_that_is_used_up_is_kept_all_the_same() -> None:
    class Once(Stream):
        def __iter__(self) -> Iterator[Any]:
            items, self.items = self.items, []
            return iter(items)

    assert len(open_images(Once(pictures(5))).ids) == 5


def test_reading_a_stream_leaves_the_random_numbers_of_the_caller() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    open_images(DataLoader(Stream(pictures(5)), batch_size=2))
    assert torch.equal(before, torch.get_rng_state())


def test_a_full_disk_ends_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = types.SimpleNamespace(free=10)
    monkeypatch.setattr("cfalign.datasets.torch_loader.shutil.disk_usage", lambda _: usage)
    assert "give a map-style data set, which is read by index" in refusal(Stream(pictures(3)))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_normalised_images_are_refused_with_the_way_out() -> None:
    said = refusal(Items(pictures(40), transform=lambda x: (x - MEAN) / STD))
    assert said.startswith("Image 0 of the data set Items: expected values in [0, 1], got -2.1")
    assert "a transform without Normalize, or one that undoes it: image * std + mean" in said
    assert "divide by 255" in refusal(Items([image * 255 for image in pictures(3)]))


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (3, "expected a tensor, an array or a picture of Pillow, alone or first in (image, label), got int"),
        ("a.png", "got str"),
        ({"a": 1}, "a dict must have its image under one of image, images, img"),
        ((), "expected an image, or (image, label), got an empty tuple"),
        (torch.rand(4, 8, 8), "expected 1 or 3 channels, first or last"),
        (torch.rand(8), "expected one image [c, h, w], [h, w, c] or [h, w], got the shape [8]"),
        (torch.rand(2, 3, 8, 8), "got the shape [2, 3, 8, 8]; give single images, not batches"),
        (torch.ones(3, 8, 8, dtype=torch.int64), "expected floats in [0, 1] or bytes (uint8), got torch.int64"),
        (torch.full((3, 8, 8), float("nan")), "expected finite values"),
        (np.array([[["a"]]]), "got <U1"),
    ],
)
def test_items_that_are_no_images(item: Any, complaint: str) -> None:
    assert complaint in refusal(Items([item]))
    if "batches" not in complaint:  # which a stream may give
        assert complaint in refusal(Stream([item]))


def test_an_empty_data_set_and_odd_streams() -> None:
    assert refusal(Items([])) == "The data set Items must have at least one image, got none."
    assert refusal(Stream([])) == "The data set Stream must have at least one image, got none."
    assert "got a list of 2 images" in refusal(DataLoader(Stream([tuple(pictures(2))]), batch_size=None))
    assert "Image 1 of the data set Stream has 8x8 pixels" in refusal(Stream([*pictures(1), *pictures(1, side=8)]))


@pytest.mark.parametrize("chance", [0.1, 0.5, 1.0])
def test_a_random_transform_is_refused(chance: float) -> None:
    def flip(image: Tensor) -> Tensor:
        drawn = crop(image) if chance == 1 else image
        return drawn.flip(-1) if torch.rand(()) < chance else drawn

    said = refusal(Items(pictures(120, side=32), transform=flip))
    assert "is another image when it is read again: a transform draws at random" in said


def test_a_random_transform_that_the_first_look_misses_is_refused_while_it_is_read() -> None:
    calls = {"now": 0}

    def later(image: Tensor) -> Tensor:
        calls["now"] += 1
        return image.flip(-1) if calls["now"] > 250 else image

    source = open_images(Items(pictures(120), transform=later))
    source.fingerprint()
    with pytest.raises(BadInput, match="Image 5 of the data set Items is another image when it is read again"):
        source.load([5] * 120)


def test_a_stream_that_shuffles_is_refused() -> None:
    assert "is another one when it is read again, so that a number names no image" in refusal(Shuffled(pictures(30)))


def test_an_error_of_the_users_code_is_told_with_its_index() -> None:
    items: list[Any] = [*pictures(40), KeyError("caption"), *pictures(3)]
    assert refusal(Items(items)) == "Image 40 of the data set Items raised KeyError: 'caption'."
    assert refusal(Stream(items)) == "Image 40 of the data set Stream raised KeyError: 'caption'."
    with pytest.raises(BadInput) as caught:
        open_images(Items(items)).fingerprint()
    assert isinstance(caught.value.__cause__, KeyError)


def test_files_that_cannot_be_read_are_skipped_as_files_of_a_folder_are() -> None:
    items = [*pictures(40), OSError("image file is truncated"), *pictures(3)]
    source = open_images(Items(items))
    loaded = source.load([39, 40, 41])
    assert loaded.indices == (39, 41)
    assert [(s.image_id, s.reason) for s in loaded.skipped] == [("40", "OSError: image file is truncated")]
    assert len(source.fingerprint()) == 64
    assert "None of the images that were looked at can be read" in refusal(Items([OSError("gone")] * 3))


# -- labels ------------------------------------------------------------------------------------------------------------


def test_labels_count_only_where_they_are_named() -> None:
    pairs = Items(list(zip(pictures(3), [2, 0, 1], strict=True)))
    assert open_dataset(pairs)[1] is None
    _, labels = open_dataset(pairs, label_names=["Cat", "dog", "owl"])
    assert labels is not None
    assert labels.targets == ("cat", "dog", "owl")
    assert labels.values.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("wrap", [Items, Stream, lambda pairs: DataLoader(Stream(pairs), batch_size=2)])
def test_a_vector_of_attributes_gives_a_column_each(wrap: Callable[[Any], Any]) -> None:
    rows = [[1.0, 0.0], [0.0, 0.0], [1.0, float("nan")]]
    pairs = list(zip(pictures(3), map(torch.tensor, rows), strict=True))
    _, labels = open_dataset(wrap(pairs), label_names=["smiling", "young"])
    assert labels is not None
    np.testing.assert_array_equal(labels.values, rows)


def test_columns_of_dicts_are_labels_by_their_names() -> None:
    items = [{"image": image, "smiling": i % 2, "young": 1} for i, image in enumerate(pictures(4))]
    for given in (Items(items), DataLoader(Items(items), batch_size=2), DataLoader(Stream(items), batch_size=2)):
        _, labels = open_dataset(given, label_names=["smiling", "young"])
        assert labels is not None
        assert labels.values.tolist() == [[0, 1], [1, 1], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("label", "names", "complaint"),
    [
        (3, ["a", "b"], "expected the index of one of 2 classes, 0 to 1, got 3"),
        (-1, ["a", "b"], "got -1"),
        ([1, 0, 1], ["a", "b"], "expected one value per label name, 2, or the index of a class, got 3"),
        ([1, 0.5], ["a", "b"], "expected 0 or 1 (NaN for unknown) per label name, got [1.0, 0.5]"),
        ("cat", ["a", "b"], "expected a label of numbers, got str"),
        (1, ["a", "A"], "label_names must differ"),
        (None, ["a"], "bring no label"),
    ],
)
def test_labels_that_do_not_fit_the_names(label: Any, names: list[str], complaint: str) -> None:
    assert complaint in refusal(Items([(pictures(1)[0], label)]), label_names=names)


def test_names_of_labels_need_items() -> None:
    said = refusal(torch.rand(2, 3, 8, 8), label_names=["a"])
    assert said == "label_names are for the items of a torch data set, got Tensor; leave them out."
    assert "must be a list of names" in refusal(Items(pictures(2)), label_names="smiling")


# -- the whole way -----------------------------------------------------------------------------------------------------


def test_an_audit_of_a_data_set_is_that_of_its_images(tmp_path: Path) -> None:
    images = worlds.images(60)
    pairs = Items([(image, i % 2) for i, image in enumerate(images)])
    given = {"autoencoder": worlds.autoencoder(), "reference": worlds.heads(), "options": cfa.AuditOptions(limit=10)}
    run = cfa.audit(DataLoader(pairs, batch_size=7), worlds.audited(), out=tmp_path / "run", **given)
    ids = tuple(map(str, range(60)))
    plain = cfa.audit(TensorImages(images, ids), worlds.audited(), out=tmp_path / "plain", **given)
    assert run.effects().equals(plain.effects())
    assert run.record()["data"]["source"] == "Items"
    again = cfa.audit(pairs, worlds.audited(), out=tmp_path / "run", **given)
    assert again.effects().equals(plain.effects())
    with pytest.raises(cfa.RunMismatch):
        cfa.audit(Items(list(images.flip(0))), worlds.audited(), out=tmp_path / "run", **given)


def test_a_bank_and_a_rectification_take_a_data_set(tmp_path: Path) -> None:
    data = TensorDataset(worlds.images(120))
    made = cfa.bank(data, worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank")
    assert made.run.record()["data"]["images"] == 120
    heads = worlds.heads()
    options = cfa.RectificationOptions(min_images=5)
    found = cfa.rectify(
        heads["smiling"],
        [heads["eyeglasses"]],
        images=DataLoader(data, batch_size=16, shuffle=True),
        autoencoder=worlds.autoencoder(),
        options=options,
    )
    assert np.isfinite(found.beta).all()


def test_an_explanation_takes_an_item() -> None:
    clf, autoencoder = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    faces = cfa.synthetic.render(cfa.synthetic.sample(2, seed=0))
    explain = functools.partial(
        cfa.explain, base=clf["smiling"], autoencoder=autoencoder, options=cfa.ExplainOptions(saliency=False, steps=2)
    )
    wanted = explain(faces[0])
    data = TensorDataset(faces, torch.arange(2))
    for image in (data[0], {"image": faces[0]}, faces[0].numpy(), faces[0].permute(1, 2, 0).numpy(), Subset(data, [0])):
        torch.testing.assert_close(explain(image).bases[0].frames, wanted.bases[0].frames, rtol=0, atol=0)
    pixels = (faces[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert explain(Image.fromarray(pixels)).name == "image"
    with pytest.raises(BadInput, match=r"takes one image, got a data set of 2; give one of its items, dataset\[0\]"):
        explain(data)
    with pytest.raises(BadInput, match="The image to explain: expected a tensor, an array or a picture"):
        explain(7)


def test_a_classifier_learns_from_the_named_labels_of_a_data_set(tmp_path: Path) -> None:
    images = cfa.synthetic.render(cfa.synthetic.sample(100, seed=0))
    data = TensorDataset(images, torch.arange(100) % 2)
    options = ClassifierTraining(size=16, steps=3, batch=8, widths=(4, 4))
    report = train_classifier(data, ["odd"], out=tmp_path / "model", options=options)
    assert [one.target for one in report.targets] == ["odd"]
    with pytest.raises(BadInput, match="label_names are for the items of a torch data set"):
        train_classifier(images, ["odd"], out=tmp_path / "other", options=options)


def test_an_object_with_items_and_a_length_is_a_data_set() -> None:
    """As data sets of other libraries are, which are no subclass of torch's."""

    class Duck:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> Any:
            return {"image": pictures(3)[i]}

    assert isinstance(open_images(Duck()), DatasetImages)  # type: ignore[arg-type]
