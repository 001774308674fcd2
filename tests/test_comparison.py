"""Two runs side by side: what changed, which heads belong together, and whether the numbers mean the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cfalign as cfa
import worlds
from cfalign._audit.changes import Change, ChangeKind, Comparison
from cfalign._errors import BadInput
from cfalign._findings import UnnamedFeature
from cfalign._runs.run import Run
from cfalign._runs.unnamed import write_unnamed
from compared_runs import OPTIONS, audited, changed, with_line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def honest(folder: Path) -> Run:
    """Uses no hat."""
    return audited(folder / "honest", 0.0)


@pytest.fixture(scope="module")
def planted(folder: Path) -> Run:
    """Uses the hat; audited on the same images."""
    return audited(folder / "planted", 1.0)


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> Run:
    """The same classifier as `planted`, audited on other images."""
    return audited(folder / "elsewhere", 1.0, seed=1)


def hat(found: Comparison, kind: str = "effect") -> Change:
    return next(c for c in found.changes if c.attribute == "wearing_hat" and c.kind == kind)


def test_an_injected_regression_appears_and_its_repair_is_gone(honest: Run, planted: Run) -> None:
    there, back = cfa.compare(honest, planted), cfa.compare(planted.path, str(honest.path))
    assert [c.relation for c in there.of("appeared") if c.may_fail] == ["friendly -> wearing_hat"]
    assert [c.relation for c in back.of("gone") if c.may_fail] == ["friendly -> wearing_hat"]
    assert hat(there).difference == pytest.approx(-hat(back).difference)
    assert hat(there).ci_low > 0.2
    assert there.comparable
    assert not there.same_classifiers


def test_a_regression_is_found_on_other_images_too(honest: Run, elsewhere: Run) -> None:
    found = cfa.compare(honest, elsewhere)
    assert hat(found).status == "appeared"
    assert [(m.what, m.grave) for m in found.mismatches] == [("images", False), ("seed", False)]


def test_an_effect_that_both_have_grew_or_shrank(planted: Run, tmp_path: Path) -> None:
    weak = audited(tmp_path / "weak", 0.25)
    assert (hat(cfa.compare(weak, planted)).status, hat(cfa.compare(planted, weak)).status) == ("grew", "shrank")
    least = math.nextafter(abs(hat(cfa.compare(weak, planted)).difference), 1)
    assert hat(cfa.compare(weak, planted, min_difference=least)).status == "unchanged"


def test_an_effect_that_changed_its_sign_appeared(planted: Run, tmp_path: Path) -> None:
    found = hat(cfa.compare(planted, audited(tmp_path / "turned", -1.0)))
    assert found.before.clear
    assert found.after.clear
    assert found.after.value < 0 < found.before.value
    assert found.status == "appeared"


def test_a_run_and_itself_differ_in_nothing(planted: Run) -> None:
    found = cfa.compare(planted, planted)
    assert {c.status for c in found.changes} == {"unchanged"}
    assert {c.difference for c in found.changes} == {0.0}
    assert found.same_classifiers
    assert found.mismatches == ()
    assert found.counts == {"unchanged": len(found.changes)}


def test_other_images_alone_change_nothing(planted: Run, elsewhere: Run) -> None:
    found = cfa.compare(planted, elsewhere)
    assert {c.status for c in found.changes} == {"unchanged"}
    assert hat(found).ci_low < 0 < hat(found).ci_high
    assert found.same_classifiers


def test_group_gaps_are_compared_on_the_same_images_only(honest: Run, planted: Run, elsewhere: Run) -> None:
    assert hat(cfa.compare(honest, planted), "group gap").status == "appeared"
    assert not any(c.may_fail for c in cfa.compare(honest, planted).changes if c.kind == "group gap")
    assert not any(c.kind == "group gap" for c in cfa.compare(honest, elsewhere).changes)


def test_q_is_over_all_compared_differences(honest: Run, planted: Run) -> None:
    from scipy.stats import norm

    effects = [c for c in cfa.compare(honest, planted).changes if c.kind == "effect"]
    p = []
    for c in effects:
        reach = c.difference - c.ci_low if c.difference > 0 else c.ci_high - c.difference
        p.append(2 * norm.sf(1.959964 * abs(c.difference) / reach))
    ranked = sorted(p)
    for c, own in zip(effects, p, strict=True):
        q = min(value * len(p) / (i + 1) for i, value in enumerate(ranked) if value >= own)
        assert c.q == pytest.approx(min(1.0, q), rel=1e-4)


def renamed(run: Run, to: Path, name: str) -> Run:
    """The audited head under another name, in its record and tables."""

    def change(record: dict[str, Any]) -> None:
        record["audited"] = [name]
        record["standings"] = {name: next(iter(record["standings"].values()))}

    copy = changed(run, to, change)
    for file in ("effects.csv", "joint.csv", "gaps.csv"):
        lines = (copy.path / file).read_text().splitlines()
        (copy.path / file).write_text(
            "\n".join(lines[:1] + [f"{name},{line.partition(',')[2]}" for line in lines[1:]]) + "\n"
        )
    return copy


def test_heads_belong_together_by_name_by_target_or_as_given(honest: Run, planted: Run, tmp_path: Path) -> None:
    old = renamed(honest, tmp_path / "old", "v1:friendly")
    new = renamed(planted, tmp_path / "new", "v2:friendly")
    found = cfa.compare(old, new)
    assert [(h.before, h.after, h.by) for h in found.heads] == [("v1:friendly", "v2:friendly", "target")]
    assert (hat(found).status, hat(found).audited) == ("appeared", "v2:friendly")
    stranger = renamed(planted, tmp_path / "stranger", "v2:kind")
    other = changed(stranger, tmp_path / "other", lambda r: r["standings"]["v2:kind"].update(concept="kind"))
    apart = cfa.compare(old, other)
    assert [(h.before, h.after) for h in apart.heads] == [("", "v2:kind"), ("v1:friendly", "")]
    assert {c.status for c in apart.changes} == {"only before", "only after"}
    assert "does not audit this head" in apart.changes[0].reason
    given = cfa.compare(old, other, match={"v1:friendly": "v2:kind"})
    assert [(h.before, h.after, h.by) for h in given.heads] == [("v1:friendly", "v2:kind", "given")]
    assert hat(given).status == "appeared"


def test_a_composition_is_matched_by_what_it_is_about(planted: Run, honest: Run, tmp_path: Path) -> None:
    rectified = renamed(honest, tmp_path / "rectified", "friendly - 0.6*wearing_hat")
    found = cfa.compare(planted, rectified)
    assert [(h.after, h.by) for h in found.heads] == [("friendly - 0.6*wearing_hat", "target")]
    assert hat(found).status == "gone"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"match": {"friend": "friendly"}}, "before has no audited head 'friend' (--match); nearest valid: friendly"),
        ({"match": {"friendly": "foe"}}, "after has no audited head 'foe'"),
        ({"min_difference": 2}, "Expected min_difference between 0 and 1, got 2"),
    ],
)
def test_what_cannot_be_matched_is_refused(planted: Run, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        cfa.compare(planted, planted, **more)
    assert sentence in str(caught.value)


def test_two_heads_are_not_matched_with_one(planted: Run, tmp_path: Path) -> None:
    two = changed(planted, tmp_path / "two", lambda record: record["audited"].append("b:friendly"))
    with pytest.raises(BadInput, match="Two heads of the run before are matched with one"):
        cfa.compare(two, planted, match={"friendly": "friendly", "b:friendly": "friendly"})


def test_a_bank_and_an_unfinished_run_are_refused(planted: Run, tmp_path: Path) -> None:
    bank = cfa.bank(
        worlds.images(20), worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank", options=OPTIONS
    )
    with pytest.raises(BadInput, match="is a bank"):
        cfa.compare(bank.run, planted)
    with pytest.raises(BadInput, match="is not finished"):
        cfa.compare(planted, changed(planted, tmp_path / "half", lambda record: record.update(status="running")))


@pytest.mark.parametrize(
    ("what", "grave", "more"),
    [
        ("search.drop", True, {"options": replace(OPTIONS, search=cfa.SearchOptions(drop=0.4))}),
        ("both_ways", True, {"options": replace(OPTIONS, both_ways=False)}),
        ("limit", False, {"options": replace(OPTIONS, limit=12)}),
        ("effects.ridge", False, {"options": replace(OPTIONS, effects=replace(OPTIONS.effects, ridge=0.1))}),
        ("reference", True, {"reference": worlds.bent_heads()}),
        ("autoencoder", True, {"autoencoder": worlds.BentAutoencoder()}),
    ],
)
def test_what_else_differs_is_told(planted: Run, tmp_path: Path, what: str, grave: bool, more: dict[str, Any]) -> None:
    found = cfa.compare(planted, audited(tmp_path / "other", 1.0, **more))
    told = {m.what: m for m in found.mismatches}
    assert told[what].grave is grave
    assert told[what].before != told[what].after
    assert found.comparable is not grave


def test_a_judge_that_only_one_run_has_is_told_for_every_head(planted: Run, tmp_path: Path) -> None:
    judged = audited(tmp_path / "judged", 1.0, reference=cfa.Reference(worlds.heads(), worlds.judge()))
    told = {m.what: (m.before, m.grave) for m in cfa.compare(planted, judged).mismatches}
    assert told["judge"] == ("none", True)


def test_another_version_is_told(planted: Run, tmp_path: Path) -> None:
    old = changed(planted, tmp_path / "old", lambda record: record.update(cfalign="0.0.9"))
    assert [(m.what, m.before, m.grave) for m in cfa.compare(old, planted).mismatches] == [
        ("version of cfalign", "0.0.9", False)
    ]


def test_audits_of_one_bank_have_the_same_models_and_images(tmp_path: Path) -> None:
    from compared_runs import using_hat

    bank = cfa.bank(
        worlds.images(60), worlds.heads(), autoencoder=worlds.autoencoder(), out=tmp_path / "bank", options=OPTIONS
    )
    runs = [cfa.audit(bank, using_hat(w), options=OPTIONS, out=tmp_path / str(w)) for w in (0.0, 1.0)]
    found = cfa.compare(*runs)
    assert (found.mismatches, hat(found).status) == ((), "appeared")
    old = [changed(run, tmp_path / f"old{i}", lambda record: record.pop("bank")) for i, run in enumerate(runs)]
    assert hat(cfa.compare(*old)).status == "appeared"
    assert cfa.compare(*old).mismatches == ()


def test_what_one_run_does_not_measure_is_in_the_other_only(planted: Run, tmp_path: Path) -> None:
    fewer = audited(tmp_path / "fewer", 1.0, downstream=["smiling", "eyeglasses"])
    found = cfa.compare(fewer, planted)
    assert hat(found).status == "only after"
    assert hat(found).reason == "the run before does not measure this attribute"
    assert math.isnan(hat(found).difference)
    assert (hat(found).before.n, hat(found).after.n) == (0, hat(cfa.compare(planted, planted)).after.n)
    assert hat(cfa.compare(planted, fewer)).status == "only before"


def test_a_number_that_a_run_lacks_is_undefined_with_a_reason(planted: Run, tmp_path: Path) -> None:
    copy = changed(planted, tmp_path / "blank", lambda record: None)
    header, *rows = (copy.path / "effects.csv").read_text().splitlines()
    rows = ["friendly,wearing_hat,,,,,,0," if "wearing_hat" in row else row for row in rows]
    (copy.path / "effects.csv").write_text("\n".join([header, *rows]) + "\n")
    found = hat(cfa.compare(planted, copy))
    assert (found.status, found.reason) == ("undefined", "no counterfactual counts in the run after")
    assert math.isnan(found.q)


def test_heads_without_a_witness_are_compared_by_their_responses(planted: Run, tmp_path: Path) -> None:
    runs = [
        cfa.audit(
            worlds.images(60),
            worlds.heads(),
            autoencoder=worlds.autoencoder(),
            options=replace(OPTIONS, seed=seed),
            out=tmp_path / str(seed),
        )
        for seed in (0, 1)
    ]
    found = cfa.compare(*runs)
    assert {c.kind for c in found.changes} == {ChangeKind.RESPONSE}
    assert any(c.before.clear for c in found.changes)
    assert {c.status for c in found.changes} == {"unchanged"}


JOINT = "friendly,{},{},{},{},0.2,60,0.001"


@pytest.mark.parametrize(("name", "sign"), [("smiling & wearing_hat", 1), ("not wearing_hat & not smiling", -1)])
def test_attributes_that_only_one_run_cannot_tell_apart_are_compared_by_the_sum_of_their_effects(
    planted: Run, tmp_path: Path, name: str, sign: int
) -> None:
    numbers = sorted((0.9 * sign, 0.8 * sign, 1.0 * sign))
    line = JOINT.format(name, 0.9 * sign, numbers[0], numbers[2])
    joint = with_line(planted, tmp_path / "joint", "joint.csv", line)
    effects = {r["attribute"]: r["effect"] for r in planted.effects().to_dicts()}
    expected = effects["smiling"] + effects["wearing_hat"]
    (found,) = [c for c in cfa.compare(planted, joint).changes if c.kind == "joint effect"]
    assert found.before.value == pytest.approx(sign * expected)
    assert found.after.value == pytest.approx(0.9 * sign)
    assert found.attribute == name
    assert found.reason == "the run before could tell these attributes apart: the sum of their effects"
    (back,) = [c for c in cfa.compare(joint, planted).changes if c.kind == "joint effect"]
    assert back.difference == pytest.approx(-found.difference)


def test_joint_effects_are_the_same_whatever_the_order_and_direction_of_their_members(
    planted: Run, tmp_path: Path
) -> None:
    one = with_line(planted, tmp_path / "one", "joint.csv", JOINT.format("smiling & not young", 0.4, 0.3, 0.5))
    two = with_line(planted, tmp_path / "two", "joint.csv", JOINT.format("young & not smiling", -0.4, -0.5, -0.3))
    (found,) = [c for c in cfa.compare(one, two).changes if c.kind == "joint effect"]
    assert (found.attribute, found.status) == ("young & not smiling", "unchanged")
    assert (found.before.value, found.difference) == (-0.4, 0.0)


def feature(effect: float, *, found: bool) -> UnnamedFeature:
    numbers = (effect, effect - 0.05, effect + 0.05, effect, 0.0, 0.02, 0.001, 0.001)
    return UnnamedFeature("friendly", 1, *numbers, 60, 60, 0.5, 0.4, 0.4, 0.9, found)


def test_unnamed_features_are_compared_by_head_and_number(planted: Run, tmp_path: Path) -> None:
    none, small, large = (changed(planted, tmp_path / name, lambda record: None) for name in ("none", "small", "large"))
    write_unnamed(small.path, [feature(0.01, found=False)])
    write_unnamed(large.path, [feature(-0.4, found=True)])
    statuses = {}
    for name, before in (("none", none), ("small", small), ("large", large)):
        (change,) = [c for c in cfa.compare(before, large).changes if c.kind == "unnamed feature"]
        statuses[name] = (change.status, change.relation, change.after.value)
    relation = "friendly -> unnamed 1"
    assert statuses == {
        "none": ("only after", relation, 0.4),
        "small": ("appeared", relation, 0.4),
        "large": ("unchanged", relation, 0.4),
    }


def test_what_both_runs_tell_twice_is_left_out(planted: Run, tmp_path: Path) -> None:
    def copied(record: dict[str, Any]) -> None:
        record["duplicates"] = [{"head": "young", "of": "smiling", "complement": False}]

    copy = changed(planted, tmp_path / "copied", copied)
    assert "young" in {c.attribute for c in cfa.compare(planted, copy).changes}
    assert "young" not in {c.attribute for c in cfa.compare(copy, copy).changes}


def test_the_comparison_is_plain_json(honest: Run, planted: Run) -> None:
    found = cfa.compare(honest, planted)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["comparable"] is True
    assert content["changes"][0]["status"] == "appeared"
    assert set(content["changes"][0]["before"]) == {"value", "ci_low", "ci_high", "n", "q", "clear"}
    assert repr(found).startswith("Comparison(")


def test_changes_stand_in_the_order_of_what_a_person_looks_at_first(honest: Run, planted: Run) -> None:
    order = ["appeared", "gone", "grew", "shrank", "unchanged", "only before", "only after", "undefined"]
    places = [order.index(c.status) for c in cfa.compare(honest, planted).changes]
    assert places == sorted(places)


def test_the_command_names_what_changed_and_ends_with_what_to_do_next(
    honest: Run, planted: Run, tmp_path: Path
) -> None:
    ended = worlds.cfalign("compare", honest.path, planted.path, folder=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "appeared" in ended.out
    assert ended.out.splitlines()[-1] == (f"cfalign query {planted.path} --base wearing_hat --downstream friendly")
    shown = worlds.cfalign(*ended.out.splitlines()[-1].split()[1:], folder=tmp_path)
    assert shown.code == 0
    same = worlds.cfalign("compare", planted.path, planted.path, folder=tmp_path)
    assert "The audited classifiers are the same, to the last weight." in same.out
    assert same.out.splitlines()[-1] == f"cfalign check {planted.path} --baseline {planted.path}"


@pytest.mark.parametrize(
    ("first", "wanted", "code"),
    [
        ("honest", "new", 1),
        ("honest", "grown", 1),
        ("honest", "any", 1),
        ("elsewhere", "new", 0),
        ("elsewhere", "any", 0),
        ("planted", "grown", 0),
    ],
)
def test_the_command_fails_on_what_must_not_happen(
    request: pytest.FixtureRequest, planted: Run, tmp_path: Path, first: str, wanted: str, code: int
) -> None:
    before = request.getfixturevalue(first).path
    ended = worlds.cfalign("compare", before, planted.path, "--fail-on", wanted, "--json", folder=tmp_path)
    assert ended.code == code
    failing = json.loads(ended.out)["failing"]
    assert failing[:1] == (["friendly -> wearing_hat"] if code else [])


def test_what_is_gone_fails_on_any_change_only(honest: Run, planted: Run, tmp_path: Path) -> None:
    codes = [
        worlds.cfalign("compare", planted.path, honest.path, "--fail-on", wanted, folder=tmp_path).code
        for wanted in ("new", "any")
    ]
    assert codes == [0, 1]


def test_the_command_warns_where_numbers_do_not_mean_the_same(planted: Run, tmp_path: Path) -> None:
    options = replace(OPTIONS, search=cfa.SearchOptions(drop=0.4))
    other = audited(tmp_path / "other", 1.0, options=options)
    ended = worlds.cfalign("compare", other.path, planted.path, folder=tmp_path)
    assert "the numbers of both runs do not mean the same: search.drop, 0.4 → 0.6" in " ".join(ended.err.split())
    assert ended.code == 0


def test_a_match_that_is_no_pair_of_names_is_refused(planted: Run, tmp_path: Path) -> None:
    ended = worlds.cfalign("compare", planted.path, planted.path, "--match", "friendly", folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "--match friendly: expected OLD=NEW" in ended.err


def false_alarms(runs: list[Run]) -> tuple[int, int]:
    """How many audits of a classifier differ from the first one: by `compare --fail-on new`, and by `check`."""
    first, *others = runs
    new = [any(c.may_fail for c in cfa.compare(first, run).of("appeared")) for run in others]
    failed = [bool(cfa.check(run, baseline=first).unexpected) for run in others]
    return sum(new), sum(failed)


def test_audits_with_other_images_and_seeds_raise_no_alarm(tmp_path: Path) -> None:
    runs = [audited(tmp_path / str(seed), 1.0, seed=seed) for seed in range(9)]
    assert false_alarms(runs) == (0, 0)


@pytest.mark.slow
def test_at_most_five_of_a_hundred_such_audits_raise_an_alarm(tmp_path: Path) -> None:
    runs = [audited(tmp_path / str(seed), 1.0, seed=seed) for seed in range(101)]
    new, failed = false_alarms(runs)
    assert new <= 5
    assert failed <= 5
