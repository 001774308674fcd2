"""The report of a small made-up run: its literal Markdown, what the page holds, what is missing, what is hostile."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cfalign import Run, report
from cfalign._errors import BadInput, RunMismatch
from cfalign.report import page_images, verdict, wording

REFERENCE = ("smiling", "eyeglasses", "young")
AUDITED = ("shortcut:smiling", "clean:smiling")
HEADS = (*REFERENCE, *AUDITED)
BASES = (*REFERENCE, "shortcut:smiling")
HOSTILE = "a/<script>alert(1)</script>|`b`.png"

MATRIX = """\
base,downstream,psi,ratio_of_means,median,psi_logit,ci_low,ci_high,n,excluded,p,q
smiling,smiling,1,1,1,1,1,1,40,2,,
smiling,eyeglasses,-0.0312,-0.03,-0.02,0.01,-0.07,0.01,40,2,0.2,0.31
smiling,young,0.12,0.11,0.1,,0.05,0.19,40,2,0.001,0.004
smiling,shortcut:smiling,0.71,0.7,0.72,0.8,0.64,0.78,40,2,0.0001,0.0002
smiling,clean:smiling,0.93,0.93,0.94,0.9,0.9,0.96,40,2,0.0001,0.0002
eyeglasses,smiling,0.02,0.02,0.01,0.02,-0.03,0.07,38,0,0.5,0.62
eyeglasses,eyeglasses,1,1,1,1,1,1,38,0,,
eyeglasses,young,-0.15,-0.14,-0.15,-0.2,-0.2,-0.1,38,0,0.002,0.006
eyeglasses,shortcut:smiling,0.41,0.4,0.4,0.5,0.36,0.46,38,0,0.0001,0.0002
eyeglasses,clean:smiling,0.01,0.01,0,0.02,-0.04,0.06,38,0,0.7,0.8
young,smiling,,,,,,,0,3,,
young,eyeglasses,,,,,,,0,3,,
young,young,,,,,,,0,3,,
young,shortcut:smiling,,,,,,,0,3,,
young,clean:smiling,,,,,,,0,3,,
shortcut:smiling,smiling,0.55,0.54,0.5,0.6,0.47,0.63,35,1,0.0001,0.0002
shortcut:smiling,eyeglasses,0.1567,0.15,0.1,0.4,0.08,0.23,35,1,0.003,0.008
shortcut:smiling,young,0,0,0,0,-0.04,0.04,35,1,0.9,0.93
shortcut:smiling,shortcut:smiling,1,1,1,1,1,1,35,1,,
shortcut:smiling,clean:smiling,0.5,0.5,0.5,0.5,0.4,0.6,35,1,0.0001,0.0002
"""
EFFECTS = """\
audited,attribute,effect,ci_low,ci_high,incoming,outgoing,n,q
shortcut:smiling,smiling,0.62,0.57,0.67,0.7,0.54,40,0.0002
shortcut:smiling,eyeglasses,0.3912,0.34,0.44,0.4,0.15,38,0.0002
shortcut:smiling,young,,,,,,0,
clean:smiling,smiling,0.9,0.86,0.94,0.93,,40,0.0002
clean:smiling,eyeglasses,-0.0234,-0.06,0.01,0.01,,38,0.41
clean:smiling,young,,,,,,0,
"""
GAPS = """\
audited,attribute,gap,ci_low,ci_high,direct,indirect,observed,n_with,n_without,through
shortcut:smiling,smiling,0.1,0.05,0.15,0,0.1,0.7,40,50,eyeglasses +0.10
shortcut:smiling,eyeglasses,0.41,0.36,0.47,0.39,0.02,0.5,38,52,young +0.02
shortcut:smiling,young,,,,,,0.1,3,87,
clean:smiling,smiling,0.01,-0.02,0.03,0,0.01,0.8,40,50,
clean:smiling,eyeglasses,-0.1,-0.23,0.01,-0.1,0,-0.02,38,52,
clean:smiling,young,,,,,,0.02,3,87,
"""
FILES = {k: f"images/eyeglasses/a.{k}.png" for k in ("original", "reconstruction", "counterfactual")}
FINDING: dict[str, Any] = {
    "rank": 1,
    "audited": "shortcut:smiling",
    "attribute": "eyeglasses",
    "effect": 0.3912,
    "ci_low": 0.34,
    "ci_high": 0.44,
    "q": 0.0002,
    "incoming": 0.4,
    "null": 0.01,
    "outgoing": 0.15,
    "n": 38,
    "samples": [
        {
            "image_id": HOSTILE,
            "base": "eyeglasses",
            "downstream": "shortcut:smiling",
            "psi": 0.45,
            "base_before": 0.97,
            "base_after": 0.37,
            "downstream_before": 0.83,
            "downstream_after": 0.56,
            "files": FILES,
        },
        {
            "image_id": "b.png",
            "base": "eyeglasses",
            "downstream": "shortcut:smiling",
            "psi": 0.31,
            "base_before": 0.9,
            "base_after": 0.3,
            "downstream_before": 0.7,
            "downstream_after": 0.514,
            "files": {k: f.replace("/a.", "/gone.") for k, f in FILES.items()},
        },
    ],
}
RUN: dict[str, Any] = {
    "schema": 2,
    "status": "complete",
    "cfalign": "0.1.0",
    "torch": "2.13.0+cpu",
    "seed": 7,
    "settings": {"limit": 40, "min_effect": 0.05, "search": {"strategy": "refined", "drop": 0.6}, "bases": ["a", "b"]},
    "models": {
        "autoencoder": {"name": "embedded", "hash": "aa11"},
        "classifiers": [
            {"name": "embedded", "role": "reference", "targets": list(REFERENCE), "hash": "bb22"},
            {"name": "shortcut", "role": "audited", "targets": ["smiling"], "hash": "cc33"},
        ],
    },
    "data": {"source": "faces/", "hash": "dd44"},
    "images": 90,
    "skipped": [{"image_id": "c<b>.png", "reason": "not an image | truncated"}],
    "heads": list(HEADS),
    "bases": list(BASES),
    "audited": list(AUDITED),
    "attributes": list(REFERENCE),
    "judges": {},
    "controls": {},
    "outcomes": {
        "smiling": {"reached": 38, "floor": 4, "not_eligible": 48},
        "eyeglasses": {"reached": 30, "turned": 8, "not_eligible": 52},
        "young": {"flat": 3, "not_eligible": 87},
        "shortcut:smiling": {"reached": 36, "not_eligible": 54},
    },
    "exclusions": {
        "smiling": {"base_change_too_small": 2, "not_eligible": 48},
        "eyeglasses": {"not_eligible": 52},
        "young": {"flat": 3, "not_eligible": 87},
        "shortcut:smiling": {"response_not_finite": 1, "not_eligible": 54},
    },
    "drift": {"smiling": 0.0213, "eyeglasses": 0.191, "young": None, "shortcut:smiling": 0.04, "clean:smiling": 0.03},
    "cost": {"decoder_forwards": 12345, "search_decodes_per_cf": 1.8349},
    "timing": {"seconds": 41.26, "seconds_before": 0.0},
}
MARKDOWN = """\
# What do shortcut:smiling and clean:smiling react to?

