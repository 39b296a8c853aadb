"""The strict runner on a tiny notebook in its own checkout: exit codes, messages, what stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from hw2_utils import execute, paths
from hw2_utils.errors import InputError

NAME = "05_question_types"  # a name that the profile knows; its section there is empty
PARAMETERS = (
    "profile: str = 'sample'\nrun_dir: str = ''\nvqa_dir: str = ''\n"
    "seeds: list = []\nstop: str = ''"
)
CELL = """
import os, time
from pathlib import Path
import pandas as pd
from hw2_utils import runs
from hw2_utils.errors import InputError
run = runs.start("05_question_types", globals())
predictions = pd.DataFrame({
    "id": ["a"], "split": "test", "method": "majority", "seed": None,
    "label": "x", "prediction": "x", "log_probs": None,
})
run.add_predictions(predictions, file="majority", classes=["x", "y"])
run.add_metrics([{"method": "majority", "name": "accuracy", "value": 1.0}])
"""
STOP = """
if stop == "input":
    raise InputError("the file is odd", where="data.csv", todo="mend it")
if stop == "nan":
    raise FloatingPointError("the loss is NaN")
if stop == "sleep":
    (Path(run_dir).parent / "pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package beside one tiny notebook: each folder of the project follows from its place."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(paths.PACKAGE, root / "hw2_utils", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "notebooks").mkdir()
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        for source, tags in (
            (PARAMETERS, ["parameters"]),
            (CELL, []),
            (STOP, []),
            ("if stop != 'unfinished':\n    run.finish()", []),
        )
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{NAME}.ipynb")
    return root


def environment(checkout: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HW2_")}
    return {**kept, "PYTHONPATH": str(checkout), "HW2_RUNS": str(checkout / "runs")}


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hw2_utils", "run", NAME, *words],
        cwd=checkout,
        env=environment(checkout),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def status(folder: Path) -> str:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))["run"]["status"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-p", "sedes", "[0]"), "no parameter 'sedes'"),
        (("-p", "seeds", "zero"), "isn't JSON"),
        (("-p", "seeds", "0"), "wanted is a list"),
        (("-p", "seeds", "[1, 1]"), "each once"),
        (("-p", "run_dir", "~nouser/x"), "parameter run_dir: this text can't be used"),
        (("--out", "~nouser"), "--out: this text can't be used"),
    ],
)
def test_bad_parameters_exit_2_and_no_kernel_starts(checkout, tmp_path, words, message):
    given_out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    done = run(checkout, *words, *given_out)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_complete_then_failed_then_input_error(checkout, tmp_path):
    """One folder through its life: the complete run survives each failure.

    The last failure is kept with its notebook.
    """
    out, failed = tmp_path / "out", tmp_path / "out.failed"
    done = run(checkout, "--out", str(out))
    assert done.returncode == 0 and done.stdout.strip() == str(out), done.stderr
    assert (
        status(out) == "complete"
        and nbformat.read(out / "notebook.ipynb", 4).cells[-1].execution_count
    )
    first = (out / "result.json").read_bytes()

    done = run(checkout, "-p", "stop", "nan", "--out", str(out))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "FloatingPointError: the loss is NaN" in done.stderr
        and f"{NAME}.ipynb, cell" in done.stderr
    )
    assert status(failed) == "failed" and "the loss is NaN" in (failed / "result.json").read_text(
        encoding="utf-8"
    )
    assert "the loss is NaN" in (failed / "notebook.ipynb").read_text(encoding="utf-8")

    done = run(checkout, "-p", "stop", "input", "--out", str(out))
    assert (
        done.returncode == 2
        and "data.csv: the file is odd" in done.stderr
        and "What to do: mend it" in done.stderr
    )
    assert "the file is odd" in (failed / "result.json").read_text(encoding="utf-8")

    done = run(checkout, "-p", "stop", "unfinished", "--out", str(out))
    assert (
        done.returncode == 1
        and "its record is running" in done.stderr
        and "run.finish()" in done.stderr
    )
    assert (out / "result.json").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == [
        "out",
        "out.failed",
    ]


