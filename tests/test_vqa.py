"""What notebooks 03 and 04 share: the data card, the recipe's choices, and a reader's question."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from hw2_utils import encoders, fusion, plots, sweep_tables, sweeps, vqa
from hw2_utils.errors import InputError

CLASSES = ["bed", "chair", "table"]
RECIPE = {"epochs": 12, "batch_size": 16, "learning_rate": 0.02, "weight_decay": 1e-4}
SETTINGS = {**RECIPE, "device": "cpu", "hidden_dim": 8, "image_scale": 0.5, "geometry": "whole"}


class Network(nn.Module):
    def __init__(self, image_dim, question_dim, hidden_dim, n_classes):
        super().__init__()
        self.hidden = nn.Linear(image_dim + question_dim, hidden_dim)
        self.classifier = nn.Linear(hidden_dim, n_classes)
        self.blind = not image_dim

    def forward(self, image, question):
        inputs = question if self.blind else torch.cat([image, question], dim=-1)
        return self.classifier(torch.relu(self.hidden(inputs)))


@pytest.fixture
def embedded():
    """Pictures show their answer, questions say nothing; three questions a picture."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(60, 5)).astype(np.float32)
    images = {f"image{i}": np.eye(5, dtype=np.float32)[i % 3] + noise[i] for i in range(60)}
    questions = {f"what {i}": rng.normal(size=4).astype(np.float32) for i in range(7)}
    rows = [
        (f"{i}/{k}", f"image{i}", f"what {(i + k) % 7}", CLASSES[i % 3])
        for i in range(60)
        for k in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["id", "image_id", "question", "answer"])
    number = frame["image_id"].str[5:].astype(int)
    frames = {"train": frame[number < 40], "val": frame[number >= 40], "test": frame.tail(6)}
    return fusion.Embedded(frames, images, questions, CLASSES)


@pytest.fixture
def run():
    return SimpleNamespace(
        settings=SimpleNamespace(**SETTINGS, seeds=[0], folds=0),
        notebook="03_vqa_resnet_sbert",
        models={"image_model": SimpleNamespace(id="a:model")},
        part=lambda _, function, inputs: function(**inputs),
    )


# ------------------------------------------------------------------------------------ the data
ROWS = [
    ("a", "what is left", "bed"),
    ("a", "what is left", "chair"),
    ("a", "what is left", "chair"),
    ("b", "what is left", "bed"),
    ("b", "how many lamps are there", "two"),
]


def test_the_data_card_counts_what_is_guessed_repeated_or_contradicted():
    train = pd.DataFrame(ROWS, columns=["image_id", "question", "answer"])
    test = pd.DataFrame([("c", "what is left", "bed"), ("c", "why", "bed")], columns=train.columns)
    card = vqa.data_card({"train": train, "test": test})
    assert card["train"].to_dict() == {
        "questions": 5,
        "images": 2,
        "answers": 3,
        "most frequent answer": 0.4,
        "worded as in train": 1.0,
        "words, mean": 3.4,
        "words, most": 5,
        "repeated rows": 1,
        "rows with a contradicting one": 3,
    }
    assert card.loc["worded as in train", "test"] == 0.5
    assert card.loc["most frequent answer", "test"] == 1


def test_contradictions_are_the_answers_of_a_question_that_has_several_on_one_picture():
    train = pd.DataFrame(ROWS, columns=["image_id", "question", "answer"])
    answers = vqa.contradictions(train)
    assert {place: list(a) for place, a in answers.items()} == {
        ("a", "what is left"): ["bed", "chair"]
    }
    none = vqa.contradictions(train.tail(2))
    assert len(none.sample(min(3, len(none)), random_state=0)) == 0


# -------------------------------------------------------------------- choices of the recipe
def test_choices_are_compared_fold_by_fold(embedded, run):
    nothing = {name: np.zeros(5, np.float32) for name in embedded.images}
    vectors = {
        "whole": embedded,
        "crop": fusion.Embedded(embedded.frames, nothing, embedded.questions, CLASSES),
    }
    choices = [{"geometry": "crop"}, {"hidden_dim": 4}]
    table = vqa.compare_choices(run, Network, vectors, choices, n_folds=3)
    assert list(table.index) == ["as in the profile", "geometry crop", "hidden_dim 4"]
    assert (table.loc["as in the profile", ["fusion change", "fusion change SE"]] == 0).all()
    crop = table.loc["geometry crop"]
    assert crop["question_only change"] == 0 > -0.3 > crop["fusion change"]
    np.testing.assert_allclose(table["lead"], table["fusion"] - table["question_only"])


def test_a_change_of_the_picture_alone_asks_for_the_same_part_of_the_question_alone(embedded, run):
    asked = {}
    run.part = lambda label, function, inputs: (
        asked.setdefault(label, inputs)
        and {"folds": pd.DataFrame({"fold": [0, 1], "accuracy": [0.5, 0.5]})}
    )
    vectors = {"whole": embedded, "crop": "not read without the picture"}
    choices = [{"image_scale": 0}, {"geometry": "crop"}, {"weight_decay": 3.0}]
    vqa.compare_choices(run, Network, vectors, choices, n_folds=2)
    blind = [inputs for label, inputs in asked.items() if label.startswith("question_only")]
    same, scaled, cropped, decayed = blind
    assert same == scaled == cropped and decayed == {**same, "weight_decay": 3.0}


