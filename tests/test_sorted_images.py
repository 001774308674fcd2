"""Images sorted by an audited head's score: the ends and the middle, small files, none where none is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import worlds
from cfalign import AuditOptions, Run, audit, bank, report
from cfalign._audit.sorted_images import EACH, MOST, SIDE, keep_sorted_images, sorted_images
from cfalign._runs.sorted_images import SORTED, THUMBNAILS, read_sorted

OPTIONS = AuditOptions(limit=10)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=60))
def test_rows_hold_the_ends_and_the_middle_each_image_once(scores: list[float]) -> None:
    ids = [f"i{i:02d}" for i in range(len(scores))]
    found = sorted_images("a", ids, np.array(scores))
    known = sorted(s for s in scores if s == s)
    assert found.n == len(known)
    rows = [[one.score for one in row] for row in (found.lowest, found.middle, found.highest)]
    each = min(EACH, len(known) // 3)
    assert rows[0] == known[:each]
    assert rows[2] == (known[len(known) - each :] if each else known)
    assert all(row == sorted(row) for row in rows)
    names = [one.image_id for row in (found.lowest, found.middle, found.highest) for one in row]
    assert len(names) == len(set(names))
    if each:
        below = sum(s <= rows[1][0] for s in known), sum(s >= rows[1][-1] for s in known)
        assert min(below) >= (len(known) - each) // 2, "as many below the middle as above"


def test_a_run_keeps_small_pictures_of_the_images_that_it_names(tiny_run: Any) -> None:
    (grid,) = read_sorted(tiny_run.path)
    scores = dict(tiny_run.scores().select("image_id", f"image.{grid.audited}").iter_rows())
    shown = (*grid.lowest, *grid.middle, *grid.highest)
    assert grid.n == len(scores)
    assert len(shown) == 3 * EACH
    assert all(one.score == pytest.approx(scores[one.image_id]) for one in shown)
    assert grid.lowest[0].score == min(scores.values())
    assert grid.highest[-1].score == max(scores.values())
    for one in shown:
        with Image.open(tiny_run.path / one.file) as picture:
            assert max(picture.size) <= SIDE
    files = {p.name for p in (tiny_run.path / THUMBNAILS).iterdir()}
    assert files == {Path(one.file).name for one in shown}


def test_large_images_become_small_files(tiny_run: Any, tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("run.json", "findings.json", "scores"):
        (tmp_path / name).symlink_to(tiny_run.path / name)
    noise = torch.rand(1, 700, 900, generator=torch.Generator().manual_seed(0))
    head = tiny_run.record()["audited"][0]
    keep_sorted_images(run, [head], lambda ids: ((image_id, noise) for image_id in ids))
    files = list((tmp_path / THUMBNAILS).iterdir())
    assert len(files) == 3 * EACH
    assert all(file.stat().st_size < 20_000 for file in files)
    with Image.open(files[0]) as picture:
        assert picture.size == (SIDE, 75)


def test_only_so_many_heads_have_a_grid_those_of_findings_first(tiny_run: Any, tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("run.json", "findings.json"):
        (tmp_path / name).symlink_to(tiny_run.path / name)
    found = tiny_run.findings()[0]["audited"]
    heads = [f"h{i:02d}" for i in range(40)]
    table = tiny_run.scores()
    (tmp_path / "scores").mkdir()
    column = pl.col(f"image.{found}")
    table.with_columns(column.alias(f"image.{h}") for h in heads).write_parquet(tmp_path / "scores/00000.parquet")
    keep_sorted_images(run, [*heads, found], lambda ids: iter(()))
    assert [grid.audited for grid in read_sorted(tmp_path)] == [found, *heads[: MOST - 1]]


def test_a_run_that_shows_nothing_keeps_nothing(tiny_images: Path, tmp_path: Path) -> None:
    run = audit(
        tiny_images,
        worlds.audited(),
        autoencoder=worlds.autoencoder(),
        reference=worlds.heads(),
        options=AuditOptions(limit=5, shown=0),
        out=tmp_path / "run",
    )
    assert not (run.path / SORTED).exists()
    assert not (run.path / THUMBNAILS).exists()
    assert "This run was told to keep no image (shown = 0)" in report.markdown(report.load(run))


def test_an_audit_of_a_bank_has_them_of_the_images_that_the_bank_keeps(tmp_path: Path) -> None:
    made = bank(
        worlds.images(40), worlds.heads(), autoencoder=worlds.autoencoder(), options=OPTIONS, out=tmp_path / "b"
    )
    run = audit(made, worlds.numpy_box(), options=OPTIONS, out=tmp_path / "run")
    (grid,) = read_sorted(run.path)
    whole = worlds.images(40)
    at = {image_id: i for i, image_id in enumerate(sorted(run.scores()["image_id"].to_list()))}
    one = grid.highest[-1]
    with Image.open(run.path / one.file) as picture:
        seen = np.asarray(picture, dtype=np.float64) / 255
    expected = whole[at[one.image_id]].permute(1, 2, 0).numpy()
    assert np.abs(seen - expected).mean() < 0.1, "that image, but for what JPEG loses"


def test_the_report_shows_every_picture_with_its_score(tiny_run: Any) -> None:
    data = report.load(tiny_run)
    (grid,) = data.sorted_images
    page, text = report.html(data), report.markdown(data)
    assert page.count('<img src="data:image/jpeg;base64,') == 3 * EACH
    for one in (grid.lowest[0], grid.highest[-1]):
        assert f'alt="{one.image_id}"' in page
        assert f"({one.file})" in text
        assert f"<figcaption>{one.score:.2f}</figcaption>" in page
    assert report.as_json(data)["sorted_images"][0]["n"] == grid.n


def test_an_old_run_is_given_them_by_its_command_without_measuring_anew(tiny_images: Path, tmp_path: Path) -> None:
    def again() -> Any:
        models = {"autoencoder": worlds.autoencoder(), "reference": worlds.heads()}
        return audit(tiny_images, worlds.audited(), options=AuditOptions(limit=5), out=tmp_path / "run", **models)

    run = again()
    (run.path / SORTED).unlink()
    shards = {p: p.stat().st_mtime_ns for p in run.shards("responses")}
    assert "give its command again" in report.markdown(report.load(run))
    assert read_sorted(again().path)
    assert {p: p.stat().st_mtime_ns for p in run.shards("responses")} == shards
