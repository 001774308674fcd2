"""Runs are resumed by the same models only: what a model answers counts, whatever its answer was read from."""

from __future__ import annotations

import builtins
import itertools
import json
import math
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds
from cfalign._errors import ModelWarning, RunMismatch
from cfalign._models.fingerprint import fingerprint
from cfalign._models.probe_images import probe_images
from cfalign._runs.marks import add_mark, mark, read_marks
from cfalign._runs.probes import changed_answers, probe

NET = worlds.LinearHeads(worlds.SHORTCUT)
SHIFT = 0.0


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bank")
    return cfa.bank(worlds.images(12), worlds.heads(), autoencoder=worlds.autoencoder(), out=folder / "bank")


# -- ways of changing an answer that are in no code, weight or attribute: a box, and what changes its world ------------

World = tuple[Callable[[Tensor], Any], Callable[[], None]]


def box_of(number: Callable[[], float]) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.sigmoid(NET(x) + number())


def write(text: str, file: Path) -> None:
    file.write_text(text)


def a_file_that_is_read(folder: Path, _: pytest.MonkeyPatch) -> World:
    file = folder / "shift.txt"
    file.write_text("0")
    return box_of(lambda: float(file.read_text())), lambda: write("1", file)


def a_file_of_weights(folder: Path, _: pytest.MonkeyPatch) -> World:
    file = folder / "weights.npy"
    np.save(file, np.zeros(1))
    return box_of(lambda: float(np.load(file)[0])), lambda: np.save(file, np.ones(1))


def a_file_beside_the_working_folder(folder: Path, patch: pytest.MonkeyPatch) -> World:
    for name, text in (("one", "0"), ("other", "1")):
        (folder / name).mkdir()
        (folder / name / "shift").write_text(text)
    patch.chdir(folder / "one")
    return box_of(lambda: float(Path("shift").read_text())), lambda: patch.chdir(folder / "other")


def an_environment_variable(_: Path, patch: pytest.MonkeyPatch) -> World:
    patch.setenv("SHIFT_OF_A_MODEL", "0")
    return box_of(lambda: float(os.environ["SHIFT_OF_A_MODEL"])), lambda: patch.setenv("SHIFT_OF_A_MODEL", "1")


def a_global_by_its_name(_: Path, patch: pytest.MonkeyPatch) -> World:
    return box_of(lambda: float(globals()["SHI" + "FT"])), lambda: patch.setattr(sys.modules[__name__], "SHIFT", 1.0)


def an_attribute_of_python(_: Path, patch: pytest.MonkeyPatch) -> World:
    patch.setattr(builtins, "shift_of_a_model", 0.0, raising=False)
    return box_of(lambda: float(vars(builtins)["shift_of_a_model"])), lambda: patch.setattr(
        builtins, "shift_of_a_model", 1.0
    )


def an_installed_library(_: Path, patch: pytest.MonkeyPatch) -> World:
    library = types.ModuleType("library_of_a_model")
    library.__file__ = str(Path(np.__file__).parent.parent / "library_of_a_model" / "__init__.py")
    library.shift = 0.0  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "library_of_a_model", library)
    return (
        box_of(lambda: float(sys.modules["library_of_a_model"].shift)),  # type: ignore[attr-defined]
        lambda: patch.setattr(library, "shift", 1.0),
    )


def a_function_of_a_library(_: Path, patch: pytest.MonkeyPatch) -> World:
    return box_of(lambda: math.lgamma(1.0)), lambda: patch.setattr(math, "lgamma", lambda x: 1.0)


def a_function_of_torch(_: Path, patch: pytest.MonkeyPatch) -> World:
    plain = torch.erf
    box = lambda x: torch.sigmoid(NET(x) + torch.erf(torch.zeros(1)))  # noqa: E731
    return box, lambda: patch.setattr(torch, "erf", lambda x: plain(x) + 1)


def the_number_of_a_setting(_: Path, patch: pytest.MonkeyPatch) -> World:
    patch.setattr(sys, "argv", ["a"])
    return box_of(lambda: float(len(sys.argv) - 1)), lambda: patch.setattr(sys, "argv", ["a", "b"])


