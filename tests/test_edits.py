"""Edits in a copy of the project: what must change a key does, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hw2_utils import fusion, parts, paths, timing

pytestmark = pytest.mark.slow  # each edit is a process of its own

# What is hashed for each: parts by the module that computes them, stores, records by notebook.
VQA, TWEETS = ["03", "04"], ["01", "02"]
RECORDS = ["01", "02", "03", "04", "05", "06"]
TRAINED = ["finetune", "fusion"]
ENCODED = ["encoders", *VQA]

# Cells' longer texts and replacements.
TAIL_OF_TRAIN = "{**data.splits, 'train': data.splits['train'].tail(9)}"
LOWER_CASE = 'frames["train"]["question"] = frames["train"]["question"].str.lower()\n'
ZEROED_BY_LOOP = "for v in images.values():\n    v[:] = 0\n"
ZEROED_BY_LIST = "[v.fill(0) for v in images.values()]\n"
MOON = '("The moon is made of cheese.", "False")'

EDITS: list[tuple[str, str, str, list[str]]] = [  # file, what is there, what comes instead, changes
    # ---- the package: what is computed
    ("predictions", "scores.argmax(axis=1)", "scores.argmin(axis=1)", [*TRAINED, *RECORDS]),
    ("inference", '"""95 % Wilson interval', '"""The 95 % Wilson interval', []),
    ("inference", "min(", "max(", RECORDS),
    ("answers", '["difference"] > 0', '["difference"] < 0', RECORDS),
    ("fusion", "patience: int = 10", "patience: int = 11", ["fusion", *VQA]),
    ("fusion", ".head(", ".tail(", ["fusion", *VQA]),
    ("fusion", "1e-12", "1e-6", ["fusion", *VQA]),
    ("fusion", "def _unit(", "def _unit(*unused, ", ["fusion", *VQA]),
    ("fusion", "nn.functional.cross_entropy", "nn.functional.nll_loss", ["fusion", *VQA]),
    ("finetune", "EVAL_BATCH_SIZE = 64", "EVAL_BATCH_SIZE = 32", ["finetune", *TWEETS]),
    ("finetune", "truncation=True", "truncation=False", ["finetune", *TWEETS]),
    ("finetune", "logging_steps=0.01", "logging_steps=0.02", ["finetune", *TWEETS]),
    ("prompting", '" True", " False"', '" true", " false"', ["prompting", "06"]),
    ("timing", "MIB = 2**20", "MIB = 10**6", [*TRAINED, "prompting", *RECORDS[:4], "06"]),
    # ---- encoders and pictures
    ("encoders", 'interpolation="bicubic", crop', 'interpolation="nearest", crop', ENCODED),
    ("encoders", "v2.ToImage(),", "v2.RandomHorizontalFlip(1.0), v2.ToImage(),", ENCODED),
    ("encoders", 'interpolation: str = "bilinear"', 'interpolation: str = "bicubic"', ENCODED),
    ("encoders", "N_TEXTS = 32", "N_TEXTS = 16", ENCODED),
    ("pictures", "exif_transpose(image)", "mirror(image)", [*ENCODED, "05"]),
    ("pictures", '"white"', '"black"', [*ENCODED, "05"]),
    # ---- readers
    ("daquar", ".lower()", ".upper()", [*VQA, "05"]),
    ("tweets", "random_state=seed", "random_state=seed + 1", TWEETS),
    ("statements", "def read(", "def read(*unused, ", ["06"]),
    ("datafiles", "import csv", "import csv, math", RECORDS),
    ("question_types", "import re", "import re, math", ["05"]),
    # ---- tables
    ("config/wups.csv", "0.8750", "0.8751", RECORDS),
    ("config/question_types.toml", "keywords = [", 'keywords = ["colr", ', ["05"]),
    ("config/question_types.toml", "\n", "\n# a comment\n", []),
    # ---- the package: what computes nothing
    ("plots", "columns: int = 3", "columns: int = 4", []),
    ("latex", "import json", "import json, math", []),
    ("report", "import re", "import re, math", []),
    ("runs", "SCHEMA = 2", "SCHEMA = 3", []),
    ("references", "import tomllib", "import json, tomllib", []),
    ("hub", '"HEAD": 3', '"HEAD": 4', []),
    ("embedding_cache", "_BUSY_TIMEOUT_S = 120.0", "_BUSY_TIMEOUT_S = 60.0", []),
    ("fusion", "def _unit(", "# a comment\n\n\n\ndef _unit(", []),
    ("fusion", '"""One pass, each seed', '"""One turn, each seed', []),
    ("paths", "import os", "import os, re", []),
    ("predict", "import ast", "import ast, math", []),
    ("attribution", "import numpy as np", "import math, numpy as np", []),
    ("progress", "delay=2", "delay=3", []),
    # ---- cells: what is computed
    ("03", "fusion.training_frames(run, data)", TAIL_OF_TRAIN, ["03"]),
    ("03", "classes = data.classes", f"{LOWER_CASE}classes = data.classes", ["03"]),
    ("03", "assert all(np.isfinite", f"{ZEROED_BY_LOOP}assert all(np.isfinite", ["03"]),
    ("03", "assert all(np.isfinite", f"{ZEROED_BY_LIST}assert all(np.isfinite", ["03"]),
    ("04", "nn.ReLU()", "nn.Tanh()", ["04"]),
    ("03", "folds: int = 0", "folds: int = 5", ["03"]),
    ("01", "lora_rank: int = 8", "lora_rank: int = 4", ["01"]),
    ("lora", '== "rslora"', '== "dora"', ["01", "02"]),
    ("lora", "LORA_PLUS_RATIO = 16", "LORA_PLUS_RATIO = 8", ["01", "02"]),
    ("06", "removesuffix", "removeprefix", ["06"]),
    ("06", MOON, MOON.replace("cheese", "dust"), ["06"]),
    ("06", 'NOTHING = ["N/A", "", "[MASK]"]', 'NOTHING = ["N/A"]', ["06"]),
    ("06", 'STYLES = ["short", "few_shot", "expert"]', 'STYLES = ["short", "few_shot"]', ["06"]),
    ("05", "run.finish()", "rows = rows[:1]\nrun.finish()", ["05"]),
    # ---- cells: what is shown
    ("01", 'label="of the matrix"', 'label="matrix"', []),
    ("01", '"Share of trained', '"The share of trained', []),
    ("01", 'print(f"largest change by {what}', 'print(f"the largest change by {what}', []),
    ("01", "axes.legend()", 'axes.legend(loc="upper left")', []),
    ("01", 'axes.axhline(1, color="grey", lw=0.8)', "", []),
    ("01", 'axes.set(xscale="log"', 'axes.set(xscale="linear"', []),
    ("05", 'caption=(', 'caption=str(', []),
    ("03", '"The three splits', '"Three splits', []),
    ("03", "plots.style()", 'plots.style()\nplt.close("all")', []),
    ("03", "# each (n, hidden_dim)", "# (n, hidden_dim) each", []),
    ("03", "import numpy as np", "import numpy as np\nimport textwrap", []),
    ("01", 'tweet=splits["test"]', 'tweet=splits["val"]', []),
    ("05", "run.finish()", "run.finish()\nprint('done')", []),
    ("06", "plt.show()", "%time plt.show()", []),
]  # fmt: skip
SCRIPT = """
import ast, json, os, sys, tomllib, inspect, dis, bisect, functools, hashlib, importlib.metadata
from pathlib import Path
sys.path.insert(0, os.getcwd())

