"""Fusion's training: seeds at once and one by one, what cross-validation sees, scaled inputs."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from hw2_utils import fusion
from hw2_utils.errors import InputError

CLASSES = ["bed", "chair", "table"]
RECIPE = {
    "epochs": 12,
    "batch_size": 16,
    "learning_rate": 0.02,
    "weight_decay": 1e-4,
    "device": "cpu",
}


class Network(nn.Module):
    def __init__(self, image_dim, question_dim, hidden_dim, n_classes):
        super().__init__()
        self.image = nn.Linear(image_dim, hidden_dim) if image_dim else None
        self.question = nn.Linear(question_dim, hidden_dim)
        self.classifier = nn.Linear(hidden_dim * (2 if image_dim else 1), n_classes)

    def forward(self, image, question):
        parts = [b(x) for b, x in ((self.image, image), (self.question, question)) if b is not None]
        return self.classifier(torch.relu(torch.cat(parts, dim=-1)))


@pytest.fixture(scope="module")
def data():
    """Pictures show their answer, questions say nothing; three questions a picture."""
    rng = np.random.default_rng(0)
    images = {
        f"image{i}": np.eye(5, dtype=np.float32)[i % 3]
        + 0.1 * rng.normal(size=5).astype(np.float32)
        for i in range(60)
    }
    questions = {f"what {i}": rng.normal(size=4).astype(np.float32) for i in range(7)}
    rows = [
        (f"{i}/{k}", f"image{i}", f"what {(i + k) % 7}", CLASSES[i % 3])
        for i in range(60)
        for k in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["id", "image_id", "question", "answer"])
    number = frame["image_id"].str[5:].astype(int)
    frames = {
        "train": frame[number < 36],
        "val": frame[number.between(36, 47)],
        "test": frame[number >= 48],
    }
    return fusion.Embedded(frames, images, questions, CLASSES)


def test_seeds_trained_at_once_are_those_trained_alone(data):
    parts = fusion.tensors(data, image_scale=0.5)
    together = fusion.train(lambda: Network(5, 4, 8, 3), parts, seeds=[3, 0, 7], **RECIPE)
    for k, seed in enumerate([3, 0, 7]):
        alone = fusion.train(lambda: Network(5, 4, 8, 3), parts, seeds=[seed], **RECIPE)
        for split in ("val", "test"):
            np.testing.assert_allclose(
                together["log_probs"][split][k], alone["log_probs"][split][0], atol=1e-4
            )
        curve = together["curve"].query("seed == @seed").head(len(alone["curve"]))
        np.testing.assert_allclose(curve["train_loss"], alone["curve"]["train_loss"], atol=1e-4)


def test_the_best_epoch_by_validation_loss_is_kept(data):
    parts = fusion.tensors(data, image_scale=0.5)
    found = fusion.train(lambda: Network(5, 4, 8, 3), parts, seeds=[0, 1], **RECIPE)
    gold = parts["val"].label.numpy()
    for k, seed in enumerate([0, 1]):
        loss = -found["log_probs"]["val"][k][np.arange(len(gold)), gold].mean()
        curve = found["curve"]
        assert loss == pytest.approx(curve.loc[curve["seed"] == seed, "val_loss"].min(), abs=1e-5)


@pytest.mark.parametrize("image_scale", [0, 0.5, 2.0])
def test_image_vectors_have_the_asked_length_or_stay_as_they_are(data, image_scale):
    parts = fusion.tensors(data, image_scale=image_scale)
    raw = np.stack([data.images[i] for i in data.frames["test"]["image_id"]])
    expected = (
        raw if image_scale == 0 else image_scale * raw / np.linalg.norm(raw, axis=1, keepdims=True)
    )
    np.testing.assert_allclose(parts["test"].image, expected, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(parts["test"].question, axis=1), 1, rtol=1e-5)


def test_cross_validation_holds_each_question_once_apart_by_picture_and_never_looks_at_test(
    data, monkeypatch
):
    seen = []
    real = fusion.tensors
    monkeypatch.setattr(
        fusion, "tensors", lambda own, **k: seen.append(own.frames) or real(own, **k)
    )
    absent = data.frames["test"].assign(image_id="absent")  # a look at it would be an error
    spoilt = replace(data, frames={**data.frames, "test": absent})
    options = {"n_folds": 4, "seeds": [0, 1], "hidden_dim": 8, "image_scale": 0.5, **RECIPE}
    found = fusion.cross_validate(Network, spoilt, blind=False, **options)["folds"]
    blind = fusion.cross_validate(Network, spoilt, blind=True, **options)["folds"]
    assert found[["fold", "seed"]].to_numpy().tolist() == [
        list(p) for p in itertools.product(range(4), (0, 1))
    ]
    held = pd.concat([own["test"] for own in seen[:4]])
    assert sorted(held["id"]) == sorted([*data.frames["train"]["id"], *data.frames["val"]["id"]])
    for own in seen:
        pictures = [set(f["image_id"]) for f in own.values()]
        assert not any(a & b for a, b in itertools.combinations(pictures, 2))
    assert (
        found["accuracy"].mean() > 0.9 > 0.6 > blind["accuracy"].mean()
    )  # the pictures show the answer


def test_answers_to_questions_are_those_of_the_kept_network_of_a_seed(data, tmp_path):
    recipe = {**RECIPE, "hidden_dim": 8, "seeds": [3, 0]}
    settings = SimpleNamespace(**recipe, image_scale=0.5)
    parts = fusion.tensors(data, image_scale=0.5)
    frames = {
        name: frame.rename(columns={"answer": "label"}) for name, frame in data.frames.items()
    }
    trained = fusion.fit(Network, (5, 4), parts, frames, method="fusion", classes=CLASSES, **recipe)
    file = tmp_path / fusion.KEPT_FILE
    file.write_bytes(trained["fusion"])
    test = data.frames["test"]
    image = np.stack([data.images[i] for i in test["image_id"]])
    question = np.stack([data.questions[q] for q in test["question"]])
    for seed in (3, 0):
        found = fusion.answer_probabilities(
            Network, file, settings, classes=CLASSES, seed=seed, image=image, question=question
        )
        expected = trained["predictions"].query("split == 'test' and seed == @seed")
        np.testing.assert_allclose(found, np.exp(np.stack(expected["log_probs"])), atol=1e-5)
        assert np.asarray(CLASSES)[found.argmax(axis=1)].tolist() == [*expected["prediction"]]
    blind = fusion.fit(
        Network, (0, 4), parts, frames, method="question_only", classes=CLASSES, **recipe
    )
    assert not any(isinstance(value, bytes) for value in blind.values())
    file.write_bytes(b"no weights")
    with pytest.raises(InputError, match="doesn't load(.|\n)*run the notebook again"):
        fusion.answer_probabilities(
            Network, file, settings, classes=CLASSES, seed=3, image=image, question=question
        )