**1 of 2 audited heads reacts to an attribute that is not its own: `shortcut:smiling` to `eyeglasses` (+0.39).**

2 classifier heads (`shortcut:smiling` and `clean:smiling`) were audited against 3 attributes on 90 images. For each attribute in turn, images that show it were redrawn so that it fades and little else changes, until the probability of its reference head had fallen by 0.6. These are counterfactual images. The audited heads then scored both versions. A head whose score changes although nothing changed that should matter to it uses what did change, however accurate it is.

## Findings

1. `shortcut:smiling` reacts to `eyeglasses`: switching it on changes its probability by +0.39 [0.34, 0.44], n = 38, q < 0.001.

Finding 1: incoming +0.40 (random steps +0.01), outgoing +0.15.

| original | reconstruction | counterfactual |
| --- | --- | --- |
| ![original](images/eyeglasses/a.original.png) | ![reconstruction](images/eyeglasses/a.reconstruction.png) | ![counterfactual](images/eyeglasses/a.counterfactual.png) |

Image `` a/<script>alert(1)</script>\\|`b`.png ``: `eyeglasses` 0.97 → 0.37, `shortcut:smiling` 0.83 → 0.56: ψ = +0.45.

**Before you rely on this**

- 1 image file could not be used and was skipped.
- Fewer than 20 counterfactuals for 1 base (`young`): the numbers that rest on them are uncertain.
- The search met its aim in less than 90% of the images of `eyeglasses`.
- The autoencoder by itself changes the score of `eyeglasses` by more than 0.15 on average: be careful to transfer what these heads say about redrawn images to real ones.

