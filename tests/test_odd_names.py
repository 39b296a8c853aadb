"""Readers' and caches' own tests once more, in folders whose names a shell or TOML misreads."""

# ruff: noqa: F401, F811 - the tests are imported to be collected here

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from test_daquar import (
    test_raw_pairs_are_cut_reduced_and_split_by_image,
    test_rows_classes_and_paths_are_as_written,
)
from test_embedding_cache import test_hostile_keys_and_specs_are_data
from test_hub import (
    checkpoints,
    folder,
    server,
    test_a_file_is_fetched_once_and_verified,
    test_a_local_file_is_taken,
    test_a_local_folder_is_taken_and_hashed,
    test_an_altered_byte_is_refused_and_names_the_file,
    test_hw2_pins_names_another_file,
    test_model_and_data_come_once_and_then_without_the_hub,
)
from test_statements import test_topics_are_text_or_none
from test_tweets import (
    test_a_csv_with_splits_is_read_as_written,
    test_hub_layout_gives_the_same_rows,
    test_text_files_are_read_as_written,
)

from hw2_utils import __main__, sweeps

NAME = "-ü 中文 😀 #1 %20 'a' $(touch canary)"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """In place of pytest's own: a folder in it with an odd name."""
    (tmp_path / NAME).mkdir()
    return tmp_path / NAME


def test_a_sweep_file_and_its_runs(tmp_path):
    file = tmp_path / f"{NAME}.yaml"
    content = {"notebook": "02_lora_tinybert", "rows": [{"tweets_dir": str(tmp_path)}]}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    sweep = sweeps.read(file)
    assert sweep.name == NAME
    (run,) = sweep.runs
    assert sweeps.folder(sweep, run).parent.name == NAME


def test_a_table_of_questions(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ü #1.csv").write_text("question\nwhat is on the table\n", encoding="utf-8")
    assert __main__.main(["question-type", "ü #1.csv"]) == 0
    assert capsys.readouterr().out.startswith("question,question_type\n")
