"""An effect needs a witness of the audited head's own concept: who is one, and what is said where there is none."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cfalign
import worlds
from cfalign import report
from cfalign._audit.bank import bank
from cfalign._audit.gate import check
from cfalign._audit.witness import OTHER_JUDGE, SECOND_HEADS, UNRECORDED, unrecorded
from cfalign._errors import BadInput
from cfalign._findings import FindingKind, Standing, Witness
from cfalign._results import excludes_zero
from cfalign._runs.run import Run

OPTIONS = cfalign.AuditOptions(limit=25, shown=2, min_effect=0.02, min_response=0.05)
OTHER = 0.9 * worlds.MIXING + 0.02 * torch.arange(worlds.MIXING.numel()).reshape(worlds.MIXING.shape).float()


def heads(name: str = "heads", mixing: torch.Tensor = worlds.MIXING, targets: Any = worlds.TARGETS) -> Any:
    return worlds._wrapped(worlds.LinearHeads(mixing), targets, name=name)


def audited(classifier: Any, out: Path, **how: Any) -> Run:
    options = how.pop("options", OPTIONS)
    images = how.pop("images", None)
    if images is None:
        images, how = worlds.images(70), {"autoencoder": worlds.autoencoder(), **how}
    return cfalign.audit(images, classifier, out=out, options=options, **how)


def standings(run: Run) -> dict[str, Standing]:
    return dict(run.conclusions().counts.standings)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Against its own heads."""
    return audited(heads(), tmp_path_factory.mktemp("own") / "run")


@pytest.fixture(scope="module")
def seconded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Against another network's heads of the same names."""
    return audited(heads(), tmp_path_factory.mktemp("seconded") / "run", reference=heads("other", OTHER))


# --- who is a witness -------------------------------------------------------------------------------------------


def kinds(run: Run) -> set[Witness]:
    return {one.witness for one in standings(run).values()}


def test_own_heads_have_none_and_second_heads_are_one(own: Run, seconded: Run) -> None:
    assert kinds(own) == {Witness.NONE}
    assert {one.remedy for one in standings(own).values()} == {SECOND_HEADS}
    assert kinds(seconded) == {Witness.HEADS}


def test_a_judge_of_the_own_concept_is_one_also_beside_own_heads(tmp_path: Path) -> None:
    judge = heads("judge", OTHER)
    clf = heads()
    run = audited(clf, tmp_path / "a", reference=cfalign.Reference(clf, judge))
    assert kinds(run) == {Witness.JUDGE}
    assert run.effects()["effect"].null_count() == 0
    assert {f["witness"] for f in run.findings()} <= {"judge"}
    partly = audited(clf, tmp_path / "b", reference=cfalign.Reference(clf, worlds.judge()))
    found = standings(partly)
    for target in worlds.TARGETS:
        label = next(a for a in found if a.rpartition(":")[2] == target)
        judged = target in (worlds.TARGETS[1], worlds.TARGETS[3])
        assert found[label].witness is (Witness.JUDGE if judged else Witness.NONE)


@pytest.mark.parametrize("how", ["the same object", "wrapped anew", "under other names", "a bank"])
def test_the_network_itself_is_no_witness_however_it_is_given(how: str, tmp_path: Path) -> None:
    clf = heads()
    again = {
        "the same object": clf,
        "wrapped anew": heads("reference"),
        "under other names": heads("reference", targets=[*worlds.TARGETS[:-1], "another"]),
        "a bank": clf,
    }[how]
    if how == "a bank":
        made = bank(worlds.images(70), again, autoencoder=worlds.autoencoder(), out=tmp_path / "bank", options=OPTIONS)
        run = audited(heads("mine"), tmp_path / "run", images=made)
    else:
        run = audited(clf, tmp_path / "run", reference=again)
    named = {a: one for a, one in standings(run).items() if a.rpartition(":")[2] in again.targets}
    assert named
    assert {one.witness for one in named.values()} == {Witness.NONE}


def test_a_judge_that_is_the_audited_network_is_none(tmp_path: Path) -> None:
    judge = heads("second", OTHER)
    run = audited(judge, tmp_path / "run", reference=cfalign.Reference(heads(), judge))
    assert kinds(run) == {Witness.NONE}
    assert {one.remedy for one in standings(run).values()} == {OTHER_JUDGE}
    without = audited(judge, tmp_path / "without", reference=heads())
    assert kinds(without) == {Witness.HEADS}, "the remedy helps"


