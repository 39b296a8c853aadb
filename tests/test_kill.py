"""What is computed again, after kills and after changes.

By the chain itself, on a copy of the project with small data.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data" / "sample"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project whose sample profile has small data and one seed."""
    place = tmp_path_factory.mktemp("project")
    for name in ("hw2_utils", "notebooks", "workflow"):
        shutil.copytree(
            ROOT / name,
            place / name,
            ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
        )
    shutil.copy(ROOT / "Snakefile", place)
    (place / "data").symlink_to(ROOT / "data")
    for name, n_lines in (("tweets", 48), ("daquar", 40), ("statements.csv", 9)):
        source = (
            SAMPLE
            / {
                "tweets": "tweet_eval/sentiment",
                "daquar": "daquar",
                "statements.csv": "statements/statements.csv",
            }[name]
        )
        files = (
            [source]
            if source.is_file()
            else [p for p in source.iterdir() if p.suffix in (".txt", ".csv")]
        )
        for file in files:
            target = place / "small" / name / (file.name if source.is_dir() else "")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(
                "".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:n_lines]),
                encoding="utf-8",
            )
    (place / "small" / "daquar" / "images").symlink_to(SAMPLE / "daquar" / "images")
    profile = place / "hw2_utils" / "config" / "sample.toml"
    text = profile.read_text(encoding="utf-8")
    for setting, value in {
        "tweets_dir": '"small/tweets"',
        "vqa_dir": '"small/daquar"',
        "statements_file": '"small/statements.csv"',
        "seeds": "[0]",
        "epochs": "1",
        "max_generated": "1",
        "max_new_tokens": "4",
        "shot_draws": "0",
    }.items():
        text = re.sub(rf"(?m)^{setting} = [^#\n]*", f"{setting} = {value}", text)
    profile.write_text(text, encoding="utf-8")
    return place