## Images sorted by score

This run keeps no images sorted by score, since an older version wrote it: give its command again, and they are added without measuring anything anew.

## Effects on `shortcut:smiling`

| attribute | effect | 95 % interval | incoming | outgoing | n | q |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| `smiling` (own) | **+0.62** | [0.57, 0.67] | +0.70 | +0.54 | 40 | < 0.001 |
| `eyeglasses` | **+0.39** | [0.34, 0.44] | +0.40 | +0.15 | 38 | < 0.001 |
| `young` | – | – | – | – | 0 | – |

Bold: q < 0.05 and an interval that excludes zero.

## Effects on `clean:smiling`

| attribute | effect | 95 % interval | incoming | outgoing | n | q |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| `smiling` (own) | **+0.90** | [0.86, 0.94] | +0.93 | – | 40 | < 0.001 |
| `eyeglasses` | −0.02 | [−0.06, 0.01] | +0.01 | – | 38 | 0.41 |
| `young` | – | – | – | – | 0 | – |

Bold: q < 0.05 and an interval that excludes zero.

## Groups that get other scores, and through what

A head gives images with an attribute other scores if it uses the attribute, or anything that goes along with it on these images. The gap is the sum of its effects without its own concept: the difference that would remain if both groups had as much of that concept. The observed difference of the mean scores contains it too.

- `shortcut:smiling` on images with `eyeglasses`: +0.41 [0.36, 0.47] (+0.39 itself, +0.02 `young`); observed +0.50, 38 images with and 52 without

## Alignment matrix

Relative change ψ (Eq. 3), mean over images; rows: base, columns: downstream.

| base | `smiling` | `young` | `eyeglasses` | `shortcut:smiling` | `clean:smiling` |
| --- | ---: | ---: | ---: | ---: | ---: |
| `smiling` | 1.00 | 0.12 | −0.03 | 0.71 | 0.93 |
| `young` | – | – | – | – | – |
| `eyeglasses` | 0.02 | −0.15 | 1.00 | 0.41 | 0.01 |
| `shortcut:smiling` | 0.55 | 0.00 | 0.16 | 1.00 | 0.50 |

## What the numbers rest on

4 bases, 119 counterfactuals, of which 91% met their aim; a cell of the matrix rests on 35 to 40 images (median 38).

| base | reached | floor | turned | flat | not eligible | count in the matrix | excluded there |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| `smiling` | 38 | 4 | 0 | 0 | 48 | 40 | 2 × base change too small |
| `eyeglasses` | 30 | 0 | 8 | 0 | 52 | 38 | none |
| `young` | 0 | 0 | 0 | 3 | 87 | 0 | 3 × flat |
| `shortcut:smiling` | 36 | 0 | 0 | 0 | 54 | 35 | 1 × response not finite |

- *reached*: the base score fell by what was asked for
- *floor*: the start was too low for that; the score fell to the floor instead
- *turned*: the score began to rise again before
- *flat*: the gradient is zero, there is no direction to walk in
- *not eligible*: the base does not predict this image positive, so there is nothing to remove

Skipped image files:

- `c<b>.png`: not an image \\| truncated

## Controls

Mean absolute change of each head's score: by the autoencoder alone (drift), by a random latent step as long as the counterfactual's, and by the counterfactuals of other heads.

| head | drift | random step | its 95th percentile | counterfactuals | n |
| --- | ---: | ---: | ---: | ---: | ---: |
| `smiling` | 0.021 | 0.020 | 0.029 | 0.100 | 2 |
| `eyeglasses` | 0.191 | – | – | – | 0 |
| `young` | – | 0.020 | 0.029 | 0.000 | 2 |
| `shortcut:smiling` | 0.040 | 0.020 | 0.029 | 0.227 | 2 |
| `clean:smiling` | 0.030 | 0.020 | 0.029 | 0.010 | 2 |

## Cost, settings, versions

| what | value |
| --- | ---: |
| decoder passes, forward | 12 345 |
| decodes of the search per counterfactual | 1.83 |
| time: last command | 41.3 s |
| time: commands before it, interrupted | 0.0 s |
| autoencoder `embedded` | `aa11` |
| reference `embedded` | `bb22` |
| audited `shortcut` | `cc33` |
| images | 90 from `faces/` |
| hash of the images | `dd44` |
| seed | 7 |
| `limit` | `40` |
| `min_effect` | `0.05` |
| `search.strategy` | `refined` |
| `search.drop` | `0.6` |
| `bases` | `a, b` |
| cfalign | 0.1.0 |
| torch | 2.13.0+cpu |

