"""JupyterLab on copies: made, brought up to date or left alone, run beside the chain's own runs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from test_places import NAME, make_checkout

from hw2_utils import lab, parameters, paths
from hw2_utils.errors import InputError


# ----------------------------------------------------------------------------------- copies
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with one notebook not copied yet; returns the place of the copies."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(lab, "FOLDER", tmp_path / "lab")
    paths.NOTEBOOKS.mkdir()
    commit("x = 1")
    return tmp_path / "lab"


def commit(source: str) -> None:
    cell = nbformat.v4.new_code_cell(source, id="only")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), paths.NOTEBOOKS / f"{NAME}.ipynb")


def change(copy: Path, **cell: object) -> bytes:
    """What JupyterLab saves after an edit or a run of the only cell."""
    notebook = nbformat.read(copy, 4)
    notebook.cells[0].update(cell)
    nbformat.write(notebook, copy)
    return copy.read_bytes()


def source(copy: Path) -> str:
    return nbformat.read(copy, 4).cells[0].source


def test_a_copy_that_nobody_edited_follows_the_notebook(folder):
    copy = folder / f"{NAME}.ipynb"
    assert lab.copies() == [] and source(copy) == "x = 1"
    commit("x = 2")
    change(copy, execution_count=3)  # it was run, and saved
    assert lab.copies() == [] and source(copy) == "x = 2"


def test_a_copy_that_is_up_to_date_keeps_its_outputs(folder):
    lab.copies()
    output = nbformat.v4.new_output("stream", text="1")
    saved = change(folder / f"{NAME}.ipynb", outputs=[output], execution_count=1)
    assert lab.copies() == [] and (folder / f"{NAME}.ipynb").read_bytes() == saved


@pytest.mark.parametrize("newer", ["x = 1", "x = 2"])
def test_an_edited_copy_stays_and_is_named_with_what_to_do(folder, newer):
    lab.copies()
    copy = folder / f"{NAME}.ipynb"
    saved = change(copy, source="mine = 1")
    commit(newer)
    (said,) = lab.copies()
    assert f"lab/{NAME}.ipynb has edits and stays" in said and "rename or delete it" in said
    assert copy.read_bytes() == saved
    copy.unlink()
    assert lab.copies() == [] and source(copy) == newer


@pytest.mark.parametrize("text", ["", "{broken", "[]", '{"cells": [{}], "metadata": {}}', "null"])
def test_a_file_that_is_no_copy_of_ours_stays(folder, text):
    folder.mkdir()
    (folder / f"{NAME}.ipynb").write_text(text)
    (folder / "mine.txt").write_text("mine")
    assert len(lab.copies()) == 1
    assert (folder / f"{NAME}.ipynb").read_text() == text
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_copy_without_our_mark_is_the_users(folder):
    folder.mkdir()
    (folder / f"{NAME}.ipynb").write_bytes((paths.NOTEBOOKS / f"{NAME}.ipynb").read_bytes())
    commit("x = 2")
    assert len(lab.copies()) == 1 and source(folder / f"{NAME}.ipynb") == "x = 1"


def test_a_place_that_cannot_be_written_is_one_message(folder):
    folder.write_text("a file")
    with pytest.raises(InputError, match="can't be written") as error:
        lab.copies()
    assert "copy the project" in error.value.todo


def test_every_committed_notebook_is_copied_and_git_ignores_the_copies():
    ignored = subprocess.run(
        ["git", "check-ignore", f"lab/{NAME}.ipynb"], cwd=paths.ROOT, check=False
    )
    assert ignored.returncode in (0, 128)  # 128: no git here
    assert len(parameters.names()) == 6


def test_its_kernels_have_no_marks_of_a_run_and_no_kernels_from_elsewhere(monkeypatch):
    for name in ("JUPYTER_PATH", "HW2_RUNNER", "HW2_RUN_ID", "PYTHONOPTIMIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    found = lab.environment()
    assert not found.keys() & {"JUPYTER_PATH", "HW2_RUNNER", "HW2_RUN_ID", "PYTHONOPTIMIZE"}
    assert found["JUPYTER_PREFER_ENV_PATH"] == "1" and found["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "inline" in found["MPLBACKEND"]
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert lab.environment()["OMP_WAIT_POLICY"] == "PASSIVE"


# ----------------------------------------------------------------------------------- the real thing
@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("lab") / "sp äce" / "hw2")


def listing(address: str) -> list[dict]:
    """A folder as the server lists it; it says where it runs shortly before it answers there."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return json.load(answer)["content"]
        except urllib.error.URLError:
            assert time.monotonic() < end, "the server doesn't answer"
            time.sleep(0.1)


@pytest.mark.slow
def test_jupyterlab_listens_here_only_and_shows_copies_and_runs(checkout):
    (checkout / "runs" / "sample").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "hw2_utils", "lab", "--", "--no-browser", f"--port={port}"]
    server = subprocess.Popen(
        [*words, "--IdentityProvider.token=T"],
        cwd=checkout,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said = []
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/", said[-1] if said else "")):
            said.append(server.stdout.readline())
            assert said[-1], "".join(said)
        assert "A relative path in a copy starts at lab/" in "".join(said)
        for place, name in (("lab", f"{NAME}.ipynb"), ("runs", "sample")):
            content = listing(f"{address[0]}api/contents/{place}?token=T")
            assert [file["name"] for file in content] == [name]
        listening = psutil.Process(server.pid).net_connections(kind="inet")
        assert {c.laddr.ip for c in listening if c.status == "LISTEN"} == {"127.0.0.1"}
    finally:
        server.terminate()
        server.wait(timeout=60)


def run_copy(copy: Path, monkeypatch: pytest.MonkeyPatch, *replaced: str) -> str:
    """Runs a copy as JupyterLab does, in its folder; what its second cell prints."""
    for name in [*os.environ]:
        if name not in lab.environment():
            monkeypatch.delenv(name)
    for name, value in lab.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(copy.parents[1]))
    monkeypatch.setenv("HW2_RUNS", str(copy.parents[1] / "runs"))
    notebook = nbformat.read(copy, 4)
    notebook.cells[0].source = notebook.cells[0].source.replace(*(replaced or ("", "")))
    NotebookClient(notebook, resources={"metadata": {"path": str(copy.parent)}}).execute()
    return "".join(o.get("text", "") for o in notebook.cells[1].outputs)


@pytest.mark.slow
def test_a_copy_runs_beside_the_chain_and_a_misspelt_parameter_is_refused(checkout, monkeypatch):
    code = "from hw2_utils import lab; print(lab.copies())"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True)
    copy = checkout / "lab" / f"{NAME}.ipynb"
    place = checkout / "runs" / "interactive" / NAME

    with pytest.raises(CellExecutionError, match="no parameter 'vqa_dri'"):
        run_copy(copy, monkeypatch, "vqa_dir: str", "vqa_dir: str = ''\nvqa_dri: str")
    assert not place.exists()

    run_copy(copy, monkeypatch)
    record = json.loads((place / "result.json").read_text(encoding="utf-8"))
    assert record["run"]["status"] == "complete" and record["run"]["changed"] == {}

    own = "vqa_dir: str = '../data'"
    said = run_copy(copy, monkeypatch, "vqa_dir: str = ''", own)
    assert "not the sample profile's own run; changed: vqa_dir" in said
    record = json.loads((place / "result.json").read_text(encoding="utf-8"))
    assert record["run"]["changed"].keys() == {"vqa_dir"}
