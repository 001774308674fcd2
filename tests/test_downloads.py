"""PublishedModel files: a real server on this machine with small ones, whole, in pieces, cut off and wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

import worlds
from cfalign._cli import app
from cfalign._errors import BadInput, StorageFailed
from cfalign._models import downloads
from cfalign._models.downloads import PUBLISHED, Asset, PublishedModel, cache_folder, fetch, located, pinned, published

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What it serves and what it was asked."""

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut_after: int | None = None
    """Bytes of the next answer, which announces all."""
    busy: int = 0
    """How many of the next answers are 503."""
    etag: str | None = None
    asked: list[str | None] = field(default_factory=list)
    """The Range header of every request."""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.busy:
                state.busy -= 1
                self.send_error(503)
                return
            content = state.files.get(self.path.strip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            fresh = self.headers.get("If-Range") in (None, state.etag)
            if wanted and state.ranges and fresh:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            rest = content[start:]
            self.wfile.write(rest if state.cut_after is None else rest[: state.cut_after])
            state.cut_after = None

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state.base = f"http://127.0.0.1:{running.server_address[1]}/"
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


def model(*assets: Asset) -> PublishedModel:
    return PublishedModel("tiny", "a small file", assets or (Asset("tiny.bin"),), origin="this test")


def test_a_file_is_fetched_once_and_pinned(server: Server, tmp_path: Path) -> None:
    server.files = {"tiny.bin": CONTENT, "tiny.yaml": b"a: 1"}
    two = model(Asset("tiny.bin"), Asset("tiny.yaml"))
    seen: list[tuple[str, int, int]] = []
    paths = fetch(two, folder=tmp_path, base=server.base, progress=lambda *p: seen.append(p))
    assert [p.read_bytes() for p in paths] == [CONTENT, b"a: 1"]
    assert seen[0] == ("tiny.bin", 0, len(CONTENT))
    assert ("tiny.bin", len(CONTENT), len(CONTENT)) in seen
    assert json.loads((tmp_path / "sha256.json").read_text())["tiny.bin"] == SHA
    assert pinned(two.assets[0], folder=tmp_path) == SHA
    assert fetch(two, folder=tmp_path, base=server.base) == paths
    assert len(server.asked) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sha256.json", "tiny.bin", "tiny.yaml"]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files, server.busy = {"tiny.bin": CONTENT}, 1
    (path,) = fetch(model(), folder=tmp_path, base=server.base)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_download_that_was_cut_off_goes_on(server: Server, tmp_path: Path, ranges: bool, etag: str | None) -> None:
    server.files, server.ranges, server.etag = {"tiny.bin": CONTENT}, ranges, etag
    server.cut_after = 3_000_000
    with pytest.raises(BadInput, match="was cut off; what came is kept"):
        fetch(model(), folder=tmp_path, base=server.base)
    assert not (tmp_path / "tiny.bin").exists()
    assert 0 < (tmp_path / "tiny.bin.part").stat().st_size <= 3_000_000
    (path,) = fetch(model(), folder=tmp_path, base=server.base)
    assert path.read_bytes() == CONTENT
    assert server.asked[1] is not None
    assert not list(tmp_path.glob("*.part*"))


def test_the_rest_of_another_version_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.files, server.etag, server.cut_after = {"tiny.bin": CONTENT}, '"one"', 1_000_000
    with pytest.raises(BadInput, match="cut off"):
        fetch(model(), folder=tmp_path, base=server.base)
    server.files, server.etag = {"tiny.bin": CONTENT[::-1]}, '"two"'
    (path,) = fetch(model(), folder=tmp_path, base=server.base)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    server.files = {"tiny.bin": CONTENT}
    (tmp_path / "tiny.bin.part").write_bytes(CONTENT)
    assert fetch(model(), folder=tmp_path, base=server.base)[0].read_bytes() == CONTENT
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tiny.bin.part").write_bytes(CONTENT + b"too long")
    with pytest.raises(BadInput, match="give the same command again"):
        fetch(model(), folder=tmp_path / "other", base=server.base)
    assert fetch(model(), folder=tmp_path / "other", base=server.base)[0].read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.files = {"tiny.bin": CONTENT + b"!"}
    stated = model(Asset("tiny.bin", sha256=SHA))
    with pytest.raises(BadInput, match=r"tiny\.bin is not the file that was published: .* nothing was kept"):
        fetch(stated, folder=tmp_path, base=server.base)
    assert not list(tmp_path.iterdir())
    server.files = {"tiny.bin": CONTENT}
    fetch(stated, folder=tmp_path, base=server.base)


def test_what_was_pinned_may_not_change(server: Server, tmp_path: Path) -> None:
    server.files = {"tiny.bin": CONTENT}
    (path,) = fetch(model(), folder=tmp_path, base=server.base)
    path.write_bytes(b"something else")
    with pytest.raises(BadInput, match=r"is not the file that was first fetched: its SHA-256 is .* remove it"):
        fetch(model(), folder=tmp_path, base=server.base)
    path.unlink()
    server.files = {"tiny.bin": b"the publisher changed it"}
    with pytest.raises(BadInput, match="is not the file that was first fetched"):
        fetch(model(), folder=tmp_path, base=server.base)


def test_a_file_put_there_by_hand_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "tiny.bin").write_bytes(CONTENT)
    assert fetch(model(), folder=tmp_path, base="http://127.0.0.1:9/") == (tmp_path / "tiny.bin",)
    assert pinned(Asset("tiny.bin"), folder=tmp_path) == SHA


