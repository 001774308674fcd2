"""The explorer by its addresses: what is shown, what is refused, what is kept."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image

import cfalign as cfa
import worlds
from cfalign._audit.pictures import kept, search_of
from cfalign._audit.remade import AtHand
from cfalign._errors import BadInput
from cfalign._results import Effect
from cfalign._runs.marks import Opinion, Thing, judgements, read_marks
from cfalign.datasets import ImageFolder, TensorImages

pytest.importorskip("fastapi", reason="the extra [explore] is not installed")
testclient = pytest.importorskip("fastapi.testclient", reason="httpx2 is not installed")

from cfalign._explorer.app import application  # noqa: E402
from cfalign._explorer.guard import Guard  # noqa: E402
from cfalign._explorer.serving import serve  # noqa: E402
from cfalign._explorer.shelf import Shelf  # noqa: E402
from cfalign._explorer.site import link  # noqa: E402
from cfalign._explorer.tables import Wanted  # noqa: E402

CELL = {"base": "wearing_hat", "head": "friendly"}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "../../etc/passwd",
    "emoji 🙂 face",
    "x" * 300,
    "\u202egpj.live",
    "a+b%2Fc?d=e#f",
)


def client(*runs: cfa.Run, hand: AtHand | None = None, guard: Guard | None = None) -> testclient.TestClient:
    """A visitor on this machine; every run with the same images and models."""
    fetch = None if hand is None else lambda: hand
    app = application(Shelf([(run, fetch) for run in runs]), guard or Guard(seal="seal"))
    return testclient.TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)


@pytest.fixture
def run(tiny_run: cfa.Run, tmp_path: Path) -> cfa.Run:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    return cfa.Run(tmp_path / "run")


@pytest.fixture
def hand(tiny_images: Path) -> AtHand:
    return AtHand(ImageFolder(tiny_images, size=worlds.SIZE), worlds.autoencoder(), [worlds.heads(), worlds.audited()])


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> cfa.Run:
    """A run whose images and heads have names that attack a page."""
    reference = cfa.classifiers.wrap(worlds.LinearHeads(), list(HOSTILE[:4]), name="heads")
    ids = [f"{name} {number}" for number in range(6) for name in HOSTILE]
    return cfa.audit(
        TensorImages(worlds.images(len(ids)), ids),
        cfa.classifiers.wrap(worlds.LinearHeads(worlds.SHORTCUT), ["<img src=x onerror=alert(2)>"], name="<b>audited"),
        autoencoder=worlds.autoencoder(),
        reference=reference,
        options=cfa.AuditOptions(limit=12),
        out=tmp_path_factory.mktemp("hostile") / "<i>run",
    )


def links(text: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'(?:href|src)="([^"]+)"', text)]


def crawled(visitor: testclient.TestClient, start: str) -> dict[str, str]:
    """Every page within this server that can be reached by links, with its text."""
    seen: dict[str, str] = {}
    waiting = [start]
    while waiting and len(seen) < 400:
        address = waiting.pop()
        if address in seen or not address.startswith("/") or ("/cell?" in address and len(seen) > 200):
            continue
        answer = visitor.get(address)
        assert answer.status_code == 200, (address, answer.text[:500])
        seen[address] = answer.text if answer.headers["content-type"].startswith("text/html") else ""
        waiting += [found.partition("#")[0] for found in links(seen[address])]
    return seen


# --- what is shown ------------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere(run: cfa.Run, hand: AtHand) -> None:
    cfa.report.write(run)
    seen = crawled(client(run, hand=hand), "/run/")
    pages = {address: text for address, text in seen.items() if text and "/report" not in address}
    assert all("What next" in text for text in pages.values())
    kinds = {urlsplit(address).path.rpartition("/")[2] for address in seen}
    assert kinds >= {"", "effects", "matrix", "try", "marks", "cell", "walk", "image", "frame", "original", "report"}


def test_one_run_is_the_first_page_and_several_are_a_list(run: cfa.Run) -> None:
    assert client(run).get("/", follow_redirects=False).headers["location"] == "/run/"
    assert {"/run/", "/run-2/", "/compare"} <= set(links(client(run, run).get("/").text))


def test_numbers_are_those_of_the_run(run: cfa.Run) -> None:
    (e,) = (e for e in run.rows(Effect) if e.attribute == "wearing_hat")
    text = client(run).get("/run/effects").text
    assert f"+{e.effect:.2f}" in text
    assert f"[{e.ci_low:.2f}, {e.ci_high:.2f}]" in text.replace("−", "-")
    cell = next(c for c in run.cells() if (c.base, c.downstream) == ("wearing_hat", "friendly"))
    told = client(run).get("/run/cell", params=CELL).text
    assert f"+{cell.psi:.2f}" in told
    assert f">{cell.n}<" in told


def test_a_gallery_holds_every_counterfactual_once_in_order(run: cfa.Run) -> None:
    visitor, start, found = client(run), 0, []
    while True:
        text = visitor.get("/run/cell", params={**CELL, "sort": "down", "start": start}).text
        cards = re.findall(r'class="card">.*?image=([^&"]+)', text, flags=re.DOTALL)
        if not cards:
            break
        found += cards
        start += 24
    rows = run.behind("wearing_hat", "friendly").sort("psi", nulls_last=True)
    assert found == rows["image_id"].to_list()


def test_kept_images_are_files_and_others_are_made_again(run: cfa.Run, hand: AtHand) -> None:
    visitor = client(run, hand=hand)
    ids = run.behind("wearing_hat", "friendly")["image_id"].to_list()
    held = next(i for i in ids if kept(run, i, "wearing_hat"))
    other = next(i for i in ids if not kept(run, i, "wearing_hat"))
    walk = visitor.get("/run/walk", params={"image": held, "base": "wearing_hat"}).text
    frames, stored_files = "step=10" in walk, kept(run, held, "wearing_hat")["counterfactual"]
    assert frames
    file = link("/run/file", path=stored_files.relative_to(run.path).as_posix())
    stored = np.asarray(Image.open(BytesIO(visitor.get(file).content)).convert("RGB"), dtype=float)
    frame = {"image": held, "base": "wearing_hat", "step": -1}
    again = np.asarray(Image.open(BytesIO(visitor.get("/run/frame", params=frame).content)), dtype=float)
    assert np.abs(stored - again).max() <= 3
    assert "step=10" in visitor.get("/run/walk", params={"image": other, "base": "wearing_hat"}).text


def test_without_models_a_page_says_what_to_do(run: cfa.Run) -> None:
    ids = run.behind("wearing_hat", "friendly")["image_id"].to_list()
    other = next(i for i in ids if not kept(run, i, "wearing_hat"))
    text = client(run).get("/run/walk", params={"image": other, "base": "wearing_hat"}).text
    assert "cfalign explore" in text
    assert "--autoencoder" in text
    assert "cfalign explore" in client(run).get("/run/try").text
    assert client(run).get("/run/frame", params={"image": other, "base": "wearing_hat"}).status_code == 400


def test_a_composition_is_tried_as_a_person_would(run: cfa.Run, hand: AtHand) -> None:
    """Both counterfactuals of the first images that both heads predict, and by how much their ψ differ."""
    asked = {"base": "smiling", "text": "smiling + 2*wearing_hat", "count": 12}
    text = client(run, hand=hand).get("/run/try", params=asked).text
    rows = re.findall(r'<th scope="row">(\w+)</th>' + 4 * r'<td class="num">([^<]+)</td>', text)
    told = {name: tuple(float(n.replace("−", "-")) for n in numbers[:3]) for name, *numbers in rows}
    heads, eye = worlds.heads(), worlds.autoencoder()
    assert hand.source is not None
    x = hand.source.load(range(60)).images
    smiling, hat = (torch.sigmoid(heads.logits(x))[:, worlds.TARGETS.index(t)] for t in ("smiling", "wearing_hat"))
    x = x[(smiling >= 0.5) & (smiling + 2 * hat >= 0.5)][:12]
    psi, counts = [], np.ones(12, dtype=bool)
    for head in (heads["smiling"], heads["smiling"] + 2 * heads["wearing_hat"]):
        found = cfa.latent_shift(x, head, autoencoder=eye, options=search_of(run))
        before, after = (torch.sigmoid(heads.logits(i)).detach().numpy() for i in (found.reconstructions, found.images))
        change = found.base_after - found.base_before
        counts &= np.abs(change) >= 0.3
        psi.append((after - before) / change[:, None])
    for column, name in enumerate(worlds.TARGETS):
        naive = [values[counts, column].mean() for values in psi]
        assert told[name] == pytest.approx((*naive, naive[1] - naive[0]), abs=0.0051)
    assert told["wearing_hat"][2] > 0.1
    pictures = [a for a in links(text) if "/trial?" in a]
    assert len(pictures) == 24
    assert Image.open(BytesIO(client(run, hand=hand).get(pictures[1]).content)).size == (worlds.SIZE, worlds.SIZE)


@pytest.mark.parametrize("text", ["smiling +", "nobody", "1e999*smiling", "smiling*young", "<script>"])
def test_a_composition_that_cannot_be_read_is_told(run: cfa.Run, hand: AtHand, text: str) -> None:
    answer = client(run, hand=hand).get("/run/try", params={"base": "smiling", "text": text})
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text


def test_models_of_another_run_are_refused(run: cfa.Run, tiny_images: Path) -> None:
    models = [worlds.bent_heads(), worlds.audited()]
    visitor = client(run, hand=AtHand(ImageFolder(tiny_images, size=worlds.SIZE), worlds.autoencoder(), models))
    images = run.behind("wearing_hat", "friendly")["image_id"].to_list()
    answers = [visitor.get("/run/frame", params={"image": image, "base": "wearing_hat"}) for image in images]
    refused = [answer for answer in answers if answer.status_code == 400]
    assert len(refused) >= 0.8 * len(answers)
    assert all("that the run was made of" in answer.text for answer in refused)


def test_two_runs_are_compared(run: cfa.Run) -> None:
    text = client(run, run).get("/compare", params={"status": "unchanged"}).text
    assert len(re.findall('<span class="tag unchanged">', text)) == len(cfa.compare(run, run).changes)
    assert "Nothing of that kind" in client(run, run).get("/compare").text


# --- tables -------------------------------------------------------------------------------------------------------


def effects(*values: float) -> list[Effect]:
    return [Effect("h", f"a{i}", v, v - 0.1, v + 0.1, v, float("nan"), 9, 0.01) for i, v in enumerate(values)]


def test_an_undefined_effect_is_last_in_every_order() -> None:
    some = effects(0.2, float("nan"), -0.5, 0.1)
    for sort in ("size", "effect"):
        for reverse in (False, True):
            assert Wanted(sort=sort, reverse=reverse).rows(some)[-1].attribute == "a1"
    assert [e.attribute for e in Wanted().rows(some)] == ["a2", "a0", "a3", "a1"]
    assert [e.attribute for e in Wanted(sort="effect", reverse=True).rows(some)] == ["a2", "a3", "a0", "a1"]
    assert [e.attribute for e in Wanted(sort="attribute").rows(some)] == ["a0", "a1", "a2", "a3"]


def test_filters_keep_what_they_say() -> None:
    some = [*effects(0.2, 0.05), Effect("h:own", "own", 0.9, 0.8, 1.0, 0.9, 0.9, 9, 0.01)]
    assert [e.attribute for e in Wanted(clear=True).rows(some)] == ["a0"]
    assert [e.attribute for e in Wanted(own=True).rows(some)] == ["own", "a0", "a1"]
    assert [e.attribute for e in Wanted(find="A1").rows(some)] == ["a1"]
    assert Wanted(audited="nobody").rows(some) == []
    with pytest.raises(BadInput, match="expected one of size"):
        Wanted(sort="colour").rows(some)


# --- marks --------------------------------------------------------------------------------------------------------


def form(**more: object) -> dict[str, object]:
    return {"seal": "seal", "thing": "relation", "about": ["friendly", "wearing_hat"], "opinion": "spurious", **more}


def test_a_mark_is_kept_in_the_run_and_found_after_a_restart(run: cfa.Run) -> None:
    visitor = client(run)
    made = form(user="Ana  Müller", note="a <b>hat</b>", back="/run/effects?find=hat")
    answer = visitor.post("/run/mark", data=made, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/run/effects?find=hat")
    (made,) = read_marks(run.path)
    assert (made.thing, made.about, made.opinion) == (Thing.RELATION, ("friendly", "wearing_hat"), Opinion.SPURIOUS)
    assert (made.user, made.note) == ("Ana Müller", "a <b>hat</b>")
    again = client(run).get("/run/cell", params=CELL).text
    assert "Ana Müller" in again
    assert "a &lt;b&gt;hat&lt;/b&gt;" in again
    assert visitor.get("/run/relations.toml").text.count('"friendly -> wearing_hat" = "forbidden"') == 1
    assert 'value="Ana Müller"' in visitor.get("/run/cell", params=CELL).text


def test_a_script_gets_the_marks_alone(run: cfa.Run) -> None:
    answer = client(run).post("/run/mark", data=form(user="bo"), headers={"HX-Request": "true"})
    assert answer.text.strip().startswith('<div class="mark">')
    assert "<html" not in answer.text


def test_the_exported_file_is_what_check_reads(run: cfa.Run, tmp_path: Path) -> None:
    visitor = client(run)
    before = {u.found.names[0] for u in cfa.check(run).unexpected}
    visitor.post("/run/mark", data=form(opinion="expected", user="bo"))
    file = tmp_path / "relations.toml"
    file.write_text(visitor.get("/run/relations.toml").text, encoding="utf-8")
    after = {u.found.names[0] for u in cfa.check(run, expected=cfa.read_relations(file)).unexpected}
    assert before - after == {"friendly -> wearing_hat"}


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/other/", ""])
def test_a_mark_sends_nobody_elsewhere(run: cfa.Run, back: str) -> None:
    answer = client(run).post("/run/mark", data=form(user="bo", back=back), follow_redirects=False)
    assert answer.headers["location"] == "/run/marks"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"opinion": "fine"}, 400),
        ({"thing": "planet"}, 400),
        ({"about": ["friendly"]}, 400),
        ({"note": "x" * 3000}, 400),
        ({"note": "x" * 30_000}, 413),
        ({"seal": "another"}, 403),
        ({"seal": ""}, 403),
    ],
)
def test_a_wrong_form_changes_nothing(run: cfa.Run, wrong: dict[str, object], status: int) -> None:
    assert client(run).post("/run/mark", data=form(user="bo", **wrong)).status_code == status
    assert read_marks(run.path) == ()


# --- names that attack ----------------------------------------------------------------------------------------------


def test_hostile_names_are_text_everywhere(hostile_run: cfa.Run) -> None:
    seen = crawled(client(hostile_run), f"/{next(iter(Shelf([(hostile_run, None)]).runs))}/")
    assert len(seen) > 20
    for address, text in seen.items():
        if "report" in address:
            continue
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<b>audited" not in text
        assert "<i>run" not in text
        assert text.count("<script") == 2 * bool(text)


def test_hostile_names_find_their_images(hostile_run: cfa.Run) -> None:
    visitor = client(hostile_run)
    key = next(iter(Shelf([(hostile_run, None)]).runs))
    rows = hostile_run.counterfactuals(["image_id", "base"])
    for image, base in list(rows.iter_rows())[:20]:
        answer = visitor.get(f"/{key}/walk", params={"image": image, "base": base})
        assert answer.status_code == 200
    marked = form(about=[HOSTILE[0], HOSTILE[5]], user=HOSTILE[1], note=HOSTILE[2])
    visitor.post(f"/{key}/mark", data=marked)
    assert judgements(read_marks(hostile_run.path))[Thing.RELATION, (HOSTILE[0], HOSTILE[5])].opinion
    assert "<script>alert" not in visitor.get(f"/{key}/marks").text


def test_only_images_of_the_run_are_served(run: cfa.Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(secret)
    (run.path / "images" / "link.png").symlink_to(secret)
    (run.path / "folder.png").mkdir()
    visitor = client(run)
    for path in (
        "../secret.png",
        str(secret),
        "images/link.png",
        "run.json",
        "responses/00000.parquet",
        "",
        ".",
        "folder.png",
        "images/../../secret.png",
        "images/none.png",
        "a\0.png",
        "x" * 5000 + ".png",
    ):
        answer = visitor.get("/run/file", params={"path": path})
        assert answer.status_code == 404, path
    inside = next((run.path / "images").rglob("*.original.png")).relative_to(run.path).as_posix()
    assert visitor.get("/run/file", params={"path": inside}).headers["content-type"] == "image/png"
    for address in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/run/../../etc/passwd"):
        assert visitor.get(address).status_code in (400, 404)


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::", "10.0.0.1"]
)
def test_another_host_name_is_refused(run: cfa.Run, host: str) -> None:
    """A name of another site may be made to point to this machine."""
    assert client(run).get("/run/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "localhost", "[::1]:80"])
def test_this_machine_is_let_in_by_its_names(run: cfa.Run, host: str) -> None:
    assert client(run).get("/run/", headers={"Host": host}).status_code == 200


def test_requests_of_other_sites_are_refused(run: cfa.Run) -> None:
    visitor = client(run)
    foreign = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    ]
    for headers in foreign:
        assert visitor.get("/run/", headers=headers).status_code == 403
        assert visitor.post("/run/mark", data=form(user="bo"), headers=headers).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert visitor.get("/run/", headers=followed).status_code == 200
    assert visitor.post("/run/mark", data=form(user="bo"), headers=followed).status_code == 403
    assert read_marks(run.path) == ()


def test_beyond_this_machine_a_token_is_needed(run: cfa.Run) -> None:
    guard = Guard.of("0.0.0.0")
    assert Guard.of("127.0.0.1").token is None
    assert guard.token is not None
    visitor = client(run, guard=guard)
    far = {"Host": "10.0.0.7:8765"}
    for params in ({}, {"token": "guess"}, {"token": ""}, {"token": "é"}):
        assert visitor.get("/run/", params=params, headers=far).status_code == 401
    visitor.cookies.set("cfalign_token", "guess")
    assert visitor.get("/run/", headers=far).status_code == 401
    visitor.cookies.clear()
    answer = visitor.get("/run/", params={"token": guard.token}, headers=far, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/run/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert visitor.get("/run/", headers={**far, "Cookie": f"cfalign_token={guard.token}"}).status_code == 200


def test_every_answer_keeps_the_page_to_itself(run: cfa.Run) -> None:
    visitor = client(run)
    for address in ("/run/", "/run/effects", "/nothing", "/nothing/", "/static/explorer.js", "/run/file?path=x"):
        headers = visitor.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nobody/", 404),
        ("/run/cell?base=nobody&head=friendly", 400),
        ("/run/cell?base=smiling&head=nobody", 400),
        ("/run/cell", 400),
        ("/run/cell?base=wearing_hat&head=friendly&start=x", 400),
        ("/run/cell?base=wearing_hat&head=friendly&sort=colour", 400),
        ("/run/effects?sort=colour", 400),
        ("/run/matrix?order=colour", 400),
        ("/run/walk?image=none&base=smiling", 400),
        ("/run/image?id=none", 400),
        ("/compare?before=nobody", 404),
        ("/run/nothing", 404),
    ],
)
def test_a_wrong_address_is_a_page_with_a_sentence(run: cfa.Run, address: str, status: int) -> None:
    answer = client(run).get(address)
    assert answer.status_code == status
    assert "That is not possible" in answer.text


def test_pages_name_no_other_host(run: cfa.Run) -> None:
    for text in crawled(client(run), "/run/").values():
        assert not [found for found in links(text) if re.match(r"(https?:)?//", found)]


# --- the server -----------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told(run: cfa.Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="Give another --port"):
            serve(Shelf([(run, None)]), host="127.0.0.1", port=taken.getsockname()[1], ready=lambda _: None)
    with pytest.raises(BadInput, match="Cannot listen"):
        serve(Shelf([(run, None)]), host="203.0.113.1", port=0, ready=lambda _: None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_the_command_serves_until_it_is_interrupted(run: cfa.Run) -> None:
    command = [sys.executable, "-m", "cfalign", "explore", str(run.path), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        try:
            page = urlopen(address[0]).read().decode()
        finally:
            server.send_signal(signal.SIGINT)
            _, complaints = server.communicate()
    assert "What does friendly react to?" in page.replace("\n", "")
    assert server.returncode == 0, complaints
    assert "Traceback" not in complaints


def test_a_run_that_is_not_finished_is_no_book_for_the_shelf(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        Shelf([(cfa.Run(tmp_path), None)])


def test_addresses_are_quoted() -> None:
    for name in HOSTILE:
        (found,) = parse_qs(urlsplit(link("/run/cell", base=name)).query)["base"]
        assert found == name
