"""Profiles: both hold the same values, and an empty parameter is filled in from them."""

from __future__ import annotations

import pytest

from hw2_utils import parameters, paths, profiles
from hw2_utils.errors import InputError

NOTEBOOK = "01_lora_roberta"


def filled(notebook: str = NOTEBOOK, **given: object) -> dict[str, object]:
    return profiles.settings(notebook, {**parameters.declared(notebook), **given})


def test_both_profiles_hold_the_same_names():
    sample, full = (profiles.load(name) for name in profiles.NAMES)
    assert sample.keys() == full.keys()
    for notebook in parameters.names():
        assert sample[notebook].keys() == full[notebook].keys(), notebook
        assert notebook in sample["expected_s"] and notebook in full["expected_s"]


def test_full_and_sweeps_on_real_data_take_five_seeds():
    full = profiles.load("full")
    seeds = {name: full[name]["seeds"] for name in parameters.names() if "seeds" in full[name]}
    assert len(seeds) == 4 and all(value == [0, 1, 2, 3, 4] for value in seeds.values())


def test_an_empty_parameter_is_the_profiles_and_a_given_one_stays():
    table = profiles.load("sample")[NOTEBOOK]
    settings = filled(epochs=0, batch_size=7, seeds=[])
    assert settings["epochs"] == table["epochs"] and settings["seeds"] == table["seeds"]
    assert settings["batch_size"] == 7
    assert settings["max_length"] == table["max_length"]  # which is no parameter


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (5, 5), (-1, 24)])
def test_zero_means_zero_where_it_can(given, kept):
    assert filled("06_prompting", max_generated=given)["max_generated"] == kept


def test_paths_are_absolute_from_where_they_were_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert filled()["tweets_dir"] == str(paths.ROOT / "data/sample/tweet_eval/sentiment")
    assert filled(tweets_dir="mine")["tweets_dir"] == str(tmp_path / "mine")
    assert filled(profile="full")["tweets_dir"] == "hub:cardiffnlp/tweet_eval"


def test_another_profile_is_refused_by_name():
    with pytest.raises(InputError, match="no profile 'tiny'") as error:
        profiles.load("tiny")
    assert "sample, full" in str(error.value)


@pytest.mark.parametrize(
    ("name", "model", "data"),
    [
        ("text_model", True, False),
        ("tweets_dir", False, True),
        ("statements_file", False, True),
        ("run_dir", False, False),
        ("clip_run", False, False),
        ("epochs", False, False),
    ],
)
def test_a_parameters_kind_follows_from_its_name(name, model, data):
    assert (profiles.is_model(name), profiles.is_data(name)) == (model, data)
