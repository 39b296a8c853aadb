"""Trained models that runs keep: `predict` says what the run said, and PEFT loads an adapter."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import BertConfig, BertModel

from hw2_utils import (
    __main__,
    attribution,
    daquar,
    encoders,
    finetune,
    folders,
    fusion,
    hub,
    parameters,
    paths,
    predict,
    runs,
)

SENTIMENTS = ["negative", "neutral", "positive"]
LORA = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["query"])
ROOT = Path(__file__).resolve().parents[1]


class Made(NamedTuple):
    """A complete run, and the texts or questions of its test split."""

    folder: Path
    test: pd.DataFrame


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs and embeddings of this file's own."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HW2_RUNNER", raising=False)
        patch.setattr(paths, "RUNS", folder / "runs")
        patch.setattr(paths, "EMBEDDINGS_CACHE", folder / "cache")
        yield folder


@pytest.fixture(scope="module")
def encoder(project: Path) -> Path:
    """A tiny BERT with the sample's vocabulary, outside the folders that a record can name."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=32)).save_pretrained(project / "tiny")
    vocabulary = hub.fetch_model("sample:all-MiniLM-L6-v2").path / "vocab.txt"
    shutil.copy(vocabulary, project / "tiny")
    return project / "tiny"


def begin(notebook: str, **given: object) -> runs.Run:
    values = {**parameters.declared(notebook), "device": "cpu", **given}
    return runs.start(notebook, values)


def trained_on_tweets(project: Path, encoder: Path, name: str, *, save_models: bool) -> Made:
    words = {"negative": "awful bad", "neutral": "opens at nine", "positive": "lovely good"}
    rows = [
        (f"{words[SENTIMENTS[i % 3]]} {i} !" * (1 + i % 4), SENTIMENTS[i % 3]) for i in range(30)
    ]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    splits = {s: frame.assign(id=[f"{s}/{i}" for i in range(30)]) for s in ("train", "val", "test")}
    options = {"seeds": [3, 1], "epochs": 1, "save_models": save_models}
    run = begin("02_lora_tinybert", text_model=str(encoder), run_dir=str(project / name), **options)
    rates = {"full": (None, 0.01), "lora": (LORA, 0.05), "lora+lr1e-2": (LORA, 0.01)}
    model = run.model("text_model")
    finetune.run_methods(run, model, splits, rates, classes=SENTIMENTS)
    run.finish()
    return Made(run.run_dir, splits["test"])


@pytest.fixture(scope="module")
def tweets(project: Path, encoder: Path) -> Made:
    return trained_on_tweets(project, encoder, "tweets", save_models=False)


@pytest.fixture(scope="module")
def whole(project: Path, encoder: Path) -> Made:
    return trained_on_tweets(project, encoder, "whole", save_models=True)


@pytest.fixture(scope="module")
def questions(project: Path) -> Made:
    """The first pictures of the sample, and the notebook's own network."""
    folder = project / "daquar"
    shutil.copytree(ROOT / "data" / "sample" / "daquar", folder)
    for file in daquar.CSV_FILES.values():
        lines = (folder / file).read_text(encoding="utf-8").splitlines()
        (folder / file).write_text("\n".join(lines[:13]) + "\n", encoding="utf-8")
    run = begin(
        "03_vqa_resnet_sbert", vqa_dir=str(folder), seeds=[2, 0], run_dir=str(project / "vqa")
    )
    data = daquar.read(folder)
    run.record_data("vqa", data)
    pictures = encoders.image_encoder(run.model("image_model"), geometry="whole", device="cpu")
    texts = encoders.sentence_encoder(run.model("sentence_model"), device="cpu")
    images, sentences, _ = encoders.embed_splits(data.splits, data.image_paths, pictures, texts)
    embedded = fusion.Embedded(data.splits, images, sentences, data.classes)
    fusion.run_methods(run, predict.fusion_network(run.notebook), embedded)
    run.finish()
    return Made(run.run_dir, data.splits["test"])


