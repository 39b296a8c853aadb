"""The run record: a run's life, what reading refuses, what a reader sees during swaps."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hw2_utils import folders, paths, runs
from hw2_utils.errors import Hw2Error, InputError

PARAMETERS = """
profile: str = "sample"
run_dir: str = ""
vqa_dir: str = ""
text_model: str = ""
seeds: list = []
epochs: int = 0
max_generated: int = -1
learning_rate: float = 0.0
lora_targets: list = []
device: str = "cpu"
shuffle: bool = False
"""
CELL = "class Head:\n    def forward(self, x):\n        return x + 1\n\nRATE = 0.5\nprint(RATE)"
NAMES = ("03_vqa_resnet_sbert", "05_question_types")


def write_notebook(name: str, cell: str = CELL) -> None:
    """A notebook of two code cells, parameters and `cell`, in the tests' folder of notebooks."""
    cells = [
        {
            "cell_type": "code",
            "metadata": {"tags": tags},
            "source": source.splitlines(True),
            "outputs": [],
        }
        for tags, source in ((["parameters"], PARAMETERS), ([], cell))
    ]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    (paths.NOTEBOOKS / f"{name}.ipynb").write_text(text, encoding="utf-8")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Notebooks and runs under a folder of the test's own; no runner's variables."""
    for name in ("HW2_RUNNER", "HW2_RUN_ID", "HW2_FRESH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    paths.NOTEBOOKS.mkdir()
    for name in NAMES:
        write_notebook(name)
    return tmp_path


def namespace(**changed: object) -> dict[str, object]:
    """What `globals()` holds after the parameters cell."""
    values: dict[str, object] = {}
    exec(PARAMETERS, values)  # noqa: S102 - the constant above
    return {**values, **changed}


def predictions(method: str = "fusion", seed: int | None = 0, n: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(n)],
            "split": "test",
            "method": method,
            "seed": pd.array([seed] * n, "Int64"),
            "label": "bed",
            "prediction": ["bed", "lamp"] * (n // 2),
            "log_probs": [[math.log(0.5)] * 2] * n,
        }
    )


ROW = {"method": "fusion", "seed": 0, "name": "accuracy", "value": 0.5, "n": 4}


def complete(notebook: str = "05_question_types", **changed: object) -> runs.Run:
    """A finished run, put in its place as JupyterLab does."""
    run = runs.start(notebook, namespace(**changed))
    run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
    run.add_metrics([ROW])
    run.table("results", run.metrics_frame(), caption="Accuracy.")
    run.keep_model("lora-seed0/adapter_model.safetensors", b"weights")
    figure, _ = plt.subplots(figsize=(1, 1))
    run.figure("bars", figure, caption="Bars.")
    plt.close(figure)
    run.finish()
    return run


def record_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def edit_record(folder: Path, change) -> None:
    """As somebody might who knows how records are sealed."""
    record = record_of(folder)
    change(record)
    folders.write_sealed(folder / "result.json", record)


def compute() -> dict[str, object]:
    """A part's work."""
    return {"loss": 0.25, "curve": pd.DataFrame({"step": [1, 2]})}


