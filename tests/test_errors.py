"""Errors for people: what, where, what to do; one message each, whatever a library says."""

from __future__ import annotations

import errno
import pickle

import pytest
from nbclient import NotebookClient
from nbformat import v4

from hw2_utils.errors import Hw2Error, InputError, disk_explained, explained, require


def test_a_message_says_what_where_and_what_to_do():
    error = InputError("row 3 has no label", where="tweets.csv", todo="add one")
    assert str(error) == "tweets.csv: row 3 has no label\n  What to do: add one"
    assert (error.exit_code, Hw2Error("x").exit_code, str(Hw2Error("x"))) == (2, 1, "x")


def test_below_a_cell_our_error_is_its_message_and_anothers_keeps_its_frames():
    ours = "from hw2_utils.errors import require\nrequire(0, 'wrong', where='a', todo='b')"
    cells = [v4.new_code_cell(source) for source in (ours, "1 / 0")]
    done = NotebookClient(v4.new_notebook(cells=cells), allow_errors=True).execute()
    message, other = (cell.outputs[0] for cell in done.cells)
    assert message.traceback == ["error: a: wrong", "  What to do: b"]
    assert message.ename == "InputError"  # what the runner goes by
    assert len(other.traceback) > 2


def test_an_error_comes_back_from_another_process_as_it_was():
    error = InputError("a", where="b", todo="c")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - made one line above
    assert (type(back), str(back)) == (InputError, str(error))


def test_require_raises_only_where_it_does_not_hold():
    require([1], "fine", where="x", todo="y")
    with pytest.raises(InputError, match="x: wrong"):
        require([], "wrong", where="x", todo="y")


def test_a_librarys_error_becomes_its_first_line():
    with (
        pytest.raises(InputError, match="a: can't load: bad header") as raised,
        explained("can't load", ValueError, where="a", todo="b"),
    ):
        raise ValueError("\n bad header\n at offset 3")
    assert "offset" not in str(raised.value)
    with pytest.raises(KeyError), explained("can't load", ValueError, where="a", todo="b"):
        raise KeyError("another kind")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_message(tmp_path, number):
    with pytest.raises(Hw2Error, match="the disk is full") as raised, disk_explained(tmp_path):
        raise OSError(number, "full")
    assert raised.value.exit_code == 1 and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_closed_place_is_the_users_to_change(tmp_path, number):
    with pytest.raises(InputError, match="can't be written"), disk_explained(tmp_path):
        raise OSError(number, "closed", str(tmp_path / "x"))
    with pytest.raises(FileNotFoundError), disk_explained(tmp_path):
        raise FileNotFoundError("something else")