def the_time(_: Path, patch: pytest.MonkeyPatch) -> World:
    import time

    patch.setattr(time, "time", lambda: 0.0)
    return box_of(lambda: time.time()), lambda: patch.setattr(time, "time", lambda: 1.0)


def the_type_of_new_numbers(_: Path, patch: pytest.MonkeyPatch) -> World:
    state = {"wide": False}
    patch.setattr(torch, "get_default_dtype", lambda: torch.float64 if state["wide"] else torch.float32)
    return box_of(lambda: float(torch.get_default_dtype() == torch.float64)), lambda: state.update(wide=True)


WAYS = (
    *(a_file_that_is_read, a_file_of_weights, a_file_beside_the_working_folder, an_environment_variable),
    *(a_global_by_its_name, an_attribute_of_python, an_installed_library, a_function_of_a_library),
    *(a_function_of_torch, the_number_of_a_setting, the_time, the_type_of_new_numbers),
)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_not_resumed_by_a_model_that_answers_otherwise(
    way: Callable[[Path, pytest.MonkeyPatch], World], bank: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, change = way(tmp_path, monkeypatch)
    box = cfa.classifiers.black_box(function, ["friendly"], name="box", version="1")  # its hash stays
    first = cfa.audit(bank, box, out=tmp_path / "run")
    files = {file: file.read_bytes() for file in first.path.rglob("*.*")}
    assert cfa.audit(bank, box, out=tmp_path / "run").matrix().equals(first.matrix()), "the same model resumes"
    files[first.path / "run.json"] = (first.path / "run.json").read_bytes()
    change()
    with pytest.raises(RunMismatch, match=r"classifier 'box' \(audited\) now answers .*--out.*--fresh"):
        cfa.audit(bank, box, out=tmp_path / "run")
    assert {file: file.read_bytes() for file in files} == files, "nothing in the folder was changed"
    fresh = cfa.audit(bank, box, out=tmp_path / "fresh")
    assert not fresh.matrix().equals(first.matrix()), "the change is one that decides results"


def test_most_of_these_ways_are_in_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = []
    for way in WAYS:
        folder = tmp_path / way.__name__
        folder.mkdir()
        function, change = way(folder, monkeypatch)
        box = cfa.classifiers.black_box(function, ["friendly"], name="box")
        before = fingerprint(box)
        change()
        unseen += [way.__name__] if fingerprint(box) == before else []
        monkeypatch.undo()
    assert len(unseen) >= 10, unseen


class Reading(nn.Module):
    """An autoencoder or heads that read a file."""

    def __init__(self, inner: nn.Module, file: Path) -> None:
        super().__init__()
        self.inner, self.file, self.size = inner, file, worlds.SIZE

    def encode(self, images: Tensor) -> Tensor:
        return self.inner.encode(images)  # type: ignore[operator, no-any-return]

    def decode(self, latents: Tensor) -> Tensor:
        return self.inner.decode(latents * float(self.file.read_text()))  # type: ignore[operator, no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) * float(self.file.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("who", ["reference", "judge", "autoencoder"])
def test_everybody_who_takes_part_is_asked(who: str, tmp_path: Path) -> None:
    file = tmp_path / "scale.txt"
    file.write_text("1.0")

    def made() -> Any:
        heads = cfa.classifiers.wrap(Reading(worlds.LinearHeads(), file), worlds.TARGETS, name="heads")
        judge = cfa.classifiers.wrap(Reading(worlds.LinearHeads(worlds.MIXING[:, [1]]), file), ["young"], name="second")
        reference = cfa.Reference(
            heads if who == "reference" else worlds.heads(), judge if who == "judge" else worlds.judge()
        )
        coder = Reading(worlds.LinearAutoencoder(), file) if who == "autoencoder" else worlds.autoencoder()
        return cfa.bank(
            worlds.images(12),
            reference,
            autoencoder=coder,
            out=tmp_path / "bank",
            options=cfa.AuditOptions(limit=3),
        )

    made()
    made()
    file.write_text("0.5")
    with pytest.raises(RunMismatch, match=rf"{'the autoencoder' if who == 'autoencoder' else who}.* now answer"):
        made()


def test_a_model_that_is_never_the_same_is_told_and_resumed(bank: Any, tmp_path: Path) -> None:
    calls = itertools.count()
    golden = (np.sqrt(5) - 1) / 2  # multiples of it leave no two calls soon after one another alike
    box = cfa.classifiers.black_box(
        lambda x: torch.sigmoid(NET(x) + 4 * (next(calls) * golden % 1)), ["friendly"], name="box", version="1"
    )
    for _ in range(2):
        with pytest.warns(ModelWarning, match=r"'box' answers otherwise when the same images are given again"):
            run = cfa.audit(bank, box, out=tmp_path / "run")
    (told,) = run.record()["probes"]["classifiers"]
    assert told["noise"] > 0.05
    assert "random" in told["notes"][0]


def test_a_model_that_looks_across_the_batch_is_told(bank: Any, tmp_path: Path) -> None:
    box = cfa.classifiers.black_box(lambda x: torch.sigmoid(NET(x - x.mean(0) + 0.5)), ["friendly"], name="box")
    with pytest.warns(ModelWarning, match="other images are in the batch"):
        cfa.audit(bank, box, out=tmp_path / "run")


def test_rounding_is_no_change() -> None:
    images = worlds.images(4)
    clf, coder = worlds.heads(), worlds.autoencoder()
    one = probe([(clf, "audited")], coder, images, batch=64)
    clf.module.double()
    other = probe([(clf, "audited")], coder, images, batch=1)
    assert not list(changed_answers(json.loads(json.dumps(one)), other))
    clf.module.half()
    assert not list(changed_answers(one, probe([(clf, "audited")], coder, images, batch=64)))


def test_probabilities_without_digits_are_no_change(bank: Any, tmp_path: Path) -> None:
    state = [1e-7]
    box = cfa.classifiers.black_box(
        lambda x: torch.full((len(x), 1), state[0] if len(x) else 0.0), ["friendly"], name="box", version="1"
    )
    cfa.audit(bank, box, out=tmp_path / "run")
    state[0] = 3e-7
    cfa.audit(bank, box, out=tmp_path / "run")
    state[0] = 1e-3
    with pytest.raises(RunMismatch):
        cfa.audit(bank, box, out=tmp_path / "run")


def test_a_change_of_one_among_a_thousand_heads_is_seen() -> None:
    weights = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0))
    module = nn.Sequential(nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Linear(12, 8), nn.Linear(8, 1000))
    with torch.no_grad():
        module[3].weight.copy_(weights.T)  # type: ignore[union-attr]
    clf = cfa.classifiers.wrap(module, [f"class_{i}" for i in range(1000)], name="many", version="1")
    one = probe([(clf, "audited")], None, worlds.images(4), batch=64)
    assert len(one["classifiers"][0]["answers"][0][0]) == 64
    assert not list(changed_answers(one, probe([(clf, "audited")], None, worlds.images(4), batch=3)))
    with torch.no_grad():
        module[3].bias[500] += 1.0  # type: ignore[union-attr]
    assert list(changed_answers(one, probe([(clf, "audited")], None, worlds.images(4), batch=64)))