# -------------------------------------------------------------------------------- a run's life
def test_a_run_and_its_record(capsys):
    run = runs.start("05_question_types", namespace(seeds=[1]))
    assert "profile sample" in capsys.readouterr().out
    assert runs.status_of(run.folder) == "running" and not run.run_dir.exists()
    result = run.part("fusion 0", compute, {})
    run.note("a remark")
    run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
    run.add_predictions(predictions("majority", None), file="majority", classes=["bed", "lamp"])
    run.add_metrics(
        [
            ROW,
            {**ROW, "seed": pd.NA, "value": np.float32(0.5), "low": np.float64(0.25), "high": 0.75},
        ]
    )
    run.table("results", run.metrics_frame(), caption="Accuracy.")
    run.finish()
    assert (
        run.run_dir == (paths.RUNS / "interactive" / "05_question_types").resolve()
        and not run.folder.exists()
    )
    record = runs.load(run.run_dir, notebook="05_question_types", profile="sample")
    assert record.data["run"]["parts"] == [result["part"]] and record.data["run"]["notes"] == [
        "a remark"
    ]
    assert record.data["run"]["parameters"]["seeds"] == [1]
    assert record.data["run"]["changed"] == {"seeds": [1]}
    assert (
        record.id == run.id
        and record.notebook == "05_question_types"
        and record.data["classes"] == ["bed", "lamp"]
    )
    assert record.metrics["seed"].tolist() == [0, pd.NA] and record.metrics["value"].tolist() == [
        0.5,
        0.5,
    ]
    frame = record.predictions
    assert (
        len(frame) == 8 and str(frame["seed"].dtype) == "Int64" and frame["seed"].isna().sum() == 4
    )
    assert (run.run_dir / "tables" / "results.txt").read_text(encoding="utf-8") == "Accuracy.\n"


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([predictions(), predictions()], "twice"),
        ([predictions(seed=None), predictions(seed=None)], "twice"),
        ([predictions().assign(prediction=[None, "bed", "bed", "bed"])], "strings"),
        ([predictions().drop(columns="label")], "label"),
        ([predictions().assign(log_probs=[[0.0, 0.0]] * 4)], "log_probs"),
    ],
)
def test_predictions_that_are_refused(frames, message):
    run = runs.start("05_question_types", namespace())
    with pytest.raises(Hw2Error, match=message):
        for i, frame in enumerate(frames):
            run.add_predictions(frame, file=f"file{i}", classes=["bed", "lamp"])
    run.close()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, ROW], "twice"),
        ([{**ROW, "seed": None}, {**ROW, "seed": pd.NA}], "twice"),
        ([{**ROW, "value": float("nan")}], "accuracy"),
        ([{**ROW, "value": float("inf")}], "accuracy"),
    ],
)
def test_metrics_that_are_refused(rows, message):
    run = runs.start("05_question_types", namespace())
    with pytest.raises((Hw2Error, ValueError), match=message):
        run.add_metrics(rows)
        run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
        run.finish()
    run.close()


@pytest.mark.parametrize("given", ["metrics", "predictions"])
def test_a_run_without_metrics_or_predictions_is_not_complete(given):
    run = runs.start("05_question_types", namespace())
    if given == "metrics":
        run.add_metrics([ROW])
    else:
        run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
    with pytest.raises(Hw2Error, match="can't be complete"):
        run.finish()
    assert runs.status_of(run.folder) == "running"
    run.close()


def test_run_all_again_after_a_cell_that_failed(capsys):
    first = runs.start("05_question_types", namespace())
    second = complete()
    assert (
        first.id != second.id
        and not first.folder.exists()
        and runs.status_of(second.run_dir) == "complete"
    )
    assert [p.name for p in second.run_dir.parent.iterdir() if not p.name.startswith(".")] == [
        "05_question_types"
    ]


def test_a_second_run_into_the_same_folder_is_refused():
    code = (
        "import sys; from pathlib import Path; from hw2_utils import folders; "
        "lock = folders.claim(Path(sys.argv[1]), '05_question_types'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    place = paths.RUNS / "interactive" / "05_question_types"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HW2_RUNS": str(paths.RUNS)},
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another run is writing"):
        runs.start("05_question_types", namespace())
    other.kill()  # a killed run gives its folder free
    other.communicate()
    complete()


def test_a_run_into_a_place_that_is_not_ours_is_refused_before_it_begins():
    place = paths.RUNS / "interactive" / "05_question_types"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="no run of ours wrote: mine.txt"):
        runs.start("05_question_types", namespace())
    assert [p.name for p in place.parent.iterdir()] == [place.name]
    assert (place / "mine.txt").read_text() == "mine"


def test_a_failed_run_says_why_and_lists_what_it_left():
    run = runs.start("05_question_types", namespace())
    run.table("results", run.metrics_frame(), caption="Accuracy.")
    runs.mark_failed(run.folder, "05_question_types", ValueError("odd"))
    record = record_of(run.folder)
    assert record["run"]["status"] == "failed" and record["run"]["error"] == "ValueError: odd"
    assert set(record["files"]) == {"tables/results.csv", "tables/results.txt"}
    run.close()


def test_a_run_that_failed_before_its_record_has_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HW2_RUN_ID", "an id")
    runs.mark_failed(tmp_path, "05_question_types", ValueError("odd"))
    assert runs.status_of(tmp_path) == "failed"
    with pytest.raises(InputError, match="is failed"):
        runs.load(tmp_path, notebook="05_question_types")


