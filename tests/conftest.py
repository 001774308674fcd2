"""What every test stands on: checked shapes, few threads, repeatable examples, real images where present."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Many small passes: a second thread is mostly waited for, and its sums have other last digits. Before NumPy is loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import jaxtyping
import pytest
import torch
from hypothesis import settings

# Before any test imports cfalign: where tensors travel, shapes and types are checked at every call.
# Not everywhere: beartype refuses some hints of polars, and typer reads the signatures of commands itself.
CHECKED = (
    *("_analysis", "_counterfactuals", "_heads", "_results", "_explanation.saliency"),
    *("_audit.measurement", "_rectification.mixture", "_rectification.roots", "_runs.progress"),
    *("autoencoders", "classifiers", "synthetic", "training"),
    *("datasets.image_source", "datasets.image_folder", "datasets.tensor_images"),
)
jaxtyping.install_import_hook([f"cfalign.{name}" for name in CHECKED], "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("cfalign", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("cfalign")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-extra", action="store_true", help="A test that would be skipped for want of a package fails."
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--every-extra"):
        pytest.importorskip = lambda name, *_, **__: importlib.import_module(name)


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 images of `worlds`, to be read only."""
    import worlds

    return worlds.write_images(tmp_path_factory.mktemp("tiny") / "images", 60)


@pytest.fixture(scope="session")
def tiny_run(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An audit of a head of `worlds` that really uses wearing_hat, to be read only: who changes it copies it."""
    import cfalign
    import worlds

    return cfalign.audit(
        tiny_images,
        worlds.audited(),
        autoencoder=worlds.autoencoder(),
        reference=worlds.heads(),
        options=cfalign.AuditOptions(limit=15),
        out=tmp_path_factory.mktemp("tiny") / "run",
    )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of one file, see `browser`; skipped where there is none."""
    import browser

    with browser.launched() as found:
        yield found


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the repository; without it the test is skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder shared/data with real images beside the repository")
    return folder