def table(frame: pd.DataFrame, file: Path) -> str:
    frame.to_csv(file, index=False)
    return str(file)


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = __main__.main(["predict", *map(str, words)])
    return code, *capsys.readouterr()


def answered(capsys: pytest.CaptureFixture[str], *words: object) -> pd.DataFrame:
    """The table that comes out, its columns verbatim."""
    code, out, err = command(capsys, *words)
    assert code == 0, err
    rows = list(csv.reader(io.StringIO(out)))
    return pd.DataFrame(rows[1:], columns=rows[0])


def assert_as_recorded(out: pd.DataFrame, made: Made, method: str, seed: int) -> None:
    record = runs.read(made.folder, notebook=folders.run_field(made.folder, "notebook"))
    rows = record.predictions.query("split == 'test' and method == @method and seed == @seed")
    assert rows["id"].tolist() == made.test["id"].tolist()
    assert out["prediction"].tolist() == rows["prediction"].tolist()
    classes = record.data["classes"]
    shares = out[[f"p_{name}" for name in classes]].astype(float)
    np.testing.assert_allclose(shares, np.exp(np.stack(rows["log_probs"])), atol=1e-5)


# ------------------------------------------------------------------------------------------ tweets
def test_new_tweets_get_what_the_run_said_of_them(tweets, encoder, tmp_path, capsys):
    source = tweets.test[["id", "text"]].assign(note='a, "b"')
    file, model = table(source, tmp_path / "tweets.csv"), ("-p", "text_model", encoder)
    for method, seed in (("lora", 3), ("lora", 1), ("lora+lr1e-2", 1)):
        out = answered(capsys, tweets.folder, file, *model, "--method", method, "--seed", seed)
        assert list(out)[:4] == ["id", "text", "note", "prediction"] and len(list(out)) == 7
        assert out[["id", "text", "note"]].equals(source)
        assert_as_recorded(out, tweets, method, seed)
    assert_as_recorded(answered(capsys, tweets.folder, file, *model), tweets, "lora+lr1e-2", 3)


def test_a_whole_model_is_kept_where_asked_and_then_the_default(whole, encoder, tmp_path, capsys):
    file = table(whole.test[["text"]], tmp_path / "tweets.csv")
    model = ("-p", "text_model", encoder)
    assert_as_recorded(answered(capsys, whole.folder, file, *model), whole, "full", 3)
    kept = {
        f.relative_to(whole.folder / "models").as_posix() for f in whole.folder.rglob("full-*/*")
    }
    names = ("config.json", "model.safetensors")
    assert kept == {f"full-seed{seed}/{name}" for seed in (1, 3) for name in names}


def test_save_models_trains_no_adapter_again_and_is_no_other_run(tweets, whole):
    parts = [set(folders.run_field(made.folder, "parts")) for made in (tweets, whole)]
    assert len(parts[0] & parts[1]) == 4 and len(parts[0]) == 6
    assert parameters.changed("01_lora_roberta", {"save_models": True}) == {}