def test_a_model_that_takes_real_images_only_is_audited(bank: Any, tmp_path: Path) -> None:
    def choosy(x: Tensor) -> Tensor:
        if x[0].std() < 1e-4:
            raise ValueError("no face")
        return torch.sigmoid(NET(x))

    box = cfa.classifiers.black_box(choosy, ["friendly"], name="box", version="1")
    for _ in range(2):
        run = cfa.audit(bank, box, out=tmp_path / "run")
    (told,) = run.record()["probes"]["classifiers"]
    assert told["answers"][1] is None
    assert len(told["answers"][0]) == 4


def test_a_run_without_probes_is_resumed_and_told(bank: Any, tmp_path: Path) -> None:
    run = cfa.audit(bank, worlds.torch_box(), out=tmp_path / "run")
    record = run.record()
    del record["probes"]
    (run.path / "run.json").write_text(json.dumps(record))
    for _ in range(2):
        with pytest.warns(ModelWarning, match="kept no answers"):
            cfa.audit(bank, worlds.torch_box(), out=tmp_path / "run")


def test_the_images_are_always_the_same() -> None:
    images = probe_images((3, 16, 16))
    assert images.shape == (8, 3, 16, 16)
    assert torch.equal(images, probe_images((3, 16, 16)))
    assert images.min() >= 0
    assert images.max() <= 1
    assert probe_images((1, 5, 7)).shape == (8, 1, 5, 7)