def test_each_choice_changes_one_setting_to_another_value_than_the_profiles():
    assert len({tuple(change.items()) for change in vqa.CHOICES}) == len(vqa.CHOICES)
    assert all(len(change) == 1 and set(change) <= set(SETTINGS) for change in vqa.CHOICES)


COMMITTED = sweep_tables.SweepTable(pd.DataFrame({"fusion": [0.4]}), "other data")


@pytest.fixture
def committed(monkeypatch):
    asked = []
    monkeypatch.setattr(
        sweep_tables, "committed", lambda name, run: asked.append(name) or COMMITTED
    )
    return asked


def test_folds_measure_the_choices_here(embedded, run, monkeypatch, tmp_path, committed):
    run.settings.folds = 3
    made = []

    def image_encoder(model, *, geometry, device):
        made.append((model.id, geometry, device))
        return encoders.Encoder({"dim": 5}, lambda files: np.ones((len(files), 5)), "image")

    monkeypatch.setattr(encoders, "image_encoder", image_encoder)
    monkeypatch.setattr(encoders, "embed", lambda encoder, items: (encoder.encode(items), None))
    monkeypatch.setattr(vqa, "CHOICES", [{"geometry": "crop"}])
    paths = dict.fromkeys(embedded.images, tmp_path)
    found = vqa.recipe_choices(run, Network, embedded, paths)
    assert made == [("a:model", "crop", "cpu")] and not committed
    assert list(found.rows.index) == ["as in the profile", "geometry crop"]
    assert found.rows.loc["geometry crop", "fusion change"] < -0.3  # every crop is the same
    assert found.measured_on == "3 folds of this data"


def test_without_folds_the_sweep_of_this_data_comes_before_the_committed_table(
    embedded, run, monkeypatch, committed
):
    monkeypatch.setattr(sweeps, "records", lambda name, run: [])
    assert vqa.recipe_choices(run, Network, embedded, {}) is COMMITTED
    assert committed == ["fusion_choices_03"]
    rows = pd.DataFrame({"fusion": [0.3]})
    record = SimpleNamespace(
        data={"run": {"parameters": {"folds": 4}}}, table={"choices": rows}.__getitem__
    )
    monkeypatch.setattr(sweeps, "records", lambda name, run: [record])
    found = vqa.recipe_choices(run, Network, embedded, {})
    assert found.rows is rows and found.measured_on == "4 folds of this data"


def test_no_table_is_shown_for_models_without_a_sweep(embedded, run, monkeypatch):
    monkeypatch.setattr(sweeps, "records", lambda name, run: [])
    assert vqa.recipe_choices(run, Network, embedded, {}) is None


# -------------------------------------------------------------------------- a reader's question
def test_a_question_is_asked_about_a_picture_of_the_data_or_a_file(
    embedded, run, monkeypatch, tmp_path
):
    file = tmp_path / "room.png"
    Image.new("RGB", (8, 6)).save(file)
    encoded = []
    vectors = {"image": np.eye(5, dtype=np.float32)[:1], "text": np.ones((1, 4), np.float32)}

    def embed(encoder, items):
        encoded.append((encoder, *items))
        return vectors[encoder], None

    parts = fusion.tensors(embedded, image_scale=0.5)
    trained = fusion.train(lambda: Network(5, 4, 8, 3), parts, seeds=[0], device="cpu", **RECIPE)
    safetensors.torch.save_file(trained["params"], tmp_path / fusion.KEPT_FILE)
    run.kept_models = tmp_path
    monkeypatch.setattr(fusion, "train", None)  # asking trains nothing
    monkeypatch.setattr(encoders, "embed", embed)
    plots.style()
    about = (run, Network, embedded, ("image", "text"), {"image7": file})
    drawn = [
        vqa.ask(*about, picture=picture, question="what is it") for picture in ("image7", str(file))
    ]
    with pytest.raises(InputError, match=r"no picture 'image8'.*\n.*image7"):
        vqa.ask(*about, picture="image8", question="what is it")
    with pytest.raises(InputError, match="nothing is asked"):
        vqa.ask(*about, picture="image7", question=" ")
    assert encoded == [("image", file), ("text", "what is it")] * 2
    for figure, picture in zip(drawn, ("image7", str(file)), strict=True):
        bars = figure.axes[1]
        assert bars.get_yticklabels()[-1].get_text() == "bed"  # the likeliest is above
        assert sum(bar.get_width() for bar in bars.patches) == pytest.approx(1, abs=1e-5)
        assert figure.get_suptitle() == plots.text(f"{picture}: what is it", 110)
    plt.close("all")