## How to read this

ψ = (f_downstream(x_λ) − f_downstream(x0)) / (f_base(x_λ) − f_base(x0)), where x0 is the reconstruction of an image and x_λ its counterfactual. ψ = 1: moves as much as the base; 0: does not care; below 0: moves the other way.
"""  # noqa: E501

Change = Callable[[dict[str, Any]], None]


def responses() -> pl.DataFrame:
    """Two counterfactuals of eyeglasses, and a row without one that nothing may count."""
    after = {"smiling": 0.6, "young": 0.5, "shortcut:smiling": 0.56, "clean:smiling": 0.51}
    rows = []
    for image_id, null in ((HOSTILE, 0.01), ("b.png", 0.03)):
        row: dict[str, Any] = {"image_id": image_id, "base": "eyeglasses", "outcome": "reached", "lambda": 12.5}
        row |= {"base_before": 0.97, "base_after": 0.37}
        row |= {f"before.{h}": 0.97 if h == "eyeglasses" else 0.5 for h in HEADS}
        row |= {f"after.{h}": 0.37 if h == "eyeglasses" else after[h] for h in HEADS}
        row |= {f"null.{h}": row[f"before.{h}"] - null for h in HEADS}
        row["before.shortcut:smiling"] = 0.83 if image_id == HOSTILE else 0.7443
        row["null.shortcut:smiling"] = row["before.shortcut:smiling"] - null
        rows.append(row)
    nothing = dict.fromkeys(rows[0]) | {"image_id": "z", "base": "young", "outcome": "flat"}
    return pl.DataFrame([*rows, nothing], infer_schema_length=None)


def curves() -> pl.DataFrame:
    """The walk of the first sample."""
    rows = []
    for step in range(11):
        row = {"image_id": HOSTILE, "base": "eyeglasses", "step": step, "lambda": 1.25 * step}
        row |= {f"score.{h}": 0.5 for h in HEADS}
        row |= {"score.eyeglasses": 0.97 - 0.06 * step, "score.shortcut:smiling": 0.83 - 0.027 * step}
        row |= {"score.young": 0.5 + 0.03 * step}
        rows.append(row)
    return pl.DataFrame(rows)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A whole run directory: 5 heads of which 2 are audited, one finding with two samples, one strip stored."""
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "matrix.csv").write_text(MATRIX)
    (tmp_path / "effects.csv").write_text(EFFECTS)
    (tmp_path / "gaps.csv").write_text(GAPS)
    (tmp_path / "findings.json").write_text(json.dumps({"findings": [FINDING], "relations": []}))
    for folder in ("responses", "curves", "images/eyeglasses"):
        (tmp_path / folder).mkdir(parents=True)
    responses().write_parquet(tmp_path / "responses" / "00000.parquet")
    curves().write_parquet(tmp_path / "curves" / "00000.parquet")
    for level, name in zip((120, 118, 140), FILES.values(), strict=True):
        Image.new("RGB", (8, 8), (level, 100, 90)).save(tmp_path / name)
    return tmp_path


def change(run_dir: Path, edit: Change, name: str = "run.json") -> None:
    """Edit one of the run's JSON files in place."""
    content = json.loads((run_dir / name).read_text())
    edit(content)
    (run_dir / name).write_text(json.dumps(content))


def text_of(page: str) -> str:
    """What a reader sees, without tags, in one line."""

    class Reader(HTMLParser):
        words: list[str] = []  # noqa: RUF012
        skip = False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.skip = tag in ("style", "script")

        def handle_data(self, data: str) -> None:
            if not self.skip:
                self.words.append(data)

    reader = Reader()
    reader.words = []
    reader.feed(page)
    return re.sub(r"\s+", " ", "".join(reader.words))


def test_markdown_is_literally_this(run_dir: Path) -> None:
    written = report.markdown(report.load(run_dir))
    start, guide, rest = written.partition("\n- *effect*")
    assert start == MARKDOWN
    assert guide
    assert rest.count("\n- ") == len(wording.READINGS) - 1 + len(wording.LIMITS)


