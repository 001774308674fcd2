"""What goes wrong in the user's own code: one sentence with whose it is and what it was given, never a traceback."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cfalign as cfa
import worlds
from cfalign._errors import BadModel
from cfalign._models.guard import LONGEST, described, user_code

HERE = Path(worlds.__file__)
MODELS = """
import sys, torch, worlds, cfalign as cfa
from torch import nn
NET = worlds.LinearHeads(worlds.SHORTCUT)

class Raises(nn.Module):
    def forward(self, x):
        raise RuntimeError("first line\\nsecond line\\nthe last line")

class Leaves(nn.Module):
    def forward(self, x):
        sys.exit(0)

class Raising(Exception):
    def __str__(self):
        raise ValueError("no text")

class WithoutText(nn.Module):
    def forward(self, x):
        raise Raising()

class Deep(nn.Module):
    def forward(self, x):
        return self.forward(x)

class Full(nn.Module):
    def forward(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

def wrapped(kind, **more):
    return cfa.classifiers.wrap(kind(), ["friendly"], name="net", **more)

def raises(): return wrapped(Raises)
def leaves(): return wrapped(Leaves)
def without_text(): return wrapped(WithoutText)
def deep(): return wrapped(Deep)
def full(): return wrapped(Full)
def in_a_box(): return cfa.classifiers.black_box(lambda x: {}["k"], ["friendly"], name="net")
def text(): return cfa.classifiers.black_box(lambda x: ["yes"] * len(x), ["friendly"], name="net")
def in_preparation(): return cfa.classifiers.wrap(NET, ["friendly"], name="net", prepare=lambda x: 1 / 0)
def lists(): return cfa.classifiers.wrap(NET, ["friendly"], name="net", prepare=lambda x: x.tolist())
def fewer(): return cfa.classifiers.wrap(NET, ["friendly"], name="net", prepare=lambda x: x[:-1])

class Own:
    name, differentiable, targets = "net", True, ("friendly",)
    def __getattr__(self, key): return {}[key]
    def logits(self, x): return [1.0]

def of_their_own_class(): return Own()

class Failing(Own):
    def logits(self, x): raise KeyError("weights")

def failing(): return Failing()

class Hostile(Own):
    @property
    def targets(self): raise ValueError("not yet")

def hostile(): return Hostile()
def nothing(): pass
def of_a_factory(): return {}["config"]
def with_arguments(path): return path
"""
SENTENCES: dict[str, tuple[str, ...]] = {
    "raises": ("Classifier 'net', given images of shape [40, 3, 16, 16]", "first line", "the last line"),
    "leaves": ("'net'", "[40, 3, 16, 16]", "SystemExit"),
    "without_text": ("'net'", "Raising", "its text cannot be made"),
    "deep": ("'net'", "RecursionError"),
    "full": ("'net'", "out of memory", "2 and 1)", "--size"),
    "in_a_box": ("'net'", "[40, 3, 16, 16]", "KeyError: 'k'"),
    "text": ("'net'",),
    "in_preparation": ("preprocessing of classifier 'net'", "[40, 3, 16, 16]", "ZeroDivisionError"),
    "lists": ("preprocessing of classifier 'net' returned list",),
    "fewer": ("preprocessing of classifier 'net' returned shape [39, 3, 16, 16]",),
    "of_their_own_class": ("'net' returned list",),
    "failing": ("'net'", "[40, 3, 16, 16]", "KeyError: 'weights'"),
    "hostile": ("ValueError: not yet",),
    "nothing": ("gave NoneType", "wrap("),
    "of_a_factory": ("of_a_factory raised KeyError: 'config' (line",),
    "with_arguments": ("missing 1 required positional argument: 'path'",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("own")
    worlds.write_images(made / "images", 40)
    (made / "mine.py").write_text(MODELS)
    (made / "broken.py").write_text("import torch\ndef make(:\n")
    (made / "absent.py").write_text("import no_such_package\ndef make(): pass\n")
    (made / "leaving.py").write_text("raise SystemExit('not today')\n")
    (made / "warning.py").write_text(
        "import warnings\nfrom worlds import torch_box\nwarnings.warn('old weights')\ndef make(): return torch_box()\n"
    )
    return made


def audited(folder: Path, spec: str, *more: object, autoencoder: str = "autoencoder") -> worlds.Ended:
    given = ("--images", "images", "--reference", f"{HERE}:heads", "--judge", "none", "--limit", 3)
    coder = autoencoder if ":" in autoencoder else f"{HERE}:{autoencoder}"
    out = f"run-{re.sub(r'[^a-z_]', '-', spec)}"
    return worlds.cfalign(
        "audit", *given, "--classifier", spec, "--autoencoder", coder, "--out", out, *more, folder=folder
    )


@pytest.mark.parametrize("name", SENTENCES)
def test_one_sentence(name: str, folder: Path) -> None:
    ended = audited(folder, f"mine.py:{name}")
    assert (ended.code, "Traceback" in ended.err, ended.err.count("cfalign: ")) == (2, False, 1), ended.err
    for part in SENTENCES[name]:
        assert part in ended.err
    assert not (folder / f"run-mine-py-{name}" / "run.json").exists(), "the corrected command may use the folder"


@pytest.mark.parametrize(
    ("file", "part"), [("broken", "SyntaxError"), ("absent", "no_such_package"), ("leaving", "SystemExit: not today")]
)
def test_files_that_cannot_be_imported(file: str, part: str, folder: Path) -> None:
    ended = audited(folder, f"{file}.py:make")
    assert (ended.code, "Traceback" in ended.err, ended.err.count("cfalign: ")) == (2, False, 1), ended.err
    assert part in ended.err


def test_debug_shows_the_rest_wherever_it_stands(folder: Path) -> None:
    plain = audited(folder, "mine.py:raises")
    assert "(--debug shows where)" in plain.err
    told = audited(folder, "mine.py:raises", "--debug")
    assert told.code == 2
    assert "Traceback" in told.err
    assert "mine.py" in told.err
    assert "in forward" in told.err
    assert told.err.rstrip().splitlines()[-1].startswith("cfalign: Classifier 'net'")
    first = worlds.cfalign(
        "--debug", "audit", "--classifier", "mine.py:of_a_factory", "--images", "images", folder=folder
    )
    assert (first.code, "Traceback" in first.err) == (2, True)
    ours = worlds.cfalign("query", "nowhere", folder=folder)
    assert "--debug" not in ours.err


def test_warnings_of_the_users_code_are_no_error(folder: Path) -> None:
    with pytest.warns(UserWarning, match="old weights"):
        ended = audited(folder, "warning.py:make")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_the_autoencoder_is_named(name: str, folder: Path) -> None:
    (folder / "coder.py").write_text(
        "import worlds\nclass Mine(worlds.LinearAutoencoder):\n"
        f"    name = 'mine'\n    def {name}(self, x): raise ValueError('boom')\n"
        "def make(): return Mine()\n"
    )
    ended = audited(folder, f"{HERE}:torch_box", autoencoder="coder.py:make")
    given = r"images of shape \[40, 3, 16, 16\]" if name == "encode" else r"latents of shape \[40, 6\]"
    assert ended.code == 2
    assert re.search(rf"The {name} of autoencoder 'mine', given {given}, raised ValueError: boom", ended.err), ended.err


def test_errors_in_python_are_ours_with_the_cause() -> None:
    class Coder:
        name = "mine"

        def encode(self, x: Tensor) -> Any:
            return [x]

        def decode(self, z: Tensor) -> Tensor:
            return z

    with pytest.raises(BadModel, match=r"The encode of autoencoder 'mine' returned list for a batch of 8"):
        cfa.audit(worlds.images(8), worlds.heads(), autoencoder=Coder())  # type: ignore[arg-type]
    box = cfa.classifiers.black_box(lambda x: torch.zeros(len(x), 3) / {}["k"], ["a", "b", "c"])
    with pytest.raises(BadModel, match="KeyError") as caught:
        box.logits(worlds.images(2))
    assert isinstance(caught.value.__cause__, KeyError)


def test_ctrl_c_and_want_of_memory_pass() -> None:
    for kind in (KeyboardInterrupt, MemoryError):
        with pytest.raises(kind), user_code("x"):
            raise kind


def test_long_messages_keep_their_beginning_and_end() -> None:
    text = described(ValueError("begin " + "middle " * 200 + "end"))
    assert text.startswith("ValueError: begin")
    assert text.endswith("middle end")
    assert len(text) < LONGEST + 20
