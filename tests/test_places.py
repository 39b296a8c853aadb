"""Other kernels, settings, variables and folder names change nothing that a notebook shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from hw2_utils import hub, paths

NAME = "05_question_types"  # a name that the profile knows; its section there is empty
CELLS = {
    "parameters": "profile: str = 'sample'\nrun_dir: str = ''\nvqa_dir: str = ''",
    "start": f"""
import pandas as pd
from hw2_utils import inference, plots, runs
plots.style()
run = runs.start("{NAME}", globals())
""",
    "shows": """
import sys, warnings
import statistics as library  # which another folder may shadow
print(sys.executable, sys.flags.optimize, library.mean([1, 2, 3]), inference.__name__)
try:
    assert False
    print("asserts are off")
except AssertionError:
    print("asserts are on")
warnings.warn("old", FutureWarning)
print(pd.DataFrame([[0.1 * i for i in range(30)]]))
pd.DataFrame({"text": ["x" * 90], "n": [1234567.5]})
""",
    "figure": """
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
axes.plot([1, 10, 1000], [0.5, 0.2, 0.1], label="$\\\\input{x}$")
axes.legend()
plt.show()
""",
    "finish": """
frame = pd.DataFrame({"id": ["a"], "split": "test", "method": "majority", "seed": None,
                      "label": "x", "prediction": "x", "log_probs": None})
run.add_predictions(frame, file="majority", classes=["x", "y"])
run.add_metrics([{"method": "majority", "name": "accuracy", "value": 1.0}])
run.finish()
""",
}


def make_checkout(root: Path) -> Path:
    """The package beside one tiny notebook: each folder of the project follows from its place."""
    shutil.copytree(paths.PACKAGE, root / "hw2_utils", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "notebooks").mkdir()
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": [name]})
        for name, source in CELLS.items()
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{NAME}.ipynb")
    return root


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("place") / "sp äce" / "hw2")


def run(checkout: Path, out: Path, *words: str, **variables: str) -> dict[str, str]:
    """Runs the tiny notebook; what it shows, cell by cell, but for the run's id."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HW2_")}
    # from the package's own folder's parent, so that no PYTHONPATH is needed to find it
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "run", NAME, "--out", str(out), *words],
        cwd=checkout,
        env={**kept, "HW2_RUNS": str(checkout / "runs"), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return shown(out)


def shown(run_dir: Path) -> dict[str, str]:
    run_id = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))["run"]["id"]
    cells = nbformat.read(run_dir / "notebook.ipynb", 4).cells
    named = [(c.metadata.tags[0], c) for c in cells if "injected-parameters" not in c.metadata.tags]
    return {name: json.dumps(c.outputs).replace(run_id, "ID") for name, c in named}