def test_write_makes_four_files_and_leaves_nothing_else(run_dir: Path) -> None:
    before = {p.name for p in run_dir.iterdir()}
    paths = report.write(run_dir)
    written = {kind: run_dir / f"report.{kind}" for kind in ("html", "md", "json")}
    assert paths == {**written, "card": run_dir / "model_card.md"}
    assert {p.name for p in run_dir.iterdir()} == before | {p.name for p in paths.values()}
    assert paths["md"].read_text().startswith(MARKDOWN)
    first = {kind: path.read_bytes() for kind, path in paths.items()}
    assert {kind: path.read_bytes() for kind, path in report.write(run_dir).items()} == first


def test_a_run_or_its_path_makes_the_same_report(run_dir: Path) -> None:
    made = [
        {kind: path.read_bytes() for kind, path in report.write(run).items()}
        for run in (run_dir, str(run_dir), Run(run_dir))
    ]
    assert made[0] == made[1] == made[2]


def test_page_needs_nothing_from_outside(run_dir: Path) -> None:
    page = report.html(report.load(run_dir))
    assert not re.search(r"https?://|//[\w.]+/|@import|url\(", page)
    assert all(a.startswith(("#", "data:")) for a in re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page))
    assert "default-src 'none'" in page
    assert len(page) < 200_000


def test_page_holds_every_number(run_dir: Path) -> None:
    data = report.load(run_dir)
    page = report.html(data)
    words = text_of(page)
    for finding in data.conclusions.findings:
        assert verdict.finding_sentence(finding, str, {}) in words
    assert "switching it on changes its probability by +0.39 [0.34, 0.44], n = 38, q < 0.001." in words
    for expected in ("+0.62", "[0.57, 0.67]", "[−0.06, 0.01]", "0.41", "+0.40", "+0.54"):  # effects
        assert expected in words
    for expected in ("−0.03", "0.12", "0.71", "0.93", "0.16", "0.00"):  # matrix
        assert expected in words
    assert "ψ = +0.41 [0.36, 0.46], q &lt; 0.001\nn = 38 images, 0 excluded" in page
    assert "logit ψ +0.50, ratio of means +0.40, median +0.40" in page
    for expected in ("2 × base change too small", "c<b>.png", "not an image | truncated", "12 345", "1.83", "41.3 s"):
        assert expected in words
    for expected in ("aa11", "bb22", "cc33", "dd44", "0.1.0", "2.13.0+cpu", "search.drop", "0.191", "0.029"):
        assert expected in words


def test_page_shows_strips_and_alignment_plots(run_dir: Path) -> None:
    page = report.html(report.load(run_dir))
    assert page.count('<img src="data:image/png;base64,') == 4
    assert "difference ×11" in text_of(page)
    assert page.count("Alignment plot of eyeglasses") == 2
    assert "young: 0.50 → 0.80, ψ = −0.50" in page  # from the curve
    assert "shortcut:smiling: 0.74 → 0.56, ψ = +0.31" in page  # the second sample has its two ends only
    assert text_of(page).count("only the two ends of the walk were stored") == 1
    assert "gone.original.png could not be read" in page


def started_at_the_image(run_dir: Path, residual: str = "gated") -> Path:
    """The same run where residuals stayed: no file of a reconstruction, and no drift."""
    change(run_dir, lambda run: run["settings"]["search"].update(residual=residual))
    change(run_dir, lambda run: run.update(drift=dict.fromkeys(HEADS, 0.0)))

    def edit(content: dict[str, Any]) -> None:
        for sample in content["findings"][0]["samples"]:
            sample["files"] = {k: f for k, f in sample["files"].items() if k != "reconstruction"}

    change(run_dir, edit, "findings.json")
    (run_dir / FILES["reconstruction"]).unlink()
    return run_dir


@pytest.mark.parametrize("residual", ["gated", "kept"])
def test_where_walks_start_at_the_image_no_picture_stands_twice(run_dir: Path, residual: str) -> None:
    data = report.load(started_at_the_image(run_dir, residual))
    page = report.html(data)
    words = text_of(page)
    assert page.count('<img src="data:image/png;base64,') == 3
    assert re.findall(r"<figcaption>(\w+)", page) == ["original", "counterfactual", "difference"] * 2
    assert "originalbase score 0.97" in words
    assert "difference ×12" in words, "from 120 to 140"
    assert "Per image: the original, the counterfactual, and what changed between the two." in words
    assert page.count(">original</text>") == 2, "at the left of the plots"
    assert "there is no drift" in words
    assert not re.search("reconstruction|0.191|Grey bar|never with the original|less drift", words)
    assert "reconstruction" not in page
    assert "Everything is compared with the original." in words
    assert "so that the walk starts at the original itself." in words
    assert ("except where the walk changes the picture" in words) == (residual == "gated")


