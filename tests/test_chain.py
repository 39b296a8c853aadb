"""One chain at a time, stopped as a whole; what no longer holds runs again; any folder name."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from hw2_utils import folders, paths

# ---------------------------------------------------------------------------------- the chain
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


# --------------------------------------------------------------------------------- any folder name
NAMES = ("03_vqa_resnet_sbert", "05_question_types", "06_prompting")
PARAMETERS = """
profile: str = "sample"
run_dir: str = ""
seeds: list = []
"""
CELL = """
import pandas as pd
from hw2_utils import runs
run = runs.start({name!r}, globals())
if "resnet_sbert_run" in globals():
    run.input("resnet_sbert_run", runs.find(resnet_sbert_run, "03_vqa_resnet_sbert", run))
frame = pd.DataFrame({{"id": ["a"], "split": "test", "method": "majority", "seed": None,
                      "label": "x", "prediction": "x", "log_probs": None}})
run.add_predictions(frame, file="majority", classes=["x", "y"])
run.add_metrics([{{"method": "majority", "name": "accuracy", "value": 1.0, "n": 1}}])
run.table("results", run.metrics_frame(), caption="All.")
run.finish()
"""


class Project:
    """The project with three tiny notebooks, in folders whose names could be misread."""

    NAMED = ("sp ace ümlaut {x}", "it's $(touch canary) `touch canary` {b} %s")

    def __init__(self, folder: Path, named: tuple[str, str] = NAMED) -> None:
        self.root, self.runs = folder / named[0] / "hw2", folder / named[1]
        self.sample, self.folder = self.runs / "sample", folder
        for name, source in (("hw2_utils", paths.PACKAGE), ("workflow", paths.ROOT / "workflow")):
            kept = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, self.root / name, ignore=kept)
        shutil.copy(paths.ROOT / "Snakefile", self.root)
        (self.root / ".venv").symlink_to(sys.prefix)
        (self.root / "notebooks").mkdir()
        for name in NAMES:
            reads = 'resnet_sbert_run: str = ""\n' if name.startswith("05") else ""
            self.write_notebook(name, PARAMETERS + reads, CELL.format(name=name))

    def write_notebook(self, name: str, parameters: str, cell: str) -> None:
        cells = [
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(cell),
        ]
        file = self.root / "notebooks" / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), file)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A chain at work, started from the project's own environment."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HW2_", "PYTHONPATH"))}
        return subprocess.Popen(
            [str(self.root / ".venv" / "bin" / "python"), "-m", "hw2_utils", "chain", *words],
            cwd=self.root,
            env={**kept, "HW2_RUNS": str(self.runs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, process: subprocess.Popen[str], expected: int = 0) -> str:
        """What a chain said until it ended."""
        try:
            out, _ = process.communicate(timeout=900)
        finally:
            process.kill()
        assert process.returncode == expected, out[-5000:]
        assert "Traceback" not in out, out[-5000:]
        assert not list(self.folder.rglob("canary"))
        return out

    def chain(self, *words: str, expected: int = 0) -> str:
        return self.ended(self.start(*words), expected)

    def ids(self) -> dict[str, str]:
        return {n: folders.run_field(self.sample / n, "id") for n in NAMES}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """After a first chain, which ended well."""
    made = Project(tmp_path_factory.mktemp("chain"))
    made.chain()
    assert all(made.ids().values())
    return made


@pytest.mark.slow
def test_a_second_chain_runs_nothing_again(project):
    before = project.ids()
    out = project.chain()
    assert project.ids() == before and "run again" not in out
    assert (project.sample / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["an edited table", "half a record", "no record", "other code"])
def test_what_no_longer_holds_is_run_again_and_what_read_it_too(project, spoil):
    before, run_dir = project.ids(), project.sample / NAMES[0]
    if spoil == "an edited table":
        table = run_dir / "tables" / "results.csv"
        table.write_text(table.read_text().replace("1.0", "90.0"))
    elif spoil == "half a record":
        (run_dir / "result.json").write_bytes((run_dir / "result.json").read_bytes()[:500])
    elif spoil == "no record":
        (run_dir / "result.json").unlink()
    else:
        cell = CELL.format(name=NAMES[0]).replace('"label": "x"', '"label": "y"')
        parameters_cell = PARAMETERS
        project.write_notebook(NAMES[0], parameters_cell, cell)
    out, now = project.chain(), project.ids()
    assert f"{NAMES[0]} is run again: " in out
    assert now[NAMES[0]] != before[NAMES[0]] and now[NAMES[1]] != before[NAMES[1]]
    assert now[NAMES[2]] == before[NAMES[2]]


@pytest.mark.slow
def test_a_foreign_file_stops_its_notebook_alone(project):
    """Also in folders without a stamp, so that the engine starts a job there."""
    before, run_dir = project.ids(), project.sample / NAMES[2]
    for name in NAMES:
        (project.sample / name / ".done").unlink()
    (run_dir / "mine.txt").write_text("mine")
    out = project.chain(expected=1)
    assert "no run of ours wrote: mine.txt" in out and "a notebook failed" in out
    now = project.ids()
    assert now[NAMES[2]] == before[NAMES[2]] and (run_dir / "mine.txt").read_text() == "mine"
    assert now[NAMES[0]] != before[NAMES[0]] and now[NAMES[1]] != before[NAMES[1]]
    (run_dir / "mine.txt").unlink()
    project.chain()
    assert project.ids()[NAMES[2]] != before[NAMES[2]]


@pytest.mark.slow
def test_foreign_files_where_the_chain_writes_are_refused_before_anything_runs(project):
    before = project.ids()
    for place in (".done", "../html/05_question_types.html", "../index.html"):
        foreign = project.sample / NAMES[1] / place
        kept = foreign.read_bytes()
        foreign.write_text("mine")
        out = project.chain(expected=2)
        assert f"{Path(place).name}: this " in out and foreign.read_text() == "mine"
        foreign.write_bytes(kept)
    assert project.ids() == before


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_change_of_the_code(project):
    """No folder has to be deleted; the sweep file's own name is a strange one too."""
    sweep = project.folder / "my sweep's %1.yaml"
    sweep.write_text("notebook: 06_prompting\nrows: [{seeds: [0]}, {seeds: [1]}]\n")
    places = project.runs / "sweeps" / sweep.stem
    assert "2 of 2 runs complete" in project.chain("--sweep", str(sweep))
    first = {p.name: folders.run_field(p, "id") for p in places.glob("0*") if p.is_dir()}
    assert len(first) == 2 and all(first.values())
    out = project.chain("--sweep", str(sweep))
    assert "run again" not in out
    cell = CELL.format(name=NAMES[2]).replace('"label": "x"', '"label": "y"')
    project.write_notebook(NAMES[2], PARAMETERS, cell)
    (places / "notes.txt").write_text("mine")
    out = project.chain("--sweep", str(sweep))
    assert out.count("is run again: ") == 2 and "2 of 2 runs complete" in out
    now = {p.name: folders.run_field(p, "id") for p in places.glob("0*") if p.is_dir()}
    assert now.keys() == first.keys() and not set(now.values()) & set(first.values())
    assert (places / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_slurm_is_given_no_name_that_its_plugin_would_run(project):
    out = project.chain("--slurm", expected=2)
    assert "SLURM's plugin can't take this name" in out


@pytest.mark.slow
def test_a_chain_on_a_full_or_closed_disk_is_one_message(project, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    kept, project.runs = project.runs, disk / "runs"
    try:
        (disk / "fill").write_bytes(b"x" * 1024 * 60)
        out = project.chain(expected=1)
        assert f"{disk}" in out and "the disk is full" in out
        (disk / "fill").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        out = project.chain(expected=2)
        assert "can't be written" in out and "HW2_RUNS" in out
    finally:
        project.runs = kept
        subprocess.run(["umount", "-l", str(disk)], check=True)


# --------------------------------------------------------------------------------- as it is drawn
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
