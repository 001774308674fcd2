"""What people say of a run: marks are appended, nothing is lost, and the file of relations says what they mean."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign._audit.gate import read_relations
from cfalign._audit.marked import relations_of
from cfalign._errors import BadInput
from cfalign._runs.marks import MARKS, Mark, Opinion, Thing, add_mark, judgements, mark, read_marks

NAMES = st.text(min_size=1, max_size=30).filter(lambda name: name.strip() and "->" not in name)


def relation(audited: str, attribute: str, opinion: str, *, user: str = "ana", note: str = "") -> Mark:
    return mark("relation", [audited, attribute], opinion, user=user, note=note)


def test_a_mark_is_read_as_it_was_made(tmp_path: Path) -> None:
    made = [
        relation("young", "gray_hair", "expected", note='because "so"\nand so'),
        mark("unnamed", ["young", "1"], "spurious", user="bo"),
        mark("image", ["<b>.jpg"], "unclear", user="🙂"),
    ]
    for one in made:
        add_mark(tmp_path, one)
    assert list(read_marks(tmp_path)) == made
    assert len((tmp_path / MARKS).read_bytes().splitlines()) == 3


def test_without_a_file_there_are_no_marks(tmp_path: Path) -> None:
    assert read_marks(tmp_path) == ()


def many(folder: str, user: str, count: int) -> None:
    for number in range(count):
        add_mark(Path(folder), mark("image", [f"{user}-{number}"], "expected", user=user, note="x" * 300))


def test_people_who_mark_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two processes and two threads append at the same time."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=many, args=(str(tmp_path), name, 100)) for name in ("a", "b")]
    threads = [threading.Thread(target=many, args=(str(tmp_path), name, 100)) for name in ("c", "d")]
    for one in (*others, *threads):
        one.start()
    for one in (*others, *threads):
        one.join()
    expected = {f"{user}-{number}" for user in "abcd" for number in range(100)}
    assert {one.about[0] for one in read_marks(tmp_path)} == expected


def test_a_crash_while_writing_loses_the_last_mark_alone(tmp_path: Path) -> None:
    for number in range(3):
        add_mark(tmp_path, mark("image", [str(number)], "expected", user="ana"))
    whole = (tmp_path / MARKS).read_bytes()
    last = len(whole.splitlines()[-1]) + 1
    for cut in range(1, last):
        (tmp_path / MARKS).write_bytes(whole[:-cut])
        expected = ["0", "1"] if cut > 1 else ["0", "1", "2"]  # without its end of line it is whole still
        assert [one.about[0] for one in read_marks(tmp_path)] == expected
    add_mark(tmp_path, mark("image", ["later"], "expected", user="ana"))
    assert [one.about[0] for one in read_marks(tmp_path)] == ["0", "1", "later"]


def test_lines_that_are_no_marks_are_passed_over(tmp_path: Path) -> None:
    good = json.dumps({"thing": "image", "about": ["a"], "opinion": "expected", "note": "", "user": "u", "time": "t"})
    lines = ["[]", "null", '"text"', "{}", good.replace("expected", "perhaps"), good.replace('["a"]', "[]"), good]
    (tmp_path / MARKS).write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n" + b"[" * 100_000)
    assert [one.about for one in read_marks(tmp_path)] == [("a",)]


def test_a_later_mark_of_the_same_person_counts() -> None:
    made = [relation("a", "b", "expected"), relation("a", "b", "spurious", user="bo"), relation("a", "b", "spurious")]
    (judgement,) = judgements(made).values()
    assert judgement.opinion is Opinion.SPURIOUS
    assert [one.user for one in judgement.marks] == ["bo", "ana"]
    withdrawn = [*made, relation("a", "b", "withdrawn"), relation("a", "b", "withdrawn", user="bo")]
    assert judgements(withdrawn) == {}


def test_people_who_differ_have_no_shared_opinion() -> None:
    made = [relation("a", "b", "expected"), relation("a", "b", "spurious", user="bo")]
    assert judgements(made)[Thing.RELATION, ("a", "b")].opinion is None


@pytest.mark.parametrize(
    ("thing", "about", "opinion"),
    [
        ("relation", ["a"], "expected"),
        ("relation", ["a", ""], "expected"),
        ("image", [], "expected"),
        ("image", ["a", "b"], "expected"),
        ("planet", ["a"], "expected"),
        ("image", ["a"], "fine"),
    ],
)
def test_what_is_no_mark_is_refused(thing: str, about: list[str], opinion: str) -> None:
    with pytest.raises(BadInput):
        mark(thing, about, opinion, user="ana")


def test_a_note_of_a_book_is_refused() -> None:
    with pytest.raises(BadInput, match="2000 characters"):
        relation("a", "b", "expected", note="x" * 2001)


def test_relations_are_what_all_who_marked_them_say(tmp_path: Path) -> None:
    made = [
        relation("young", "gray_hair", "expected"),
        relation("young", "hat", "spurious"),
        relation("young", "bald", "unclear"),
        relation("young", "beard", "expected"),
        relation("young", "beard", "spurious", user="bo"),
        mark("image", ["face"], "spurious", user="ana"),
    ]
    file = tmp_path / "relations.toml"
    file.write_text(relations_of(made), encoding="utf-8")
    assert read_relations(file) == {"young -> gray_hair": float("inf"), "young -> hat": 0.0}
    assert "# people differ" in file.read_text(encoding="utf-8")


@given(audited=NAMES, attribute=NAMES, note=st.text(max_size=60), user=st.text(max_size=20))
def test_no_name_and_no_note_breaks_the_file(
    tmp_path_factory: pytest.TempPathFactory, audited: str, attribute: str, note: str, user: str
) -> None:
    file = tmp_path_factory.mktemp("r") / "relations.toml"
    text = relations_of([relation(audited, attribute, "expected", note=note, user=user)])
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in audited + attribute):
        return  # no file of text can hold half a character
    assert list(read_relations(file)) == [f"{audited.strip()} -> {attribute.strip()}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Exception, match="Could not write"):
        add_mark(tmp_path, mark("image", ["a"], "expected", user="ana"))
