"""What isn't ours stays, byte for byte; what is ours is swapped without a gap, also by kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hw2_utils import folders, paths
from hw2_utils.errors import Hw2Error, InputError

NAME = "05_question_types"
HEX = "0123456789abcdef" * 2
TEXT = b"mine \x00\xff\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's place below a `runs/` of the test's own."""
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    (tmp_path / "t").mkdir()
    return tmp_path / "t" / "res"


def make_run(folder: Path, status: str = "complete", *, id: str = "one", name: str = NAME) -> Path:
    """A run's folder as one is left, as far as folders look at it."""
    for kind in ("tables", "figures", "predictions"):
        (folder / kind).mkdir(parents=True)
    (folder / "tables" / "a.csv").write_text(id)
    (folder / "predictions" / "p.parquet").write_bytes(id.encode())
    run = {"id": id, "notebook": name, "status": status, "error": None}
    files = {} if status == "running" else folders.checksums(folder)
    folders.write_sealed(folder / "result.json", {"run": run, "files": files})
    return folder


def tree(folder: Path) -> dict[str, object]:
    """Every name below a folder, with what it is: a file's bytes, a link's target."""

    def what(path: Path) -> object:
        if path.is_symlink():
            return f"-> {os.readlink(path)}"
        return path.read_bytes() if path.is_file() else "folder"

    locks = {f".{name}.lock" for name in ("res", "x")}
    found = {p.relative_to(folder).as_posix(): what(p) for p in folder.rglob("*")}
    return {name: value for name, value in found.items() if Path(name).name not in locks}


