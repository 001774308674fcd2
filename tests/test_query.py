"""Rows of a run by expression and SQL, the command that prints them, and the contact sheet."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import cfalign
import worlds
from cfalign._audit.contact_sheet import lacking, sheet_rows
from cfalign._audit.pictures import kept
from cfalign._audit.remade import AtHand
from cfalign._counterfactuals.options import Residual
from cfalign._errors import BadInput
from cfalign._figures.plots.contact_sheet import contact_sheet
from cfalign._figures.plots.pixels import change, largest, save_png
from cfalign._results import StartsAt
from cfalign._runs.query import Selection, select
from cfalign.datasets import ImageFolder, open_images

WORLDS = Path(worlds.__file__)


@pytest.fixture
def images(tiny_images: Path) -> Path:
    return tiny_images


@pytest.fixture
def run(tiny_run: cfalign.Run) -> cfalign.Run:
    return tiny_run


def naive(run: cfalign.Run) -> list[dict[str, float]]:
    """Every row with the friendly names worked out one by one; NaN where undefined."""
    minimum = run.record()["settings"]["alignment"]["min_base_change"]
    rows = []
    for row in run.responses().to_dicts():
        base_change = row["base_after"] - row["base_before"]
        more = {"base_change": base_change}
        for head in (*worlds.TARGETS, "friendly"):
            response = row[f"after.{head}"] - row[f"before.{head}"]
            more[head] = row[f"after.{head}"]
            more[f"change.{head}"] = response
            more[f"psi.{head}"] = response / base_change if abs(base_change) >= minimum else math.nan
        rows.append({**row, **more})
    return rows


def keys(frame: pl.DataFrame) -> set[tuple[str, str]]:
    return set(frame.select("image_id", "base").iter_rows())


def test_a_condition_keeps_the_rows_that_a_loop_keeps(run: cfalign.Run) -> None:
    found = run.query("base_change < -0.5 and smiling > 0.3 and (psi.young > 0.05 or change.wearing_hat < -0.2)")
    expected = {
        (r["image_id"], r["base"])
        for r in naive(run)
        if r["base_change"] < -0.5 and r["smiling"] > 0.3 and (r["psi.young"] > 0.05 or r["change.wearing_hat"] < -0.2)
    }
    assert keys(found) == expected
    assert 0 < len(found) < len(naive(run))
    assert set(found.columns) >= {"base_change", "smiling", "psi.young", "change.wearing_hat"}


def test_what_is_undefined_meets_no_condition(run: cfalign.Run) -> None:
    undefined = [r for r in naive(run) if math.isnan(r["base_change"])]
    assert undefined, "the run holds rows without a counterfactual"
    for condition in ("base_change > -2", "smiling >= 0", "psi.young > -99 or psi.young <= -99"):
        found = run.query(condition)
        assert not keys(found) & {(r["image_id"], r["base"]) for r in undefined}
    assert len(run.query("base_change is null")) == len(undefined)


def test_the_images_behind_a_cell_are_those_of_top(run: cfalign.Run) -> None:
    found = run.query(base="eyeglasses", downstream="smiling", limit=7)
    top = run.top("eyeglasses", "smiling", k=7)
    assert found["image_id"].to_list() == top["image_id"].to_list()
    assert np.allclose(found["psi.smiling"].to_numpy(), top["psi"].to_numpy())


@pytest.mark.parametrize(("sort", "down"), [("psi.smiling asc", False), ("psi.smiling", True), ("smiling DESC", True)])
def test_order(run: cfalign.Run, sort: str, down: bool) -> None:
    column = run.query(base="eyeglasses", sort=sort).drop_nulls()[sort.split()[0]].to_list()
    assert len(column) > 5
    assert column == sorted(column, reverse=down)


def test_names_that_sql_would_not_read(run: cfalign.Run) -> None:
    """Head names with digits first, colons, spaces and signs: bare where they are words, else in double quotes."""
    odd = ("5_o_clock_shadow", "own:big_lips", "smiling + 0.3*young")
    rows = {"image_id": ["a", "b"], "base": ["x", "x"], "outcome": ["reached"] * 2}
    rows |= {"base_before": [0.9, 0.8], "base_after": [0.3, 0.2]}
    for head in odd:
        rows |= {f"before.{head}": [0.5, 0.5], f"after.{head}": [0.8, 0.2]}
    frame = pl.DataFrame(rows)
    for condition in (
        "5_o_clock_shadow > 0.5",
        "change.own:big_lips > 0",
        '"smiling + 0.3*young" > 0.5',
        'psi."smiling + 0.3*young" < 0',
        "image_id = 'a' and outcome in ('reached', 'floor')",
        "abs(psi.5_o_clock_shadow) between 0.4 and 0.6 and 5_o_clock_shadow > 5e-1",
    ):
        found = select(frame.lazy(), Selection(where=condition), min_base_change=0.3)
        assert found["image_id"][0] == "a", condition
    assert len(select(frame.lazy(), Selection(where="psi.own:big_lips is null"), min_base_change=0.7)) == 2


def test_sql(run: cfalign.Run) -> None:
    found = run.sql("SELECT base, avg(psi.smiling) AS mean, count(*) AS n FROM responses GROUP BY base ORDER BY base")
    by_base: dict[str, list[float]] = {}
    for row in naive(run):
        by_base.setdefault(str(row["base"]), []).append(row["psi.smiling"])
    assert found["base"].to_list() == sorted(by_base)
    for base, mean, n in found.iter_rows():
        assert n == len(by_base[base])
        assert math.isclose(mean, float(np.nanmean(by_base[base])), rel_tol=1e-12)
    joined = run.sql("select r.image_id, base from responses r join scores s on r.image_id = s.image_id limit 3")
    assert joined.columns == ["image_id", "base"]


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ("yung > 0.5", "no column or head 'yung'; nearest valid: young"),
        ("psi.smilin > 0.5", "nearest valid: psi.smiling"),
        ("smiling >", "Cannot answer 'smiling >'"),
        ("smiling", "must be of type"),
        ("0.2 < smiling < 0.8", "compares twice in a row"),
        ("sine(smiling) > 0", "unsupported function 'sine'"),
        ("base > 3", "cannot compare string with numeric"),
        ("", "--where is empty"),
    ],
)
def test_bad_conditions_are_told_in_one_sentence(run: cfalign.Run, condition: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=r"^[^\n]+$") as told:
        run.query(condition)
    assert complaint in str(told.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select yung from responses", "nearest valid: young"),
        ("select * from answers", "the tables are responses and scores"),
        ("selec", "Cannot answer 'selec'"),
        ("select psi.smilin from responses", "nearest valid: psi.smiling"),
    ],
)
def test_bad_sql_is_told_in_one_sentence(run: cfalign.Run, text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=r"^[^\n]+$") as told:
        run.sql(text)
    assert complaint in str(told.value)


def test_unknown_bases_and_heads(run: cfalign.Run) -> None:
    with pytest.raises(BadInput, match="no base 'smilng'; nearest valid: smiling"):
        run.query(base="smilng")
    with pytest.raises(BadInput, match="no head 'smilng'; nearest valid: smiling"):
        run.query(downstream="smilng")


# -- the sheet --------------------------------------------------------------------------------------------------------


def test_a_sheet_without_models_shows_what_the_run_holds(run: cfalign.Run) -> None:
    rows = sheet_rows(run.query(base="wearing_hat", downstream="friendly"), run)
    held = [row for row in rows if kept(run, row.image_id, row.base)]
    assert [row.complete for row in rows] == [row in held for row in rows]
    assert 0 < len(held) < len(rows)


def test_captions_say_what_the_query_asked(run: cfalign.Run) -> None:
    found = run.query("change.young < 9", base="wearing_hat", downstream="friendly", limit=1)
    row = found.row(0, named=True)
    (drawn,) = sheet_rows(found, run)
    assert drawn.caption.split("\n") == [
        row["image_id"],
        f"wearing_hat {row['base_before']:.2f} → {row['base_after']:.2f} (reached)",
        f"friendly {row['before.friendly']:.2f} → {row['after.friendly']:.2f}",
        f"psi.friendly {row['psi.friendly']:+.2f}",
        f"change.young {row['change.young']:+.2f}",
    ]


def test_walked_again_the_rows_are_those_of_the_run(run: cfalign.Run, images: Path) -> None:
    source = ImageFolder(images, size=worlds.SIZE)
    found = run.query(base="wearing_hat", downstream="friendly")
    rows = sheet_rows(found, run, at_hand=AtHand(source, worlds.autoencoder(), [worlds.heads(), worlds.audited()]))
    assert all(row.complete for row in rows)
    after = dict(run.query(base="wearing_hat").select("image_id", "base_after").iter_rows())
    for row in rows:
        assert row.counterfactual is not None
        pixels = torch.from_numpy(row.counterfactual.copy())
        logits = worlds.heads().logits(pixels.permute(2, 0, 1)[None]).detach()
        seen = float(logits[0, worlds.TARGETS.index("wearing_hat")].sigmoid())
        assert abs(seen - after[row.image_id]) < 0.02


def test_raised_rows_are_walked_again_too(run: cfalign.Run, images: Path) -> None:
    source = ImageFolder(images, size=worlds.SIZE)
    at_hand = AtHand(source, worlds.autoencoder(), [worlds.heads(), worlds.audited()])
    found = run.query(base="not wearing_hat", downstream="friendly", limit=4)
    after = dict(found.select("image_id", "base_after").iter_rows())
    for row in sheet_rows(found, run, at_hand=at_hand):
        assert row.counterfactual is not None
        pixels = torch.from_numpy(row.counterfactual.copy())
        logits = worlds.heads().logits(pixels.permute(2, 0, 1)[None]).detach()
        seen = float(logits[0, worlds.TARGETS.index("wearing_hat")].sigmoid())
        assert seen > 0.8
        assert abs(1 - seen - after[row.image_id]) < 0.02


def test_models_and_images_of_another_run_are_refused(run: cfalign.Run, images: Path, tmp_path: Path) -> None:
    found, source = run.query(base="wearing_hat", downstream="friendly"), ImageFolder(images, size=worlds.SIZE)
    other = ImageFolder(worlds.write_images(tmp_path / "other", 60, seed=5), size=worlds.SIZE)
    for wrong in (
        AtHand(other, worlds.autoencoder(), [worlds.heads()]),
        AtHand(source, worlds.autoencoder(), [worlds.bent_heads()]),
        AtHand(source, worlds.slow_autoencoder(), [worlds.heads()]),
    ):
        with pytest.raises(BadInput, match="give the images and models that the run was made of"):
            sheet_rows(found, run, at_hand=wrong)
    with pytest.raises(BadInput, match="give all classifiers of the run: audited, heads"):
        sheet_rows(found, run, at_hand=AtHand(source, worlds.autoencoder(), [worlds.audited()]))
    with pytest.raises(BadInput, match="needs the columns image_id and base"):
        sheet_rows(run.sql("select base from responses"), run)


def test_the_change_is_that_of_the_channel_that_changed_most() -> None:
    before, after = np.zeros((1, 2, 3), dtype=np.float32), np.zeros((1, 2, 3), dtype=np.float32)
    after[0, 0], after[0, 1] = (0.1, -0.5, 0.2), (0.3, 0.1, -0.2)
    assert np.allclose(change(before, after), [[-0.5, 0.3]])


def test_a_sheet_is_the_same_bytes_again(run: cfalign.Run, tmp_path: Path) -> None:
    rows = sheet_rows(run.query(base="wearing_hat", downstream="friendly", limit=4), run)
    for name in ("one.png", "two.png"):
        save_png(contact_sheet(rows, start=run.start, heading="four rows"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> cfalign.Run:
    return of_noisy(tmp_path_factory.mktemp("gated") / "run", "gated")


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> cfalign.Run:
    return of_noisy(tmp_path_factory.mktemp("dropped") / "run", "dropped")


def of_noisy(out: Path, residual: Residual) -> cfalign.Run:
    """A run whose autoencoder cannot draw the noise on the images."""
    return cfalign.audit(
        open_images(noisy(24)),
        worlds.audited(),
        reference=worlds.heads(),
        autoencoder=worlds.autoencoder(),
        options=cfalign.AuditOptions(limit=12, shown=1, search=cfalign.SearchOptions(residual=residual)),
        out=out,
    )


def noisy(count: int) -> torch.Tensor:
    drawn = 0.02 * torch.randn(count, 3, worlds.SIZE, worlds.SIZE, generator=torch.Generator().manual_seed(1))
    return (worlds.images(count) + drawn).clamp(0, 1)


def test_a_run_whose_walks_start_at_the_image_holds_it_once(gated: cfalign.Run, dropped: cfalign.Run) -> None:
    assert (gated.start, dropped.start) == (StartsAt.IMAGE, StartsAt.RECONSTRUCTION)
    for one in (gated, dropped):
        samples = [s for f in one.findings() for s in f["samples"]]
        assert samples
        files = [tuple(s["files"]) for s in samples]
        assert set(files) == {one.start.pictures}
        assert all(set(kept(one, s["image_id"], s["base"])) == set(one.start.pictures) for s in samples)
        stored = {path.name.split(".")[-2] for path in (one.path / "images").rglob("*.png")}
        assert stored == set(one.start.pictures)
    assert gated.start.pictures == ("original", "counterfactual")


def test_a_sheet_shows_the_image_once_and_its_change(gated: cfalign.Run, dropped: cfalign.Run) -> None:
    """Walked again, or held by the run: the change is that from the original."""
    found = gated.query(base="wearing_hat", downstream="friendly")
    models = [worlds.heads(), worlds.audited()]
    rows = sheet_rows(found, gated, at_hand=AtHand(open_images(noisy(24)), worlds.autoencoder(), models))
    held = [bool(kept(gated, row.image_id, row.base)) for row in rows]
    assert {True, False} == set(held)
    for row in rows:
        assert row.reconstruction is None
        assert row.original is not None
        assert row.counterfactual is not None
        np.testing.assert_allclose(row.original, noisy(24)[int(row.image_id)].permute(1, 2, 0), atol=0.5 / 255 + 1e-6)
    for one, count in ((gated, 3), (dropped, 4)):
        sheet = contact_sheet(sheet_rows(one.query(base="wearing_hat", limit=3), one), start=one.start)
        assert len(sheet.axes) == 3 * count
        words = [text.get_text() for text in sheet.texts]
        assert ("reconstruction" in words) == (one is dropped)
        assert {"original", "counterfactual"} <= set(words)
    drawn = contact_sheet(rows[:1], start=gated.start).axes[-1].get_xlabel()
    first = rows[0]
    assert first.original is not None
    assert first.counterfactual is not None
    assert drawn == f"±{largest(change(first.original, first.counterfactual)):.2f}"


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table(run: cfalign.Run, tmp_path: Path) -> None:
    ended = worlds.cfalign(
        "query", run.path, "--base", "eyeglasses", "--downstream", "smiling", "--limit", 3, folder=tmp_path
    )
    assert ended.code == 0, ended.err
    lines = [" ".join(line.split()) for line in ended.out.splitlines() if line.strip(" ─━")]
    first = run.query(base="eyeglasses", downstream="smiling").row(0, named=True)
    assert lines[0] == "3 of 15 rows"
    assert lines[-3].startswith(f"{first['image_id']} eyeglasses reached {first['base_before']:.3f}")
    assert lines[-3].endswith(f"{first['psi.smiling']:.3f}")


def test_json_csv_and_sheet(run: cfalign.Run, images: Path, tmp_path: Path) -> None:
    csv, sheet = tmp_path / "rows.csv", tmp_path / "sheet.png"
    words = ["query", run.path, "--base", "wearing_hat", "--where", "base_change < -0.5", "--limit", 8, "--json"]
    models = ["--autoencoder", f"{WORLDS}:autoencoder", "--classifier", f"{WORLDS}:audited"]
    more = [*models, "--reference", f"{WORLDS}:heads", "--images", images, "--sheet", sheet]
    ended = worlds.cfalign(*words, "--csv", csv, *more, folder=tmp_path)
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    assert (content["matched"], len(content["rows"]), content["incomplete"]) == (15, 8, 0)
    assert pl.read_csv(csv, schema_overrides={"image_id": pl.String})["image_id"].to_list() == [
        row["image_id"] for row in content["rows"]
    ]
    assert _size(sheet)[1] > 8 * 100


def test_a_sheet_that_would_lack_images_says_before_it_starts_what_it_needs(run: cfalign.Run, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["query", run.path, "--base", "wearing_hat", "--where", "base_change < -0.5", "--limit", 8]
    ended = worlds.cfalign(*words, "--sheet", sheet, folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "of 8 rows are not among the images that the run holds" in ended.err
    assert "give --images FOLDER --autoencoder AUTOENCODER --classifier AUDITED --reference HEADS." in ended.err
    assert not sheet.exists()


def test_a_sheet_of_an_audit_needs_nothing_more_than_its_python_files(images: Path, tmp_path: Path) -> None:
    models = {"classifier": f"{WORLDS}:audited", "reference": f"{WORLDS}:heads", "autoencoder": f"{WORLDS}:autoencoder"}
    words = worlds.options(images=images, out=tmp_path / "run", limit=12, **models)
    made = worlds.cfalign("audit", *words, folder=tmp_path)
    assert made.code == 0, made.err
    asked = ["query", tmp_path / "run", "--sheet", tmp_path / "sheet.png", "--json"]
    ended = worlds.cfalign(*asked, folder=tmp_path)
    assert ended.code == 2, "a file of Python runs only when it is named"
    given = re.search(r"give (.*)\.\n", ended.err)
    assert given is not None
    again = worlds.cfalign(*asked, *given[1].split(), folder=tmp_path)
    assert again.code == 0, again.err
    assert json.loads(again.out)["incomplete"] == 0


def test_a_sheet_of_shipped_models_needs_nothing_at_all(tmp_path: Path) -> None:
    faces = cfalign.synthetic.render(cfalign.synthetic.sample(12, seed=3))
    folder = tmp_path / "faces"
    folder.mkdir()
    for i, face in enumerate(faces):
        save_png_of(face, folder / f"{i}.png")
    words = ["--classifier", "embedded", "--autoencoder", "embedded", "--bases", "smiling,young", "--limit", 4]
    made = worlds.cfalign("audit", "--images", folder, *words, "--out", tmp_path / "run", folder=tmp_path)
    assert made.code == 0, made.err
    ended = worlds.cfalign("query", tmp_path / "run", "--sheet", tmp_path / "s.png", "--json", folder=tmp_path)
    assert ended.code == 0, ended.err
    content = json.loads(ended.out)
    drawn = [row for row in content["rows"] if row["outcome"] != "not_eligible"]
    assert drawn
    assert content["incomplete"] == len(content["rows"]) - len(drawn)


def test_a_sheet_of_an_audit_of_a_bank_takes_the_images_of_the_bank(images: Path, tmp_path: Path) -> None:
    source = ImageFolder(images, size=worlds.SIZE)
    options = cfalign.AuditOptions(limit=6)
    bank, other = (
        cfalign.bank(
            source,
            worlds.heads(),
            autoencoder=worlds.autoencoder(),
            attributes=names,
            out=tmp_path / out,
            options=options,
        )
        for out, names in (("bank", ["wearing_hat", "young"]), ("other", ["young"]))
    )
    run = cfalign.audit(bank, worlds.audited(), out=tmp_path / "run")
    rows = run.query(base="wearing_hat", downstream="friendly")
    assert lacking(rows, run)
    assert all(row.complete for row in sheet_rows(rows, run, bank=bank))
    with pytest.raises(BadInput, match="was not made of the bank"):
        sheet_rows(rows, run, bank=other)
    asked = ["query", run.path, "--base", "wearing_hat", "--downstream", "friendly", "--sheet", tmp_path / "s.png"]
    refused = worlds.cfalign(*asked, folder=tmp_path)
    assert (refused.code, "give --bank FOLDER." in refused.err) == (2, True)
    ended = worlds.cfalign(*asked, "--bank", bank.run.path, folder=tmp_path)
    assert ended.code == 0, ended.err


def save_png_of(image: torch.Tensor, file: Path) -> None:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file)


def _size(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--where", "yung > 0"], "nearest valid: young"),
        (["--sql", "select 1", "--base", "smiling"], "--base does not go with --sql"),
        (["--where", "base_change > 2", "--sheet", "sheet.png"], "nothing to put on a sheet"),
    ],
)
def test_bad_commands_end_with_2(run: cfalign.Run, words: list[str], complaint: str, tmp_path: Path) -> None:
    ended = worlds.cfalign("query", run.path, *words, folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert complaint in ended.err
    assert ended.err.count("\n") == 1
