"""What ``cfalign explain`` leaves behind: figure, numbers, alignment plots, and the transition as a moving picture."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cfalign import __version__
from cfalign._errors import BadInput
from cfalign._explanation.drawing import explanation_figure, walk_of
from cfalign._explanation.explained import ExplainedBase, ExplainedImage, ExplainedRegions
from cfalign._explanation.region_drawing import regions_figure
from cfalign._figures.plots.pixels import save_png
from cfalign._figures.svg import alignment_plot
from cfalign._runs.codec import file_name, write_json, write_text, written

_LOG = logging.getLogger(__name__)
Frame = NDArray[np.uint8]
MOVING = (".gif", ".webp", ".mp4")
SIDE = 256
"""Transitions of smaller images are enlarged to about this side, in whole pixels."""
_MS, _HOLD = 80, 6  # a frame's time; the two ends stand still for so many frames


def write_explanation(
    explanation: ExplainedImage, out: str | Path, *, transitions: Sequence[str | Path] = ()
) -> dict[str, Path]:
    """Write ``explain.png``, ``explain.json``, ``regions.png`` where the image was split by regions, and an
    ``alignment.<base>.svg`` per base into the folder ``out``; and the transition from x0 to the counterfactual and back
    as ``transition.gif``, or as the files named.

    ``transitions`` end in .gif, .webp or .mp4 (which needs the extra ``[video]``); several bases lie side by side.
    Gives the files by name. BadInput for another ending.
    """
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file; name a folder to be made.")
    moving = [Path(path).expanduser() for path in transitions] or [folder / "transition.gif"]
    for path in moving:
        check_moving(path)
    files = {"figure": folder / "explain.png", "numbers": folder / "explain.json"}
    with written(files["figure"]) as temporary:
        save_png(explanation_figure(explanation), temporary)
    write_json(files["numbers"], numbers(explanation))
    if any(base.regions is not None for base in explanation.bases):
        files["regions"] = folder / "regions.png"
        with written(files["regions"]) as temporary:
            save_png(regions_figure(explanation), temporary)
    start = explanation.options.search.start
    for base in explanation.bases:
        file = folder / f"alignment.{file_name(base.base)}.svg"
        write_text(file, alignment_plot(walk_of(explanation, base), start=start) + "\n")
        files[f"alignment of {base.base}"] = file
    frames = transition(explanation)
    for path in moving:
        _write_moving(path, frames)
        files[f"transition ({path.suffix[1:]})"] = path
    _LOG.info("The explanation of %r is written to %s.", explanation.name, folder)
    return files


def numbers(explanation: ExplainedImage) -> dict[str, Any]:
    """``explain.json``: undefined numbers are null."""
    options = explanation.options
    return {
        "cfalign": __version__,
        "image": explanation.name,
        "heads": list(explanation.heads),
        "scores_on_image": dict(zip(explanation.heads, explanation.image_scores.tolist(), strict=True)),
        "settings": {
            "drop": options.search.drop,
            "strategy": options.search.strategy,
            "method": options.search.method,
            "eligible": options.search.eligible,
            "residual": options.search.residual,
            "min_base_change": options.min_base_change,
            "difference": options.difference,
            "steps": options.steps,
            **({} if options.regions is None else {"regions": options.regions}),
        },
        "bases": [_of_base(explanation, base) for base in explanation.bases],
    }


def _of_base(explanation: ExplainedImage, base: ExplainedBase) -> dict[str, Any]:
    psi = sorted(base.psi.items(), key=lambda item: (-abs(item[1]) if math.isfinite(item[1]) else math.inf, item[0]))
    frames = zip(base.lambdas.tolist(), base.base_scores.tolist(), base.scores.tolist(), strict=True)
    return {
        "base": base.base,
        "direction": "raised" if base.increased else "lowered",
        "outcome": str(base.outcome),
        "evaluations": base.evaluations,
        "lambda": float(base.lambdas[-1]),
        "base_before": float(base.base_scores[0]),
        "base_after": float(base.base_scores[-1]),
        "image_change": base.image_change,
        "psi": dict(psi),
        "frames": [
            {"lambda": lam, "base_score": own, "scores": dict(zip(explanation.heads, row, strict=True))}
            for lam, own, row in frames
        ],
        "saliency": list(base.saliency),
        **({} if base.regions is None else {"regions": _of_regions(explanation.heads, base.regions)}),
    }


def _of_regions(heads: Sequence[str], split: ExplainedRegions) -> dict[str, Any]:
    """Of every head the whole change, and by region how much of it is there alone, and lost without it."""
    return {
        head: {
            "change": float(split.whole[row]),
            "regions": {
                name: {"inside": inside, "lost": lost, "inside_share": inside_share, "lost_share": lost_share}
                for name, inside, lost, inside_share, lost_share in zip(
                    split.names,
                    split.inside[row].tolist(),
                    split.lost[row].tolist(),
                    split.inside_shares[row].tolist(),
                    split.lost_shares[row].tolist(),
                    strict=True,
                )
            },
        }
        for row, head in enumerate(heads)
    }


def transition(explanation: ExplainedImage) -> list[Frame]:
    """Frames [h, w, 3]: x0 to counterfactual and back, the bases side by side."""
    columns = [[_frame(image) for image in base.frames] for base in explanation.bases]
    there = [np.concatenate(row, axis=1) for row in zip(*columns, strict=True)]
    return [*[there[0]] * _HOLD, *there[1:-1], *[there[-1]] * _HOLD, *there[-2:0:-1]]


def _frame(image: Tensor) -> Frame:
    pixels = (image.float().clamp(0, 1) * 255).round().expand(3, -1, -1).permute(1, 2, 0).numpy().astype(np.uint8)
    times = max(1, round(SIDE / max(pixels.shape[:2])))
    larger: Frame = pixels.repeat(times, axis=0).repeat(times, axis=1)
    return larger


def check_moving(path: Path) -> None:
    """BadInput when the transition cannot be written in the format that the ending of ``path`` names."""
    if path.suffix.lower() not in MOVING:
        raise BadInput(f"A transition is written as {', '.join(MOVING)}; got {path.name!r}.")
    if path.suffix.lower() == ".mp4":
        _ffmpeg()


def _ffmpeg() -> Any:
    try:
        return import_module("imageio_ffmpeg")
    except ImportError:
        raise BadInput(
            'MP4 needs the extra [video] (pip install "cfalign[video]"); without it name a .gif or .webp file.'
        ) from None


def _write_moving(path: Path, frames: Sequence[Frame]) -> None:
    kind = path.suffix.lower()
    with written(path) as temporary:
        if kind == ".mp4":
            _write_mp4(temporary, frames)
            return
        first, *rest = [Image.fromarray(frame) for frame in frames]
        more: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": _MS, "loop": 0}
        buffer = io.BytesIO()
        first.save(buffer, format=kind[1:].upper(), **more, **({"lossless": True} if kind == ".webp" else {}))
        temporary.write_bytes(buffer.getvalue())


def _write_mp4(path: Path, frames: Sequence[Frame]) -> None:
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])  # H.264 wants even sides
    writer = _ffmpeg().write_frames(
        str(path), (width, height), fps=1000 / _MS, macro_block_size=1, output_params=["-f", "mp4"]
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame[:height, :width]))
    writer.close()
