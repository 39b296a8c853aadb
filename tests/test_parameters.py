"""The parameters cell: what it is held against, and when a run isn't the profile's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hw2_utils import parameters, paths
from hw2_utils.errors import InputError

NAME = "02_lora_tinybert"


def cell(text: str = "") -> str:
    """The parameters cell as committed, or with a line of it replaced by `text`."""
    cells = json.loads((paths.NOTEBOOKS / f"{NAME}.ipynb").read_text(encoding="utf-8"))["cells"]
    tagged = next(c for c in cells if "parameters" in c["metadata"].get("tags", []))
    lines = "".join(tagged["source"]).splitlines()
    return "\n".join(text if text and line.startswith("epochs") else line for line in lines)


# -------------------------------------------------------------------------------- cells of a kernel
@pytest.mark.parametrize(
    "line",
    ["epoch: int = 3", "epoch = 3", "epochs: int = 0\nepoch: int = 3", "epochs = epoch = 3"],
)
def test_a_misspelt_parameter_is_refused_with_the_one_that_was_meant(line):
    with pytest.raises(InputError, match="no parameter 'epoch'") as error:
        parameters.check_cells(NAME, ["import os", cell(line)])
    assert "did you mean epochs?" in error.value.todo


def test_a_cell_without_annotations_is_still_the_parameters_cell():
    bare = "\n".join(f"{name} = {value!r}" for name, value in parameters.declared(NAME).items())
    parameters.check_cells(NAME, [bare])
    with pytest.raises(InputError, match="no parameter 'epoch'"):
        parameters.check_cells(NAME, [bare + "\nepoch = 3"])


def test_what_papermill_adds_is_looked_at_too():
    with pytest.raises(InputError, match="no parameter 'sedes'"):
        parameters.check_cells(NAME, [cell(), "# Parameters\nsedes = [0]\n"])


def test_a_line_that_was_taken_away_is_named():
    with pytest.raises(InputError, match="epochs is gone"):
        parameters.check_cells(NAME, [cell("# nothing here")])


def test_a_corrected_cell_is_accepted_in_the_same_kernel():
    """`In` keeps every cell: only the last run of the parameters cell counts."""
    parameters.check_cells(NAME, [cell("epoch: int = 3"), "x = 1", cell("epochs: int = 3")])


@pytest.mark.parametrize(
    "source",
    ["", "epoch = 3", "run_dir = 'x'", "%%time\nprofile: str run_dir: str", "if:", "x\0y"],
)
def test_other_cells_are_nobodys_business(source):
    parameters.check_cells(NAME, [cell(), source])


# -------------------------------------------------------------------------------- what differs
@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout under git whose notebook was edited after the commit: three epochs."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    shutil.copytree(Path(__file__).parents[1] / "notebooks", tmp_path / "notebooks")
    file = tmp_path / "notebooks" / f"{NAME}.ipynb"
    original = file.read_text(encoding="utf-8")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    file.write_text(original.replace("epochs: int = 0", "epochs: int = 3"), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != original
    return tmp_path


def test_a_default_that_was_edited_since_the_commit_counts_as_changed(edited):
    assert parameters.saved_edits(NAME) == {"epochs": 0}
    assert parameters.changed(NAME, {}) == {"epochs": 3}
    assert parameters.changed(NAME, {"epochs": 0}) == {}
    assert parameters.saved_edits("01_lora_roberta") == {}


def test_without_git_the_file_is_what_there_is(edited):
    shutil.rmtree(edited / ".git")
    assert parameters.saved_edits(NAME) == {} and parameters.changed(NAME, {}) == {}


def test_what_a_commit_does_not_hold_as_parameters_is_no_edit(edited):
    """A new notebook, and one whose committed cell Python can't read."""
    subprocess.run(["git", "rm", "-q", "--cached", "-r", "notebooks"], cwd=edited, check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    subprocess.run(["git", *author, "commit", "-q", "-m", "none"], cwd=edited, check=True)
    assert parameters.saved_edits(NAME) == {}


def test_places_and_the_profiles_own_values_are_no_change():
    given = {"device": "cpu", "run_dir": "/x", "epochs": 2}
    assert parameters.changed(NAME, given) == {}
    changed = parameters.changed(NAME, {"tweets_dir": "/own/tweets", "seeds": [0]})
    assert changed == {"tweets_dir": "/own/tweets", "seeds": [0]}
    assert parameters.changed(NAME, {"roberta_run": "/own/run"}) == {"roberta_run": "/own/run"}


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sedes": [0]}, "no parameter 'sedes'"),
        ({"epochs": "3"}, "parameter epochs"),
        ({"epochs": 1.5}, "parameter epochs"),
        ({"epochs": True}, "parameter epochs"),
        ({"epochs": -1}, "parameter epochs"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": -1e-5}, "learning_rate"),
        ({"learning_rate": False}, "learning_rate"),
        ({"learning_rate": None}, "learning_rate"),
        ({"text_model": 3}, "text_model"),
        ({"device": "tpu"}, "isn't one of its values"),
        ({"seeds": 0}, "parameter seeds"),
        ({"seeds": [0, 0]}, "parameter seeds"),
        ({"seeds": [0.5]}, "parameter seeds"),
        ({"seeds": [True]}, "parameter seeds"),
        ({"seeds": [-1]}, "parameter seeds"),
        ({"seeds": [2**32]}, "parameter seeds"),
        ({"seeds": ["0"]}, "parameter seeds"),
        ({"seeds": [[0]]}, "parameter seeds"),
        ({"lora_targets": ["query", "query"]}, "parameter lora_targets"),
        ({"lora_targets": [""]}, "parameter lora_targets"),
        ({"profile": "tiny"}, "no profile 'tiny'"),
        ({"profile": ""}, "no profile"),
    ],
)
def test_values_that_are_refused(given, message):
    with pytest.raises(InputError, match=message) as error:
        parameters.check(NAME, given)
    assert error.value.todo