def test_without_a_network_the_address_and_the_folder_are_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        fetch(model(), folder=tmp_path, base="http://127.0.0.1:9/")
    assert str(raised.value) == (
        "http://127.0.0.1:9/tiny.bin cannot be fetched (no connection to the server); with another machine or browser, "
        f"put it into {tmp_path} as tiny.bin."
    )
    with pytest.raises(BadInput, match="the server answers 404"):
        fetch(model(), folder=tmp_path, base=server.base)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="Could not write to"):
        fetch(model(), folder=tmp_path / "file" / "below", base="http://127.0.0.1:9/")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_pins(tmp_path: Path, text: str) -> None:
    (tmp_path / "sha256.json").write_text(text)
    with pytest.raises(BadInput, match=r"sha256\.json is damaged"):
        fetch(model(), folder=tmp_path, base="http://127.0.0.1:9/")


def test_located_never_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFALIGN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    with pytest.raises(BadInput, match=r"BranchedTiny\.ckpt is not in .*`cfalign models fetch branched-tiny`"):
        located("branched-tiny")
    (tmp_path / "BranchedTiny.ckpt").write_bytes(b"x")
    assert located("branched-tiny") == (tmp_path / "BranchedTiny.ckpt",)
    with pytest.raises(BadInput, match="nearest valid: branched-tiny"):
        published("branchedtiny")
    monkeypatch.delenv("CFALIGN_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "cfalign"


def test_the_list_names_the_published_files() -> None:
    files = [asset.file for model in PUBLISHED for asset in model.assets]
    assert len(files) == len(set(files)) == 7
    assert {"2020-11-13T21-41-45_faceshq.yaml", "waterbirds_withdro.pth", "cub2011-deit-tiny.zip"} <= set(files)
    assert downloads.BASE.endswith("/releases/download/weights/")
    assert all("CC BY-NC 4.0" in model.licence for model in PUBLISHED)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFALIGN_CACHE", str(tmp_path))

    def told(*words: str) -> str:
        result = CliRunner().invoke(app, ["models", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    listed = json.loads(told("list", "--json"))
    assert listed["folder"] == str(tmp_path)
    assert [m["here"] for m in listed["models"]] == [False] * 6
    assert "branched-tiny" in told("list")
    assert "CC BY-NC 4.0" in told("list")
    (tmp_path / "BranchedTiny.ckpt").write_bytes(CONTENT)
    assert SHA in told("fetch", "branched-tiny")
    shown = told("info", "branched-tiny")
    assert f"{tmp_path / 'BranchedTiny.ckpt'} (here, 5.1 MB)" in shown
    assert SHA in shown
    assert [file["sha256"] for file in json.loads(told("info", "faceshq", "--json"))["files"]] == [None, None]


def test_a_name_that_is_not_published_ends_with_2(tmp_path: Path) -> None:
    ended = worlds.cfalign("models", "fetch", "facehq", folder=tmp_path)
    assert (ended.code, ended.err) == (2, "cfalign: No published model 'facehq'; nearest valid: faceshq.\n")


def test_a_command_that_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = {"cub2011-deit-tiny.zip": CONTENT}
    monkeypatch.setenv("CFALIGN_CACHE", str(tmp_path))
    original = downloads.fetch
    monkeypatch.setattr(downloads, "fetch", lambda model, **more: original(model, base=server.base, **more))
    result = CliRunner().invoke(app, ["models", "fetch", "cub2011-deit-tiny", "--json"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "cub2011-deit-tiny.zip").read_bytes() == CONTENT
    (found,) = json.loads(result.stdout.splitlines()[-1])["models"]
    assert found["here"]
    assert found["files"][0]["sha256"] == SHA
