"""Sweep files: what they may hold, what YAML would read otherwise, the table over the runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from hw2_utils import paths, sweeps
from hw2_utils.errors import InputError


def sweep(tmp_path: Path, text: str) -> sweeps.Sweep:
    (tmp_path / "ranks.yaml").write_text(text, encoding="utf-8")
    return sweeps.read(tmp_path / "ranks.yaml")


def test_a_grid_is_every_combination_with_every_seed(tmp_path):
    found = sweep(
        tmp_path,
        "notebook: 01_lora_roberta\n"
        "fixed: {epochs: 2}\n"
        "grid: {lora_rank: [4, 8], learning_rate: [0.001, 0.01]}\n"
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
        ("notebook: 99_none\nrows: [{}]\n", "'99_none' is no notebook"),
        ("notebook: 01_lora_roberta\nrows: [{rank: 4}]\n", "no parameter 'rank'"),
        ("notebook: 01_lora_roberta\nrows: [{lora_rank: four}]\n", "parameter lora_rank"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseeds: [-1]\n", "parameter seeds"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseeds: 3\n", "lists"),
        ("notebook: 01_lora_roberta\ngrid: {lora_rank: 8}\n", "lists"),
        ("notebook: 01_lora_roberta\ngrid: {text_model: abc}\n", "lists"),
        ("notebook: 01_lora_roberta\nrows: [3]\n", "can't be read"),
        ("notebook: 01_lora_roberta\nrows: []\n", "no run"),
        ("notebook: 01_lora_roberta\ngrid: {lora_rank: []}\n", "no run"),
        ("notebook: 01_lora_roberta\nrows: [{lora_rank: 4}, {lora_rank: 4}]\n", "two runs have"),
        ("notebook: 01_lora_roberta\ngrid: {lora_rank: [4, 8, 4]}\n", "two runs have"),
        ("notebook: 01_lora_roberta\ngrid: {learning_rate: [1, 1.0]}\n", "two runs have"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseeds: [0, 1, 0]\n", "repeat one"),
        ("notebook: 01_lora_roberta\nrows: [{seeds: [1, 1]}]\n", "parameter seeds"),
        ("notebook: 01_lora_roberta\nrows: [{seeds: [1]}]\nseeds: [0]\n", "given twice: seeds"),
        (
            "notebook: 01_lora_roberta\nfixed: {epochs: 1}\nrows: [{epochs: 2}]\n",
            "given twice: epochs",
        ),
        (
            "notebook: 01_lora_roberta\nfixed: {epochs: 1}\ngrid: {epochs: [2]}\n",
            "given twice: epochs",
        ),
        ("notebook: 01_lora_roberta\nfixed: {run_dir: x}\nrows: [{}]\n", "no parameter of a sweep"),
        (
            "notebook: 01_lora_roberta\nrows: [{profile: full}]\n",
            "no parameter of a sweep: profile",
        ),
        ("notebook: 3\nrows: [{}]\n", "names no notebook"),
        ("notebook: 01_lora_roberta\nrows: [{}]\nseed: [1]\n", "unknown: seed"),
        ("rows: [{}]\n", "names no notebook"),
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
            f'notebook: !!python/object/apply:os.system ["touch {tmp_path}/canary"]\n'
            "rows: [{}]\n",
        )
    assert not (tmp_path / "canary").exists()


def test_a_runs_command_gives_the_parameters_back(tmp_path, monkeypatch):
    """Every value, also one with quotes and spaces, passes the shell and our reading of -p."""
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


def test_complete_are_the_runs_that_the_engine_has_stamped(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    plan = sweep(tmp_path, "notebook: 05_question_types\nrows: [{vqa_dir: a}, {vqa_dir: b}]\n")
    assert sweeps.complete(plan) == []
    second = list(plan.runs)[1]
    sweeps.stamp(plan, second).parent.mkdir(parents=True)
    sweeps.stamp(plan, second).touch()
    assert sweeps.complete(plan) == [second]


# --------------------------------------------------------------------------------- YAML
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("notebook: 01_lora_roberta\nnotebook: 02_lora_tinybert\nrows: [{}]\n", "'notebook'"),
        ("notebook: 01_lora_roberta\nfixed: {}\nfixed: {epochs: 1}\nrows: [{}]\n", "'fixed'"),
        ("notebook: 01_lora_roberta\nrows: [{epochs: 1, epochs: 2}]\n", "'epochs'"),
        ("notebook: 01_lora_roberta\ngrid: {epochs: [1], 'epochs': [2]}\n", "'epochs'"),
        (
            "notebook: 01_lora_roberta\nrows:\n- epochs: 1\n  lora_rank: 2\n  epochs: 1\n",
            "'epochs'",
        ),
    ],
)
def test_a_key_given_twice_is_refused_at_any_level(tmp_path, text, named):
    with pytest.raises(InputError, match=f"{named} is given twice"):
        sweep(tmp_path, text)


@pytest.mark.parametrize(
    "number",
    ["010", "0x10", "0b11", "1_000", "1:30", "1:30.5", "-010", "00", ".inf", "-.inf", ".nan"]
    + ["1_0.5", ".NaN"],
)
def test_a_number_that_yaml_reads_as_another_one_is_refused(tmp_path, number):
    for text in (f"rows: [{{epochs: {number}}}]", f"rows: [{{}}]\nseeds: [{number}]"):
        with pytest.raises(InputError, match="is no plain decimal number") as error:
            sweep(tmp_path, f"notebook: 01_lora_roberta\n{text}\n")
        assert number in str(error.value) and "ranks.yaml" in str(error.value)


@pytest.mark.parametrize("rate", ["1e-3", "1E-3", "5e-5", "1.5e3", "2e3"])
def test_a_rate_that_yaml_reads_as_text_is_refused_with_the_way_to_write_it(tmp_path, rate):
    with pytest.raises(InputError, match="write 1.0e-3") as error:
        sweep(tmp_path, f"notebook: 01_lora_roberta\nrows: [{{learning_rate: {rate}}}]\n")
    assert "learning_rate" in str(error.value) and rate in str(error.value)


@pytest.mark.parametrize("value", ["no", "~", "2024-01-01", "09", "0o10", "'4'", "[4]", "{a: 1}"])
def test_a_value_of_another_kind_is_refused_by_its_parameter(tmp_path, value):
    with pytest.raises(InputError, match="parameter lora_rank"):
        sweep(tmp_path, f"notebook: 01_lora_roberta\nrows: [{{lora_rank: {value}}}]\n")


def test_plain_numbers_are_what_they_look_like(tmp_path):
    values = "learning_rate: [0.001, 1.0e-3, 1.5E-2, .5, 1., 0]"
    with pytest.raises(InputError, match="two runs have"):  # 0.001 and 1.0e-3
        sweep(tmp_path, f"notebook: 01_lora_roberta\ngrid: {{{values}}}\n")
    found = sweep(
        tmp_path, f"notebook: 01_lora_roberta\ngrid: {{{values.replace('0.001, ', '')}}}\n"
    )
    rates = [run["learning_rate"] for run in found.runs.values()]
    assert rates == [0.001, 0.015, 0.5, 1.0, 0]


def test_the_committed_sweeps_are_read():
    files = sorted((paths.ROOT / "workflow" / "sweeps").glob("*.yaml"))
    assert files and all(sweeps.read(file).runs for file in files)