def test_a_concept_that_the_reference_knows_must_be_among_the_attributes(tmp_path: Path) -> None:
    some = [t for t in worlds.TARGETS if t != "smiling"]
    run = audited(heads(), tmp_path / "run", reference=heads("other", OTHER), bases=["smiling"], downstream=some)
    (one,) = standings(run).values()
    assert one.witness is Witness.NONE
    assert "--downstream" in one.remedy


def test_a_concept_that_nobody_names_has_effects_and_is_told(tmp_path: Path) -> None:
    run = audited(worlds.audited(), tmp_path / "run", reference=heads())
    (one,) = standings(run).values()
    assert one.witness is Witness.HEADS
    assert "no attribute has its name" in one.reason
    page = report.html(report.load(run))
    assert "no attribute has its name" in page


def test_a_composition_is_about_its_first_head(tmp_path: Path) -> None:
    clf, other = heads(), heads("other", OTHER)
    mixed = clf["smiling"] + 0.3 * clf["young"]
    alone = audited([clf], tmp_path / "alone", bases=["smiling + 0.3*young"])
    assert kinds(alone) == {Witness.NONE}
    run = audited(mixed, tmp_path / "run", reference=other)
    (one,) = standings(run).values()
    assert one.witness is Witness.HEADS
    assert one.reach == pytest.approx(1.3)
    composed = cfalign.classifiers.ComposedClassifier(mixed, name="mixed")
    assert kinds(audited(composed, tmp_path / "composed", reference=other)) == {Witness.HEADS}


def test_the_own_concept_of_a_composition_is_no_finding(tmp_path: Path) -> None:
    """However it is called; what else it reacts to is one, and the gate follows."""
    clf, other = heads(), heads("other", OTHER)
    mixed = cfalign.classifiers.ComposedClassifier(clf["smiling"] + 0.5 * clf["young"], name="mixed")
    run = audited(mixed, tmp_path / "run", reference=other)
    (one,) = standings(run).values()
    assert one.concept == "smiling"
    table = run.effects()
    (own,) = table.filter(table["attribute"] == "smiling")["effect"].to_list()
    assert abs(own) > 0.2
    assert "smiling" not in {f.attribute for f in run.found().findings}
    compared = check(run, max_effect=0.0)
    assert compared.checked == len(worlds.TARGETS) - 1
    assert "smiling" not in {u.found.attribute for u in compared.unexpected}


def test_a_sum_of_probabilities_has_a_score_and_no_probability(tmp_path: Path) -> None:
    reference = heads("other", OTHER)
    run = audited([heads()], tmp_path / "run", reference=reference, bases=["smiling + 0.9*young", "smiling"])
    told = report.verdict.sentences(report.load(run), str)
    assert told
    assert all("changes its score by" in sentence for sentence in told)


def test_of_two_networks_each_is_the_others_witness(tmp_path: Path) -> None:
    run = audited([heads("one"), heads("two", OTHER)], tmp_path / "run")
    assert kinds(run) == {Witness.HEADS}


# --- what an audit says without one -----------------------------------------------------------------------------


def test_without_a_witness_there_are_responses_and_no_effects(own: Run) -> None:
    assert own.effects()["effect"].null_count() == len(own.effects()) > 0
    assert own.effects()["incoming"].null_count() == 0
    assert own.gaps()["gap"].null_count() == len(own.gaps())
    assert own.gaps()["observed"].null_count() == 0
    found = own.found().findings
    assert found
    assert {f.kind for f in found} == {FindingKind.RESPONSE}
    assert all(math.isnan(f.effect) and f.witness is Witness.NONE for f in found)
    assert json.loads((own.path / "findings.json").read_text())["findings"][0]["effect"] is None


