"""The real sample chain, once, by the command that people use; then what must hold of its records.

It runs in a folder with a blank and an umlaut in its name.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score, roc_auc_score

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(p.stem for p in (ROOT / "notebooks").glob("0*.ipynb"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


LEFT = {  # what isn't the project's, by folder: what git ignores, and git's own
    ROOT: {".venv", ".git", ".harness", "runs", "lab"},
    ROOT / "data": {"daquar", "tweet_eval", "statements"},
}


def left_out(folder, names):
    caches = shutil.ignore_patterns("__pycache__", ".*_cache", "*.sqlite*")(folder, names)
    return caches | LEFT.get(Path(folder), set())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of this checkout: nothing of its own runs and caches is read or written."""
    place = tmp_path_factory.mktemp("chain") / "sp äce" / "hw2"
    shutil.copytree(ROOT, place, ignore=left_out)
    (place / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    return place


def command(project, *words, cwd=None, **variables):
    """As `make` does it: with the interpreter in the project's own .venv."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HW2_")}
    return subprocess.run(
        [project / ".venv" / "bin" / "python", "-m", "hw2_utils", *words],
        cwd=cwd or project,
        capture_output=True,
        text=True,
        timeout=1500,
        env={**kept, "PYTHONPATH": str(project), **variables},
    )


@pytest.fixture(scope="module")
def chain(project):
    done = command(project, "chain", "--profile", "sample")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return project / "runs" / "sample"


def record(folder):
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def predictions(folder):
    return pd.concat(
        [pd.read_parquet(p) for p in sorted((folder / "predictions").glob("*.parquet"))],
        ignore_index=True,
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_notebook_leaves_a_complete_record(chain, name):
    folder = chain / name
    kept = record(folder)
    assert kept["run"]["status"] == "complete" and kept["run"]["parameters"]["profile"] == "sample"
    for place, suffix in (
        ("tables", "csv"),
        ("figures", "png"),
        ("figures", "pdf"),
        ("predictions", "parquet"),
    ):
        assert list((folder / place).glob(f"*.{suffix}")), f"no {suffix} in {place}"
    cells = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(
        c["execution_count"]
        for c in cells
        if c["cell_type"] == "code" and "".join(c["source"]).strip()
    )
    text = json.dumps([c.get("outputs") for c in cells])
    assert "stand-in" in text, "the banner says that the sample's models are stand-ins"
    assert "Warning" not in text and "it/s" not in text, (
        "a reader would stumble over warnings and progress bars"
    )


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_those_of_the_predictions(chain, name):
    kept, frame = record(chain / name), predictions(chain / name)
    rows = pd.DataFrame(kept["metrics"])
    rows = rows[rows["group"] == "all"]
    checked = 0
    for (split, method, seed), part in frame.groupby(["split", "method", "seed"], dropna=False):
        labels, found = part["label"], part["prediction"]
        occurring = sorted(set(labels))
        expected = {
            "accuracy": accuracy_score(labels, found),
            "f1_weighted": f1_score(labels, found, average="weighted", zero_division=0),
            "f1_macro": f1_score(labels, found, average="macro", zero_division=0),
            "recall_macro": recall_score(
                labels, found, average="macro", labels=occurring, zero_division=0
            ),
        }
        if part["log_probs"].notna().all():
            scores = np.stack(part["log_probs"].to_list()).astype(float)
            if np.isfinite(scores).all() and len(kept["classes"]) > 2:
                p = np.exp(scores)
                columns = [kept["classes"].index(c) for c in sorted(kept["classes"])]
                expected["loss"] = log_loss(
                    labels,
                    (p / p.sum(1, keepdims=True))[:, columns],
                    labels=sorted(kept["classes"]),
                )
            if len(kept["classes"]) == 2:
                expected["auroc"] = roc_auc_score(
                    labels == kept["classes"][1], scores[:, 1] - scores[:, 0]
                )
        for metric, value in expected.items():
            same_seed = rows["seed"].isna() if pd.isna(seed) else rows["seed"] == seed
            mine = rows[
                (rows["split"] == split)
                & (rows["method"] == method)
                & (rows["name"] == metric)
                & same_seed
            ]
            assert mine["value"].item() == pytest.approx(value, abs=1e-5), (
                split,
                method,
                seed,
                metric,
            )
            checked += 1
    assert checked > 4


@pytest.mark.parametrize(
    ("name", "method"), [("01_lora_roberta", "lora+lr5e-3"), ("04_vqa_clip", "fusion")]
)
def test_predict_says_what_the_run_said_of_its_test_split(chain, project, tmp_path, name, method):
    """tests/test_predict.py has the other two notebooks' methods, each with each seed."""
    if name == "04_vqa_clip":
        table = pd.read_csv(project / "data" / "sample" / "daquar" / "new_data_test.csv")
    else:
        lines = project / "data" / "sample" / "tweet_eval" / "sentiment" / "test_text.txt"
        table = pd.DataFrame({"text": lines.read_text(encoding="utf-8").split("\n")[:-1]})
    table.to_csv(tmp_path / "table.csv", index=False)
    done = command(project, "predict", str(chain / name), str(tmp_path / "table.csv"))
    assert done.returncode == 0 and not done.stderr, done.stderr
    found = pd.read_csv(io.StringIO(done.stdout), dtype={"prediction": str})
    rows = predictions(chain / name).query("split == 'test' and method == @method and seed == 0")
    assert found["prediction"].tolist() == rows["prediction"].tolist()
    shares = found[[f"p_{c}" for c in record(chain / name)["classes"]]]
    np.testing.assert_allclose(shares, np.exp(np.stack(rows["log_probs"])), atol=1e-5)


def test_every_comparison_has_its_baselines_and_intervals(chain):
    headline = {
        "01_lora_roberta": ["full", "lora", "majority"],
        "02_lora_tinybert": ["full", "lora", "majority"],
        "03_vqa_resnet_sbert": [
            "fusion",
            "question_only",
            "image_only",
            "majority",
            "fusion+shuffled_images",
        ],
        "04_vqa_clip": ["fusion", "question_only", "image_only", "majority", "question_only+tfidf"],
        "05_question_types": ["resnet_sbert", "clip", "majority"],
        "06_prompting": ["short", "few_shot", "expert", "majority"],
    }
    for name, methods in headline.items():
        rows = pd.DataFrame(record(chain / name)["metrics"]).query(
            "split == 'test' and group == 'all' and seed.isna()"
        )
        accuracy = rows[rows["name"] == "accuracy"].set_index("method")
        assert set(methods) <= set(accuracy.index), name
        assert (accuracy.loc[methods, "low"] <= accuracy.loc[methods, "value"]).all(), name
        assert (accuracy.loc[methods, "value"] <= accuracy.loc[methods, "high"]).all(), name


@pytest.mark.parametrize(("name", "n_layers"), [("01_lora_roberta", 6), ("02_lora_tinybert", 2)])
def test_parameters_equal_a_hand_computation(chain, name, n_layers):
    """MiniLM by hand, with LoRA on query and value.

    Embeddings, layers of width 384 and 1,536, pooler, head of three classes.
    """
    rows = pd.DataFrame(record(chain / name)["metrics"])
    value = rows[rows["split"] == "train"].groupby(["method", "name"])["value"].first()
    embeddings = (30522 + 512 + 2) * 384 + 2 * 384
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    full = embeddings + n_layers * layer + (384 * 384 + 384) + (384 * 3 + 3)
    lora = n_layers * 2 * 8 * (384 + 384) + (384 * 3 + 3)
    assert value["full", "params_total"] == value["full", "params_trainable"] == full
    assert (
        value["lora", "params_trainable"] == lora and value["lora", "params_total"] == full + lora
    )


def test_an_unchanged_chain_runs_nothing_and_a_deleted_run_comes_back(chain, project):
    ids = {name: record(chain / name)["run"]["id"] for name in NAMES}
    again = command(project, "chain", "--profile", "sample")
    assert (
        again.returncode == 0 and {name: record(chain / name)["run"]["id"] for name in NAMES} == ids
    )
    shutil.rmtree(chain / "05_question_types")
    assert command(project, "chain", "--profile", "sample").returncode == 0
    assert record(chain / "05_question_types")["run"]["status"] == "complete"
    assert {n: record(chain / n)["run"]["id"] for n in NAMES if n[:2] != "05"} == {
        n: i for n, i in ids.items() if n[:2] != "05"
    }


def test_the_report_links_every_notebook(chain):
    page = (chain / "index.html").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"html/{name}.html" in page and (chain / "html" / f"{name}.html").is_file()
    assert "stand-in" in page and not re.search(r"(?:src|href)=\"https?:", page)


OTHER_DATA = {  # what is shown of committed sweeps on real tweets and questions
    "01_lora_roberta": ["lora_rate", "lora_shape", "lora_forms", "followup"],
    "03_vqa_resnet_sbert": ["choices"],
    "04_vqa_clip": ["choices"],
}


def test_numbers_from_other_data_say_so_in_notebook_report_and_writeup(chain, project):
    done = command(project, "writeup")
    assert done.returncode == 0, done.stderr
    index = (chain / "index.html").read_text(encoding="utf-8")
    assert "<figcaption>The runs of the sweeps (other data than this run" in index
    for name, tables in OTHER_DATA.items():
        page = (chain / "html" / f"{name}.html").read_text(encoding="utf-8")
        shown = re.findall(
            r"other data than this run.{1,10}s: (?:2,000 real tweets|5 folds of real)", page
        )
        assert len(shown) >= len(tables)
        for table in tables:
            kind = "figures" if table == "followup" else "tables"
            caption = (chain / name / kind / f"{table}.txt").read_text(encoding="utf-8")
            generated = project / "writeup" / "generated" / kind / f"{name[:2]}-{table}.tex"
            assert "other data than this run's" in caption
            text = generated.read_text(encoding="utf-8")
            assert re.search(r"other data than this run(\\symbol\{39\}|')s", text)


THIS_RUN = {  # tables that say what this very run encoded, and how long its predictions took
    "embeddings.csv": ["encoded now", "found in the cache"],
    "inference.csv": ["median", "min", "max", "disturbed"],
}


def content(file):
    """A file's bytes; but for the columns of a table that are of this very run."""
    if file.name not in THIS_RUN:
        return file.read_bytes()
    table = pd.read_csv(file, index_col=0)
    assert (table[THIS_RUN[file.name]] >= 0).all(axis=None)
    return table.drop(columns=THIS_RUN[file.name]).to_csv()


def results(folder):
    kinds = (".parquet", ".csv", ".txt", ".pdf", ".png")
    return {str(p.relative_to(folder)): content(p) for p in folder.rglob("*") if p.suffix in kinds}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_files_from_any_working_directory(chain, project, tmp_path, name):
    """The chain itself was started from the project's root, and its parts are reused.

    Times belong to the threads that they were measured with: each run has as many as in the chain.
    """
    threads = str(record(chain / name)["meta"]["threads"])
    for cwd in (project / "notebooks", Path("/")):
        out = tmp_path / cwd.name / name
        done = command(project, "run", name, "--out", str(out), cwd=cwd, OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr[-3000:]
        page = (out / "notebook.ipynb").read_text(encoding="utf-8")
        assert "reused   " in page or name[:2] == "05"
        assert "computed " not in page
        found, first = results(out), results(chain / name)
        assert len(first) > 4 and found.keys() == first.keys()
        assert [file for file in first if found[file] != first[file]] == []
