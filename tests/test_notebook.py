"""What notebooks show: HTML that is safe whatever names say, and a ``repr`` of one line for every public object."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import cfalign as cfa
import worlds
from cfalign._notebook import card, facts, heat, line, named, number, picture, table
from cfalign._runs.showing import ShownFindings, findings_html

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a" * 300,
    "\u202egnp.exe",
    "' onload='x",
    "😀",
]
SAFE_TAGS = {"div", "b", "bdi", "table", "thead", "tbody", "tr", "th", "td", "span", "img"}
SAFE_ATTRIBUTES = {"style", "title", "alt", "src"}


class Seen(HTMLParser):
    """Tags and attributes of a page; that every tag is closed; and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name == "src"]
        self.open += [] if tag == "img" else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(page: str) -> Seen:
    """The page, of which all is closed, in place and safe: no script, no handler, nothing from elsewhere."""
    seen = Seen(page)
    assert seen.open == []
    assert seen.tags <= SAFE_TAGS
    assert seen.attributes <= SAFE_ATTRIBUTES
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    assert not re.search(r"color:\s*#|background:\s*(#|white|black)", page), "a colour that one theme cannot read"
    return seen


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(name: str) -> None:
    page = card(name, facts({name: name}), line(name), table([name], [[name, 1, 0.5, heat(-0.3), named(name)]]))
    seen = checked(page)
    assert name[:20] in seen.text


def test_numbers_have_signs_and_undefined_ones_a_dash() -> None:
    assert [number(v) for v in (0.394, -0.1, float("nan"), 0.0)] == ["+0.39", "−0.10", "–", "0.00"]
    assert "rgba(178,24,43,0.60)" in heat(2.0)
    assert "rgba(33,102,172,0.30)" in heat(-0.5)
    assert "rgba" not in heat(float("nan"))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 500, 400), (3, 7, 13)])
def test_a_picture_is_a_small_png_of_the_image(shape: tuple[int, int, int]) -> None:
    import base64
    import io

    from PIL import Image

    image = torch.rand(shape)
    source = Seen(picture(image)).sources[0]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
    assert max(shown.shape) < 400
    if max(shape) < 20:
        wanted = (image * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(shown, wanted)


def test_a_run_shows_findings_effects_and_the_matrix(tiny_run: cfa.Run) -> None:
    page = tiny_run._repr_html_()
    assert page is not None
    seen = checked(page)
    for word in ("friendly", "wearing_hat", "complete", "Alignment matrix", "strongest effects", str(tiny_run.path)):
        assert word in seen.text
    assert len(seen.sources) >= 2
    assert len(page) < 3_000_000


def test_the_list_of_findings_is_a_list_and_is_shown(tiny_run: cfa.Run) -> None:
    found = tiny_run.findings()
    assert isinstance(found, ShownFindings)
    assert found == list(found)
    assert json.loads(json.dumps(found)) == found
    assert "wearing_hat" in checked(found._repr_html_()).text  # type: ignore[attr-defined]


def test_pictures_outside_the_folder_of_a_run_are_not_shown(tiny_run: cfa.Run, tmp_path: Path) -> None:
    finding = tiny_run.findings()[0]
    shutil.copytree(tiny_run.path, tmp_path / "run")
    original = tmp_path / "run" / finding["samples"][0]["files"]["original"]
    (tmp_path / "secret.png").write_bytes(original.read_bytes())
    finding["samples"][0]["files"] = {"original": "../secret.png", "counterfactual": "/etc/passwd"}
    assert checked(findings_html([finding], tmp_path / "run")).sources == []


def test_hostile_names_of_a_run_are_text(tiny_run: cfa.Run, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    for name in ("findings.json", "matrix.csv", "effects.csv", "run.json"):
        file = tmp_path / "run" / name
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("wearing_hat", "<script>alert(1)</script>"), encoding="utf-8")
    page = cfa.Run(tmp_path / "run")._repr_html_()
    assert page is not None
    assert "<script>alert(1)</script>" in checked(page).text
    frame = cfa.Run(tmp_path / "run").effects()._repr_html_()
    assert "<script>" not in frame


def test_what_is_no_audit_is_shown_in_a_line_or_not_at_all(tiny_run: cfa.Run, tmp_path: Path) -> None:
    assert cfa.Run(tmp_path)._repr_html_() is None
    shutil.copytree(tiny_run.path, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"status": "running"}))
    page = cfa.Run(tmp_path / "run")._repr_html_()
    assert page is not None
    assert "running" in checked(page).text
    assert "<table" not in page


