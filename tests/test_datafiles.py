"""The strict CSV reader, lists of problems, and `question-type`, which reads and writes by them."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw2_utils import __main__, datafiles, question_types
from hw2_utils.errors import InputError

HEAD = b"question,answer\n"


def question_type(content: bytes, *, source: str = "-") -> subprocess.CompletedProcess:
    """The command in a process of its own: what a user gives it and gets from it."""
    command = [sys.executable, "-m", "hw2_utils", "question-type", source]
    return subprocess.run(command, input=content, capture_output=True, timeout=120)


def refusal(source: Path, content: bytes, capsys: pytest.CaptureFixture) -> str:
    """The message with which the command refuses a file."""
    source.write_bytes(content)
    assert __main__.main(["question-type", str(source)]) == 2
    out, message = capsys.readouterr()
    assert out == "" and message.startswith(f"error: {source}") and "What to do: " in message
    return message


# Lists of problems


@pytest.mark.parametrize("n", [1, 2, 20, 21, 1_234])
def test_problems_are_listed_at_once_up_to_twenty(n):
    problems = [(f"a/b.csv, row {row}", f"{row} is odd") for row in range(3, n + 3)]
    with pytest.raises(InputError) as caught:
        datafiles.refuse_all(problems, todo="mend it")
    lines = str(caught.value).splitlines()
    assert lines[-1] == "  What to do: mend it"
    if n == 1:
        assert lines[:-1] == ["a/b.csv, row 3: 3 is odd"]
        return
    assert lines[0] == f"a/b.csv: {n:,} problems"
    assert [line for line in lines[1:-1] if line.startswith("  row ")] == [
        f"  row {row}: {row} is odd" for row in range(3, min(n, 20) + 3)
    ]
    assert lines[-2].startswith(f"  and {n - 20:,} more") == (n > 20)


def test_problems_of_several_files_name_the_file_in_each_line():
    with pytest.raises(InputError) as caught:
        datafiles.refuse_all([("a/x.csv, row 2", "p"), (Path("a/y.png"), "q")], todo="mend it")
    assert str(caught.value).splitlines()[:-1] == [
        "a: 2 problems",
        "  x.csv, row 2: p",
        "  y.png: q",
    ]


def test_no_problem_is_no_error():
    assert datafiles.refuse_all([], todo="") is None


def test_a_missing_file_is_named_with_what_is_there_nearly_right_names_first(tmp_path):
    for name in ("a.txt", "Train_text.txt", "z"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError) as caught:
        datafiles.require_files(tmp_path, ["train_text.txt"])
    assert caught.value.what == "missing: train_text.txt"
    assert caught.value.todo.endswith("; found: Train_text.txt, a.txt, images/, z")
    with pytest.raises(InputError, match="found: nothing"):
        datafiles.require_files(tmp_path / "images", ["train_text.txt"])
    with pytest.raises(InputError, match=r"a\.txt: this is no folder"):
        datafiles.require_files(tmp_path / "a.txt", [])


@pytest.mark.parametrize(
    "names",
    [
        ("Neg", "neg"),
        ("1", "1.0", "01", "+1", "1e0"),
        ("-1", "-1.0", "\u22121"),
        ("0", "-0"),
        ("a b", " a  b", "a\u00a0b", "ab"),
        ("caf\u00e9", "cafe\u0301"),
        ("x", "x\u200b"),
    ],
)
def test_names_that_may_be_one_are_noted_with_their_counts(names):
    counts = {name: number for number, name in enumerate(names, 1)} | {"other": 7}
    assert datafiles.variant_notes(counts, what="labels") == [
        "labels that may be one are kept apart: "
        + ", ".join(f"{name!r} ({count})" for name, count in counts.items() if name != "other")
    ]


@pytest.mark.parametrize("names", [("1", "-1"), ("1", "10"), ("a", "b"), ("yes", "yes!"), ()])
def test_other_names_are_not_noted(names):
    assert datafiles.variant_notes(dict.fromkeys(names, 1), what="labels") == []


# The command question-type

# What a quoted field can hold; a lone CR is where writers of CSV differ.
FIELD = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    ['"', "\r", "\n", ",", "a\r\nb", ""]
)
QUESTIONS = FIELD.map(lambda text: text + " what color is it")


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(FIELD, QUESTIONS, FIELD), min_size=1),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_the_output_is_the_input_and_the_type(tmp_path_factory, rows, end):
    path = tmp_path_factory.mktemp("typer") / "in.csv"
    header = ("id", " Question ", "a, b")
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([header, *rows])
    output, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    try:
        assert __main__.main(["question-type", str(path)]) == 0
        text = sys.stdout.buffer.getvalue().decode("utf-8")
    finally:
        sys.stdout = output
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        [*header, "question_type"],
        *([*row, question_types.question_type(row[1])] for row in rows),
    ]


def test_standard_input_and_plain_fields_are_written_as_they_came():
    done = question_type(
        b"\xef\xbb\xbfid,question,note\r\n1,what color is it,\r\n\r\n2,how many,x y\r\n"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (
        b"id,question,note,question_type\n1,what color is it,,color\n2,how many,x y,counting\n"
    )


def test_standard_input_is_named_in_a_message():
    done = question_type(b"question\nhow many\n \n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: standard input, row 3: the question is empty\n")


REFUSED = {
    "a comma at the end of each row": (
        HEAD + b"what color is it,red,\nhow many,2,\n",
        ["2 problems", "row 2: broken CSV: 3 fields where the header has 2", "row 3: "],
    ),
    "types that are there": (
        b"question,question_type,answer\nis it,absurd,no\n",
        ["row 1: ", "more than one column question_type", "rename"],
    ),
    "types that are there, spelt otherwise": (
        b"question, Question_Type\nis it,absurd\n",
        ["more than one column question_type", "rename"],
    ),
    "two columns of one name": (
        b"question,x,X\nis it,1,2\n",
        ["row 1: ", "more than one column x"],
    ),
    "two columns question": (b"question,Question\nis it,it is\n", ["2 columns for question"]),
    "questions": (b"id,questions\n1,is it\n", ["nearly right: 'questions'", "name question"]),
    "query": (b"id,query\n1,is it\n", ["nearly right: 'query'", "name question"]),
    "semicolons": (b"question;answer\nis it, now;no\n", ["semicolons, not commas"]),
    "tabs": (b'"question"\t"answer"\n"is it"\t"no"\n', ["tabs, not commas"]),
    "bars": (b"question|answer\nis it|no\n", ["bars, not commas"]),
    "UTF-16": (HEAD.decode().encode("utf-16"), ["not UTF-8", "UTF-16"]),
    "UTF-16 without a mark": (HEAD.decode().encode("utf-16-le"), ["NUL bytes", "UTF-16"]),
    "Latin-1": (HEAD + b"caf\xe9,no\n", ["row 2: ", "0xe9", "Latin-1"]),
    "a workbook": (b"PK\x03\x04\x14\x00\xff", ["not UTF-8", "Excel"]),
    "no bytes": (b"", ["0 columns for question", "an empty file"]),
    "only a header": (HEAD, ["no question below the first row"]),
    "blank questions": (
        HEAD + b'"what\nis\nit",a\n\n,b\n" \t",c\n"",d\n',
        ["3 problems", "row 6: the question is empty", "row 7: ", "row 8: "],
    ),
    "a quote that is never closed": (HEAD + b'a,b\n"c,d\n', ["row 3: broken CSV"]),
    "a quote that is never opened": (HEAD + b'a",b\n', ["row 2: ", "a double quote is missing"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_question_type_refuses(tmp_path, capsys, case):
    content, parts = REFUSED[case]
    message = refusal(tmp_path / "in.csv", content, capsys)
    assert [part for part in parts if part not in message] == [], message


def test_question_type_reads_no_folder_and_no_absent_file(tmp_path, capsys):
    for source in (tmp_path, tmp_path / "absent.csv"):
        assert __main__.main(["question-type", str(source)]) == 2
        assert f"error: {source}: can't be read" in capsys.readouterr().err


# Columns that may be absent


def test_an_optional_column_may_be_absent_but_not_nearly_right(tmp_path):
    path, columns = tmp_path / "own.csv", {"text": {"text"}, "split": {"split"}}
    path.write_text("text,label\na,b\n")
    rows = datafiles.read_table(path, columns, optional="split").rows()
    assert rows.to_dict("records") == [{"where": f"{path}, row 2", "text": "a"}]
    path.write_text("text,splits\na,train\n")
    with pytest.raises(InputError, match="0 columns for split: .*nearly right: 'splits'"):
        datafiles.read_table(path, columns, optional="split").rows()