# -------------------------------------------------------------------------------- reading
def test_load_names_the_notebook_where_there_is_no_run():
    with pytest.raises(InputError, match="no run of 05_question_types") as error:
        runs.load(
            paths.RUNS / "sample" / "05_question_types",
            notebook="05_question_types",
            profile="sample",
        )
    assert (
        "run notebook 05_question_types first" in error.value.todo
        and "--profile sample" in error.value.todo
    )


def broken(text: str):
    return lambda folder: (folder / "result.json").write_text(text, encoding="utf-8")


def edited(old: str, new: str):
    def edit(folder: Path) -> None:
        text = (folder / "result.json").read_text(encoding="utf-8")
        assert old in text
        (folder / "result.json").write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def changed(change):
    return lambda folder: edit_record(folder, change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken("{"), "broken"),
        (broken("[]"), "broken"),
        (broken('{"run": {}}'), "another version"),
        (changed(lambda r: r.pop("meta")), "meta"),
        (changed(lambda r: r["run"].pop("key")), "key"),
        (changed(lambda r: r["run"].update(status="done")), "status"),
        (changed(lambda r: r.update(schema=1)), "another version"),
        (changed(lambda r: r.pop("schema")), "another version"),
        (changed(lambda r: r["metrics"][0].pop("n")), "broken"),
        (changed(lambda r: r["metrics"][0].update(value="high")), "value"),
        (changed(lambda r: r["metrics"][0].update(more=1)), "broken"),
        (edited('"value": 0.5', '"value": NaN'), "isn't what the run wrote"),
        (edited('"value": 0.5', '"value": 0.75'), "isn't what the run wrote"),
        (edited('"value": 0.5', '"value": 0.50'), "isn't what the run wrote"),
        (edited('"n": 4', '"n": 4, "n": 4'), "isn't what the run wrote"),
        (changed(lambda r: r["run"].update(status="failed")), "is failed"),
        (changed(lambda r: r["run"].update(status="running")), "is running"),
        (
            changed(lambda r: r["run"].update(notebook="03_vqa_resnet_sbert")),
            "wanted is 05_question_types",
        ),
        (changed(lambda r: r["run"]["parameters"].update(profile="full")), "profile full"),
        (changed(lambda r: r["run"].update(key="0")), "stale"),
        (
            lambda folder: write_notebook("05_question_types", CELL.replace("x + 1", "x + 3")),
            "stale",
        ),
    ],
)
def test_load_refuses(spoil, message):
    run_dir = complete().run_dir
    spoil(run_dir)
    with pytest.raises(InputError, match=message) as error:
        runs.load(run_dir, notebook="05_question_types", profile="sample")
    assert "run notebook 05_question_types first" in error.value.todo


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r["run"].pop("notes"),
        lambda r: r["run"].update(id=3),
        lambda r: r["meta"].pop("versions"),
        lambda r: r["classes"].append(1),
    ],
)
def test_the_schema_holds_on_reading(spoil):
    run_dir = complete().run_dir
    edit_record(run_dir, spoil)
    with pytest.raises(InputError, match="broken"):
        runs.load(run_dir, notebook="05_question_types")


def test_the_schema_holds_on_writing():
    run = runs.start("05_question_types", namespace())
    run.notes.append(3)
    run.add_metrics([ROW])
    run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
    with pytest.raises((Hw2Error, ValueError), match="notes"):
        run.finish()
    run.close()


def test_a_record_is_stale_when_a_run_that_it_read_is_another_one():
    place = paths.RUNS / "sample" / "03_vqa_resnet_sbert"
    complete("03_vqa_resnet_sbert", run_dir=str(place))
    run = runs.start("05_question_types", namespace())
    run.input("resnet_sbert_run", runs.find("", "03_vqa_resnet_sbert", run))
    run.add_metrics([ROW])
    run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
    run.finish()
    runs.load(run.run_dir, notebook="05_question_types")
    complete("03_vqa_resnet_sbert", run_dir=str(place))
    with pytest.raises(InputError, match="it read another run of 03_vqa_resnet_sbert"):
        runs.load(run.run_dir, notebook="05_question_types")