def test_a_response_is_the_mean_change_by_hand_and_both_readings_agree(own: Run) -> None:
    rows, cells = own.responses(), {(c.base, c.downstream): c for c in own.cells()}
    minimum = OPTIONS.alignment.min_base_change
    found = own.found().findings
    for f in found:
        changes = [
            r[f"after.{f.audited}"] - r[f"before.{f.audited}"]
            for r in rows.filter(rows["base"] == f.attribute).to_dicts()
            if abs(r["base_after"] - r["base_before"]) >= minimum
        ]
        assert f.change == pytest.approx(np.mean(changes))
        error = np.std(changes) / math.sqrt(len(changes))
        assert f.change_low == pytest.approx(f.change - 1.96 * error, abs=0.4 * error)
        assert f.change_high == pytest.approx(f.change + 1.96 * error, abs=0.4 * error)
        there, back = cells[f.attribute, f.audited], cells[f.audited, f.attribute]
        assert there.clear
        assert back.clear
        assert there.psi * back.psi > 0
        assert min(abs(f.change), abs(back.psi)) >= OPTIONS.min_response
    assert [f.rank for f in found] == list(range(1, len(found) + 1))
    assert [f.size for f in found] == sorted((f.size for f in found), reverse=True)


def test_no_finding_contradicts_its_incoming_reading(own: Run, seconded: Run) -> None:
    for f in [*own.found().findings, *seconded.found().findings]:
        assert f.size <= 1
        assert f.kind is FindingKind.RESPONSE or f.effect * f.incoming > 0


def test_effects_with_a_witness_put_the_own_concept_first(seconded: Run) -> None:
    for label in seconded.record()["audited"]:
        mine = seconded.effects(label)
        assert mine["attribute"][0] == label.rpartition(":")[2]


def test_an_effect_whose_incoming_reading_may_be_zero_is_no_finding(seconded: Run) -> None:
    cells = {(c.base, c.downstream): c for c in seconded.cells()}
    for f in seconded.found().findings:
        for attribute in f.members or (f.attribute,):
            cell = cells[attribute, f.audited]
            assert f.members or excludes_zero(cell.ci_low, cell.ci_high)


def test_the_report_says_so_on_its_first_screen_and_beside_each_finding(own: Run, seconded: Run) -> None:
    page, text = report.html(report.load(own)), report.markdown(report.load(own))
    first = own.found().findings[0]
    moves = "falls" if first.change < 0 else "rises"
    assert f"The score of `{first.audited}` {moves} by" in text
    assert text.count("Witness: none") == len(own.found().findings)
    assert "No effects for" in text
    assert "uses what did change" not in text, "a response does not tell"
    assert "Responses of heads without a witness" in page
    assert "<code>cfalign train classifier --second</code>" in page
    judged = report.markdown(report.load(seconded))
    assert judged.count("Witness: second heads") == len(seconded.found().findings)
    assert "No effects for" not in judged


def test_a_run_of_an_older_version_reads_as_before_and_says_that_it_had_no_witness(own: Run, tmp_path: Path) -> None:
    old = Run(shutil.copytree(own.path, tmp_path / "old"))
    record = json.loads((old.path / "run.json").read_text())
    for name in ("standings", "inseparable"):
        del record[name]
    (old.path / "run.json").write_text(json.dumps(record))
    (old.path / "joint.csv").unlink()
    found = json.loads((old.path / "findings.json").read_text())
    for f in found["findings"]:
        for name in ("kind", "witness", "members", "change", "change_low", "change_high"):
            del f[name]
        f |= {"effect": 0.2, "ci_low": 0.1, "ci_high": 0.3}
    (old.path / "findings.json").write_text(json.dumps(found))
    assert old.conclusions().joint == ()
    assert {f.witness for f in old.found().findings} == {Witness.UNKNOWN}
    text = report.markdown(report.load(old))
    assert UNRECORDED in text
    assert "switching it on changes its probability by +0.20" in text
    ended = worlds.cfalign("check", "old", folder=tmp_path)
    assert UNRECORDED in " ".join(ended.err.split())
    assert ended.code in (0, 1)


def test_an_old_audit_of_a_bank_had_the_heads_of_the_bank_as_witness(tmp_path: Path) -> None:
    made = cfalign.bank(
        worlds.images(70), heads(), autoencoder=worlds.autoencoder(), options=OPTIONS, out=tmp_path / "bank"
    )
    run = audited(heads("other", OTHER), tmp_path / "run", images=made)
    record = json.loads((run.path / "run.json").read_text())
    del record["standings"]
    assert not unrecorded(record)
    del record["data"]["bank"]
    assert unrecorded(record)


# --- the gate ---------------------------------------------------------------------------------------------------


