"""Whether the numbers of two runs mean the same, and which of their heads belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfalign._audit.measured import standings_of
from cfalign._errors import BadInput, nearest
from cfalign._runs.run import residual_of

Record = Mapping[str, Any]
"""The content of a ``run.json``."""
IDLE = ("batch", "chunk", "shown", "max_findings", "min_effect", "min_response", "regions", "discovery")
"""Settings that change none of the compared numbers."""
LISTS = ("kind", "bases", "heads", "audited", "attributes", "judges", "seed")
"""What stands among the settings and is compared in another way."""
GRAVE = ("search", "estimate", "both_ways")
"""Settings that decide what a counterfactual is."""
ABSENT = "none"
UNRECORDED = "not recorded"


@dataclass(frozen=True)
class Mismatch:
    """Something that differs between two runs beside the audited classifiers."""

    what: str
    """Such as ``images``, ``reference`` or ``search.drop``."""
    before: str
    after: str
    grave: bool
    """Whether the numbers of both runs do not mean the same."""
    meaning: str
    """One sentence: what this does to the differences."""


@dataclass(frozen=True)
class Matched:
    """An audited head in both runs; an empty name where it is in one of them only."""

    before: str
    after: str
    by: str
    """``name``, ``target`` (it is called otherwise, but nothing else has its target), ``given``, or empty."""


def matched_heads(before: Record, after: Record, given: Mapping[str, str]) -> tuple[Matched, ...]:
    """The audited heads of both runs: those of the run after in their order, then those that are in the other only.

    ``given``: names in the run before → names in the run after. Raises BadInput for a name that a run does not have.
    """
    olds, news = list(before["audited"]), list(after["audited"])
    for names, known, run in ((given.keys(), olds, "before"), (given.values(), news, "after")):
        for name in names:
            if name not in known:
                raise BadInput(f"The run {run} has no audited head {name!r} (--match); {nearest(name, known)}.")
    if len(set(given.values())) < len(given):
        raise BadInput("Two heads of the run before are matched with one of the run after (--match); name each once.")
    pairs = {new: (old, "given") for old, new in given.items()}
    pairs |= {n: (n, "name") for n in news if n in olds and n not in pairs and n not in given}
    old_targets, new_targets = (_targets(record) for record in (before, after))
    left = [o for o in olds if o not in {old for old, _ in pairs.values()}]
    rest = [n for n in news if n not in pairs]
    pairs |= {n: (o, "target") for n, o in _by_target(rest, left, new_targets, old_targets)}
    matched = [Matched(*_swapped(pairs.get(n, ("", "")), n)) for n in news]
    gone = [o for o in olds if o not in {old for old, _ in pairs.values()}]
    return (*matched, *(Matched(o, "", "") for o in gone))


def _swapped(found: tuple[str, str], new: str) -> tuple[str, str, str]:
    return found[0], new, found[1]


def matched_attributes(before: Record, after: Record) -> dict[str, str]:
    """The name in the run after of each attribute of the run before that both have, by name or by its target alone."""
    olds, news = list(before["attributes"]), list(after["attributes"])
    found = {o: o for o in olds if o in news}
    targets = [{n: _target(n) for n in names} for names in (olds, news)]
    rest = [n for n in news if n not in found]
    return found | {o: n for n, o in _by_target(rest, [o for o in olds if o not in found], targets[1], targets[0])}


def _by_target(
    news: Sequence[str], olds: Sequence[str], new_targets: Mapping[str, str], old_targets: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """(new, old) names of one target that no other of them has."""
    for new in news:
        target = new_targets[new]
        same = [o for o in olds if old_targets[o] == target]
        if len(same) == 1 and [n for n in news if new_targets[n] == target] == [new]:
            yield new, same[0]


def _targets(record: Record) -> dict[str, str]:
    """What each audited head is about: of a composition, the target of its first head."""
    concepts = {a: s.concept for a, s in standings_of(record).items()}
    return {a: concepts.get(a) or _target(a) for a in record["audited"]}


def _target(label: str) -> str:
    return label.rpartition(":")[2]


def same_classifiers(before: Record, after: Record) -> bool:
    """Whether the audited classifiers of both runs are the same, to the last weight."""
    return _hashes(before, "audited") == _hashes(after, "audited")


def same_switches(before: Record, after: Record) -> bool:
    """Whether attributes are switched and watched by the same models in the same way in both runs."""
    known = [[*_witnesses(r).values(), *_walk_settings(r).items()] for r in (before, after)]
    return UNRECORDED not in known[0] and known[0] == known[1]


def same_sample(before: Record, after: Record) -> bool:
    """Whether both runs looked at the same images, drawn in the same order."""
    drawn = [[_images(r), r["settings"].get("seed"), r["settings"].get("limit")] for r in (before, after)]
    return drawn[0] == drawn[1]


def mismatches(before: Record, after: Record, heads: Sequence[Matched]) -> tuple[Mismatch, ...]:
    """What differs between two runs beside the audited classifiers, what is grave first."""
    found = [
        *_of_models(before, after),
        *_of_settings(before, after),
        *_of_witnesses(before, after, heads),
        *_of_images(before, after),
        *_of_versions(before, after),
    ]
    return tuple(sorted(found, key=lambda one: not one.grave))


def _made_from(record: Record) -> Record:
    """The record that tells of the models and images behind the counterfactuals: of an audit of a bank, the bank's."""
    bank: Record = record.get("bank", {})
    return bank if record["data"].get("bank") else record