def test_where_walks_start_at_the_image_the_text_says_so(run_dir: Path) -> None:
    written = report.markdown(report.load(started_at_the_image(run_dir)))
    assert "| original | counterfactual |\n" in written
    assert "reconstruction" not in written
    assert "where x0 is an image and x_λ its counterfactual" in written
    assert "| head | random step | its 95th percentile | counterfactuals | n |\n" in written
    assert "| `smiling` | 0.020 | 0.029 | 0.100 | 2 |\n" in written
    assert "there is no drift" in written


def test_where_walks_start_at_the_reconstruction_the_page_says_so(run_dir: Path) -> None:
    """Also of a run that does not say what became of residuals: older versions dropped them."""
    older = report.html(report.load(run_dir))
    change(run_dir, lambda run: run["settings"]["search"].update(residual="dropped"))
    words = text_of(report.html(report.load(run_dir)))
    for page in (words, text_of(older)):
        assert "back into an image x0, its reconstruction. Walking" in page
        assert "Everything is compared with the reconstruction, never with the original." in page
        assert "Grey bar: what the autoencoder alone does to a head's score (drift)." in page
        assert "the original, what the autoencoder makes of it, the counterfactual" in page
        assert "no drift" not in page
    assert older.count(">reconstruction</text>") == 2


def test_missing_numbers_are_dashes_with_a_reason(run_dir: Path) -> None:
    data = report.load(run_dir)
    page = report.html(data)
    assert "nan" not in text_of(page).lower()
    assert "No counterfactual of young counts, so nothing can be said." in page
    assert "Not measured: it needs counterfactuals of the audited head" in page
    assert "base young → downstream smiling\nno value: 0 images count, 3 excluded (3 × flat)" in page
    assert "logit ψ –" in page
    young = next(c for c in data.controls if c.head == "young")
    assert math.isnan(young.drift)


def test_hostile_names_stay_text(run_dir: Path) -> None:
    evil = '"><img src=x onerror=alert(1)>'
    change(run_dir, lambda run: run["settings"].update({evil: evil}))
    change(run_dir, lambda run: run["data"].update(source=evil))
    for name in ("run.json", "findings.json"):
        path = run_dir / name
        path.write_text(path.read_text().replace("shortcut:smiling", "<i>shortcut:smiling"))
    for name in ("matrix.csv", "effects.csv", "gaps.csv"):
        path = run_dir / name
        path.write_text(
            path.read_text().replace("shortcut:smiling", "<i>shortcut:smiling").replace("young +", "<i>young +")
        )
    page = report.html(report.load(run_dir))
    assert "<script>alert" not in page
    assert "onerror=alert(1)>" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1


def test_json_is_plain_and_has_no_nan(run_dir: Path) -> None:
    record = report.as_json(report.load(run_dir))
    assert json.loads(json.dumps(record, allow_nan=False)) == json.loads(json.dumps(record))
    assert record["findings"][0]["effect"] == 0.3912
    assert record["summary"] == [
        "shortcut:smiling reacts to eyeglasses: switching it on changes its probability by +0.39 [0.34, 0.44], "
        "n = 38, q < 0.001."
    ]
    own = {(e["audited"], e["attribute"]): e["own"] for e in record["effects"]}
    assert own[("clean:smiling", "smiling")]
    assert not own[("clean:smiling", "young")]
    empty = next(c for c in record["matrix"] if c["base"] == "young")
    assert empty["psi"] is None
    assert empty["n"] == 0


def test_no_findings_and_no_images(run_dir: Path) -> None:
    (run_dir / "findings.json").write_text('{"findings": [], "relations": []}')
    data = report.load(run_dir)
    expected = (
        "No findings: on these images no attribute but a head's own concept has an effect on an audited head that "
        "stands out from random changes (q < 0.05, an interval that excludes zero, at least 0.05 in size)."
    )
    assert expected in text_of(report.html(data))
    assert expected in report.markdown(data)
    assert report.as_json(data)["summary"] == [expected]


