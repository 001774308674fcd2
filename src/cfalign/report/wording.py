"""The sentences of a report, shared by its three forms. A function marks up the names of heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cfalign._figures import style
from cfalign._results import Effect, GroupGap, Relation, RelationKind, StartsAt
from cfalign._runs.columns import attribute_of
from cfalign.report import verdict
from cfalign.report.content import ReportData
from cfalign.report.words import Mark, list_of, plural

READINGS: Mapping[str, str] = {
    "effect": "Estimated change of the audited probability when the attribute goes from absent to present, "
    "everything else as it was: the incoming readings, corrected for whatever else changed in the same counterfactuals "
    "(an extension of the paper's method).",
    "incoming": "Counterfactuals are made for the attribute; how much does the audited head move per unit that "
    "the attribute's head moves?",
    "response": "How the audited head answers the counterfactuals of an attribute, whatever the cause. It takes the "
    "place of an effect where nobody but the audited network tells how much of the head's own concept an image shows.",
    "outgoing": "Counterfactuals are made for the audited head; how much does the attribute's head move per unit "
    "that the audited head moves? (the paper's reading)",
}

LIMITS = (
    "An effect is estimated from synthetic images, not from an intervention on real ones: what the autoencoder cannot "
    "draw is invisible here, and what it always changes together cannot be told apart.",
    "It depends on the reference heads. Where such a head confuses two attributes, so does every number about it. "
    "Heads that learnt from the same labels as the audited ones may share their shortcuts, which then do not show.",
    "A reaction is not yet a fault. Whether a head may use an attribute is for someone who knows the subject to say.",
    "No finding means that none of the listed attributes has a clear effect on these images; a head may use others.",
)

_LABELS = {
    "decoder_forwards": "decoder passes, forward",
    "decoder_backwards": "decoder passes, backward",
    "search_decodes_per_cf": "decodes of the search per counterfactual",
    "seconds": "last command",
    "seconds_before": "commands before it, interrupted",
}
_LISTED = 6
FOLLOWED = 0.5
"""Least share of a counterfactual's change that a judge follows before its reference head is doubted."""


def headline(data: ReportData) -> str:
    """The title, plain text."""
    if not data.audited:
        return f"Counterfactual alignment of {plural(len(data.bases), 'base head')}"
    if len(data.audited) <= 2:
        return f"What {'does' if len(data.audited) == 1 else 'do'} {' and '.join(data.audited)} react to?"
    return f"What do these {len(data.audited)} classifier heads react to?"


def introduction(data: ReportData, mark: Mark) -> str:
    """One paragraph that says what was done, for someone who has never seen the tool."""
    search = data.settings.get("search")
    drop = search.get("drop") if isinstance(search, Mapping) else None
    asked = f" by {drop:g}" if isinstance(drop, int | float) else ""
    who = (
        f"{plural(len(data.audited), 'classifier head')} ({list_of(data.audited, mark)})" if data.audited else "No head"
    )
    against = plural(len(data.attributes), "attribute")
    if len(data.audited) > 1 and set(data.audited) == set(data.attributes):
        against = "one another"
    raised = " Other images were redrawn so that it appears." if data.settings.get("both_ways") else ""
    was = "were" if len(data.audited) > 1 else "was"
    return (
        f"{who} {was} audited against {against} on {plural(data.counts.images, 'image')}. "
        "For each attribute in turn, images that show it were redrawn so that it fades and little else changes, until "
        f"the probability of its reference head had fallen{asked}.{raised} These are counterfactual images. The "
        f"audited heads then scored both versions. {_conclusion(data)}"
    )


def _conclusion(data: ReportData) -> str:
    """What a change of a score means."""
    if verdict.only_responses(data):
        return (
            "Whether a head whose score changes uses what faded, or what changed along with it, only a witness tells: "
            "heads of another network that know what the head is meant to see."
        )
    return (
        "A head whose score changes although nothing changed that should matter to it uses what did change, however "
        "accurate it is."
    )


def sample_sentence(
    base: str, downstream: str, scores: tuple[float, float, float, float], psi: float, mark: Mark
) -> str:
    """What one image shows; ``scores`` = base before, base after, downstream before, downstream after."""
    b0, b1, d0, d1 = (style.number(s) for s in scores)
    return f"{mark(base)} {b0} → {b1}, {mark(downstream)} {d0} → {d1}: ψ = {style.signed(psi)}"


RELATIONS = {
    RelationKind.NOT_USED: "Correlated, but not used",
    RelationKind.UNCORRELATED: "Used, but not correlated",
    RelationKind.ASYMMETRIC: "Asymmetric: the two directions of ψ differ",
}
"""Titles of the kinds of relation."""


def relation_sentence(r: Relation, mark: Mark) -> str:
    """One relation in one sentence, its numbers with their intervals."""
    pair = f"{mark(r.audited)} and {mark(r.attribute)}"
    effect = f"effect {style.signed(r.effect)} {style.interval(r.ci_low, r.ci_high)}"
    correlation = f"r = {style.signed(r.correlation)} over {plural(r.images, 'image')}"
    if r.kind is RelationKind.ASYMMETRIC:
        there, back = style.signed(r.outgoing), style.signed(r.returning)
        return f"ψ({mark(r.audited)} → {mark(r.attribute)}) = {there}, back {back}; {correlation}"
    return f"{pair}: {correlation}; {effect}"


def remarkable_gaps(data: ReportData) -> list[GroupGap]:
    """The group gaps that a reader should see: of at least ``min_effect``, with an interval that excludes zero, largest
    first.
    """
    least = data.settings.get("min_effect")
    size = float(least) if isinstance(least, int | float) else 0.0
    remarkable = [g for g in data.conclusions.gaps if g.clear and abs(g.gap) >= size and not g.own]
    return sorted(remarkable, key=lambda g: -abs(g.gap))


