"""Images in the order of an audited head's scores: a few thumbnails, to be looked at without any explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cfalign._findings import Ranked, SortedImages
from cfalign._results import Floats
from cfalign._runs.codec import written
from cfalign._runs.columns import Column
from cfalign._runs.run import Run
from cfalign._runs.sorted_images import thumbnail_of, write_sorted
from cfalign.datasets import ImageSource

EACH = 8
"""Images of the lowest, the middle and the highest scores."""
MOST = 12
"""Audited heads that get them: those of findings first."""
SIDE = 96
"""Longest side of a thumbnail, in px."""
_QUALITY = 85
_AT_ONCE = 64

Seen = Callable[[Sequence[str]], Iterator[tuple[str, Tensor]]]
"""Ids of images → those that can be had, with their pixels [c, h, w] in [0, 1]."""


def keep_sorted_images(run: Run, audited: Sequence[str], seen: Seen) -> None:
    """Write a few images of the lowest, middle and highest scores of audited heads into a run that has its findings.

    At most ``MOST`` heads and 3 · ``EACH`` images of each, as JPEG files of at most ``SIDE`` px a side.
    """
    found = list(dict.fromkeys(f.audited for f in run.found().findings))
    heads = [*(a for a in found if a in audited), *(a for a in audited if a not in found)][:MOST]
    scores = run.scores().filter(run.scores()["skipped"].is_null())
    ids = scores["image_id"].to_list()
    ordered = [sorted_images(head, ids, scores[Column.IMAGE.of(head)].to_numpy()) for head in heads]
    wanted = dict.fromkeys(one.image_id for row in ordered for one in (*row.lowest, *row.middle, *row.highest))
    for image_id, image in seen(list(wanted)):
        _save(run, image_id, image)
    write_sorted(run.path, ordered)


def sorted_images(audited: str, ids: Sequence[str], scores: Floats) -> SortedImages:
    """The ends and the middle of the images in the order of ``scores``, [image]; those without a score are left out.

    A row has ``EACH`` images, or a third of them where there are fewer. Equal scores stand in the order of their ids.
    """
    known = [(float(s), image_id) for image_id, s in zip(ids, scores, strict=True) if np.isfinite(s)]
    order = [Ranked(image_id, score, thumbnail_of(image_id)) for score, image_id in sorted(known)]
    count, each = len(order), min(EACH, len(order) // 3)
    first = (count - each) // 2
    rows = (order[:each], order[first : first + each], order[count - each :]) if each else ([], [], order)
    return SortedImages(audited, count, *map(tuple, rows))


def seen_in(source: ImageSource) -> Seen:
    """The images of a source."""
    place = {image_id: i for i, image_id in enumerate(source.ids)}

    def seen(ids: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for at in range(0, len(ids), _AT_ONCE):
            loaded = source.load([place[image_id] for image_id in ids[at : at + _AT_ONCE]])
            yield from zip((source.ids[i] for i in loaded.indices), loaded.images, strict=True)

    return seen


def _save(run: Run, image_id: str, image: Tensor) -> None:
    values = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels: NDArray[np.uint8] = values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    with written(run.path / thumbnail_of(image_id)) as temporary:
        picture.save(temporary, format="JPEG", quality=_QUALITY)
