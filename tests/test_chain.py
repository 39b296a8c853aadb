"""One chain at a time, stopped as a whole; and what a sweep file may hold."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw2_utils import paths, runs, sweeps
from hw2_utils.errors import InputError

# ---------------------------------------------------------------------------------------------- the chain
SNAKEFILE = """
rule all:
    output: "never"
    shell: "echo $$ > pid; exec sleep 600"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package beside a workflow of one job that doesn't end by itself."""
    for name, source in (("hw2_utils", paths.PACKAGE), ("workflow", paths.ROOT / "workflow")):
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    return tmp_path


def chain(checkout: Path, *words: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HW2_")}
    return subprocess.Popen(
        [sys.executable, "-m", "hw2_utils", "chain", *words],
        cwd=checkout,
        text=True,
        env={**kept, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads processes from /proc")
def test_a_second_chain_is_told_who_holds_the_lock_and_a_stop_ends_the_jobs(checkout):
    first, job = chain(checkout), checkout / "runs" / "pid"
    try:
        wait_for(lambda: first.poll() is None and job.is_file() and job.read_text().strip())
        second = chain(checkout)
        _, error = second.communicate(timeout=120)
        assert second.returncode == 2 and f"another chain is running (process {first.pid})" in error
        assert "Traceback" not in error
    finally:
        first.send_signal(signal.SIGTERM)
    first.communicate(timeout=120)
    assert first.returncode == 143
    wait_for(lambda: not is_alive(int(job.read_text())))


@pytest.mark.slow
def test_a_job_that_fails_is_exit_code_1_and_the_lock_is_free_after(checkout):
    (checkout / "Snakefile").write_text(
        'rule all:\n    output: "never"\n    shell: "exit 3"\n', encoding="utf-8"
    )
    for _ in range(2):
        done = chain(checkout)
        _, error = done.communicate(timeout=120)
        assert (
            done.returncode == 1 and "a notebook failed" in error and "another chain" not in error
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--cores", "0"), "0 cores"), (("--sweep", "absent.yaml"), "sweep file can't be read")],
)
def test_bad_input_exits_2_before_the_engine_starts(tmp_path, words, message):
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "chain", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "HW2_RUNS": str(tmp_path / "runs")},
        check=False,
    )
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------------------------------- sweep files
def sweep(tmp_path: Path, text: str) -> sweeps.Sweep:
    (tmp_path / "ranks.yaml").write_text(text, encoding="utf-8")
    return sweeps.read(tmp_path / "ranks.yaml")


def test_a_grid_is_every_combination_with_every_seed(tmp_path):
    found = sweep(
        tmp_path,
        "notebook: 01_lora_roberta\nfixed: {epochs: 2}\ngrid: {lora_rank: [4, 8], learning_rate: [0.001, 0.01]}\n"
        "seeds: [0, 7]\n",
    )
    assert (found.name, found.notebook) == ("ranks", "01_lora_roberta")
    assert list(found.runs.values()) == [
        {"epochs": 2, "lora_rank": r, "learning_rate": rate, "seeds": [s]}
        for r in (4, 8)
        for rate in (0.001, 0.01)
        for s in (0, 7)
    ]
    assert len({name.split("-")[1] for name in found.runs}) == 8


def test_rows_are_taken_as_they_are_and_need_no_seeds(tmp_path):
    found = sweep(
        tmp_path, "notebook: 01_lora_roberta\nrows: [{lora_rank: 4}, {lora_rank: 8, epochs: 1}]\n"
    )
    assert list(found.runs.values()) == [{"lora_rank": 4}, {"lora_rank": 8, "epochs": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notebook: 01_lora_roberta\n", "either grid or rows"),
        ("notebook: 01_lora_roberta\ngrid: {}\nrows: []\n", "either grid or rows"),
        ("notebook: 99_none\nrows: [{}]\n", "no notebook '99_none'"),
        ("notebook: 01_lora_roberta\nrows: [{rank: 4}]\n", "no parameter 'rank'"),
        ("notebook: 01_lora_roberta\nrows: [{lora_rank: four}]\n", "parameter lora_rank"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseeds: [-1]\n", "parameter seeds"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseeds: 3\n", "lists"),
        ("notebook: 01_lora_roberta\ngrid: {lora_rank: 8}\n", "lists"),
        ("notebook: 01_lora_roberta\ngrid: {text_model: abc}\n", "lists"),
        ("notebook: 01_lora_roberta\nrows: [3]\n", "can't be read"),
        ("notebook: 3\nrows: [{}]\n", "can't be read"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseed: [1]\n", "unknown: seed"),
        ("rows: [{}]\n", "can't be read"),
        ("- a\n", "can't be read"),
        ("", "can't be read"),
        ("a: [\n", "can't be read"),
        ("a: \x00", "can't be read"),
    ],
)
def test_sweep_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        sweep(tmp_path, text)


def test_code_in_a_sweep_file_is_not_run(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        sweep(
            tmp_path,
            f'notebook: !!python/object/apply:os.system ["touch {tmp_path}/canary"]\nrows: [{{}}]\n',
        )
    assert not (tmp_path / "canary").exists()


def test_a_runs_command_gives_the_parameters_back(tmp_path, monkeypatch):
    """Every value, also one with quotes and spaces, passes the shell's rules and our reading of -p."""
    from hw2_utils import execute

    monkeypatch.setattr(paths, "RUNS", tmp_path / "my runs")
    given = {
        "lora_rank": 4,
        "lora_targets": ["query", "it's"],
        "text_model": 'a "b" $HOME',
        "seeds": [1],
    }
    found = sweep(tmp_path, f"notebook: 01_lora_roberta\nrows: [{json.dumps(given)}]\n")
    ((name, parameters),) = found.runs.items()
    words = shlex.split(sweeps.command(found, name, "python -m hw2_utils run", "sample"))
    assert words[:4] == ["python", "-m", "hw2_utils", "run"] and words[
        words.index("--out") + 1
    ] == str(sweeps.folder(found, name))
    values = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    assert (
        {n: execute.parse_value("01_lora_roberta", n, v) for n, v in values.items()}
        == parameters
        == given
    )


def test_gather_holds_the_complete_runs_only(tmp_path, monkeypatch):
    import pandas as pd

    for name in ("HW2_RUNNER", "HW2_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    found = sweep(tmp_path, "notebook: 05_question_types\nrows: [{vqa_dir: a}, {vqa_dir: b}]\n")
    assert sweeps.gather(found).empty
    first = next(iter(found.runs))
    run = runs.start(
        "05_question_types",
        {
            **runs.declared_parameters("05_question_types"),
            "run_dir": str(sweeps.folder(found, first)),
        },
    )
    run.add_predictions(
        pd.DataFrame(
            {
                "id": ["q"],
                "split": "test",
                "method": "majority",
                "seed": None,
                "label": "a",
                "prediction": "a",
                "log_probs": None,
            }
        ),
        file="majority",
        classes=["a", "b"],
    )
    run.add_metrics([{"method": "majority", "name": "accuracy", "value": 1.0}])
    run.finish()
    assert sweeps.gather(found).empty  # no stamp: the engine hasn't called it complete
    Path(sweeps.stamp(found, first)).touch()
    table = sweeps.gather(found)
    assert table[["run", "vqa_dir", "method", "name", "value"]].values.tolist() == [
        [first, "a", "majority", "accuracy", 1.0]
    ]
    assert len(pd.read_csv(tmp_path / "runs" / "sweeps" / "ranks" / "metrics.csv")) == 1


def test_the_readme_shows_the_chain_as_the_engine_draws_it(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "all",
            "--snakefile",
            str(paths.ROOT / "Snakefile"),
            "--directory",
            str(tmp_path),
            "--cores",
            "2",
            "--forceall",
            "--rulegraph",
            "mermaid-js",
            "--config",
            "profile=sample",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
        check=True,
    )

    def edges(text):
        names = dict(re.findall(r"(id\d+)\[(\w+)\]", text))
        return {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", text)}

    shown = (
        (paths.ROOT / "README.md")
        .read_text(encoding="utf-8")
        .split("```mermaid")[1]
        .split("```")[0]
    )
    assert edges(shown) == edges(done.stdout) and (
        "03_vqa_resnet_sbert",
        "05_question_types",
    ) in edges(shown)