def in_strips(data: ReportData) -> str:
    """What the pictures of a strip are."""
    if data.start is StartsAt.IMAGE:
        return "Per image: the original, the counterfactual, and what changed between the two."
    return (
        "Per image: the original, what the autoencoder makes of it, the counterfactual, and what changed between the "
        "last two."
    )


def drift_words(data: ReportData) -> str:
    """What the autoencoder alone does, and that it does nothing where walks start at the images themselves."""
    if data.start is StartsAt.IMAGE:
        return "Walks start at the images themselves, so the autoencoder alone changes no score: there is no drift."
    return "Grey bar: what the autoencoder alone does to a head's score (drift)."


def beginning(data: ReportData) -> str:
    """How a counterfactual comes about and where it starts; words between stars are terms."""
    walk = (
        "Walking through the code space against the gradient of one head, the *base*, redraws the image so that this "
        "head's score falls: the *counterfactual* x_λ."
    )
    walk += _completion(data)
    if data.start is StartsAt.RECONSTRUCTION:
        return f"An autoencoder turns an image into a short code and back into an image x0, its reconstruction. {walk}"
    stays = "stays" + (", except where the walk changes the picture" if data.residual == "gated" else "")
    return (
        f"An autoencoder turns an image x0, the original, into a short code and back into an image. {walk} What the "
        f"autoencoder cannot draw of the original {stays}, so that the walk starts at the original itself."
    )


def _completion(data: ReportData) -> str:
    search = data.settings.get("search")
    method = search.get("method") if isinstance(search, Mapping) else None
    if method not in ("completion", "auto"):
        return ""
    some = "For some heads no walk is made:" if method == "auto" else "Here no walk is made:"
    return (
        f" {some} the smallest region of the image that switches the head off is *completed*, filled with what such "
        "images have there."
    )


def compared(data: ReportData) -> str:
    """What every change is measured from."""
    if data.start is StartsAt.IMAGE:
        return "Everything is compared with the original."
    return "Everything is compared with the reconstruction, never with the original."


def gap_words() -> str:
    """What group gaps are, in three sentences."""
    return (
        "A head gives images with an attribute other scores if it uses the attribute, or anything that goes along "
        "with it on these images. The gap is the sum of its effects without its own concept: the difference that would "
        "remain if both groups had as much of that concept. The observed difference of the mean scores contains it too."
    )


def gap_sentence(g: GroupGap, mark: Mark) -> str:
    """One gap with its parts."""
    through = [part.rpartition(" ") for part in g.through.split("; ") if part]
    parts = ", ".join([f"{style.signed(g.direct)} itself", *(f"{size} {mark(name)}" for name, _, size in through)])
    return (
        f"{mark(g.audited)} on images with {mark(g.attribute)}: {style.signed(g.gap)} "
        f"{style.interval(g.ci_low, g.ci_high)} ({parts}); observed {style.signed(g.observed)}, {g.n_with} images with "
        f"and {g.n_without} without"
    )


def believed(data: ReportData, base: str, mark: Mark) -> str:
    """How far the judge follows the counterfactuals of a base, in a sentence or two; empty where no judge looked."""
    found = data.counts.controls.get(attribute_of(base))
    if found is None or not math.isfinite(found.judge_share):
        return ""
    interval = style.interval(found.ci_low, found.ci_high)
    sentence = (
        f"An independent judge follows {style.number(found.judge_share)} {interval} of what counterfactuals of "
        f"{mark(base)} change (n = {found.n})."
    )
    if found.judge_share < FOLLOWED:
        sentence += " That is less than half: do not believe what this strip shows."
    return sentence


def followed_words() -> str:
    """What it means that a judge follows, in four sentences."""
    return (
        "An independently trained judge tells how far each attribute changed; no counterfactual was made against it. "
        "The number is its change divided by the change of the reference head. At 1 it follows completely. What is "
        "missing to 1 changed only the reference head."
    )


def by_head(data: ReportData) -> list[tuple[str, list[Effect]]]:
    """Effects per audited head, the head with the largest significant foreign effect first when there are many."""
    groups: dict[str, list[Effect]] = {a: [] for a in data.shown_audited}
    for e in data.conclusions.effects:
        if e.audited in groups and e.audited not in verdict.unwitnessed(data):
            groups[e.audited].append(e)
    order = list(groups)
    if len(order) > 3:
        order.sort(key=lambda a: (-_largest(groups[a]), a))
    return [(a, groups[a]) for a in order if groups[a]]


def _largest(effects: Sequence[Effect]) -> float:
    return max((abs(e.effect) for e in effects if e.clear and not e.own), default=0.0)


def label(name: str) -> str:
    """A cost or a stage in words."""
    return _LABELS.get(name, name.replace("_", " "))


def flat(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and values, in their order; long lists by their beginning."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            more = f" and {len(value) - _LISTED} more" if len(value) > _LISTED else ""
            rows.append((name, (", ".join(map(str, value[:_LISTED])) or "none") + more))
        else:
            rows.append((name, "none" if value is None else str(value)))
    return rows


def quantity(name: str, value: float) -> str:
    """A cost or a time as text: whole numbers in groups of three, others with two digits."""
    if not math.isfinite(value):
        return style.DASH
    return (
        f"{value:,.0f}".replace(",", " ")
        if value == int(value) and "per" not in name
        else f"{value:,.2f}".replace(",", " ")
    )
