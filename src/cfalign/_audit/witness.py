"""Who tells how much of an audited head's own concept there is in an image, other than the head itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cfalign._findings import Standing, Witness
from cfalign._heads.composition import Composition, Head
from cfalign._models.fingerprint import fingerprint
from cfalign.classifiers import ComposedClassifier

SECOND_HEADS = (
    "heads of a second network are one: `cfalign train classifier --second` trains them, `--reference` names them"
)

OTHER_JUDGE = "name another judge, or none (--judge none): then the reference's own heads are the witness"

UNRECORDED = (
    "An older cfalign wrote this run, in which the audited heads' own concepts had no witness: take its effects as "
    "responses, and audit again with heads of a second network (`cfalign train classifier --second`) for effects."
)


@dataclass(frozen=True)
class Watched:
    """An attribute that heads are audited against."""

    target: str
    owner: str
    """Fingerprint of the network that its counterfactuals were made against."""
    judge: str | None = None
    """Fingerprint of the judge that watches it."""


def unrecorded(record: Mapping[str, Any]) -> bool:
    """Whether a run, by its ``run.json``, is of an older version and had no reference heads and no judge."""
    roles = {m["role"] for m in record["models"]["classifiers"]}
    against_others = roles & {"reference", "judge"} or record["data"].get("bank")
    return not record.get("standings") and not against_others


def standings(
    audited: Mapping[str, Composition], attributes: Sequence[Watched], *, known: Collection[str]
) -> dict[str, Standing]:
    """What the effects of every audited head rest on, by label. ``known``: targets of the reference heads."""
    cores = {label: core(head) for label, head in audited.items()}
    prints = {network: fingerprint(network) for network in dict.fromkeys(c.classifier for c in cores.values())}
    return {
        label: replace(
            _standing(head, cores[label].target, prints[cores[label].classifier], attributes, known),
            concept=cores[label].target,
        )
        for label, head in audited.items()
    }


def core(composition: Composition) -> Head:
    """The head that a composition is about: its first, however deep it is composed."""
    first = composition.terms[0][1]
    inner = first.classifier
    return core(inner.composition) if isinstance(inner, ComposedClassifier) else first


def _standing(
    head: Composition, concept: str, network: str, attributes: Sequence[Watched], known: Collection[str]
) -> Standing:
    named = [a for a in attributes if a.target == concept]
    reach = 1.0 if head.sum_of_logits is not None else sum(abs(c) for c, _ in head.terms)
    if any(a.judge is not None and a.judge != network for a in named):
        return Standing(Witness.JUDGE, reach=reach)
    if any(a.owner != network and a.judge is None for a in named):
        return Standing(Witness.HEADS, reach=reach)
    if any(a.owner != network and a.judge == network for a in named):
        reason = "the judge of its own concept is the audited network itself"
        return Standing(Witness.NONE, reason, OTHER_JUDGE, reach)
    if any(network in (a.owner, a.judge) for a in attributes):
        reason = "nobody but the audited network itself tells how much of its own concept an image shows"
        return Standing(Witness.NONE, reason, SECOND_HEADS, reach)
    if concept in known:
        reason = "its own concept is not among the attributes"
        return Standing(
            Witness.NONE, reason, "name it among the attributes too (--downstream, or --attributes of the bank)", reach
        )
    witness = Witness.JUDGE if all(a.judge is not None for a in attributes) else Witness.HEADS
    reason = "no attribute has its name, so its own concept shows up as the attributes that it goes along with"
    return Standing(witness, reason, reach=reach)


def answered_by_itself(standing: Mapping[str, Standing], twins: Mapping[str, str]) -> dict[str, Standing]:
    """The standings of heads whose very answers an attribute gives: they have no witness."""
    found = {}
    for audited in twins:
        reason = "an attribute gives the very answers of the audited head itself"
        found[audited] = replace(standing[audited], witness=Witness.NONE, reason=reason, remedy=SECOND_HEADS)
    return found
