"""cfalign's own contestants, each called as a user would call it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.methods import latent_shift
from cfalign._counterfactuals.options import SearchOptions
from cfalign._heads.composition import head
from cfalign._heads.scoring import respond
from cfalign._results import Floats, Outcome
from cfalign.benchmarks.speed.setting import Pair, Setting, rows_by_base

Strategy = Literal["refined", "schedule"]


@dataclass(frozen=True)
class Answers:
    """Counterfactuals of some pairs as every head sees them, row by row; scores are probabilities."""

    pairs: tuple[Pair, ...]
    own: Floats
    """Score of each pair's own base at x0 and at x_λ, [pair, 2]."""
    before: Floats
    """Scores of all heads at x0, [pair, head]."""
    after: Floats
    """Scores of all heads at x_λ, [pair, head]."""

    def __len__(self) -> int:
        return len(self.pairs)


def bare(setting: Setting, pairs: Sequence[Pair], *, strategy: Strategy = "refined") -> Answers:
    """``latent_shift`` for all bases at once, and the answers of all heads."""
    search = SearchOptions(strategy=strategy, residual="dropped")  # the paper's start, which the authors' package has
    by_base = rows_by_base(pairs)
    rows = sorted({row for _, row in pairs})
    place = {row: i for i, row in enumerate(rows)}
    walked = latent_shift(
        setting.images[rows],
        [head(setting.classifier, base) for base in by_base],
        autoencoder=setting.autoencoder,
        options=search,
        batch=setting.batch,
    )
    at_x0 = respond(walked[0].reconstructions, [setting.classifier], batch=setting.batch)
    parts = []
    for found, (base, some) in zip(walked, by_base.items(), strict=True):
        assert found.logits is not None
        at = [place[row] for row in some]
        own = np.stack([found.base_before, found.base_after], axis=1)[at]
        ends = torch.where(found.logits.isnan(), at_x0, found.logits)
        parts.append(Answers(tuple((base, row) for row in some), own, _scores(at_x0[at]), _scores(ends[at])))
    return _joined(parts)


def _scores(answers: Tensor) -> Floats:
    scores: Floats = torch.sigmoid(answers.double()).numpy()
    return scores


def _joined(parts: Sequence[Answers]) -> Answers:
    pairs = tuple(pair for part in parts for pair in part.pairs)
    own, before, after = (np.concatenate([getattr(part, n) for part in parts]) for n in ("own", "before", "after"))
    return Answers(pairs, own, before, after)


def default_audit(setting: Setting) -> int:
    """``audit`` of the bases with the default options; the number of counterfactuals, lowered and raised."""
    with TemporaryDirectory() as folder:
        run = audit(
            setting.images,
            setting.classifier,
            autoencoder=setting.autoencoder,
            bases=setting.bases,
            options=AuditOptions(batch=setting.batch),
            out=folder,
        )
        outcomes = run.counterfactuals()["outcome"].to_list()
    return sum(Outcome(outcome).walked for outcome in outcomes)