def test_fresh_starts_again(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 12)
    file = tmp_path / "model.py"
    text = (
        "import pathlib, torch, worlds, cfalign as cfa\nNET = worlds.LinearHeads(worlds.SHORTCUT)\n"
        "def answer(x): return torch.sigmoid(NET(x) + float(pathlib.Path('shift.txt').read_text()))\n"
        "def make(): return cfa.classifiers.black_box(answer, ['friendly'], name='net', version='1')\n"
    )
    file.write_text(text)
    (tmp_path / "shift.txt").write_text("0")
    here = Path(worlds.__file__)
    made = ("--reference", f"{here}:heads", "--autoencoder", f"{here}:autoencoder", "--judge", "none", "--limit", 4)
    given = ("audit", "--images", "images", "--classifier", "model.py:make", *made, "--out", "run")
    assert worlds.cfalign(*given, folder=tmp_path).code == 0
    before = (tmp_path / "run" / "matrix.csv").read_bytes()
    (tmp_path / "shift.txt").write_text("2")
    ended = worlds.cfalign(*given, folder=tmp_path)
    assert ended.code == 2
    assert ended.err.count("cfalign: ") == 1
    assert "'net' (audited) now answers" in ended.err
    assert "--fresh" in ended.err
    assert (tmp_path / "run" / "matrix.csv").read_bytes() == before
    ended = worlds.cfalign(*given, "--fresh", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "matrix.csv").read_bytes() != before


def test_fresh_keeps_heads_that_were_named_also_where_the_run_itself_takes_them(tmp_path: Path) -> None:
    """They are no part of the run, and nothing else could make them again."""
    worlds.write_images(tmp_path / "images", 12)
    here = Path(worlds.__file__)
    given = ("audit", "--images", "images", "--classifier", f"{here}:audited", "--autoencoder", f"{here}:autoencoder")
    given = (*given, "--judge", "none", "--limit", 4, "--out", "run")
    assert worlds.cfalign(*given, "--reference", f"{here}:heads", folder=tmp_path).code == 0
    head = tmp_path / "run" / "named" / "ruler"
    head.mkdir(parents=True)
    (head / "model.py").write_text("from worlds import heads\n")
    (head / "classifier.safetensors").write_bytes(b"weights")
    marked = mark("relation", ["friendly", "wearing_hat"], "spurious", user="ana")
    add_mark(tmp_path / "run", marked)
    taken = ("--reference", "run/named/ruler/model.py:heads", "--fresh")
    ended = worlds.cfalign(*given, *taken, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "run/named stays: heads that were made of unnamed features (ruler)." in ended.err
    assert "run/marks.jsonl stays: marks of people" in ended.err
    assert read_marks(tmp_path / "run") == (marked,)
    assert (head / "classifier.safetensors").read_bytes() == b"weights"
    assert cfa.Run(tmp_path / "run").record()["given"]["reference"] == "run/named/ruler/model.py:heads"
    again = worlds.cfalign(*given, *taken[:-1], folder=tmp_path)
    assert again.code == 0, again.err
    (tmp_path / "run" / "run.json").unlink()
    assert worlds.cfalign(*given, *taken[:-1], folder=tmp_path).code == 2


def test_fresh_removes_runs_alone(tmp_path: Path) -> None:
    from cfalign._runs.record import discard

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("all of it")
    with pytest.raises(cfa.BadInput, match="not a run"):
        discard(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"miles": 12}')
    with pytest.raises(cfa.BadInput, match="not one of cfalign"):
        discard(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"schema": 2}')
    with pytest.raises(cfa.BadInput, match="thesis"):
        discard(tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 2
    discard(tmp_path / "nowhere")
