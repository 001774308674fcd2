"""Tiny models whose answers are known, for tests of whole runs. The command line takes them as `worlds.py:name`.

Images are 16×16: a grey mean plus one orthonormal pattern per latent, so encoding and decoding are exact and a head's
logit is a known linear function of the latent. Everything that a command of a test can ask for is a function without
arguments. At the end: commands, run in this process or in one of their own.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIZE, LATENT, GAIN = 16, 6, 4.0
TARGETS = ("smiling", "young", "eyeglasses", "wearing_hat")
MIXING = torch.tensor(
    [  # logit of every head per unit of every latent; `eyeglasses` leans on what `smiling` is
        [1.0, 0.0, 0.6, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.8, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 0.3, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]
)
SHORTCUT = torch.tensor([[0.2], [0.0], [0.0], [1.0], [0.0], [0.3]])  # of an audited head: it uses the hat


def patterns() -> Tensor:
    """Orthonormal rows [latent, pixel]."""
    drawn = np.random.default_rng(7).standard_normal((3 * SIZE * SIZE, LATENT))
    return torch.from_numpy(np.linalg.qr(drawn)[0].T.copy()).float()


class LinearAutoencoder(nn.Module):
    """Exact on the images of this world."""

    size = SIZE

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Parameter(patterns())

    def encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.basis.T

    def decode(self, latents: Tensor) -> Tensor:
        return (latents @ self.basis + 0.5).view(-1, 3, SIZE, SIZE)


class LinearHeads(nn.Module):
    """Logits [n, head] = GAIN · z · mixing, read from the pixels."""

    def __init__(self, mixing: Tensor = MIXING) -> None:
        super().__init__()
        self.read = nn.Parameter(GAIN * patterns().T @ mixing)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.read


class BentAutoencoder(LinearAutoencoder):
    """Curved, and slow enough to be stopped in the middle; batch normalisation and dropout tell modes apart."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__()
        self.pause = pause
        self.norm = nn.BatchNorm1d(LATENT, affine=False)
        self.drop = nn.Dropout(0.5)

    def encode(self, images: Tensor) -> Tensor:
        return self.drop(self.norm(super().encode(images)))

    def decode(self, latents: Tensor) -> Tensor:
        time.sleep(self.pause)
        return super().decode(latents + 0.2 * torch.tanh(latents.roll(1, dims=1))).clamp(0, 1)


class BentHeads(nn.Module):
    """Two layers over the pixels."""

    def __init__(self, mixing: Tensor = MIXING, seed: int = 0) -> None:
        super().__init__()
        self.linear = LinearHeads(mixing)
        heads = mixing.shape[1]
        drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((heads, heads))).float()
        self.mix = nn.Parameter(0.1 * drawn)
        self.norm = nn.BatchNorm1d(heads)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images)
        return self.norm(logits + torch.tanh(logits) @ self.mix)


def latents(count: int, seed: int = 0) -> Tensor:
    """Latents small enough that no pixel leaves [0, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, LATENT))).float() * 0.8


def images(count: int, seed: int = 0) -> Tensor:
    """Images [count, 3, 16, 16] of this world."""
    return LinearAutoencoder().decode(latents(count, seed)).detach().clamp(0, 1)


def write_images(folder: Path, count: int, *, seed: int = 0) -> Path:
    """The same as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images(count, seed)):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")
    return folder


def write_images_after_unreadable(folder: Path, count: int, *, unreadable: int, seed: int = 0) -> Path:
    """The same, but the first so many files in the order of an audit with this seed hold no image."""
    from cfalign._analysis.statistics import generator

    write_images(folder, count)
    files = sorted(folder.iterdir())
    for i in generator(seed, "order").permutation(count)[:unreadable]:
        files[i].write_bytes(b"no image")
    return folder


# -- what the command line can name -----------------------------------------------------------------------------------


def _wrapped(module: nn.Module, targets: Sequence[str] = TARGETS, **more: Any) -> Any:
    from cfalign.classifiers import wrap

    return wrap(module, targets, **{"name": "own", **more})


def autoencoder() -> Any:
    return LinearAutoencoder()


def slow_autoencoder() -> Any:
    return BentAutoencoder(pause=0.004)


def heads() -> Any:
    return _wrapped(LinearHeads(), name="heads")


def judge() -> Any:
    """Another view of two of the attributes, with a habit of its own."""
    seen = 0.5 * MIXING[:, [1, 3]] + torch.tensor([[0.0, 0.0]] * 5 + [[0.1, 0.2]])
    return _wrapped(LinearHeads(seen), [TARGETS[1], TARGETS[3]], name="second")


def bent_heads() -> Any:
    return _wrapped(BentHeads(), name="heads")


def audited() -> Any:
    return _wrapped(LinearHeads(SHORTCUT), ["friendly"], name="audited")


def torch_box() -> Any:
    from cfalign.classifiers import black_box

    module = LinearHeads(SHORTCUT)
    return black_box(lambda x: torch.sigmoid(module(x)), ["friendly"], name="audited")


def numpy_box() -> Any:
    from cfalign.classifiers import black_box

    read = LinearHeads(SHORTCUT).read.detach().numpy()
    return black_box(
        lambda x: 1 / (1 + np.exp(-(x.reshape(len(x), -1) - 0.5) @ read)), ["friendly"], name="audited", numpy=True
    )


def unnamed() -> Any:
    from cfalign.classifiers import wrap

    return wrap(LinearHeads(SHORTCUT), ["friendly"])


PAPER = (
    *("mouth_slightly_open", "big_nose", "male", "bushy_eyebrows", "arched_eyebrows", "smiling", "high_cheekbones"),
    *("pointy_nose", "wearing_lipstick", "heavy_makeup", "oval_face", "attractive", "young", "big_lips"),
)


