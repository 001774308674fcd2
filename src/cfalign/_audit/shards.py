"""From a run's shards to arrays: the counterfactuals of each base, the images in groups, the spread of the scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from cfalign._analysis.alignment import Row, usable
from cfalign._analysis.group_gaps import Groups
from cfalign._analysis.on_demand import OnDemand
from cfalign._analysis.statistics import People
from cfalign._audit.answers import Answers
from cfalign._audit.chunk import INELIGIBLE
from cfalign._audit.options import AuditOptions
from cfalign._results import Floats, Outcome, Skipped
from cfalign._runs.columns import GROUP, Column, raised_label
from cfalign._runs.run import Run


@dataclass(frozen=True)
class Shards:
    """The tables of a run, each read once; what the heads answer to counterfactuals stays on disk."""

    responses: pl.DataFrame
    """One row per counterfactual that was sought, without the answers of heads."""
    answers_to: Answers
    """These answers."""
    scores: pl.DataFrame
    ineligible: pl.DataFrame

    @classmethod
    def of(cls, run: Run) -> Shards:
        """Those of a run. Raises BadInput when there are none or one is damaged."""
        return cls.read(run.each("responses"), run.scores(), run.ineligible(), folder=run.path)

    @classmethod
    def read(
        cls,
        responses: Iterable[pl.DataFrame],
        scores: pl.DataFrame,
        ineligible: pl.DataFrame | None = None,
        *,
        folder: Path | None = None,
    ) -> Shards:
        """Of shards of ``responses`` one by one, and of whole tables. ``folder``: where the answers are put."""
        answers = Answers(folder)
        narrow = pl.concat([answers.add(shard) for shard in responses], how="vertical", rechunk=True)
        return cls(narrow, answers, scores, pl.DataFrame(schema=INELIGIBLE) if ineligible is None else ineligible)

    def not_eligible(self, base: str) -> int:
        """How many images were looked at for a base that does not predict them positive."""
        return self._ineligible_counts.get(base, 0)

    @cached_property
    def _ineligible_counts(self) -> dict[str, int]:
        return dict(self.ineligible.group_by(pl.col("base").cast(pl.String)).len().iter_rows())

    @cached_property
    def _by_base(self) -> dict[str, pl.DataFrame]:
        parts = self.responses.partition_by("base", as_dict=True, maintain_order=True)
        return {str(base): rows for (base,), rows in parts.items()}

    @cached_property
    def ids(self) -> list[str]:
        """The images in the order of ``scores``."""
        return self.scores["image_id"].to_list()

    @property
    def images(self) -> int:
        """How many images were looked at."""
        return self.scores["skipped"].null_count()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that could not be loaded, by name."""
        rows = self.scores.filter(pl.col("skipped").is_not_null()).select("image_id", "skipped").sort("image_id")
        return tuple(Skipped(image_id, reason) for image_id, reason in rows.iter_rows())

    @cached_property
    def people(self) -> People | None:
        """A number for the group of each image, by its place in ``ids``; None where the images have no groups."""
        return people_of(self.scores)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: i for i, image_id in enumerate(self.ids)}

    def row(self, base: str, heads: Sequence[str]) -> Row:
        """The counterfactuals of a base, and what the heads answer to them."""
        return self._row(base, base, heads, after=Column.AFTER, null=Column.NULL)

    def switched(self, attributes: Sequence[str], heads: Sequence[str], *, options: AuditOptions) -> list[Row]:
        """The usable counterfactuals of each attribute where it counts as switched: off and then, where made, on."""
        pairs = [(attribute, attribute) for attribute in attributes]
        if options.both_ways:
            pairs += [(attribute, raised_label(attribute)) for attribute in attributes]
        rows = [self._row(a, base, heads, after=Column.OFF, null=Column.OFF_NULL) for a, base in pairs]
        return [usable(row, min_base_change=options.alignment.min_base_change)[0] for row in rows]

    def _row(self, head: str, base: str, heads: Sequence[str], *, after: Column, null: Column) -> Row:
        rows = self._by_base.get(base)
        if rows is None:
            return _no_row(head, len(heads))

        def block(where: Column) -> OnDemand:
            return self.answers_to.of(base, where, heads)

        def own(where: Column) -> Floats:
            return np.asarray(self.answers_to.of(base, where, [head]))[:, 0]

        return Row(
            base=head,
            image=np.array([self._places[i] for i in rows["image_id"].to_list()], dtype=np.int64),
            outcomes=tuple(Outcome(o) for o in rows["outcome"].to_list()),
            base_before=own(Column.BEFORE),
            base_after=own(after),
            before=block(Column.BEFORE),
            after=block(after),
            null=block(null),
        )

    def on_reconstructions(self, heads: Sequence[str]) -> dict[str, Floats]:
        """The scores of each head on x0, [image]; NaN where unknown."""
        columns = {head: self.scores[Column.RECONSTRUCTION.of(head)].cast(pl.Float64) for head in heads}
        return {head: column.fill_null(float("nan")).to_numpy() for head, column in columns.items()}

    def answers(self, heads: Sequence[str]) -> Floats:
        """The scores of the heads on every image and then on every x0, [answer, head]."""
        known = self.scores.filter(pl.col("skipped").is_null())
        parts = [known.select(where.columns(heads)).to_numpy() for where in (Column.IMAGE, Column.RECONSTRUCTION)]
        return np.concatenate(parts).astype(np.float64)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Whether any search looked at an image, in the order of ``ids``; the same for every size of chunk, of which
        the last one scores more images than the searches need.
        """
        names = {i for table in (self.responses, self.ineligible) for i in table["image_id"].unique().to_list()}
        return np.array([name in names for name in self.ids], dtype=bool)

    def drift(self, heads: Sequence[str]) -> dict[str, float]:
        """Mean \\|score(x0) − score(x)\\| of each head over the images that a search looked at.

        0 where x0 is the image itself, NaN without any image.
        """
        found, scores = {}, self.scores.filter(pl.Series(self.seen))
        for head in heads:
            change = scores[Column.RECONSTRUCTION.of(head)] - scores[Column.IMAGE.of(head)]
            mean = change.abs().mean()
            found[head] = mean if isinstance(mean, float) else float("nan")
        return found

    def logit_scale(self, heads: Sequence[str]) -> dict[str, float]:
        """Standard deviation of each head's logit on x0 over the images that a search looked at; NaN
        where scores leave [0, 1].
        """
        scores = self.scores.filter(pl.Series(self.seen))
        return {head: _deviation(scores[Column.RECONSTRUCTION.of(head)]) for head in heads}

    def groups(self, attributes: Sequence[str], judges: Mapping[str, str], eligible: float) -> tuple[Groups, list[int]]:
        """Which attributes are predicted on which images, and the places of these images in ``ids``.

        The images are those that a search for any attribute looked at, which are the same for every size of chunk.
        Images without all scores are not among them.
        """
        bases = [*attributes, *map(raised_label, attributes)]
        tables = (self.responses, self.ineligible)
        seen = {i for t in tables for i in t.filter(pl.col("base").cast(pl.String).is_in(bases))["image_id"].to_list()}
        own = self._block(attributes)
        watched = self._block([judges.get(a, a) for a in attributes])
        unknown = set(np.flatnonzero(~np.isfinite(np.hstack([own, watched])).all(axis=1)).tolist())
        places = [i for i, name in enumerate(self.ids) if i not in unknown and name in seen]
        return Groups(tuple(attributes), own[places] >= eligible, watched[places], own[places]), places

    def _block(self, heads: Sequence[str]) -> Floats:
        columns = [pl.col(name).cast(pl.Float64) for name in Column.RECONSTRUCTION.columns(heads)]
        return self.scores.select(columns).to_numpy()


def people_of(scores: pl.DataFrame) -> People | None:
    """A number for the group of each image of ``scores``; None where the images have no groups.

    An image without a group is one of its own. The numbers follow from names alone, and not from the order.
    """
    if GROUP not in scores.columns:
        return None
    names = scores.select(GROUP, "image_id").iter_rows()
    own = [("alone", image_id) if group is None else ("group", group) for group, image_id in names]
    number = {name: i for i, name in enumerate(sorted(set(own)))}
    return np.array([number[name] for name in own], dtype=np.int64)


def groups_seen(scores: pl.DataFrame) -> dict[str, int]:
    """How many groups the images that were looked at are of, for ``run.json``; empty where they have none."""
    people = people_of(scores)
    if people is None:
        return {}
    return {"groups_seen": len(np.unique(people[scores["skipped"].is_null().to_numpy()]))}


def _no_row(base: str, heads: int) -> Row:
    """The row of a base for which no counterfactual was sought."""
    blank, wide = np.zeros(0), np.zeros((0, heads))
    return Row(
        base=base,
        image=np.zeros(0, dtype=np.int64),
        outcomes=(),
        base_before=blank,
        base_after=blank,
        before=wide,
        after=wide,
        null=wide,
    )


def _deviation(column: pl.Series) -> float:
    score = column.drop_nulls().to_numpy()
    score = score[np.isfinite(score)]
    if len(score) < 2 or score.min() < 0 or score.max() > 1:
        return float("nan")
    deviation = float(np.std(np.clip(logit(score), -36, 36)))
    return deviation if deviation > 0 else float("nan")