def test_find_prefers_interactive_runs_by_hand_and_the_profile_under_the_runner(
    monkeypatch, capsys
):
    ids = {
        place: complete(
            "03_vqa_resnet_sbert", run_dir=str(paths.RUNS / place / "03_vqa_resnet_sbert")
        ).id
        for place in ("interactive", "sample", "elsewhere")
    }
    run = runs.start("05_question_types", namespace())
    found = runs.find("", "03_vqa_resnet_sbert", run)
    assert found.id == ids["interactive"] and f"reads run {found.id}" in capsys.readouterr().out
    assert (
        runs.find(
            str(paths.RUNS / "elsewhere" / "03_vqa_resnet_sbert"), "03_vqa_resnet_sbert", run
        ).id
        == ids["elsewhere"]
    )
    monkeypatch.setenv("HW2_RUNNER", "1")
    assert runs.find("", "03_vqa_resnet_sbert", run).id == ids["sample"]
    write_notebook("03_vqa_resnet_sbert", CELL.replace("x + 1", "x + 3"))
    assert runs.find("", "03_vqa_resnet_sbert", run, required=False) is None
    with pytest.raises(InputError, match="stale"):
        runs.find("", "03_vqa_resnet_sbert", run)
    run.close()


def test_other_data_is_refused():
    run_dir = complete().run_dir
    edit_record(run_dir, lambda r: r["meta"]["data"].update(vqa="a" * 64))
    record = runs.load(run_dir, notebook="05_question_types")
    record.require_data("vqa", "a" * 64)
    with pytest.raises(InputError, match="read other data"):
        record.require_data("vqa", "b" * 64)


def test_records_hold_no_folder_of_this_machine():
    run_dir = complete(vqa_dir="/some/home/folder/daquar").run_dir
    text = (run_dir / "result.json").read_text(encoding="utf-8")
    assert "/some/home" not in text and "…/daquar" in text and str(paths.RUNS) not in text