def paper_heads() -> Any:
    """The classes of the paper; a third of what every other head reads is what `big_nose` reads."""
    drawn = torch.from_numpy(np.random.default_rng(3).standard_normal((LATENT, len(PAPER)))).float()
    mixing = drawn / drawn.norm(dim=0)
    nose = PAPER.index("big_nose")
    mixing += 0.5 * mixing[:, [nose]] * (torch.arange(len(PAPER)) != nose)
    return _wrapped(LinearHeads(0.7 * mixing), PAPER, name="paper")


class _Spoiled(nn.Module):
    """Linear heads whose answer is changed."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.heads, self.change = LinearHeads(), change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.heads(images))


def nan_heads() -> Any:
    return _wrapped(_Spoiled(lambda out: out * float("nan")))


def nan_sometimes() -> Any:
    """NaN where the second latent is large: for some images only."""
    return _wrapped(_Spoiled(lambda out: torch.where(out[:, 1:2] > 4, float("nan"), out)))


def too_many_columns() -> Any:
    return _wrapped(_Spoiled(lambda out: torch.cat([out, out], dim=1)))


def transposed() -> Any:
    return _wrapped(_Spoiled(lambda out: out.T))


def a_dict() -> Any:
    return _wrapped(_Spoiled(lambda out: {"logits": out}))


def raising_heads() -> Any:
    def change(_: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes\ncannot be multiplied")

    return _wrapped(_Spoiled(change))


def never_positive() -> Any:
    """`young` is never predicted."""
    return _wrapped(_Spoiled(lambda out: out - torch.tensor([0.0, 50.0, 0.0, 0.0])))


def detaching() -> Any:
    return _wrapped(_Spoiled(lambda out: out.detach()))


class _Tanh(LinearAutoencoder):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(3 * latents) * 2 - 1


class _Small(LinearAutoencoder):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents)[..., ::2, ::2]


class _Nan(LinearAutoencoder):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents) * float("nan")


class _Fails(LinearAutoencoder):
    def encode(self, images: Tensor) -> Tensor:
        raise ValueError("boom")


class _Posterior(LinearAutoencoder):
    def encode(self, images: Tensor) -> Any:
        return {"latent": super().encode(images)}


def tanh_autoencoder() -> Any:
    return _Tanh()


def small_autoencoder() -> Any:
    return _Small()


def nan_autoencoder() -> Any:
    return _Nan()


def failing_autoencoder() -> Any:
    return _Fails()


def posterior_autoencoder() -> Any:
    return _Posterior()


def raises() -> Any:
    raise RuntimeError("no weights here")


def leaves() -> Any:
    sys.exit(0)


def wrong_thing() -> Any:
    return 7


bare_module = LinearHeads()


class MeanColours(nn.Module):
    """Brightness of each channel in the middle of the image, of any size: logits [n, 3]."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        middle = images[..., height // 4 : height - height // 4, width // 4 : width - width // 4]
        return 20 * (middle.mean(dim=(2, 3)) - 0.45)


def mean_colours() -> Any:
    return _wrapped(MeanColours(), ["red", "green", "blue"], name="colours")


# -- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str


def options(**given: object) -> list[object]:
    """The words of options: `train_split="a"` is `--train-split a`; a list gives its option once per value."""
    words: list[object] = []
    for key, value in given.items():
        flag = f"--{key.replace('_', '-')}"
        words += [word for one in (value if isinstance(value, list) else [value]) for word in (flag, one)]
    return words


def cfalign(*args: object, folder: Path) -> Ended:
    """Run `cfalign ARGS` in `folder` and in this process: the exit code and the texts that a process would give.

    What belongs to a process (signals, limits, its real stdout) is tested with `Command`.
    """
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["cfalign", *map(str, args)]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _exit_code()
    finally:
        sys.argv = before
    return Ended(code, out.getvalue(), err.getvalue())


def _exit_code() -> int:
    """Of the command line, as the interpreter makes it from what `main` raises."""
    from cfalign._cli import main

    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _processes() -> Any:
    """What starts processes: a server that has imported the command line already, and checks no types."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cfalign._cli", "worlds"])
    return context


def apart(function: Callable[..., None], *given: Any) -> int:
    """Call a function of a test module in a process of its own: its exit code, negative for a signal."""
    process = _processes().Process(target=function, args=given)
    process.start()
    process.join()
    return int(process.exitcode)


class Command:
    """`cfalign ARGS` in a process of its own, started in `folder` by a server that has imported it already."""

    def __init__(
        self,
        *args: object,
        folder: Path,
        stdout: Path | None = None,
        file_limit: int | None = None,
        user: int | None = None,
    ) -> None:
        self._logs = (stdout or folder / f".out-{id(self)}", folder / f".err-{id(self)}")
        words = [str(a) for a in args]
        logs = [str(log) for log in self._logs]
        self.process = _processes().Process(target=_command, args=(words, str(folder), logs, file_limit, user))
        self.process.start()

    def wait(self) -> Ended:
        """Its exit code (negative: the signal that ended it) and what it wrote."""
        self.process.join()
        texts = [log.read_text() if log.is_file() else "" for log in self._logs]
        for log in self._logs:
            if log.is_file():
                log.unlink()
        return Ended(int(self.process.exitcode or 0), *texts)

    def signal(self, number: signal.Signals, *, after: float = 0.0) -> None:
        """Send a signal."""
        self.process.join(after)
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)


def _command(args: list[str], folder: str, logs: list[str], file_limit: int | None, user: int | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, number in zip(logs, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(folder)
    if file_limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if user is not None:
        os.setgid(user)
        os.setuid(user)
    torch.set_num_threads(1)
    sys.argv = ["cfalign", *args]
    from cfalign._cli import main

    main()