def start(project, folder, *words):
    """A chain (or another command) in its own process group, as a terminal or batch system does."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HW2_")}
    env = {
        **kept,
        "PYTHONPATH": str(project),
        "HW2_RUNS": str(folder / "runs"),
        "HW2_EMBEDDINGS_CACHE": str(folder / "cache"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "hw2_utils", *(words or ["chain"])],
        cwd=project,
        env=env,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(chain):
    output = chain.communicate(timeout=600)[0]
    assert chain.returncode == 0, output[-6000:]


@pytest.fixture(scope="module")
def calm(project, tmp_path_factory):
    """An undisturbed chain."""
    folder, begin = tmp_path_factory.mktemp("calm"), time.monotonic()
    finish(start(project, folder))
    print(f"undisturbed: {time.monotonic() - begin:.0f} s, {len(parts(folder))} parts")
    return folder


def runners(chain):
    """Processes that execute one notebook."""
    return [
        p
        for p in psutil.Process(chain.pid).children(recursive=True)
        if p.is_running()
        and p.status() != psutil.STATUS_ZOMBIE
        and p.cmdline()[1:4] == ["-m", "hw2_utils", "run"]
    ]


def wait_until(holds):
    end = time.monotonic() + 120
    while time.monotonic() < end and not holds():
        time.sleep(0.1)


def wait_for_a_runner(chain):
    wait_until(lambda: chain.poll() is not None or runners(chain))
    return next(iter(runners(chain)), None) if chain.poll() is None else None


def parts(folder):
    return {
        p.parent.name: (p.stat().st_mtime_ns, p.read_bytes())
        for p in (folder / "runs" / "parts").glob("*/part.json")
        if "tmp" not in p.parent.name
    }


def wait_for_a_part(chain, folder, before):
    wait_until(lambda: parts(folder).keys() - before.keys() or chain.poll() is not None)


def predictions(folder, notebook):
    files = sorted((folder / "runs" / "sample" / notebook / "predictions").glob("*.parquet"))
    return pd.concat({file.name: pd.read_parquet(file) for file in files})


def test_fifteen_kills_cost_no_finished_part_and_change_no_prediction(project, calm, tmp_path):
    wild, draw, done = tmp_path / "wild", random.Random(0), {}
    for turn, kind in enumerate(draw.sample(["group"] * 10 + ["runner"] * 5, 15)):
        chain = start(project, wild)
        runner = wait_for_a_runner(chain)
        assert runner, "there was nothing left to kill: " + chain.communicate()[0][-2000:]
        if (
            turn % 3 == 2
        ):  # some kills come after a part is finished, the others mostly before, while things start
            wait_for_a_part(chain, wild, done)
        time.sleep(draw.uniform(0, 6))
        if kind == "runner":
            for one in runners(chain)[:1]:
                one.kill()
            time.sleep(1)
        os.killpg(
            chain.pid, signal.SIGKILL
        )  # after a runner alone was killed the engine goes on: this ends it too
        chain.communicate()
        now = parts(wild)
        assert all(now.get(name) == kept for name, kept in done.items()), (
            "a finished part was lost or computed again"
        )
        done = now
    finish(start(project, wild))
    assert all(parts(wild).get(name) == kept for name, kept in done.items())
    print(f"{len(done)} of {len(parts(wild))} parts were finished under kills")
    assert done
    names = sorted(p.stem for p in (project / "notebooks").glob("0*.ipynb"))
    for name in names:
        pd.testing.assert_frame_equal(predictions(wild, name), predictions(calm, name))
    left = {
        p.name
        for p in (wild / "runs" / "sample").iterdir()
        if ".tmp-" in p.name or ".old-" in p.name
    }
    assert not left, left


# ------------------------------------------------------------------------------------------ sweeps
def test_a_sweep_is_run_by_the_engine_computes_only_what_is_new_and_its_table_is_shown(
    project, calm, tmp_path
):
    folder, sweep = tmp_path / "folder", tmp_path / "lora_forms.yaml"
    shutil.copytree(calm, folder)
    sweep.write_text(
        "notebook: 01_lora_roberta\n"
        'rows: [{lora_variant: ""}, {lora_variant: rslora, lora_rank: 4}]\n'
        "seeds: [0]\n"
    )
    finish(start(project, folder, "chain", "--sweep", str(sweep)))
    records = sorted((folder / "runs" / "sweeps" / "lora_forms").glob("0*/result.json"))
    metrics = [json.loads(file.read_text(encoding="utf-8"))["metrics"] for file in records]
    assert len(metrics) == 2
    found = pd.concat([pd.DataFrame(rows).assign(run=i) for i, rows in enumerate(metrics)])
    texts = []
    for run in sorted((folder / "runs" / "sweeps" / "lora_forms").glob("0*/notebook.ipynb")):
        cells = json.loads(run.read_text(encoding="utf-8"))["cells"]
        texts.append(
            "".join(line for c in cells for o in c.get("outputs", []) for line in o.get("text", []))
        )
    assert (
        "computed" not in texts[0] and "reused   full" in texts[1] and "computed lora" in texts[1]
    )
    finish(start(project, folder, "run", "01_lora_roberta"))
    tables = folder / "runs" / "sample" / "01_lora_roberta" / "tables"
    shown = pd.read_csv(tables / "lora_forms.csv", index_col=0)
    assert list(shown.index) == ["the defaults", "rank 4, variant rslora"]
    assert "these tweets and this model" in (tables / "lora_forms.txt").read_text(encoding="utf-8")
    assert "2,000 real tweets" in (tables / "lora_rate.txt").read_text(encoding="utf-8")
    val = found[
        (found["split"] == "val") & (found["name"] == "accuracy") & found["seed"].isna()
    ].set_index("run")
    own, full = (
        val.loc[val["method"].str.startswith(method), "value"] for method in ("lora+", "full")
    )
    assert shown["accuracy"].tolist() == pytest.approx(own.tolist())
    assert shown["minus full"].tolist() == pytest.approx((own - full).tolist())


# ------------------------------------------------------------------------------------------ changes
def replace(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, (file.name, old, text.count(old))
    file.write_text(text.replace(old, new), encoding="utf-8")


EVERYTHING = "every part of the notebook"


def part_lines(folder, notebook):
    """What a run says of its parts: computed or reused, and the method."""
    file = folder / "runs" / "sample" / notebook / "notebook.ipynb"
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    text = "".join(line for c in cells for o in c.get("outputs", []) for line in o.get("text", []))
    lines = [line.split() for line in text.splitlines()]
    return [
        (words[0], words[1].rstrip(","))
        for words in lines
        if words[:1] in (["computed"], ["reused"])
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "notebook", "computed"),
    [
        (
            "notebooks/01_lora_roberta.ipynb",
            "Parameters, cost and quality",
            "Cost and quality",
            "01_lora_roberta",
            set(),
        ),  # a caption
        *[
            (
                "hw2_utils/predictions.py",
                "frame.reset_index(drop=True)",
                "frame.reset_index(drop=not False)",
                notebook,
                computed,
            )
            for notebook, computed in (("01_lora_roberta", EVERYTHING), ("06_prompting", set()))
        ],  # `finetune` imports it, `prompting` doesn't
        (
            "hw2_utils/answers.py",
            "memory measured once a method",
            "memory: once a method",
            "01_lora_roberta",
            set(),
        ),  # which the notebook alone imports
        (
            "notebooks/03_vqa_resnet_sbert.ipynb",
            "self.classifier(torch.cat(parts, dim=-1))",
            "self.classifier(torch.cat(parts, dim=1))",
            "03_vqa_resnet_sbert",
            {"fusion", "question_only", "image_only", "fusion+shuffled_images"},
        ),
        (
            "notebooks/06_prompting.ipynb",
            "in detail: [text]\\\\n",
            "in full: [text]\\\\n",
            "06_prompting",
            {"expert"},
        ),
    ],
    ids=["caption", "metric of parts", "metric of records", "sentence", "fusion cell", "prompt"],
)
def test_a_change_computes_again_what_it_must_and_nothing_else(
    project, calm, tmp_path, file, old, new, notebook, computed
):
    """Keys go by modules. A part is computed again for a change of its inputs, of a cell that it
    reads, and of any module of the package that its function imports, directly or not; for what
    only notebooks import, it is not.
    """
    changed, folder = tmp_path / "project", tmp_path / "folder"
    shutil.copytree(project, changed, symlinks=True)
    shutil.copytree(calm, folder)
    replace(changed / file, old, new)
    finish(start(changed, folder, "run", notebook))
    everything = {name for _, name in part_lines(calm, notebook)}
    found = part_lines(folder, notebook)
    assert {name for word, name in found if word == "computed"} == (
        everything if computed is EVERYTHING else computed
    ), found
    assert {name for _, name in found} == everything and len(everything) > 1