# --------------------------------------------------------------------------------- foreign things
def a_file(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(TEXT)


def a_link(folder: Path, name: str) -> None:
    a_file(folder.parent, "elsewhere.txt")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(folder.parent / "elsewhere.txt")


def a_link_to_a_folder(folder: Path, name: str) -> None:
    a_file(folder.parent, "elsewhere/mine.txt")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(folder.parent / "elsewhere")


def a_folder(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)


def a_pipe(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / name)


FOREIGN: list[tuple[Callable[[Path, str], None], str]] = [
    (a_file, "mine.txt"),
    (a_file, ".hidden"),
    (a_file, "tables/mine.csv"),
    (a_file, "figures/mine.png"),
    (a_file, "predictions/mine.parquet"),
    (a_file, "predictions/.hidden.parquet/a"),
    (a_file, "tables/sub/mine.csv"),
    (a_file, "models/mine.bin"),
    (a_file, "models/lora-seed0/mine.safetensors"),
    (a_file, "models/lora-seed0/sub/config.json"),
    (a_link, "models/lora-seed0/config.json"),
    (a_file, ".ipynb_checkpoints/mine.ipynb"),
    (a_file, "notes/mine.txt"),
    (a_file, ".done"),
    (a_folder, "empty"),
    (a_folder, "result.json"),
    (a_link, "mine.csv"),
    (a_link, "tables/a.txt"),
    (a_link, "notebook.ipynb"),
    (a_link_to_a_folder, "data"),
    (a_link_to_a_folder, "figures"),
    (a_pipe, "pipe"),
]


@pytest.mark.parametrize(("lay", "name"), FOREIGN, ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize("where", ["res", "res.failed"])
@pytest.mark.parametrize("beside", ["nothing", "run"])
def test_a_place_with_a_foreign_thing_is_refused_and_nothing_moves(place, where, beside, lay, name):
    folder = place.with_name(where)
    if beside == "run":
        if name in ("result.json", "figures"):
            pytest.skip("the run itself has something of that name")
        make_run(folder, "complete" if where == "res" else "failed")
    lay(folder, name)
    make_run(place.with_name("res.old-" + HEX), id="older")
    before = tree(place.parent)
    with pytest.raises(InputError) as error:
        folders.claim(place, NAME)
    assert error.value.todo and where in str(error.value.where)
    assert tree(place.parent) == before


def test_a_foreign_notebook_in_a_run_that_has_none_is_foreign(place):
    make_run(place)
    a_file(place, "notebook.ipynb")
    with pytest.raises(InputError, match="notebook.ipynb"):
        folders.claim(place, NAME)


@pytest.mark.parametrize("content", ['{"a": 1}', "[]", "{", '{"run": {"notebook": "mine"}}'])
def test_a_result_of_another_program_is_not_a_record(place, content):
    a_folder(place.parent, "res")
    (place / "result.json").write_text(content)
    with pytest.raises(InputError, match="no record of a run"):
        folders.claim(place, NAME)


def executed(folder: Path, notebook: str = NAME) -> None:
    """A notebook as papermill leaves it in a run's folder."""
    about = {"input_path": f"/x/{notebook}.ipynb", "parameters": {"run_dir": str(folder)}}
    text = json.dumps({"cells": [], "metadata": {"papermill": about}})
    (folder / "notebook.ipynb").write_text(text)


def with_stamp(place: Path) -> None:
    make_run(place)
    (place / ".done").touch()


def failed_before_its_record(place: Path) -> None:
    place.with_name("res.failed").mkdir()
    executed(place.with_name("res.failed"))


def damaged(place: Path) -> None:
    make_run(place)
    (place / "result.json").write_text('{"run"')
    executed(place)


def empty_with_a_stamp(place: Path) -> None:
    place.mkdir()
    (place / ".done").touch()
    (place / ".snakemake_timestamp").touch()


ACCEPTED = [
    lambda place: None,
    lambda place: place.mkdir(),
    empty_with_a_stamp,
    make_run,
    with_stamp,
    lambda place: make_run(place, "failed"),
    lambda place: make_run(place, "running"),
    lambda place: make_run(place.with_name("res.failed"), "failed"),
    failed_before_its_record,
    damaged,
]


@pytest.mark.parametrize("lay", ACCEPTED)
def test_what_is_ours_is_accepted_and_stays_until_the_swap(place, lay):
    lay(place)
    before = tree(place.parent)
    folders.claim(place, NAME).lock.release()
    assert tree(place.parent) == before


def test_a_run_of_another_notebook_is_refused(place):
    make_run(place, name="01_lora_roberta")
    with pytest.raises(InputError, match="a run of 01_lora_roberta"):
        folders.claim(place, NAME)
    shutil.rmtree(place)
    place.with_name("res.failed").mkdir()
    executed(place.with_name("res.failed"), "01_lora_roberta")
    with pytest.raises(InputError, match="a run of 01_lora_roberta"):
        folders.claim(place, NAME)


def test_a_complete_run_called_failed_is_refused(place):
    make_run(place.with_name("res.failed"))
    with pytest.raises(InputError, match="complete run"):
        folders.claim(place, NAME)


def test_files_and_links_are_no_place_for_a_run(place):
    a_file(place.parent, "res")
    with pytest.raises(InputError, match="no folder"):
        folders.claim(place, NAME)
    place.unlink()
    place.symlink_to("nowhere")
    with pytest.raises(InputError, match="no folder"):
        folders.claim(place, NAME)
    a_file(place.parent, "x.failed")
    with pytest.raises(InputError, match="no folder"):
        folders.claim(place.with_name("x"), NAME)
    assert (place.with_name("x.failed")).read_bytes() == TEXT


def test_folders_that_hold_more_than_a_run_are_refused(place, monkeypatch):
    home = place.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for shared in (home, home.parent, Path("/"), paths.RUNS, paths.RUNS / "parts", paths.ROOT):
        with pytest.raises(InputError, match="can't take this folder's place"):
            folders.claim(shared, NAME)


# --------------------------------------------------------------------------------- locks
@pytest.mark.parametrize("lay", [a_file, a_folder, a_link, a_pipe])
def test_a_lock_that_is_not_ours_is_refused_and_stays(place, lay):
    lay(place.parent, ".res.lock")
    kept = os.lstat(place.parent / ".res.lock")
    with pytest.raises(InputError, match="isn't a lock of ours"):
        folders.claim(place, NAME)
    assert os.lstat(place.parent / ".res.lock") == kept


HOLD = """
import sys
from pathlib import Path
from hw2_utils import folders
lock = folders.claim(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_claim_is_told_who_holds_the_first_and_a_kill_gives_it_free(place):
    words = [sys.executable, "-c", HOLD, str(place), NAME]
    environment = {**os.environ, "HW2_RUNS": str(paths.RUNS)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen(words, **pipes, text=True, env=environment)
    assert other.stdout.readline() == "held\n"
    for _ in range(2):
        with pytest.raises(InputError, match=f"another run.*process {other.pid}"):
            folders.claim(place, NAME)
    other.kill()
    other.communicate()
    folders.claim(place, NAME)


# --------------------------------------------------------------------------------- swaps and kills
KILL = """
import os, signal, sys
from pathlib import Path
from hw2_utils import folders
folder, place, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
exchange = folders._exchange if sys.argv[4] == "exchange" else lambda one, other: False

def step():
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

def watch(event, arguments):
    if event in ("os.rename", "os.remove", "os.rmdir") and "/res" in str(arguments[0]):
        step()

def exchanged(one, other):
    step()
    return exchange(one, other)

folders._exchange = exchanged
sys.addaudithook(watch)
folders.swap_in(folder, place)
"""


def killed_at(step: int, how: str, folder: Path, place: Path) -> bool:
    """Swaps in a process of its own that is killed at a step; False where it ended before."""
    words = [sys.executable, "-c", KILL, str(folder), str(place), str(step), how]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def names(place: Path) -> list[str]:
    return sorted(p.name for p in place.parent.iterdir() if not p.name.startswith("."))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exchange", "two renames"])
@pytest.mark.parametrize("stamped", [False, True])
def test_a_swap_killed_at_any_step_loses_no_run(place, how, stamped):
    """A reader finds the old or the new run, whole; the next run finds its place clean."""
    found = []
    for step in range(40):
        shutil.rmtree(place.parent)
        make_run(place, id="old")
        if stamped:
            (place / ".done").touch()
        beside = place.with_name("res.tmp-20240501T100000-0123456789abcdef")
        was_killed = killed_at(step, how, make_run(beside, id="new"), place)
        read = folders.readable(place)
        id = folders.run_field(read, "id")
        found.append(id)
        assert (read / "tables" / "a.csv").read_text() == id
        folders.recover(place)
        assert folders.run_field(place, "id") in (id, "new") and names(place) == ["res"]
        if not was_killed:
            break
    assert not was_killed and found[0] == "old" and found[-1] == "new"
    assert found == sorted(found, reverse=True)  # never back again


@pytest.mark.parametrize("place_is", ["absent", "empty", "stamped"])
@pytest.mark.parametrize("digits", [6, 32])
def test_an_interrupted_swap_of_this_version_and_of_the_one_before_is_read_and_finished(
    place, place_is, digits
):
    short = digits == 6
    aside = make_run(place.with_name("res.old-" + HEX[:digits]), id="old")
    assert place_is == "absent" or not place.mkdir()
    assert place_is != "stamped" or not (place / ".done").touch()
    assert folders.run_field(folders.readable(place), "id") == "old"
    end = HEX[:6] if short else HEX[:16]
    make_run(place.with_name(f"res.tmp-20240501T100000-{end}"), id="new")
    make_run(place.with_name(f"res.tmp-20240501T100001-{end}"), "running", id="half")
    folders.recover(place)
    assert folders.run_field(place, "id") == "new"
    assert names(place) == (["res", aside.name] if short else ["res"])


def test_a_killed_first_run_is_cleared_away_and_not_taken_for_a_swap(place):
    make_run(place.with_name("res.tmp-20240501T100000-" + HEX[:16]), id="whole, never swapped")
    place.with_name("res.tmp-20240501T100001-" + HEX[:16]).mkdir()
    folders.recover(place)
    assert names(place) == []


GUESSABLE = [
    "res.old-backup",
    "res.old-202405",
    "res.old-0",
    "res.old-20240501",
    "res.old-" + HEX[:31],
    "res.old-" + HEX.upper(),
    "res.tmp-1",
    "res.tmp-20240501T100000",
    "res.tmp-20240501T100000-mine01",
    "res.tmp",
    "res.failed-1",
    "res2.old-" + HEX,
    "res.old-" + HEX + ".zip",
]


@pytest.mark.parametrize("what", ["a complete run", "files"])
def test_siblings_with_names_that_anybody_may_give_stay(place, what):
    for name in GUESSABLE:
        folder = place.with_name(name)
        if what == "files":
            a_file(folder, "mine.txt")
        else:
            make_run(folder)
    before = tree(place.parent)
    folders.recover(place)
    assert tree(place.parent) == before
    folders.swap_in(make_run(place.with_name("res.tmp-1-of-us"), id="new"), place)
    after = tree(place.parent)
    assert {name: after[name] for name in before} == before


def test_a_sibling_of_our_own_name_with_a_foreign_file_stays(place):
    for name in ("res.old-" + HEX, "res.tmp-20240501T100000-" + HEX[:16]):
        make_run(place.with_name(name))
        a_file(place.with_name(name), "mine.txt")
    before = tree(place.parent)
    folders.recover(place)
    assert tree(place.parent) == before


@pytest.mark.parametrize("how", ["exchange", "two renames"])
@pytest.mark.parametrize(("lay", "name"), [FOREIGN[0], FOREIGN[3], FOREIGN[12]])
def test_what_comes_into_the_place_during_the_run_stays(place, monkeypatch, how, lay, name):
    if how == "two renames":
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    make_run(place, id="old")
    lay(place, name)
    before = tree(place)
    new = make_run(place.with_name("res.tmp-x"), id="new")
    with pytest.raises(Hw2Error, match="something else came into its place") as error:
        folders.swap_in(new, place)
    assert tree(place) == before
    kept = place.with_name(error.value.todo.split()[-1])
    assert folders.run_field(kept, "id") == "new"


def test_a_file_that_comes_into_the_place_stays(place):
    a_file(place.parent, "res")
    with pytest.raises(Hw2Error, match="something else"):
        folders.swap_in(make_run(place.with_name("res.tmp-x")), place)
    assert place.read_bytes() == TEXT


@pytest.mark.parametrize("code", [1, 28])
def test_where_the_new_run_cannot_be_moved_the_old_one_comes_back(place, monkeypatch, code):
    """EPERM, ENOSPC: of the second of two renames."""
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    make_run(place, id="old")
    new, rename = make_run(place.with_name("res.tmp-x"), id="new"), Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == new and not place.exists():
            raise OSError(code, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError):
        folders.swap_in(new, place)
    assert folders.run_field(place, "id") == "old" and names(place) == ["res", "res.tmp-x"]


# --------------------------------------------------------------------------------- failed attempts
def test_a_failed_attempt_replaces_an_earlier_one_and_nothing_else(place):
    failed = place.with_name("res.failed")
    for lay in (make_run, failed_before_its_record):
        if lay is make_run:
            make_run(failed, "failed", id="earlier")
        else:
            shutil.rmtree(failed)
            lay(place)
        folders.keep_failed(make_run(place.with_name("res.tmp-x"), "failed", id="new"), place)
        assert folders.run_field(failed, "id") == "new"
    assert names(place) == ["res.failed"]


@pytest.mark.parametrize("lay", [lambda f: make_run(f), lambda f: a_file(f, "mine.txt")])
def test_what_has_come_where_failed_attempts_are_kept_stays(place, lay):
    failed = place.with_name("res.failed")
    lay(failed)
    before = tree(failed)
    folders.keep_failed(make_run(place.with_name("res.tmp-x"), "failed", id="new"), place)
    assert tree(failed) == before
    (kept,) = [n for n in names(place) if n.startswith("res.failed-")]
    assert folders.run_field(place.with_name(kept), "id") == "new"


def test_an_attempt_that_wrote_nothing_is_not_kept(place):
    (place.with_name("res.tmp-x") / "tables").mkdir(parents=True)
    make_run(place.with_name("res.failed"), "failed", id="earlier")
    folders.keep_failed(place.with_name("res.tmp-x"), place)
    assert names(place) == ["res.failed"]
    assert folders.run_field(place.with_name("res.failed"), "id") == "earlier"


# --------------------------------------------------------------------------------- sealed records
def test_no_flipped_bit_passes_a_seal(tmp_path):
    """Also those that JSON reads as the same value: 1e-05 and 1E-05, the last digit of a float."""
    record = {"a": 1e-05, "b": [0.1 + 0.2, True, None], "text": "é\x1f\n😀", "c": {"d": -1}}
    file = tmp_path / "result.json"
    folders.write_sealed(file, record)
    assert folders.read_sealed(file) == (
        {**record, "checksum": json.loads(file.read_text())["checksum"]},
        True,
    )
    text = file.read_bytes()
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            _, whole = folders.read_sealed(file)
        except ValueError:
            whole = False
        assert not whole, bit


def test_half_a_file_is_never_seen_and_nothing_is_left(tmp_path):
    file = tmp_path / "t" / "a.json"
    folders.write_sealed(file, {"a": 1})
    with pytest.raises(ValueError):
        folders.write_sealed(file, {"a": float("nan")})
    assert json.loads(file.read_text())["a"] == 1 and os.listdir(file.parent) == ["a.json"]