@pytest.fixture(scope="module")
def plain(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the notebook shows where nothing is set."""
    return run(checkout, tmp_path_factory.mktemp("plain") / "out")


@pytest.mark.slow
def test_the_page_shows_its_figure_and_runs_its_asserts_in_this_interpreter(plain):
    assert plain["figure"].count("image/png") == 1
    assert sys.executable in plain["shows"] and "asserts are on" in plain["shows"]
    assert "FutureWarning" not in plain["shows"] and "hw2_utils.inference" in plain["shows"]


# -------------------------------------------------------------- kernels, home folders
def kernel(folder: Path, text: str) -> Path:
    """A kernel of the name that notebooks ask for, in a folder of kernels."""
    (folder / "kernels" / "python3").mkdir(parents=True)
    (folder / "kernels" / "python3" / "kernel.json").write_text(text, encoding="utf-8")
    return folder


FOREIGN = json.dumps({"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"})


@pytest.mark.slow
def test_a_kernel_of_the_same_name_elsewhere_is_not_started(checkout, plain, tmp_path):
    """A foreign one in the home folder that comes first; two broken ones on the path."""
    kernel(tmp_path / "home" / ".local" / "share" / "jupyter", FOREIGN)
    broken = [kernel(tmp_path / "one", "{broken"), kernel(tmp_path / "two", "[]")]
    preferred = {
        "JUPYTER_PATH": os.pathsep.join(map(str, broken)),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "HOME": str(tmp_path / "home"),
    }
    assert run(checkout, tmp_path / "out", **preferred) == plain


@pytest.mark.slow
def test_nothing_in_a_home_folder_is_run_or_read(checkout, plain, tmp_path):
    """IPython's startup files and settings, Python's own startup file, matplotlib's settings."""
    home, canary = tmp_path / "home", tmp_path / "canary"
    startup = home / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    touch = f"open({str(canary)!r}, 'w').close(); print('STARTED')"
    (startup / "00.py").write_text(touch)
    (startup.parent / "ipython_config.py").write_text(touch)
    (startup.parent / "ipython_kernel_config.py").write_text(touch)
    (home / "startup.py").write_text(touch)
    (home / ".config" / "matplotlib").mkdir(parents=True)
    odd = "font.size: 30\nfigure.dpi: 30\ntext.usetex: True\naxes.facecolor: red\nno.such: 1\n"
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text(odd)
    variables = {"HOME": str(home), "PYTHONSTARTUP": str(home / "startup.py")}
    assert run(checkout, tmp_path / "out", **variables) == plain
    assert not canary.exists()


@pytest.mark.slow
def test_a_home_folder_that_cannot_be_written_stops_no_run(checkout, plain, tmp_path):
    found = run(checkout, tmp_path / "out", HOME="/dev/null/home", MPLCONFIGDIR=str(tmp_path))
    assert found == plain


# -------------------------------------------------------------- variables
ODD = {
    "MPLBACKEND": "Agg",
    "PYTHONOPTIMIZE": "1",
    "PYTHONWARNINGS": "always",
    "PYTHONDEVMODE": "1",
    "PYTHONSAFEPATH": "1",
    "COLUMNS": "20",
    "LINES": "5",
    "LC_ALL": "C",
    "TZ": "Asia/Tokyo",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_VERBOSITY": "debug",
    "TRANSFORMERS_VERBOSITY": "debug",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "TQDM_DISABLE": "0",
    "PANDAS_FUTURE_INFER_STRING": "1",
    "TERM": "dumb",
    "JUPYTER_PLATFORM_DIRS": "1",
    "IPYTHONDIR": "/dev/null/ipython",
    "JUPYTER_CONFIG_DIR": "/dev/null/jupyter",
}


@pytest.mark.slow
def test_variables_that_change_pages_elsewhere_change_none_here(checkout, plain, tmp_path):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("font.size: 30\n")
    # with PYTHONSAFEPATH the package isn't found in the working directory
    variables = {**ODD, "MATPLOTLIBRC": str(rc), "PYTHONPATH": str(checkout)}
    assert run(checkout, tmp_path / "out", **variables) == plain


@pytest.mark.slow
def test_a_module_that_shadows_the_standard_library_reaches_no_kernel(checkout, plain, tmp_path):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "statistics.py").write_text("mean = lambda values: 'SHADOW'")
    assert run(checkout, tmp_path / "out", PYTHONPATH=str(tmp_path / "shadow")) == plain


# -------------------------------------------------------------- names of folders, files and classes
ODD_NAME = "-ü 中文 😀 #1 %20 'a' $(touch canary)"
ODD_CLASSES = [r"$\input{x}$", "a_b^c%#&~{}", "שלום", "x" * 150]