def test_counterfactuals_and_explanations_are_shown() -> None:
    clf, autoencoder = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    faces = cfa.synthetic.render(cfa.synthetic.sample(9, seed=0))
    found = cfa.latent_shift(faces, clf["smiling"], autoencoder=autoencoder)
    seen = checked(found._repr_html_())
    assert len(seen.sources) == 12
    assert "… 9 in all." in seen.text
    options = cfa.ExplainOptions(saliency=False, steps=2, increase=True)
    explanation = cfa.explain(faces[0], [clf["smiling"], clf["young"]], autoencoder=autoencoder, options=options)
    seen = checked(explanation._repr_html_())
    assert len(seen.sources) == 6
    assert "smiling" in seen.text


def instances(tiny_run: cfa.Run) -> list[object]:
    """What a user meets, and every public options class."""
    clf, autoencoder = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    faces = cfa.synthetic.sample(2, seed=0)
    images = cfa.synthetic.render(faces)
    conclusions = tiny_run.conclusions()
    source = cfa.datasets.TensorImages(images)
    options = [
        value()
        for room in (cfa, cfa.benchmarks, cfa.training)
        for name in room.__all__
        if inspect.isclass(value := getattr(room, name)) and name.endswith(("Options", "Training"))
    ]
    return [
        *options,
        *(clf, autoencoder, clf["smiling"], 0.3 * clf["smiling"] + clf["young"], cfa.Reference(clf), faces, source),
        *(tiny_run, cfa.Bank(tiny_run), conclusions.cells[0], conclusions.effects[0], conclusions.gaps[0]),
        *(conclusions.findings[0], cfa.report.load(tiny_run), source.load([0]), cfa.Outcome.REACHED),
        *(cfa.classifiers.Preprocessing(mean=(0.5,), std=(0.5,)), cfa.engines.Local(), cfa.engines.Ray()),
        cfa.datasets.read_labels(_labels(tiny_run.path.parent), ids=("a", "b")),
        cfa.datasets.read_labels(_labels(tiny_run.path.parent), ids=("a", "b")).reading,
        cfa.datasets.open_images(torch.utils.data.TensorDataset(images)),
        cfa.UnnamedFeature(*("head", 1, *[0.1] * 8, 3, 4, *[0.1] * 4, True), {f"h{i}": 0.1 for i in range(99)}),
        cfa.benchmarks.Truth((), 0, {}),
        cfa.latent_shift(images, clf["smiling"], autoencoder=autoencoder),
    ]


def _labels(folder: Path) -> Path:
    (folder / "labels.csv").write_text("image,smiling\na,1\nb,0\n")
    return folder / "labels.csv"


def test_every_public_object_says_what_it_is_in_one_line(tiny_run: cfa.Run) -> None:
    for thing in instances(tiny_run):
        said = repr(thing)
        assert "\n" not in said
        assert "tensor(" not in said
        assert "array(" not in said
        assert " at 0x" not in said
        assert len(said) < 1500 if type(thing).__name__.endswith(("Options", "Training")) else 450, said


def test_every_public_class_of_results_is_looked_at(tiny_run: cfa.Run) -> None:
    """Or holds short values only, by its annotations: nothing that may be long is in the ``repr`` that is generated."""
    seen = {type(thing) for thing in instances(tiny_run)}
    rooms = [cfa, *(getattr(cfa, name) for name in cfa.__all__ if inspect.ismodule(getattr(cfa, name)))]
    classes = {value for room in rooms for n in room.__all__ if inspect.isclass(value := getattr(room, n))}
    for kind in classes - seen:
        if dataclasses.is_dataclass(kind) and inspect.unwrap(kind.__repr__).__code__.co_filename == "<string>":
            long = [f.name for f in dataclasses.fields(kind) if f.repr and re.search(r"Tensor|NDArray|Mapping", f.type)]
            assert not long, f"{kind.__name__} prints {long}"


def test_a_notebook_shows_them(tiny_run: cfa.Run, tmp_path: Path) -> None:
    """A real kernel: the run as HTML, and bars that are updated in place."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    here = str(Path(inspect.getfile(worlds)).parent)
    cells = [
        f"import sys; sys.path.insert(0, {here!r}); import cfalign as cfa, worlds",
        f"cfa.Run({str(tiny_run.path)!r})",
        "run = cfa.audit(worlds.images(40), worlds.heads(), autoencoder=worlds.autoencoder(), "
        f"options=cfa.AuditOptions(limit=5), out={str(tmp_path / 'run')!r}, progress=True)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()
    assert "wearing_hat" in checked(book.cells[1].outputs[0]["data"]["text/html"]).text
    outputs = book.cells[2].outputs
    assert [output["output_type"] for output in outputs] == ["display_data"]
    assert "counterfactuals" in outputs[0]["data"]["text/html"]