def test_what_is_not_kept_is_refused_with_what_is(tweets, encoder, tmp_path, capsys):
    file = table(tweets.test[["text"]], tmp_path / "tweets.csv")
    for words, message in (
        (["--method", "full"], "the model of full isn't kept(.|\n)*-p save_models true"),
        (["--seed", "2"], r"lora\+lr1e-2 with seed 2 isn't kept(.|\n)*lora \(seeds 3, 1\); lora"),
        ([], "a record doesn't say where …/tiny lies(.|\n)*-p text_model FOLDER"),
        (["-p", "text_model", "sample:all-MiniLM-L6-v2"], "isn't the model that the run has"),
        (["-p", "text_modell", encoder], "no parameter 'text_modell'"),
    ):
        code, out, err = command(capsys, tweets.folder, file, *words)
        assert code == 2 and not out and re.search(message, err), err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,prediction\na,b\n", "row 1: more than one column prediction"),
        ("text,P_Neutral\na,b\n", "row 1: more than one column p_neutral"),
        ("text\ngood\n  \n", "row 3: the text is empty"),
        ("text\n", "there is nothing below the first row"),
        ("tweet\ngood\n", "0 columns for text"),
        ('text\n"good\n', "row 2: broken CSV"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_row(
    tweets, encoder, tmp_path, capsys, text, message
):
    (tmp_path / "tweets.csv").write_text(text)
    words = (tweets.folder, tmp_path / "tweets.csv", "-p", "text_model", encoder)
    code, out, err = command(capsys, *words)
    assert code == 2 and not out and message in err, err


def test_folders_without_a_model_are_refused(questions, tmp_path, capsys):
    run = begin("05_question_types", run_dir=str(tmp_path / "05"))
    run.close()
    shutil.copytree(questions.folder, tmp_path / "old")
    record, _ = folders.read_sealed(tmp_path / "old" / "result.json")
    kept = {name: sha for name, sha in record["files"].items() if not name.startswith("models/")}
    runs.write_record(tmp_path / "old", {**record, "files": kept})
    for place, message in (
        (tmp_path, "there is no run in this folder"),
        (run.folder, "a run of 05_question_types has no model"),
        (
            tmp_path / "old",
            "has kept no model\n  What to do: run it again: python -m hw2_utils run",
        ),
    ):
        code, _, err = command(capsys, place, "-")
        assert code == 2 and message in err, err


def test_a_run_of_other_code_is_used_as_it_is_with_a_note(
    tweets, encoder, tmp_path, capsys, monkeypatch
):
    file, model = table(tweets.test[["text"]], tmp_path / "t.csv"), ("-p", "text_model", encoder)
    before = command(capsys, tweets.folder, file, *model)
    monkeypatch.setattr(runs, "record_key", lambda *_: "another")
    code, out, err = command(capsys, tweets.folder, file, *model)
    assert (code, out) == before[:2] and "note" not in before[2]
    assert re.match("note: the run of 02_lora_tinybert is stale: .*models are used as they", err)


def test_a_changed_weight_is_refused(tweets, encoder, tmp_path, capsys):
    shutil.copytree(tweets.folder, tmp_path / "run")
    file = tmp_path / "run" / "models" / "lora-seed1" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, _, err = command(capsys, tmp_path / "run", "-", "-p", "text_model", encoder)
    assert code == 2 and f"{file.name} is missing or isn't what the run wrote" in err


# --------------------------------------------------------------------------------------- questions
def test_new_questions_get_what_the_run_said_of_them(questions, project, tmp_path, capsys):
    by_id = questions.test[["question", "image_id"]]
    file = table(by_id, tmp_path / "questions.csv")
    data = ("-p", "vqa_dir", project / "daquar")
    for seed in (2, 0):
        out = answered(capsys, questions.folder, file, *data, "--seed", seed)
        assert_as_recorded(out, questions, "fusion", seed)
    pictures = daquar.read(project / "daquar").image_paths
    for image_id in by_id["image_id"].unique():
        shutil.copy(pictures[image_id], tmp_path / f"{image_id}.picture")
    own = by_id.assign(image=by_id["image_id"] + ".picture").drop(columns="image_id")
    out = answered(capsys, questions.folder, table(own, tmp_path / "own.csv"))
    assert_as_recorded(out, questions, "fusion", 2)


def test_pictures_that_are_not_there_are_listed_with_their_rows(
    questions, project, tmp_path, capsys
):
    (tmp_path / "odd.png").write_text("no picture")
    file = tmp_path / "questions.csv"
    file.write_text("question,image\nwhat is it,none.png\nwhat is it,odd.png\n")
    code, out, err = command(capsys, questions.folder, file)
    assert code == 2 and not out and "row 2: 'none.png': there is no such picture file" in err
    assert "row 3: 'odd.png': not a usable picture" in err
    file.write_text("question,image_id\nwhat is it,image0\n")
    code, _, err = command(capsys, questions.folder, file, "-p", "vqa_dir", project / "daquar")
    assert code == 2 and "row 2: the data have no picture 'image0'" in err
    sample = ROOT / "data" / "sample" / "daquar"
    code, _, err = command(capsys, questions.folder, file, "-p", "vqa_dir", sample)
    assert code == 2 and "read other data (vqa)" in err


# ------------------------------------------------------------------------ adapters, tokens
def test_a_kept_adapter_loads_by_the_three_lines_of_the_page(tweets, encoder):
    page = (ROOT / "docs" / "trained_models.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for shown, here in (
        ("runs/full/01_lora_roberta", tweets.folder),
        ("FacebookAI/roberta-base", encoder),
        ("lora-seed0", "lora-seed3"),
    ):
        assert shown in lines
        lines = lines.replace(shown, str(here))
    names: dict[str, object] = {}
    exec(lines, names)  # noqa: S102 - the page's own lines
    record = runs.read(tweets.folder, notebook="02_lora_tinybert")
    rows = record.predictions.query("split == 'test' and method == 'lora' and seed == 3")
    for text, log_probs in zip(tweets.test["text"], rows["log_probs"], strict=True):
        with torch.inference_mode():
            logits = names["model"](**names["tokenizer"](text, return_tensors="pt")).logits[0]
        np.testing.assert_allclose(torch.log_softmax(logits, -1), log_probs, atol=1e-5)


def test_a_kept_adapter_names_the_model_and_no_folder(tweets):
    config = (tweets.folder / "models" / "lora-seed3" / "adapter_config.json").read_text()
    assert '"base_model_name_or_path": "tiny"' in config and str(tweets.folder.parent) not in config


def test_a_tokens_drop_is_that_of_the_text_with_the_mask_in_its_place(tweets, encoder):
    model = hub.fetch_model(str(encoder))
    network = finetune.load(model, tweets.folder / "models" / "lora-seed3", classes=SENTIMENTS)
    tok = finetune.tokenizer(model)
    options = {"max_length": 16, "device": "cpu"}
    shares, drops = attribution.occlusion(network, tok, "awful good tea", **options)
    assert list(drops.index) == ["awful", "good", "tea"]
    predicted = shares.argmax()
    for text, drop in zip(
        ("[MASK] good tea", "awful [MASK] tea", "awful good [MASK]"), drops, strict=True
    ):
        masked, _ = attribution.occlusion(network, tok, text, **options)
        assert drop == pytest.approx(shares[predicted] - masked[predicted], abs=1e-6)
    assert attribution.occlusion(network, tok, "", **options)[1].empty


def test_the_explorer_shows_each_kept_method(whole, encoder, capsys):
    run = runs.Run.__new__(runs.Run)
    run.folder, run.run_dir = whole.folder.with_name("gone"), whole.folder
    run.settings = type("Settings", (), {"seeds": [3, 1], "max_length": 16, "device": "cpu"})
    model = hub.fetch_model(str(encoder))
    figure = attribution.show(run, model, "awful $good$ tea " * 20, classes=SENTIMENTS)
    above, below = figure.axes
    names = [label.get_text().split(":")[0] for label in above.get_legend().get_texts()]
    assert names == ["full", "lora", "lora+lr1e-2"]
    totals = [sum(bar.get_height() for bar in bars) for bars in above.containers]
    assert totals == pytest.approx([1, 1, 1], abs=1e-5)
    assert len(below.get_xticklabels()) == 14 and "tea" in figure.get_suptitle().split("\n")[-1]
    assert attribution.show(run, model, "  ", classes=SENTIMENTS) is None
    assert "type a tweet" in capsys.readouterr().out
    plt.close("all")