def _hashes(record: Record, role: str) -> str:
    found = sorted(m["hash"] for m in record.get("models", {}).get("classifiers", ()) if m["role"] == role)
    return ", ".join(found) or ABSENT


def _witnesses(record: Record) -> dict[str, str]:
    """Hashes of the models that switch and watch attributes."""
    source = _made_from(record)
    if not source:
        return dict.fromkeys(("reference", "judge", "autoencoder"), UNRECORDED)
    reference, judge = _hashes(source, "reference"), _hashes(source, "judge")
    if reference == ABSENT:
        reference = f"its own heads ({_hashes(record, 'audited')})"
    return {"reference": reference, "judge": judge, "autoencoder": source["models"].get("autoencoder", {}).get("hash")}


_MEANINGS = {
    "reference": "other reference heads may mean other things by the same names",
    "judge": "another judge may measure otherwise how far an attribute was switched",
    "autoencoder": "another autoencoder makes other counterfactuals",
}


def _of_models(before: Record, after: Record) -> Iterator[Mismatch]:
    old, new = _witnesses(before), _witnesses(after)
    for what, meaning in _MEANINGS.items():
        if old[what] != new[what]:
            known = UNRECORDED not in (old[what], new[what])
            unknown = f"whether both runs have the same {what} is not recorded: audit again with the bank at hand"
            yield Mismatch(what, old[what], new[what], known, meaning if known else unknown)


def _walk_settings(record: Record) -> dict[str, str]:
    return {name: value for name, value in _settings(record).items() if name.split(".")[0] in GRAVE}


def _settings(record: Record) -> dict[str, str]:
    """The settings that change compared numbers, with dotted names."""
    settings = {k: v for k, v in record["settings"].items() if k not in (*IDLE, *LISTS)}
    flat = dict(_flat(settings, ""))
    return flat | {"search.residual": residual_of(record["settings"])}


def _flat(settings: Mapping[str, Any], within: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", ABSENT if value is None else f"{value}"


def _of_settings(before: Record, after: Record) -> Iterator[Mismatch]:
    old, new = _settings(before), _settings(after)
    for name in sorted(old.keys() | new.keys()):
        values = old.get(name, UNRECORDED), new.get(name, UNRECORDED)
        if values[0] == values[1]:
            continue
        grave = name.split(".")[0] in GRAVE and UNRECORDED not in values
        other = "counterfactuals were made otherwise" if grave else "numbers were computed otherwise, which may matter"
        meaning = "the runs rest on unlike numbers of images" if name == "limit" else other
        yield Mismatch(name, *values, grave, meaning)


def _of_witnesses(before: Record, after: Record, heads: Sequence[Matched]) -> Iterator[Mismatch]:
    old, new = standings_of(before), standings_of(after)
    for head in heads:
        one, other = old.get(head.before), new.get(head.after)
        if one and other and one.witness is not other.witness:
            what = f"witness of {head.after}"
            meaning = "another witness tells how much of the head's own concept an image shows"
            yield Mismatch(what, one.witness.value, other.witness.value, grave=True, meaning=meaning)


def _images(record: Record) -> str:
    source = _made_from(record)
    return str(source["data"].get("hash")) if source else f"bank {record['data'].get('bank')}"


def _of_images(before: Record, after: Record) -> Iterator[Mismatch]:
    old, new = _images(before), _images(after)
    looked = [f"{r.get('images', 0)} ({images})" for r, images in ((before, old), (after, new))]
    if old != new:
        meaning = "differences also hold the change of the images, which their intervals cover as chance only"
        yield Mismatch("images", looked[0], looked[1], grave=False, meaning=meaning)
    seeds = [str(r["settings"].get("seed")) for r in (before, after)]
    if seeds[0] != seeds[1]:
        yield Mismatch("seed", seeds[0], seeds[1], grave=False, meaning="images and random draws are others")


def _of_versions(before: Record, after: Record) -> Iterator[Mismatch]:
    for what, name in (("cfalign", "cfalign"), ("torch", "PyTorch")):
        values = [str(r.get(what, UNRECORDED)) for r in (before, after)]
        if values[0] != values[1]:
            meaning = f"another version of {name} may compute other numbers; its changelog tells"
            yield Mismatch(f"version of {name}", values[0], values[1], grave=False, meaning=meaning)
