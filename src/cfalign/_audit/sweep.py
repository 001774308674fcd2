"""One pass over the images, chunk by chunk, resumable: what an audit and a bank have in common.

A chunk is one unit of work and one shard. It is *looked at* (encoded, decoded, scored), and then its pairs are
*walked*. The images come in an order drawn by the seed, and a base takes the first ``limit`` of them that it predicts
positive. So which pairs of a chunk are walked follows from the scores of the chunks before it, and their walks from
nothing else: chunks may be looked at and walked anywhere, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfalign._audit.choosing import examined_pairs
from cfalign._audit.chunk_work import Site, chunk_name, look_at, walk_chunk
from cfalign._audit.plan import Plan
from cfalign._counterfactuals.batch import Rows
from cfalign._errors import BadInput
from cfalign._models.guard import device_of
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign.engines import Crew, Engine, Part

AHEAD = 2
"""Chunks per worker that are looked at before it is known whether they are needed."""
KINDS = ("scores", "ineligible", "tensors", "responses")


def sweep(plan: Plan, run: Run, *, engine: Engine, progress: Progress = silent) -> None:
    """Measure every chunk that has no shard yet; of a part, look at all and walk its own.

    Raises BadInput when not one image can be read.
    """
    site = Site(plan, run.path, device_of(plan.autoencoder))
    chunks, done = len(site.chunks), 0
    progress("counterfactuals", 0, chunks)
    with engine.crew(site, folder=run.path) as crew:
        chosen = _Chosen(plan, site, crew, engine.part)
        for _ in crew.each(walk_chunk, chosen.units()):
            done += 1
            progress("counterfactuals", min(done + chosen.skipped, chunks), chunks)
    progress("counterfactuals", chunks, chunks)
    if engine.part.whole:
        _drop_from(run, chosen.needed)
    if not chosen.met:
        count = len(plan.source.ids)
        image_id, reason = run.scores().select("image_id", "skipped").sort("image_id").row(0)
        raise BadInput(
            f"None of the {count} images in {plan.source.source!r} can be read, e.g. {image_id}: {reason}; expected "
            "image files such as PNG or JPEG."
        )


class _Chosen:
    """The chunks that are needed, one after the other, looked at when they are asked for."""

    def __init__(self, plan: Plan, site: Site, crew: Crew, part: Part) -> None:
        self.plan, self.site, self.crew, self.part = plan, site, crew, part
        self.met = False  # whether an image was read: the first ones tell of broken models
        self.needed, self.skipped = 0, 0
        self._looked: set[int] = set()

    def units(self) -> Iterator[tuple[int, Rows]]:
        """(number of a chunk, counterfactuals that each base still lacks before it) of the chunks to be walked."""
        remaining = np.full(len(self.plan.walks), self.plan.options.limit)
        for number in range(len(self.site.chunks)):
            self._look_up_to(number)
            self.needed = number + 1
            if self.part.has(number) and not self._walked(number):
                yield number, remaining
            else:
                self.skipped += 1
            remaining = remaining - examined_pairs(self.plan, self.site.scores(number), remaining).counts
            if not remaining.any():
                return

    def _walked(self, number: int) -> bool:
        return (self.site.path / "responses" / chunk_name(number)).exists()

    def _look_up_to(self, number: int) -> None:
        """Look at a chunk, and at some that come after it where there is someone who can."""
        if number in self._looked:
            return
        several = AHEAD * self.crew.size if self.crew.size > 1 else self.part.of
        ahead = range(number, min(number + several, len(self.site.chunks)))
        for some in (ahead[:1], self.part.own_first(ahead[1:])) if not self.met else (self.part.own_first(ahead),):
            units = [(one, not self.met) for one in some]
            for _, read in self.crew.each(look_at, units):
                self.met = self.met or read > 0
        self._looked |= set(ahead)


def _drop_from(run: Run, number: int) -> None:
    """Remove the shards of chunks that were looked at in advance and are not needed."""
    for kind in KINDS:
        for shard in run.shards(kind):
            if int(shard.stem) >= number:
                shard.unlink()