def measured(file):
    from hw2_utils import keys
    looked_at = f"{file}*" if file and file.isdigit() else "0*"  # no notebook reads another's code
    files = sorted(Path("notebooks").glob(looked_at))
    notebooks = {f.name[:2]: keys.notebook_code(f) for f in files}
    modules = {m: keys.package_code([m]) for m in ("finetune", "fusion", "prompting", "encoders")}
    return {**modules, **notebooks}

def edited(file, old, new):
    path = next(Path("notebooks").glob(f"{file}*")) if file.isdigit() else Path("hw2_utils") / (
        file if "." in file else f"{file}.py")
    text = path.read_text()
    if file.isdigit():
        notebook = json.loads(text)
        sources = ["".join(cell["source"]) for cell in notebook["cells"]]
        is_code = [cell["cell_type"] == "code" for cell in notebook["cells"]]
        place = next(i for i, s in enumerate(sources) if old in s and is_code[i])
        notebook["cells"][place]["source"] = sources[place].replace(old, new, 1)
        changed = json.dumps(notebook)
    else:
        assert old in text, old
        changed = text.replace(old, new, 1)
    path.write_text(changed)
    return path, text

for edit in [None, *json.load(sys.stdin)]:
    path, text = edited(*edit) if edit else (None, None)
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            found = measured(edit and edit[0])
        except BaseException as error:
            found = {"error": repr(error)}
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    print(os.read(reader, 100000).decode(), flush=True)
    os.close(reader)
    os.wait()
    if path:
        path.write_text(text)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of notebooks and package."""
    copy = tmp_path_factory.mktemp("project")
    for name, source in (("hw2_utils", paths.PACKAGE), ("notebooks", paths.NOTEBOOKS)):
        shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return copy


@pytest.fixture(scope="module")
def found(project: Path) -> list[dict[str, str]]:
    """All keys, first without an edit, then after each alone."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([edit[:3] for edit in EDITS]),
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(EDITS)), ids=lambda n: f"{n}-{EDITS[n][0]}")
def test_an_edit_changes_what_it_must_and_nothing_else(number, found):
    before, after = found[0], found[number + 1]
    assert "error" not in after, after
    assert {name for name in after if before[name] != after[name]} == set(EDITS[number][3])