def run_real(tmp_path: Path, notebook: str, **given: object) -> Path:
    """Runs a committed notebook where every folder has an odd name; no name is executed."""
    place = tmp_path / ODD_NAME
    out = place / "out"
    words = []
    for name, value in given.items():
        words += ["-p", name, value if isinstance(value, str) else json.dumps(value)]
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "run", notebook, "--out", str(out), *words],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(paths.ROOT),
            "HW2_RUNS": str(place / "runs"),
            "HW2_EMBEDDINGS_CACHE": str(place / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not [*tmp_path.rglob("canary"), *paths.NOTEBOOKS.glob("canary")]
    assert status(out) == "complete"
    return out


def status(run_dir: Path) -> str:
    return json.loads((run_dir / "result.json").read_text(encoding="utf-8"))["run"]["status"]


def odd_questions(folder: Path) -> Path:
    """A few of the sample's pictures and questions, with four answers of odd names."""
    sample = paths.ROOT / "data" / "sample" / "daquar"
    (folder / "images").mkdir(parents=True)
    for split in ("train", "val", "test"):
        rows = pd.read_csv(sample / f"new_data_{split}.csv", dtype=str).head(24)
        answers = [ODD_CLASSES[i % len(ODD_CLASSES)] for i in range(len(rows))]
        rows.assign(answer=answers).to_csv(folder / f"new_data_{split}.csv", index=False)
        for image in rows["image_id"].unique():
            shutil.copy(sample / "images" / f"{image}.jpg", folder / "images")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_answers_and_folders_of_any_name_reach_every_figure(tmp_path):
    """The network learns nothing here; every axis, title and table has the names."""
    data = odd_questions(tmp_path / ODD_NAME / "data")
    small = {"seeds": [0], "epochs": 2, "batch_size": 8, "device": "cpu"}
    out = run_real(tmp_path, "03_vqa_resnet_sbert", vqa_dir=str(data), **small)
    assert len(list((out / "figures").glob("*.pdf"))) == 4
    shown = (out / "notebook.ipynb").read_text(encoding="utf-8")
    assert "UserWarning" not in shown and "Glyph" not in shown
    assert "made by this project" not in shown and "changed: vqa_dir" in shown


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_topics_statements_and_a_model_file_of_any_name(tmp_path):
    place = tmp_path / ODD_NAME
    place.mkdir()
    model = place / "model #1 é.gguf"
    model.symlink_to(hub.fetch_model("sample:SmolLM2-135M-Instruct").path.resolve())
    rows = [
        {"statement": f"{topic} is {word} {i}.", "label": word, "topic": topic}
        for i, topic in enumerate(ODD_CLASSES[:3])
        for word in ("true", "false")
    ]
    pd.DataFrame(rows).to_csv(place / "statements.csv", index=False)
    out = run_real(
        tmp_path,
        "06_prompting",
        statements_file=str(place / "statements.csv"),
        language_model=str(model),
        max_generated=1,
        shot_draws=0,
        device="cpu",
    )
    table = pd.read_csv(out / "tables" / "by_topic.csv", index_col=0)
    assert set(table.index) == set(ODD_CLASSES[:3])
    assert "Glyph" not in (out / "notebook.ipynb").read_text(encoding="utf-8")


# -------------------------------------------------------------- edits saved into a notebook
@pytest.mark.slow
def test_an_edit_saved_since_the_commit_is_told_and_on_record(tmp_path):
    """A default that was changed in the committed file: the run isn't the profile's own."""
    root = make_checkout(tmp_path / "hw2")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    for words in (["init", "-q"], ["add", "notebooks"], [*author, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    file = root / "notebooks" / f"{NAME}.ipynb"
    edited = file.read_text(encoding="utf-8").replace("vqa_dir: str = ''", "vqa_dir: str = '/x'")
    file.write_text(edited, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "run", NAME],
        cwd=root,
        env={k: v for k, v in os.environ.items() if not k.startswith("HW2_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert f"note: notebooks/{NAME}.ipynb says vqa_dir '/x', committed is ''" in done.stderr
    run_dir = root / "runs" / "own" / NAME
    assert done.stdout.strip() == str(run_dir) and status(run_dir) == "complete"
    record = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    assert record["run"]["changed"] == {"vqa_dir": "…/x"}
    assert "own run; changed: vqa_dir" in shown(run_dir)["start"]
