"""The run record: what makes a key, what a part reuses, what a run refuses, and what a kill leaves behind."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hw2_utils import paths, runs
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
    """A notebook of two code cells, its parameters and `cell`, in the folder that the tests took for notebooks."""
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
    run.finish()
    return run


def record_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def edit_record(folder: Path, change) -> None:
    record = record_of(folder)
    change(record)
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")


class Computer:
    """Counts how often a part is computed."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> dict[str, object]:
        self.n += 1
        return {
            "loss": 0.25,
            "names": ["a"],
            "curve": pd.DataFrame({"step": [1, 2], "vector": [[1.0], [2.0]]}),
        }


# ---------------------------------------------------------------------------------------------- parameters
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sedes": [0]}, "no parameter 'sedes'"),
        ({"epochs": "3"}, "parameter epochs"),
        ({"epochs": 1.5}, "parameter epochs"),
        ({"epochs": True}, "parameter epochs"),
        ({"epochs": -1}, "parameter epochs"),
        ({"max_generated": -2}, "max_generated"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": -1e-5}, "learning_rate"),
        ({"learning_rate": False}, "learning_rate"),
        ({"learning_rate": None}, "learning_rate"),
        ({"shuffle": 1}, "parameter shuffle"),
        ({"text_model": 3}, "text_model"),
        ({"seeds": 0}, "parameter seeds"),
        ({"seeds": [0, 0]}, "parameter seeds"),
        ({"seeds": [0.5]}, "parameter seeds"),
        ({"seeds": [True]}, "parameter seeds"),
        ({"seeds": [-1]}, "parameter seeds"),
        ({"seeds": [2**32]}, "parameter seeds"),
        ({"seeds": ["0"]}, "parameter seeds"),
        ({"seeds": [[0]]}, "parameter seeds"),
        ({"profile": "tiny"}, "no profile 'tiny'"),
        ({"profile": ""}, "no profile"),
    ],
)
def test_check_parameters_refuses(given, message):
    with pytest.raises(InputError, match=message) as error:
        runs.check_parameters("05_question_types", given)
    assert error.value.todo


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epochs": 0},
        {"epochs": 7},
        {"max_generated": -1},
        {"learning_rate": 1},
        {"learning_rate": 5e-5},
        {"seeds": [3, 1]},
        {"seeds": []},
        {"shuffle": True},
        {"lora_targets": ["query"]},
        {"profile": "full"},
    ],
)
def test_check_parameters_accepts(given):
    runs.check_parameters("05_question_types", given)


def test_an_unknown_notebook_is_told_with_those_there_are():
    with pytest.raises(InputError, match="05_question_types"):
        runs.notebook_path("07_more")


def test_a_device_that_is_not_there():
    assert runs.resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no device 'tpu'"):
        runs.resolve_device("tpu")


# ---------------------------------------------------------------------------------------------- a run's life
def test_a_run_and_its_record(capsys):
    run = runs.start("05_question_types", namespace(seeds=[1]))
    assert "profile sample" in capsys.readouterr().out
    assert runs.status_of(run.folder) == "running" and not run.run_dir.exists()
    result = run.part({"method": "fusion", "seed": 0}, Computer(), modules=["fusion"])
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
    assert record.data["run"]["parameters"]["seeds"] == [1] and {
        "fusion",
        "metrics",
        "statistics",
    } <= set(record.data["run"]["modules"])
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
        "import sys; from pathlib import Path; from hw2_utils import runs; lock = runs.claim(Path(sys.argv[1])); "
        "print('held', flush=True); sys.stdin.read()"
    )
    place = paths.RUNS / "interactive" / "05_question_types"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another run is writing"):
        runs.start("05_question_types", namespace())
    other.kill()  # a killed run gives its folder free
    other.communicate()
    complete()


# ---------------------------------------------------------------------------------------------- swaps and kills
KILL = """
import os, signal, sys
from pathlib import Path
from hw2_utils import runs
left = int(sys.argv[3])

def die(event, arguments):
    global left
    if event in ("os.rename", "shutil.rmtree") and str(arguments[0]).startswith(sys.argv[2]):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

sys.addaudithook(die)
runs.swap_in(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(("n_steps", "found"), [(0, "old"), (1, "new"), (2, "new")])
def test_a_swap_that_was_killed_is_finished_by_the_next_reader(n_steps, found):
    """Killed before the old folder goes aside, between the two renames, and before the old one is deleted."""
    import shutil

    run_dir = complete().run_dir
    beside = run_dir.with_name(f"{run_dir.name}.tmp-1")
    shutil.copytree(run_dir, beside)
    edit_record(run_dir, lambda r: r["run"].update(id="old"))
    edit_record(beside, lambda r: r["run"].update(id="new"))
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(beside), str(run_dir), str(n_steps)], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert runs.load(run_dir, notebook="05_question_types").id == found
    complete()
    assert [p.name for p in run_dir.parent.iterdir() if not p.name.startswith(".")] == [
        run_dir.name
    ]


def test_an_interrupted_swap_whose_new_run_is_not_complete_brings_the_old_one_back():
    run_dir = complete().run_dir
    run_dir.rename(run_dir.with_name(f"{run_dir.name}.old-1"))
    half = run_dir.with_name(f"{run_dir.name}.tmp-1")
    half.mkdir()
    (half / "result.json").write_text('{"run": {"status": "runn', encoding="utf-8")
    run_dir.mkdir()  # the workflow engine makes an empty folder for its stamp
    assert runs.load(run_dir, notebook="05_question_types").data["run"]["status"] == "complete"


def test_a_reader_leaves_a_swap_alone_while_a_run_is_writing():
    run_dir = complete().run_dir
    aside = run_dir.with_name(f"{run_dir.name}.old-1")
    aside.mkdir()
    run = runs.start("05_question_types", namespace(run_dir=str(run_dir)))
    aside.mkdir(exist_ok=True)  # as if that run had just put it there
    runs.load(run_dir, notebook="05_question_types")
    assert aside.is_dir() and run.folder.is_dir()
    run.close()


# ---------------------------------------------------------------------------------------------- reading
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


def changed(change):
    return lambda folder: edit_record(folder, change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken("{"), "broken"),
        (broken("[]"), "broken"),
        (broken('{"run": {}}'), "broken"),
        (changed(lambda r: r.pop("meta")), "meta"),
        (changed(lambda r: r["run"].pop("key")), "key"),
        (changed(lambda r: r["run"].update(status="done")), "status"),
        (changed(lambda r: r["metrics"][0].pop("n")), "broken"),
        (changed(lambda r: r["metrics"][0].update(value="high")), "value"),
        (changed(lambda r: r["metrics"][0].update(more=1)), "broken"),
        (changed(lambda r: r["metrics"][0].update(value=float("nan"))), "broken"),
        (changed(lambda r: r["metrics"][0].update(value=float("inf"))), "broken"),
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


def test_write_json_never_leaves_half_a_file(tmp_path):
    target = tmp_path / "a.json"
    runs.write_json(target, {"a": 1})
    with pytest.raises(ValueError):
        runs.write_json(target, {"a": float("nan")})
    assert (
        json.loads(target.read_text(encoding="utf-8")) == {"a": 1}
        and os.listdir(tmp_path).count("a.json") == 1
    )