def test_the_gate_refuses_responses_unless_they_are_allowed(own: Run) -> None:
    with pytest.raises(BadInput, match=r"holds no effects of .*, only responses.*--allow-responses"):
        check(own)
    verdict = check(own, allow_responses=True, max_effect=0.1)
    assert verdict.responses == verdict.checked > 0
    cells = {(c.base, c.downstream): c for c in own.cells()}
    for u in verdict.unexpected:
        assert u.found.kind is FindingKind.RESPONSE
        assert u.found.value == cells[u.found.attribute, u.found.audited].psi
        assert abs(u.found.value) > u.allowed
    assert {(f.audited, f.attribute) for f in own.found().findings} <= {
        (u.found.audited, u.found.attribute) for u in verdict.unexpected
    }
    names = {u.found.names[0]: math.inf for u in verdict.unexpected}
    assert check(own, allow_responses=True, max_effect=0.1, expected=names).unexpected == ()


def test_the_gate_on_the_command_line(own: Run) -> None:
    folder = own.path.parent
    refused = worlds.cfalign("check", own.path.name, folder=folder)
    assert refused.code == 2
    assert "--allow-responses" in refused.err
    ended = worlds.cfalign("check", own.path.name, "--allow-responses", "--max-effect", 0.05, folder=folder)
    assert ended.code == 1
    assert "responses, whose cause is open" in ended.out
    told = worlds.cfalign("check", own.path.name, "--allow-responses", "--max-effect", 0.05, "--json", folder=folder)
    one = json.loads(told.out)["unexpected"][0]
    assert one["kind"] == "response"
    assert one["relation"] == f"{one['audited']} -> {one['attribute']}"


def test_responses_are_compared_each_whatever_cannot_be_told_apart(tmp_path: Path) -> None:
    """A head without a witness has no joint effects that could stand for them."""
    alike = worlds.MIXING.clone()
    alike[:, 1] = 0.9 * alike[:, 0] + 0.1 * alike[:, 1]
    run = audited(heads("own", alike), tmp_path / "run", options=replace(OPTIONS, limit=40))
    first, second = worlds.TARGETS[:2]
    assert f"{first} & {second}" in run.record()["inseparable"]
    named = {u.found.names[0] for u in check(run, allow_responses=True, max_effect=0.5).unexpected}
    assert {f"{first} -> {second}", f"{second} -> {first}"} <= named


def test_of_a_head_in_a_group_with_another_nothing_is_said_and_that_is_told(tmp_path: Path) -> None:
    alike = worlds.MIXING.clone()
    alike[:, 1] = 0.9 * alike[:, 0] + 0.1 * alike[:, 1]
    first, second = worlds.TARGETS[:2]
    own = worlds._wrapped(worlds.LinearHeads(OTHER[:, :1]), [first], name="own")
    run = audited(own, tmp_path / "run", reference=heads("other", alike), options=replace(OPTIONS, limit=40))
    assert f"{first} & {second}" in run.record()["inseparable"]
    assert second not in {f.attribute for f in run.found().findings}
    text = " ".join(report.markdown(report.load(run)).split())
    assert f"nothing is said about `{second}`: not to be told apart from its own concept" in text


def test_attributes_that_cannot_be_told_apart_are_compared_together(tmp_path: Path) -> None:
    alike = worlds.MIXING.clone()
    alike[:, 1] = 0.9 * alike[:, 0] + 0.1 * alike[:, 1]
    reference = heads("other", alike)
    first, second = worlds.TARGETS[:2]
    run = audited(worlds.audited(), tmp_path / "run", reference=reference, options=replace(OPTIONS, limit=40))
    together = f"{first} & {second}"
    assert together in run.record()["inseparable"]
    assert not {f.attribute for f in run.found().findings} & {first, second}
    alone = [r for r in run.conclusions().relations if r.attribute in {first, second}]
    assert all(np.isnan(r.effect) for r in alone), "what a member does alone is not told"
    (joint,) = [j for j in run.joint() if j.attributes == together]
    if joint.clear:
        assert together in {u.found.attribute for u in check(run, max_effect=0.0).unexpected}
    allowed = {f"friendly -> {first}": math.inf, f"friendly -> {second}": math.inf}
    named = [u.found.attribute for u in check(run, max_effect=0.0, expected=allowed).unexpected]
    assert together not in named, "both members are expected"
    half = check(run, max_effect=0.0, expected={f"friendly -> {first}": math.inf}).unexpected
    assert joint.clear == (together in {u.found.attribute for u in half})