def test_a_count_below_its_smallest_is_refused():
    with pytest.raises(InputError, match="max_generated"):
        parameters.check("06_prompting", {"max_generated": -2})
    parameters.check("06_prompting", {"max_generated": -1})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epochs": 0},
        {"epochs": 7},
        {"learning_rate": 1},
        {"learning_rate": 5e-5},
        {"seeds": [3, 1]},
        {"seeds": []},
        {"lora_targets": ["query"]},
        {"profile": "full"},
    ],
)
def test_values_that_are_accepted(given):
    parameters.check(NAME, given)


# ---------------------------------------------------------------------- names
@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: with a copy of a notebook, a link to it, a link to all."""
    shutil.copy(paths.NOTEBOOKS / f"{NAME}.ipynb", tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / f"{NAME}.ipynb").symlink_to(paths.NOTEBOOKS / f"{NAME}.ipynb")
    (tmp_path / "linked").symlink_to(paths.NOTEBOOKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "07_more",
        "",
        ".",
        "/",
        "01_lora_roberta-Copy1",
        f"{NAME}.ipynb",  # a copy in the working directory
        f"./{NAME}.ipynb",
        f"sub/{NAME}.ipynb",
        f"sub/{NAME}",
        f"/nowhere/{NAME}.ipynb",
        f"linked/../{NAME}.py",
        f"{NAME}.ipynb.ipynb",
    ],
)
def test_a_notebook_elsewhere_is_refused_with_those_there_are(elsewhere, name):
    with pytest.raises(InputError, match="no notebook of this project") as error:
        parameters.notebook_path(name)
    assert NAME in error.value.todo and "06_prompting" in error.value.todo


def test_a_committed_notebook_goes_by_its_name_and_by_its_own_path(elsewhere, monkeypatch):
    own = paths.NOTEBOOKS / f"{NAME}.ipynb"
    for name in (NAME, str(own), str(own.with_suffix("")), f"linked/{NAME}.ipynb"):
        assert parameters.notebook_path(name) == own.resolve()
    monkeypatch.chdir(paths.NOTEBOOKS)
    for name in (f"{NAME}.ipynb", f"./{NAME}.ipynb", f"../notebooks/{NAME}.ipynb"):
        assert parameters.notebook_path(name) == own.resolve()


def test_a_copy_beside_the_committed_notebooks_is_none_of_them(edited):
    before = parameters.names()
    for name in ("01_lora_roberta-Copy1", "07_mine", "0"):
        shutil.copy(paths.NOTEBOOKS / f"{NAME}.ipynb", paths.NOTEBOOKS / f"{name}.ipynb")
    assert parameters.names() == before and len(before) == 6
