"""Generated models of every kind that people bring: right numbers or one sentence, never another error.

A maker gives (spec or classifier, right logits or None). To extend: write a maker and put it into MAKERS.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cfalign as cfa
import worlds
from cfalign.classifiers import black_box, load, wrap

COUNT = 200
IMAGES = worlds.images(9)
Made = tuple[Any, Tensor | None]
Maker = Callable[[np.random.Generator, Path], Made]
"""A classifier or a spec, and the right logits for IMAGES; None where any refusal is right too."""


class Net(nn.Module):
    """Linear heads with something before and after, in any floating type."""

    def __init__(self, mixing: Tensor, before: Callable[[Tensor], Any], after: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.heads, self.before, self.after = worlds.LinearHeads(mixing), before, after

    def forward(self, images: Tensor) -> Any:
        return self.after(self.heads(self.before(images)))


def drawn_mixing(rng: np.random.Generator, heads: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal((worlds.LATENT, heads))).float()


def names(rng: np.random.Generator, count: int) -> list[str]:
    """Names as people have them; all different."""
    odd = (
        "smiling",
        "Big Nose",
        "3",
        "a+b",
        "c*d",
        "e:f",
        "g/h",
        "it's",
        'say "i"',
        "größe",
        "日本",
        "x - y",
        "n\nm",
        "1.5",
    )
    return [f"{odd[i]}" for i in rng.permutation(len(odd))[:count]]


BEFORE: tuple[Callable[[Tensor], Any], ...] = (
    lambda x: x,
    lambda x: x.sub_(0.0),
    lambda x: x.clamp_(0, 1),
    lambda x: nn.ReLU(inplace=True)(x),
)
RIGHT: tuple[tuple[Any, Callable[[Tensor], Any]], ...] = (
    (None, lambda z: z),
    ("sigmoid", lambda z: z),
    (None, torch.sigmoid),
    ("sigmoid", torch.sigmoid),
    ("probability", torch.sigmoid),
    (None, lambda z: {"logits": z}),
    (None, lambda z: (z, z.mean())),
    (None, lambda z: [z[:, i] for i in range(z.shape[1])]),
    (None, lambda z: z.squeeze()),
    (None, lambda z: z[:, :, None, None]),
)
WRONG: tuple[Callable[[Tensor], Any], ...] = (
    lambda z: torch.cat([z, z], dim=1),
    lambda z: z.T,
    lambda z: z * float("nan"),
    lambda z: z[:-1],
    lambda z: None,
    lambda z: "text",
    lambda z: z.argmax(dim=1),
    lambda z: z.numpy(),
    lambda z: z.to(torch.complex64),
    lambda z: 1 / 0,
    lambda z: {}["missing"],
    lambda z: [],
    lambda z: z.mean(),
    lambda z: exit(3),
)


def right_modules(rng: np.random.Generator, _: Path) -> Made:
    mixing = drawn_mixing(rng, int(rng.integers(1, 6)))
    link, after = RIGHT[rng.integers(len(RIGHT))]
    module = Net(mixing, BEFORE[rng.integers(len(BEFORE))], after)
    kind = (torch.float32, torch.float64, torch.bfloat16, torch.float16)[rng.integers(4)]
    clf = wrap(module.to(kind), names(rng, mixing.shape[1]), link=link, name=str(rng.choice(["net", "a b", "ü:1"])))
    return clf, worlds.LinearHeads(mixing)(IMAGES).detach()


def wrong_modules(rng: np.random.Generator, _: Path) -> Made:
    mixing = drawn_mixing(rng, int(rng.integers(2, 6)))
    return wrap(Net(mixing, lambda x: x, WRONG[rng.integers(len(WRONG))]), names(rng, mixing.shape[1])), None


def boxes(rng: np.random.Generator, _: Path) -> Made:
    mixing = drawn_mixing(rng, int(rng.integers(1, 4)))
    net, numpy = worlds.LinearHeads(mixing), bool(rng.integers(2))

    def answer(x: Any) -> Any:
        with torch.no_grad():
            found = torch.sigmoid(net(torch.as_tensor(x)))
        if numpy:
            x *= 0
        return (found, found.numpy(), found.tolist(), found.double(), found.half().float())[form]

    form = int(rng.integers(5))
    return black_box(answer, names(rng, mixing.shape[1]), numpy=numpy), net(IMAGES).detach()


def wrong_boxes(rng: np.random.Generator, _: Path) -> Made:
    net, after = worlds.LinearHeads(drawn_mixing(rng, 3)), WRONG[rng.integers(len(WRONG))]
    return black_box(
        lambda x: after(net(torch.as_tensor(x)).detach()), names(rng, 3), numpy=bool(rng.integers(2))
    ), None


def factories(rng: np.random.Generator, folder: Path) -> Made:
    bodies = (
        "return cfa.classifiers.wrap(worlds.LinearHeads(), worlds.TARGETS)",
        "return None",
        "raise KeyError('weights')",
        "import sys; sys.exit('no')",
        "return worlds.LinearHeads()",
        "return 3",
        "return make()",
        "import no_such_package",
    )
    number = int(rng.integers(len(bodies)))
    file = folder / "model.py"
    file.write_text(f"import worlds, cfalign as cfa\ndef make():\n    {bodies[number]}\n")
    return f"{file}:make", worlds.LinearHeads()(IMAGES).detach() if number == 0 else None


def scripts(rng: np.random.Generator, folder: Path) -> Made:
    import model_files

    mixing, ends = drawn_mixing(rng, 3), bool(rng.integers(2))
    module = nn.Sequential(worlds.LinearHeads(mixing), nn.Sigmoid() if ends else nn.Identity())
    file = model_files.script(folder / "net.pt", module)
    model_files.say(file, targets=names(rng, 3), link="sigmoid", size=worlds.SIZE)
    if rng.integers(3) == 0:
        content = bytearray(file.read_bytes())
        for at in rng.integers(0, len(content), size=20):
            content[at] = int(rng.integers(256))
        file.write_bytes(bytes(content[: rng.integers(1, len(content))]))
        return str(file), None
    return str(file), worlds.LinearHeads(mixing)(IMAGES).detach()


def checkpoints(rng: np.random.Generator, folder: Path) -> Made:
    """One network under wrappers, containers, averages and strangers; the state that is read is compared."""
    from cfalign.classifiers.families.checkpoint import read

    plain, mean = (nn.Linear(3, 2).state_dict() for _ in range(2))
    prefix = "".join(rng.choice(["", "module.", "_orig_mod.", "model."], size=2))
    add = {f"{prefix}{k}": v for k, v in plain.items()}
    stranger = {} if rng.integers(2) else {"criterion.pos_weight": torch.ones(2)}
    averaged = bool(rng.integers(2))
    content: dict[str, Any] = {"state_dict": {**add, **stranger}, "epoch": 3}
    if averaged:
        content["state_dict_ema"] = {"n_averaged": torch.tensor(2), **{f"module.{k}": v for k, v in mean.items()}}
    torch.save(content, folder / "c.pt")
    for choice, wanted in (("", mean if averaged else plain), ("#weights=plain", plain)):
        found = read(f"{folder / 'c.pt'}{choice}").state_of(list(plain))
        assert all(torch.equal(found[k], wanted[k]) for k in plain)
    return worlds.heads(), worlds.LinearHeads()(IMAGES).detach()


MAKERS: tuple[Maker, ...] = (right_modules, wrong_modules, boxes, wrong_boxes, factories, scripts, checkpoints)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.filterwarnings("ignore")
def test_a_generated_model_is_right_or_refused_in_one_sentence(number: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(number)
    try:
        made, right = MAKERS[number % len(MAKERS)](rng, tmp_path)
        clf = load(made) if isinstance(made, str) else made
        found = torch.cat([clf.logits(part) for part in IMAGES.split(int(rng.integers(1, 10)))])
        if right is not None:
            assert torch.allclose(torch.sigmoid(found), torch.sigmoid(right), atol=0.03), "wrong numbers"
        audited(clf, rng)
    except cfa.CfalignError as error:
        sentence = str(error)
        assert sentence.endswith((".", ".)", "…"))
        assert "\n" not in sentence
        assert MAKERS[number % len(MAKERS)] not in (right_modules, boxes, checkpoints), sentence


def audited(clf: Any, rng: np.random.Generator) -> None:
    """A small audit, whose record can be read again."""
    own = {"reference": worlds.heads()} if rng.integers(2) or not clf.differentiable else {}
    options = cfa.AuditOptions(limit=2, batch=int(rng.integers(1, 9)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = cfa.audit(IMAGES, clf, autoencoder=worlds.autoencoder(), **own, options=options)
    told = json.loads((run.path / "run.json").read_text())
    assert told["status"] == "complete"
    assert len(told["probes"]["classifiers"]) >= 1