# ------------------------------------------------------------------------- what enters by content
def tiny(n_rows: int = 24) -> tuple[dict[str, pd.DataFrame], dict, dict]:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(n_rows)],
            "question": [f"What is {i % 5} ?" for i in range(n_rows)],
            "image_id": [f"image{i % 8}" for i in range(n_rows)],
            "label": ["lamp" if i % 3 else "bed" for i in range(n_rows)],
        }
    )
    rows["answer"] = rows["label"]
    images = {f"image{i}": rng.random(6, np.float32) for i in range(8)}
    questions = {q: rng.random(4, np.float32) for q in rows["question"].unique()}
    return {s: rows.copy() for s in ("train", "val", "test")}, images, questions


class Network(torch.nn.Module):
    def __init__(self, image_dim: int, question_dim: int, hidden_dim: int, n_classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(image_dim + question_dim, n_classes)

    def forward(self, image: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([image, question], dim=-1))


def fitted(frames: dict, images: dict, questions: dict, **measured: object) -> str:
    """Name of the part that a tiny fusion network is."""
    classes = ["bed", "lamp"]
    embedded = fusion.Embedded(frames, images, questions, classes)
    data = fusion.tensors(embedded, image_scale=1.0)
    inputs = {"network": Network, "dims": (6, 4), "data": data, "frames": frames, "epochs": 1}
    inputs |= {"method": "fusion", "classes": classes, "seeds": [0], "hidden_dim": 2}
    inputs |= {"device": "cpu", "batch_size": 8, "learning_rate": 0.1, "weight_decay": 0.0}
    return parts.part("fusion", fusion.fit, inputs, **measured)["part"]


def cut(frames: dict, rows: slice) -> dict[str, pd.DataFrame]:
    return {**frames, "train": frames["train"].iloc[rows].reset_index(drop=True)}


def test_data_that_a_cell_changed_is_computed_again(tmp_path, monkeypatch):
    """Other rows, texts, pictures or labels, by whatever way they came to be other ones."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    frames, images, questions = tiny()
    lower = {s: f.assign(question=f["question"].str.lower()) for s, f in frames.items()}
    swapped = {s: f.assign(label=f["label"].iloc[::-1].tolist()) for s, f in frames.items()}
    zeroed = {name: np.zeros_like(v) for name, v in images.items()}
    on_lower = {q.lower(): v for q, v in questions.items()}
    found = [
        fitted(frames, images, questions),
        fitted(cut(frames, slice(12)), images, questions),
        fitted(cut(frames, slice(-12, None)), images, questions),
        fitted(lower, images, on_lower),
        fitted(swapped, images, questions),
        fitted(frames, zeroed, questions),
    ]
    assert len(set(found)) == len(found) and fitted(frames, images, questions) == found[0]


def test_cross_validation_after_a_run_with_other_training_examples_is_computed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    frames, images, questions = tiny()
    recipe = {"n_folds": 3, "blind": False, "seeds": [0], "epochs": 1}
    recipe |= {"hidden_dim": 2, "image_scale": 1.0, "device": "cpu", "batch_size": 8}
    recipe |= {"learning_rate": 0.1, "weight_decay": 0.0, "network": Network}
    found = set()
    for kept in (cut(frames, slice(n)) for n in (24, 16)):
        embedded = fusion.Embedded(kept, images, questions, ["bed", "lamp"])
        result = parts.part("folds", fusion.cross_validate, {**recipe, "embedded": embedded})
        found.add(result["part"])
    assert len(found) == 2


def test_times_belong_to_the_threads_that_they_were_measured_with(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    found, threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 1):
            torch.set_num_threads(n)
            found.append(fitted(*tiny(), measured_on=timing.machine("cpu")))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[2] != found[1]


STORE = """
import json
from hw2_utils import encoders, hub, runs
model = hub.fetch_model("sample:efficientnet-lite0")
clip = {"clip_model": {"id": "sample:clip"}}
own = {"image_model": {"id": "sample:efficientnet-lite0"}}
none = {"text_model": {"id": "sample:all-MiniLM-L6-v2"}}
print(json.dumps([
    encoders._spec(model, preprocessing="", pooling="", dim=1),
    runs.record_key("03_vqa_resnet_sbert", "sample", own),
    runs.record_key("04_vqa_clip", "sample", clip),
    runs.record_key("01_lora_roberta", "sample", none),
]))
"""


def stored(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", STORE],
        capture_output=True,
        env={**os.environ, **environment},
        check=True,
    )
    return json.loads(done.stdout)


def test_pins_and_versions_are_in_stores_and_records(tmp_path):
    """Other means under HW2_PINS change the encoder's store and its records; another timm, all."""
    text = paths.PINS.read_text(encoding="utf-8")
    (tmp_path / "pins.toml").write_text(text.replace("mean = [0.498039", "mean = [0.5", 1))
    (tmp_path / "timm-99.dist-info").mkdir()
    (tmp_path / "timm-99.dist-info" / "METADATA").write_text("Name: timm\nVersion: 99\n")
    before = stored()
    means = stored(HW2_PINS=str(tmp_path / "pins.toml"))
    version = stored(PYTHONPATH=str(tmp_path))
    assert [a == b for a, b in zip(before, means, strict=True)] == [False, False, False, True]
    assert not any(a == b for a, b in zip(before, version, strict=True))
