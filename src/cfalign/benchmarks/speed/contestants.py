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
    """``latent_shift`` for one base after another, and the answers of all heads."""
    search = SearchOptions(strategy=strategy, residual="dropped")  # the paper's start, which the authors' package has
    known: dict[int, Floats] = {}  # scores at x0 are the same for all bases of an image
    parts = []
    for base, rows in rows_by_base(pairs).items():
        found = latent_shift(
            setting.images[rows],
            head(setting.classifier, base),
            autoencoder=setting.autoencoder,
            options=search,
            batch=setting.batch,
        )
        fresh = [i for i, row in enumerate(rows) if row not in known]
        scores = _scores(setting, found.reconstructions[fresh])
        known |= {rows[i]: scores[k] for k, i in enumerate(fresh)}
        own = np.stack([found.base_before, found.base_after], axis=1)
        before = np.stack([known[row] for row in rows])
        parts.append(Answers(tuple((base, row) for row in rows), own, before, _scores(setting, found.images)))
    return _joined(parts)


def _scores(setting: Setting, images: Tensor) -> Floats:
    answers = respond(images, [setting.classifier], batch=setting.batch)
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