# ---------------------------------------------------------------------- what was written
def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_no_flipped_bit_is_believed():
    """Hundreds, in the record and every file beside it; each refusal names what it is."""
    run_dir, draw = complete().run_dir, random.Random(0)
    (run_dir / "notebook.ipynb").write_text('{"cells": []}')
    runs.add_notebook(run_dir)
    files = [p for p in run_dir.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {
        ".json",
        ".csv",
        ".txt",
        ".png",
        ".pdf",
        ".parquet",
        ".ipynb",
        ".safetensors",
    }
    for file in files:
        data = file.read_bytes()
        n = 400 if file.name == "result.json" else 40
        for bit in draw.sample(range(8 * len(data)), n):
            file.write_bytes(flipped(data, bit))
            with pytest.raises(InputError) as error:
                runs.load(run_dir, notebook="05_question_types")
            named = file.relative_to(run_dir).as_posix() in error.value.what
            assert named or file.name == "result.json", (file.name, bit, error.value.what)
        file.write_bytes(data)
    runs.load(run_dir, notebook="05_question_types")


@pytest.mark.parametrize(
    "name",
    [
        "predictions/fusion.parquet",
        "tables/results.csv",
        "figures/bars.txt",
        "figures/bars.pdf",
        "models/lora-seed0/adapter_model.safetensors",
    ],
)
@pytest.mark.parametrize("how", ["another run's", "emptied", "gone", "a folder"])
def test_a_file_that_the_run_did_not_write_is_refused(name, how):
    other = complete("03_vqa_resnet_sbert").run_dir
    (other / name).write_bytes((other / name).read_bytes() + b" ")
    run_dir = complete().run_dir
    if how == "another run's":
        shutil.copy(other / name, run_dir / name)
    elif how == "emptied":
        (run_dir / name).write_bytes(b"")
    else:
        (run_dir / name).unlink()
        if how == "a folder":
            (run_dir / name).mkdir()
    with pytest.raises(runs.Damaged, match=f"{name} is missing or isn't what the run wrote"):
        runs.load(run_dir, notebook="05_question_types")


def test_files_that_the_record_does_not_list_are_not_read():
    run_dir = complete().run_dir
    extra = predictions("majority", None)
    extra.to_parquet(run_dir / "predictions" / "majority.parquet", index=False)
    (run_dir / "tables" / "mine.csv").write_text("a,b\n")
    record = runs.load(run_dir, notebook="05_question_types")
    assert len(record.predictions) == 4 and "tables/mine.csv" not in record.files


def test_trained_models_are_checked_and_not_held():
    run = runs.start("05_question_types", namespace())
    run.keep_model("fusion.safetensors", b"weights")
    assert run.kept_models == run.folder / "models"
    run.add_predictions(predictions(), file="fusion", classes=["bed", "lamp"])
    run.add_metrics([ROW])
    run.finish()
    assert (run.kept_models / "fusion.safetensors").read_bytes() == b"weights"
    assert run.kept_models == run.run_dir / "models"  # a cell that is run later finds them there
    record = runs.load(run.run_dir, notebook="05_question_types")
    name = "models/fusion.safetensors"
    assert name in record.data["files"] and name not in record.files


def test_a_large_record_is_read_in_a_moment():
    run_dir, best = complete().run_dir, 1.0
    edit_record(
        run_dir,
        lambda r: r.update(
            metrics=[{**ROW, "split": "test", "group": "all", "low": 0.1, "high": 0.9}] * 500
        ),
    )
    for _ in range(10):
        begin = time.perf_counter()
        runs.read(run_dir, notebook="05_question_types")
        best = min(best, time.perf_counter() - begin)
    assert best < 0.5, f"{1000 * best:.1f} ms"


# ---------------------------------------------------------------------- readers and swaps
SWAPS = """
import shutil, sys, time
from pathlib import Path
from hw2_utils import folders
place, end = Path(sys.argv[1]), time.monotonic() + float(sys.argv[3])
if sys.argv[2] == "two renames":
    folders._exchange = lambda one, other: False
turn = 0
while time.monotonic() < end:
    beside = place.with_name(f"{place.name}.tmp-20240501T100000-{turn:016x}")
    shutil.copytree(place.with_name(f"run{turn % 2}"), beside)
    folders.swap_in(beside, place)
    turn += 1
print(turn)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_a_reader_sees_the_old_or_the_new_run_whole_at_any_moment(how):
    place, ids = paths.RUNS / "own" / "05_question_types", {}
    for turn in (0, 1):
        run = runs.start("05_question_types", namespace(run_dir=str(place)))
        frame = predictions().assign(id=[f"{turn}-{i}" for i in range(4)])
        run.add_predictions(frame, file="fusion", classes=["bed", "lamp"])
        run.add_metrics([ROW])
        run.finish()
        ids[run.id] = turn
        shutil.copytree(place, place.with_name(f"run{turn}"))
    words = [sys.executable, "-c", SWAPS, str(place), how, "8"]
    swapper = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    seen = []
    while swapper.poll() is None:
        record = runs.load(place, notebook="05_question_types", profile="sample")
        turn = ids[record.id]
        assert record.predictions["id"].tolist() == [f"{turn}-{i}" for i in range(4)]
        seen.append(turn)
    n_swaps = int(swapper.communicate()[0])
    changes = sum(a != b for a, b in zip(seen, seen[1:], strict=False))
    print(f"{n_swaps} swaps, {len(seen)} readings, {changes} changes seen")
    assert swapper.returncode == 0 and n_swaps > 50 and changes > 10


def test_a_reader_moves_and_deletes_nothing():
    run_dir = complete().run_dir
    for name in ("old-" + "0" * 32, "tmp-20240501T100000-" + "0" * 16, "old-abcdef", "failed"):
        shutil.copytree(run_dir, run_dir.with_name(f"{run_dir.name}.{name}"))
    before = sorted(run_dir.parent.rglob("*"))
    runs.load(run_dir, notebook="05_question_types")
    assert sorted(run_dir.parent.rglob("*")) == before
    shutil.rmtree(run_dir)
    before = sorted(run_dir.parent.rglob("*"))
    runs.load(run_dir, notebook="05_question_types")
    assert sorted(run_dir.parent.rglob("*")) == before


def test_a_run_that_lies_behind_a_link_is_read_and_replaced_there(tmp_path):
    elsewhere = tmp_path / "disk" / "run"
    place = paths.RUNS / "sample" / "05_question_types"
    elsewhere.mkdir(parents=True)
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere)
    for _ in range(2):
        run = complete(run_dir=str(place))
        assert runs.load(place, notebook="05_question_types").id == run.id
    assert place.is_symlink() and elsewhere.is_dir()
    elsewhere.rename(elsewhere.with_name("run.old-" + "0" * 32))  # an interrupted swap
    assert runs.load(place, notebook="05_question_types").id == run.id
