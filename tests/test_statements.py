"""The statement reader: what it accepts, what it refuses; it changes nothing that it reads."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw2_utils import statements
from hw2_utils.errors import InputError

HEAD = "statement,label\n"
GOOD = HEAD + "Ice is cold.,true\nIce is hot.,false\n"
HOSTILE = "<script>x</script>{{7*7}}\\input{x}$\\x$ %s ../../x \x00\x1b[2J"
LONG = "A" * 300_000  # the csv module's own limit is 131,072

REFUSED = {
    "no bytes": (b"", "an empty file"),
    "only blanks": (b"\xef\xbb\xbf\n\r\n", "an empty file"),
    "only a header": (HEAD, "0 statements"),
    "Latin-1": (HEAD.encode() + b"A.,true\nCaf\xe9 noir.,false\n", "row 3", "offset 27", "UTF-8"),
    "Latin-1 after a BOM": (
        b"\xef\xbb\xbf" + HEAD.encode() + b"Caf\xe9.,true\n",
        "row 2",
        "offset 22",
    ),
    "UTF-16": (GOOD.encode("utf-16"), "offset 0", "UTF-8"),
    "no label column": ("statement,truth\nA.,true\nB.,false\n", "label", "'truth'"),
    "no statement column": ("text,label\nA.,true\nB.,false\n", "statement", "'text'"),
    "no header": ("A.,true\nB.,false\n", "row 1", "'A.'"),
    "semicolons": (GOOD.replace(",", ";"), "statement;label"),
    "label column twice": ("statement,label,label\nA.,true,true\nB.,false,true\n", "each once"),
    "topic column twice": ("statement,label,topic,topic\nA.,true,a,b\nB.,false,a,b\n", "each once"),
    "quote never closed": (HEAD + 'A.,true\n"B.,false\nC.,false\n', "row 3", "quotes"),
    "quote closed too early": (HEAD + 'A.,true\n"B" or C.,false\n', "row 3", "quotes"),
    "quote never opened": (
        HEAD + 'A.,true\nB.",false\nC.,true\n',
        "row 3",
        "double quote is missing",
    ),
    "too many fields": (HEAD + "A.,true\nB, or C.,false\n", "row 3", "3 fields", "2"),
    "too few fields": (HEAD + "A.,true\nB.\n", "row 3", "1 fields", "2"),
    "line after a quoted newline": (HEAD + '"A\nB\r\nC.",true\nB.\n', "row 5", "1 fields"),
    "line after an empty line": (HEAD + "\n\nA.,true\nB.,maybe\n", "row 5", "'maybe'"),
    "empty statement": (HEAD + "A.,true\n,false\n", "row 3", "empty"),
    "blank statement": (HEAD + 'A.,true\n" \t\u2003",false\n', "row 3", "empty"),
    "empty label": (HEAD + "A.,true\nB.,\n", "row 3", "label ''"),
    "label yes": (HEAD + "A.,yes\nB.,false\n", "row 2", "label 'yes'"),
    "label 2": (HEAD + "A.,1\nB.,2\n", "row 3", "label '2'"),
    "label 1.0": (HEAD + "A.,1.0\nB.,0\n", "row 2", "label '1.0'"),
    "label nan": (HEAD + "A.,nan\nB.,0\n", "row 2", "label 'nan'"),
    "escape codes are shown, not sent": (HEAD + "A.,\x1b[2J\nB.,0\n", "row 2", r"\x1b[2J"),
    "opposite labels": (HEAD + "A.,true\nB.,false\nA.,false\n", "row 4", "row 2", "'A.'"),
    "opposite labels in two notations": (HEAD + "A.,1\nB.,0\nA.,FALSE\n", "row 4", "row 2"),
    "opposite labels, other spacing": (
        HEAD + "A is.,true\nB.,false\n A  is. ,false\n",
        "row 4",
        "row 2",
    ),
    "all contradictions": (
        HEAD + "A.,1\nB.,0\nA.,0\nB.,1\nC.,1\nA.,0\n",
        "3 problems",
        "row 4: 'A.' is false here and true in row 2",
        "row 5: 'B.' is true here and false in row 3",
        "row 7: 'A.'",
    ),
    "all unknown labels": (HEAD + "A.,1.0\nB.,0\nC.,yes\n", "2 problems", "row 2: ", "'yes'"),
    "all empty statements": (HEAD + ',1\nB.,0\n" ",1\n', "2 problems", "row 2: ", "row 4: "),
    "more contradictions than a message lists": (
        HEAD + "A.,1\n" + "A.,0\n" * 31,
        "31 problems",
        "row 22: ",
        "and 11 more",
    ),
    "labels nearly right": ("statement,labels\nA.,1\n", "nearly right: 'labels'"),
    "topics": ("statement,label,topics\nA.,1,a\nB.,0,b\n", "nearly right: 'topics'"),
    "one class": (HEAD + "A.,true\nB.,1\n", "2 statements, labels ['true'] only"),
}

ACCEPTED = {
    "plain": (GOOD, ["Ice is cold.", "Ice is hot."], ["true", "false"]),
    "BOM": ("\ufeff" + GOOD, ["Ice is cold.", "Ice is hot."], ["true", "false"]),
    "CR LF": (GOOD.replace("\n", "\r\n"), ["Ice is cold.", "Ice is hot."], ["true", "false"]),
    "no newline at the end": (
        GOOD.rstrip("\n"),
        ["Ice is cold.", "Ice is hot."],
        ["true", "false"],
    ),
    "empty lines": ("\n" + GOOD + "\n\n", ["Ice is cold.", "Ice is hot."], ["true", "false"]),
    "labels in any case": (HEAD + "A.,True\nB.,FALSE\n", ["A.", "B."], ["true", "false"]),
    "labels 1 and 0": (
        HEAD + "A.,1\nB.,0\nC., 0\n",
        ["A.", "B.", "C."],
        ["true", "false", "false"],
    ),
    "columns in another order": (
        "x,label,statement\n,0,A.\n7,1,B.\n",
        ["A.", "B."],
        ["false", "true"],
    ),
    "quoted comma": (HEAD + '"A, B.",true\nC.,false\n', ["A, B.", "C."], ["true", "false"]),
    "quoted newlines": (
        HEAD + '"A\nB\r\nC",true\nD.,false\n',
        ["A\nB\r\nC", "D."],
        ["true", "false"],
    ),
    "quoted quote": (HEAD + '"A ""B"".",true\nC.,false\n', ['A "B".', "C."], ["true", "false"]),
    "Unicode line separators": (
        HEAD + "A\u2028B\u2029C\x85D\x0bE\x0cF\x1cG.,true\nH.,false\n",
        ["A\u2028B\u2029C\x85D\x0bE\x0cF\x1cG.", "H."],
        ["true", "false"],
    ),
    "words that mean missing elsewhere": (
        HEAD + "NA,true\nnull,false\nNaN,0\n",
        ["NA", "null", "NaN"],
        ["true", "false", "false"],
    ),
    "hostile text": (
        HEAD + f"{HOSTILE},true\n=HYPERLINK(1),false\n",
        [HOSTILE, "=HYPERLINK(1)"],
        ["true", "false"],
    ),
    "a very long statement": (HEAD + f"{LONG},true\nB.,false\n", [LONG, "B."], ["true", "false"]),
    "statements that differ in case": (
        HEAD + "polish it,true\nPolish it,false\n",
        ["polish it", "Polish it"],
        ["true", "false"],
    ),
}


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "statements.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str, tmp_path: Path) -> None:
    content, *parts = REFUSED[case]
    path = written(tmp_path, content)
    with pytest.raises(InputError) as caught:
        statements.read(path)
    assert caught.value.exit_code == 2 and caught.value.todo
    assert str(path) in str(caught.value)
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts(case: str, tmp_path: Path) -> None:
    content, texts, labels = ACCEPTED[case]
    data = statements.read(written(tmp_path, content))
    assert data.frame.to_dict("list") == {
        "id": [f"test/{i}" for i in range(len(texts))],
        "statement": texts,
        "label": labels,
        "topic": [None] * len(texts),
    }
    assert data.classes == ("true", "false") and data.notes == []


@pytest.mark.parametrize("place", ["missing.csv", "."])
def test_refuses_a_place_without_a_file(place: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read") as caught:
        statements.read(tmp_path / place)
    assert str(tmp_path) in str(caught.value)


def test_topics_are_text_or_none(tmp_path: Path) -> None:
    data = statements.read(written(tmp_path, "topic,statement,label\nspace,A.,1\n,B.,0\nNA,C.,0\n"))
    assert data.frame["topic"].tolist() == ["space", None, "NA"]


def test_topics_that_may_be_one_are_noted(tmp_path: Path) -> None:
    rows = "statement,label,topic\nA.,1,Space\nB.,0,space\nC.,0,space\nD.,1,\n"
    notes = statements.read(written(tmp_path, rows)).notes
    assert notes == ["topics that may be one are kept apart: 'Space' (1), 'space' (2)"]


def test_repeats_are_kept_and_counted(tmp_path: Path) -> None:
    data = statements.read(written(tmp_path, HEAD + "A.,true\nB.,false\nA.,1\nA.,TRUE\n"))
    assert data.frame["statement"].tolist() == ["A.", "B.", "A.", "A."]
    assert data.frame["id"].is_unique
    assert len(data.notes) == 1 and data.notes[0].startswith("2 ")


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    content = ("\ufeff" + GOOD).encode()
    data = statements.read(written(tmp_path, content))
    assert data.sha256 == hashlib.sha256(content).hexdigest()
    assert data.sha256 != statements.read(written(tmp_path, GOOD)).sha256


# Any character but NUL and the surrogates; statements that differ in spacing alone count as one.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
TEXTS = st.lists(TEXT, min_size=2, max_size=12, unique_by=lambda text: " ".join(text.split()))


@given(texts=TEXTS, flags=st.lists(st.booleans(), min_size=12, max_size=12), bom=st.booleans())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], flags: list[bool], bom: bool
) -> None:
    labels = ["true", "false", *("true" if flag else "false" for flag in flags)][: len(texts)]
    path = tmp_path_factory.mktemp("round_trip") / "statements.csv"
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file).writerows([("statement", "label"), *zip(texts, labels, strict=True)])
    frame = statements.read(path).frame
    assert frame["statement"].tolist() == texts
    assert frame["label"].tolist() == labels


@pytest.fixture
def real_statements() -> Path:
    folder = os.environ.get("HW2_REAL_DATA")
    if not folder:
        pytest.skip("HW2_REAL_DATA is not set")
    return Path(folder) / "statements" / "creak.csv"


def test_agrees_with_pandas_on_real_statements(real_statements: Path) -> None:
    data = statements.read(real_statements)
    expected = pd.read_csv(real_statements, dtype=str, keep_default_na=False)
    assert data.frame["statement"].tolist() == expected["statement"].tolist()
    assert data.frame["label"].tolist() == expected["label"].str.lower().tolist()