def state(pid: int) -> str:
    """R, S, … of a process; "" when it is gone; Z is dead and its parent hasn't asked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads the kernel's state from /proc")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_ends_with_its_runner_and_the_folder_is_free_again(checkout, tmp_path, kind):
    words = [
        sys.executable,
        "-m",
        "hw2_utils",
        "run",
        NAME,
        "--out",
        str(tmp_path / "out"),
        "-p",
        "stop",
    ]
    runner = subprocess.Popen(
        [*words, "sleep"], cwd=checkout, env=environment(checkout), stderr=subprocess.DEVNULL
    )
    pid_file, end = tmp_path / "pid", time.monotonic() + 120
    while not (pid_file.is_file() and pid_file.read_text()):
        assert runner.poll() is None and time.monotonic() < end, "the kernel didn't reach its cell"
        time.sleep(0.1)
    second = run(checkout, "--out", str(tmp_path / "out"))  # ends before it starts a kernel
    assert second.returncode == 2 and "another run is writing into this folder" in second.stderr
    runner.send_signal(kind)
    assert runner.wait(timeout=60) == (-signal.SIGKILL if kind == signal.SIGKILL else 143)
    pid, end = int(pid_file.read_text()), time.monotonic() + 60
    while state(pid) not in ("", "Z"):
        assert time.monotonic() < end, "the kernel lives on"
        time.sleep(0.1)
    if kind == signal.SIGTERM:
        assert status(tmp_path / "out.failed") == "failed"
    else:
        done = run(checkout, "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("out.tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGINT])
def test_a_runner_that_is_ended_before_its_kernel_starts_leaves_nothing(checkout, tmp_path, kind):
    words = [sys.executable, "-m", "hw2_utils", "run", NAME, "--out", str(tmp_path / "out")]
    runner = subprocess.Popen(
        words, cwd=checkout, env=environment(checkout), stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not list(tmp_path.glob("out.tmp-*")):
        assert runner.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    runner.send_signal(kind)
    error = runner.communicate(timeout=60)[1]
    assert runner.returncode == (130 if kind == signal.SIGINT else 128 + kind), error
    assert "Traceback" not in error
    assert [p.name for p in tmp_path.iterdir()] == [".out.lock"]


# --------------------------------------------------------------------------------- places
def tree(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder with its bytes; locks aside."""
    found = [p for p in folder.rglob("*") if not (p.name.startswith(".") and p.suffix == ".lock")]
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def laid(folder: Path, name: str, text: str = "mine") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def refused(checkout: Path, folder: Path, *words: str) -> str:
    """The message of a run that ends with exit code 2 and changes nothing in a folder."""
    before = tree(folder)
    done = run(checkout, *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert tree(folder) == before
    return done.stderr


def test_folders_that_are_not_ours_are_refused_with_good_and_with_bad_input(checkout, tmp_path):
    """Also siblings whose names look like a swap's, where the input is wrong in the first place."""
    laid(tmp_path, "res/mine.txt")
    laid(tmp_path, "res.old-backup/old.txt")
    laid(tmp_path, "res.failed/mine.txt")
    laid(tmp_path, "file")
    bad = ("-p", "vqa_dir", "/nonexistent")
    for out in ("res", "file", "res.failed"):
        for given in ((), bad):
            error = refused(checkout, tmp_path, "--out", str(tmp_path / out), *given)
            message = "there is no such file or folder" if given else "--out"
            assert message in error


@pytest.mark.parametrize("out", ["/", "~", ".", "runs", ".."])
def test_folders_that_hold_more_than_a_run_are_refused(checkout, out):
    """From the project's own folder."""
    (checkout / "runs").mkdir(exist_ok=True)
    before = sorted(checkout.iterdir())
    done = run(checkout, "--out", out)
    assert done.returncode == 2 and "can't take this folder's place" in done.stderr
    assert sorted(checkout.iterdir()) == before


def test_another_notebook_of_the_same_name_is_not_run(checkout, tmp_path):
    copy = tmp_path / f"{NAME}.ipynb"
    shutil.copy(checkout / "notebooks" / f"{NAME}.ipynb", copy)
    words = [sys.executable, "-m", "hw2_utils", "run"]
    file = copy.name
    for named in (str(copy), f"../{tmp_path.name}/{file}", f"./{file}", file):
        done = subprocess.run(
            [*words, named],
            cwd=tmp_path,
            env=environment(checkout),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2 and "is no notebook of this project" in done.stderr, named


@pytest.mark.slow
def test_out_takes_an_empty_folder_a_link_to_one_and_its_own_run_and_then_no_foreign_file(
    checkout, tmp_path
):
    place, link = tmp_path / "empty", tmp_path / "link"
    place.mkdir()
    words = [sys.executable, "-m", "hw2_utils", "run", NAME, "--out"]
    done = subprocess.run(
        [*words, "."],
        cwd=place,
        env=environment(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and status(place) == "complete", done.stderr
    assert "cd ." in done.stderr  # the shell still stands in the folder that was there before
    (place / ".done").touch()  # as the workflow engine does
    link.symlink_to(place)
    first = (place / "result.json").read_bytes()
    assert run(checkout, "--out", str(link)).returncode == 0
    assert link.is_symlink() and (place / "result.json").read_bytes() != first
    laid(place, "notes.txt")
    for out in (place, link):
        assert "no run of ours wrote: notes.txt" in refused(checkout, place, "--out", str(out))
    (place / "notes.txt").unlink()
    laid(place, "predictions/mine.parquet")
    assert "predictions/mine.parquet" in refused(checkout, place, "--out", str(place))


# --------------------------------------------------------------------------------- disks
@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("free_kib", [0, 4, 8, 16])
def test_a_full_disk_is_one_message_that_names_the_place(checkout, disk, free_kib):
    """Full at the lock, at the notebook, at the record, at the predictions."""
    (disk / "fill").write_bytes(b"x" * (1024 * (256 - free_kib)))
    done = run(checkout, "--out", str(disk / "out"))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"error: {disk}: the disk is full" in done.stderr
    assert not list(disk.glob("out.tmp-*")) and not (disk / "out").exists()


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_refused_before_a_kernel_starts(checkout, disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    environment_there = {**environment(checkout), "HW2_RUNS": str(disk / "runs")}
    for words in (["run", NAME], ["run", NAME, "--out", str(tmp_path / "out")], ["report"]):
        done = subprocess.run(
            [sys.executable, "-m", "hw2_utils", *words],
            cwd=checkout,
            env=environment_there,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert "can't be written" in done.stderr and "HW2_RUNS" in done.stderr
        assert "started" not in done.stderr
    assert not [p for p in tmp_path.iterdir() if p.name not in ("disk", ".out.lock")]


# ------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seeds", "[0, 1]", [0, 1]),
        ("epochs", "3", 3),
        ("learning_rate", "1e-3", 1e-3),
        ("profile", "full", "full"),
        ("text_model", "no/such-folder", "no/such-folder"),
        ("tweets_dir", "hub:a/b", "hub:a/b"),
        ("tweets_dir", "", ""),
    ],
)
def test_values_are_json_where_the_default_is_no_string(name, text, value):
    assert execute.parse_value("01_lora_roberta", name, text) == value


def test_paths_become_absolute_because_the_kernel_runs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert execute.parse_value("01_lora_roberta", "tweets_dir", "some/data") == str(
        tmp_path / "some" / "data"
    )
    assert execute.parse_value("01_lora_roberta", "text_model", "model") == str(tmp_path / "model")


def test_a_value_that_is_not_json_names_the_default():
    with pytest.raises(InputError, match="isn't JSON") as error:
        execute.parse_value("01_lora_roberta", "epochs", "three")
    assert "default" in error.value.todo


@pytest.mark.parametrize("text", ["~nouser/x", "x" * 5000, "\ud800"])
@pytest.mark.parametrize("name", ["tweets_dir", "text_model"])
def test_a_path_that_the_system_cannot_look_for_is_one_message(name, text):
    with pytest.raises(InputError, match="this text can't be used") as error:
        execute.parse_value("01_lora_roberta", name, text)
    assert error.value.where == f"parameter {name}"


def test_the_last_runs_time_comes_from_its_record(tmp_path):
    assert execute.last_seconds(tmp_path) is None
    times = {"start": "2024-05-01T10:00:00+00:00", "end": "2024-05-01T10:01:30+00:00"}
    record = {"run": {"id": "one", "notebook": NAME, **times}}
    (tmp_path / "result.json").write_text(json.dumps(record), encoding="utf-8")
    assert execute.last_seconds(tmp_path) == 90
    (tmp_path / "result.json").write_text(
        json.dumps({"run": {**record["run"], "end": None}}), encoding="utf-8"
    )
    assert execute.last_seconds(tmp_path) is None