def test_audit_of_a_bank_has_no_autoencoder_and_no_curves(run_dir: Path) -> None:
    def edit(run: dict[str, Any]) -> None:
        del run["models"]["autoencoder"]
        run["data"] = {"bank": "ee55"}
        run["cost"]["search_decodes_per_cf"] = None

    change(run_dir, edit)
    (run_dir / "curves" / "00000.parquet").unlink()
    data = report.load(run_dir)
    assert data.source == "bank ee55"
    assert [m.role for m in data.models] == ["reference", "audited"]
    page = report.html(data)
    assert page.count("Alignment plot of eyeglasses") == 2
    assert text_of(page).count("only the two ends of the walk were stored") == 2


def test_attributes_that_move_each_other_are_a_caution(run_dir: Path) -> None:
    assert "change each other" not in report.html(report.load(run_dir))
    header, *rows = MATRIX.splitlines()
    columns = header.split(",")
    edited = []
    for row in rows:
        cells = row.split(",")
        if {*cells[:2]} == {"smiling", "eyeglasses"}:
            cells[columns.index("ratio_of_means")] = "0.55"
        edited.append(",".join(cells))
    (run_dir / "matrix.csv").write_text("\n".join([header, *edited]) + "\n")
    words = "Counterfactuals of smiling and eyeglasses change each other by half or more, both ways"
    assert words in text_of(report.html(report.load(run_dir)))


def test_many_audited_heads_become_an_overview(run_dir: Path) -> None:
    names = [f"head_{i:02d}" for i in range(40)]
    rows = [f"{a},{b},{0.9 if a == b else 0.01},0.001,0.95,0.5,,30,0.01" for a in names for b in names]
    (run_dir / "effects.csv").write_text(EFFECTS.splitlines()[0] + "\n" + "\n".join(rows) + "\n")
    change(run_dir, lambda run: run.update(audited=names, attributes=names, heads=names))
    page = report.html(report.load(run_dir))
    assert page.count('<details data-head="head_') == 40
    assert "What do these 40 classifier heads react to?" in page
    assert "against one another" in page
    assert len(page) < 5_000_000


def test_images_beyond_the_budget_are_named_not_shown(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfalign.report.html_page.PAGE_BUDGET", 0)
    page = report.html(report.load(run_dir))
    assert "left out to keep this page small: images/eyeglasses/a.counterfactual.png" in page


def test_images_outside_the_run_are_not_read(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)

    def edit(content: dict[str, Any]) -> None:
        content["findings"][0]["samples"][0]["files"] = dict.fromkeys(FILES, str(secret))

    change(run_dir, edit, "findings.json")
    assert report.load(run_dir).pictures == {}


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (lambda run: run.update(schema=1), RunMismatch, "written with schema version 1, this cfalign reads version 2"),
        (
            lambda run: run.update(status="running"),
            BadInput,
            r"not finished \(its status is 'running'\): give its command again",
        ),
        (lambda run: run.pop("heads"), BadInput, "lacks something that schema 2 promises.*'heads'"),
        (lambda run: run.update(images="many"), BadInput, "run.json has 'many' as images where a whole number"),
        (lambda run: run.pop("drift"), BadInput, "run.json lacks 'drift'"),
        (lambda run: run.update(models=[]), BadInput, "has it in another form"),
        (lambda run: run["models"]["classifiers"][0].pop("hash"), BadInput, r"lacks 'models.classifiers\[0\].hash'"),
    ],
)
def test_a_run_that_cannot_be_reported(run_dir: Path, edit: Change, kind: type[BadInput], words: str) -> None:
    change(run_dir, edit)
    with pytest.raises(kind, match=words):
        report.write(run_dir)
    assert not [*run_dir.glob("report.*"), *run_dir.glob("model_card.md")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", None, "holds no run.json; give the folder"),
        ("run.json", b"{", "cannot be read as JSON"),
        ("matrix.csv", None, "holds no matrix.csv: the run did not end"),
        ("matrix.csv", MATRIX.replace("0.71", "much").encode(), "has 'much' in column 'psi' of row 4 where a number"),
        ("effects.csv", b"\xff\xfe", "effects.csv cannot be read"),
        ("gaps.csv", GAPS.replace(",38,", ",many,").encode(), "has 'many' in column 'n_with' of row 2 where a number"),
        ("gaps.csv", GAPS.replace("through", "by").encode(), "has the header .*n_without,by'"),
        ("findings.json", None, "holds no findings.json"),
        ("findings.json", b'{"findings": [{}]}', r"lacks 'findings\[0\].rank'"),
        ("responses/00000.parquet", b"none", "is damaged .*delete that file"),
    ],
)
def test_a_damaged_file_is_one_sentence(run_dir: Path, name: str, content: bytes | None, words: str) -> None:
    if content is None:
        (run_dir / name).unlink()
    else:
        (run_dir / name).write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        report.load(run_dir)
    assert "\n" not in str(caught.value)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"No run directory at .*nowhere: expected a folder that an audit wrote"):
        report.load(tmp_path / "nowhere")


