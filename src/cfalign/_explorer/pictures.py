"""Images as files of the server: those that a run holds, those of its source, and frames made on demand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from PIL import Image
from starlette.exceptions import HTTPException

from cfalign._explorer.shelf import Frames
from cfalign._explorer.site import Site

IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
REPORT = "report.html"


def add(app: FastAPI, site: Site) -> None:
    """The addresses ``/RUN/file``, ``/RUN/original``, ``/RUN/frame`` and ``/RUN/report``."""

    @app.get("/{key}/file")
    def file(key: str, path: str) -> Response:
        found = inside(site.shelf[key].path, path)
        if found is None:
            raise HTTPException(404, "the run holds no such image")
        return FileResponse(found, media_type=IMAGES[found.suffix.lower()], headers={"Cache-Control": "max-age=600"})

    @app.get("/{key}/original")
    def original(key: str, image: str) -> Response:
        return png(site.shelf[key].original(image)[0])

    @app.get("/{key}/frame")
    def frame(key: str, image: str, base: str, step: int = -1) -> Response:
        frames = site.shelf[key].remade((image, base)).frames
        if not -len(frames) <= step < len(frames):
            raise HTTPException(404, f"the walk has {len(frames)} frames")
        return png(frames[step])

    @app.get("/{key}/report")
    def report(key: str) -> Response:
        page = site.shelf[key].path / REPORT
        if not page.is_file() or page.is_symlink():
            raise HTTPException(404, "the run holds no report.html: `cfalign report` writes it")
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
        return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": policy})


def inside(run: Path, path: str) -> Path | None:
    """The image at a path relative to a run; None where it is none, or lies elsewhere, also by a link."""
    root = run.resolve()
    try:
        found = (root / path).resolve()
        fits = found.is_relative_to(root) and found.suffix.lower() in IMAGES
        return found if fits and found.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a link to itself
        return None


def png(pixels: Frames) -> Response:
    """Bytes [height, width, channel] as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png", headers={"Cache-Control": "max-age=600"})