def test_difference_shows_signed_change() -> None:
    import numpy as np

    before = np.full((4, 4, 3), 100, dtype=np.uint8)
    after = before.copy()
    after[0, 0, 1] = 151
    after[1, 1, 2] = 49
    changed, factor = page_images.difference(before, after)
    assert factor == 5
    brighter, darker, same = changed[0, 0], changed[1, 1], changed[3, 3]
    assert brighter[0] > brighter[2]
    assert darker[2] > darker[0]
    assert same.tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match="one size"):
        page_images.difference(before, after[:2])


def test_relations_and_the_judge_stand_in_page_and_text(run_dir: Path) -> None:
    relation = {
        "kind": "correlated_not_used",
        "audited": "shortcut:smiling",
        "attribute": "young",
        "correlation": 0.62,
        "images": 90,
        "effect": 0.01,
        "ci_low": -0.02,
        "ci_high": 0.04,
        "q": 0.7,
        "outgoing": None,
        "returning": 0.02,
    }
    (run_dir / "findings.json").write_text(json.dumps({"findings": [FINDING], "relations": [relation]}))
    share = {"judge_share": 0.31, "ci_low": 0.2, "ci_high": 0.41, "n": 38}
    controls = {"eyeglasses": share, "young": {**share, "judge_share": 0.97}}
    (run_dir / "run.json").write_text(json.dumps({**RUN, "controls": controls}))
    data = report.load(run_dir)
    page, text = text_of(report.html(data)), report.markdown(data)
    sentence = "r = +0.62 over 90 images; effect +0.01 [−0.02, 0.04]"
    for content in (page, text):
        assert "Correlated, but not used" in content
        assert "Used, but not correlated" not in content
        assert sentence in content
        assert "by less than 50%" in content, "a head that its judge does not follow is doubted"
        assert "An independent judge follows 0.31 [0.20, 0.41] of what counterfactuals of " in content
        assert "change (n = 38). That is less than half: do not believe what this strip shows." in content
    assert "| `eyeglasses` | 0.31 | [0.20, 0.41] | 38 |" in text
    assert text.index("`eyeglasses` | 0.31") < text.index("`young` | 0.97")


def test_completed_regions_are_framed_and_each_method_has_its_reason(run_dir: Path) -> None:
    sides = {"region_left": 0.25, "region_top": 0.5, "region_width": 0.5, "region_height": 0.25}
    first = pl.col("image_id") == HOSTILE
    with_regions = responses().with_columns(
        pl.when(first).then(value).otherwise(math.nan).alias(name) for name, value in sides.items()
    )
    with_regions.write_parquet(run_dir / "responses" / "00000.parquet")

    def completed(record: dict[str, Any]) -> None:
        record["settings"]["search"]["method"] = "auto"
        record["methods"] = {"eyeglasses": {"method": "completion", "why": "The judge follows it further."}}

    change(run_dir, completed)
    data = report.load(run_dir)
    assert data.regions == {(HOSTILE, "eyeglasses"): (0.25, 0.5, 0.5, 0.25)}
    page = text_of(report.html(data))
    assert "frame: the completed region" in page
    assert "How the counterfactuals of each head were made" in page
    assert "The judge follows it further." in page
    assert "For some heads no walk is made: the smallest region" in page


def test_a_frame_stands_around_its_region_and_nowhere_else() -> None:
    white = np.full((40, 60, 3), 255, dtype=np.uint8)
    found = page_images.framed(white, (0.25, 0.5, 0.5, 0.25))
    drawn = (found != 255).all(axis=2)
    assert sorted(np.flatnonzero(drawn.any(axis=1))) == list(range(20, 31))
    assert sorted(np.flatnonzero(drawn.any(axis=0))) == list(range(15, 46))
    assert not drawn[21:30, 16:45].any()
    assert (white == 255).all(), "the image itself is not drawn on"
    page_images.framed(white, (-0.5, 0.5, 2.0, 1.0))  # beyond the image: cut
