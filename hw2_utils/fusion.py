"""Training of the assignment's small classifier on frozen embeddings, all seeds at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from hw2_utils import timing
from hw2_utils.errors import Hw2Error, explained, require
from hw2_utils.predictions import majority_baseline, prediction_frame

if TYPE_CHECKING:
    from hw2_utils.datafiles import Dataset
    from hw2_utils.runs import Run


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one split: image float32 [n, d_image], question float32 [n, d_question], label int64 [n]."""

    image: torch.Tensor
    question: torch.Tensor
    label: torch.Tensor


def training_frames(run: Run, data: Dataset) -> dict[str, pd.DataFrame]:
    """The splits, with the first `max_train_examples` training questions of the run's settings (0 = all).

    Raises InputError where these have one answer only, and for more `folds` than there are pictures to cut by.
    """
    whole, most, n_folds = data.splits["train"], run.settings.max_train_examples, run.settings.folds
    train = whole.head(most or None)
    other = whole["answer"].ne(whole["answer"].iloc[0]).argmax()
    require(
        most == 0 or most > other,
        f"the first {most} training questions have one answer only",
        where="parameter max_train_examples",
        todo=f"give {other + 1} or more, or 0 for all",
    )
    n_pictures = pd.concat([train, data.splits["val"]])["image_id"].nunique()
    require(
        n_folds <= n_pictures,
        f"{n_folds} folds are cut by pictures, and train and val have {n_pictures}",
        where="parameter folds",
        todo=f"give 3 to {n_pictures}, or 0 to leave the folds out" if n_pictures > 2 else "give 0",
    )
    if len(train) < len(whole):
        answers = f"{train['answer'].nunique()} of {len(data.classes)} answers"
        run.note(f"train: the first {len(train):,} of {len(whole):,} questions, with {answers}")
    return {**data.splits, "train": train}


def tensors(
    frames: Mapping[str, pd.DataFrame],
    images: Mapping[str, np.ndarray],
    questions: Mapping[str, np.ndarray],
    *,
    classes: Sequence[str],
    image_scale: float,
    shuffle_images: int | None = None,
) -> dict[str, Split]:
    """Tensors of each split from one vector an image and one a question.

    Vectors are L2-normalised; an image vector then gets the length `image_scale`, so that its many dimensions don't
    drown the question's (0: it stays as the encoder gave it). `shuffle_images` gives every question a random other picture (seeded): what then remains
    isn't seen in the picture. A label outside `classes` becomes -1 and never counts as right.
    """
    index = {name: i for i, name in enumerate(classes)}
    out = {}
    for name, frame in frames.items():
        image = np.stack([images[i] for i in frame["image_id"]])
        image = _unit(image) * image_scale if image_scale else image
        question = _unit(np.stack([questions[q] for q in frame["question"]]))
        if shuffle_images is not None:
            image = image[np.random.default_rng(shuffle_images).permutation(len(image))]
        label = [index.get(a, -1) for a in frame["answer"]]
        out[name] = Split(torch.from_numpy(image), torch.from_numpy(question), torch.tensor(label))
    return out


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norm, 1e-12)).astype(np.float32)


def train(
    build: Callable[[], nn.Module],
    data: Mapping[str, Split],
    *,
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    device: str,
    patience: int = 10,
) -> dict[str, Any]:
    """Trains one network a seed, stacked along a first dimension S; the best epoch by validation loss is kept for each.

    `build()` makes a fresh network whose forward takes (image, question). Returns `log_probs`: for val and test
    float32 [S, n, n_classes]; `curve`: a frame (epoch, seed, train_loss, val_loss, val_accuracy); `params_total`.
    Each seed's result is that of training it alone, up to float rounding.
    """
    networks = []
    for seed in seeds:
        torch.manual_seed(seed)
        networks.append(build().to(device))
    params, buffers = stack_module_state(networks)
    params = {k: p.detach().requires_grad_() for k, p in params.items()}
    data = {
        k: Split(*(t.to(device) for t in (s.image, s.question, s.label))) for k, s in data.items()
    }
    shell = build().to("meta")

    def forward(
        weights: dict[str, torch.Tensor], image: torch.Tensor, question: torch.Tensor
    ) -> torch.Tensor:
        return functional_call(shell, (weights, buffers_one), (image, question))

    buffers_one = {k: b[0] for k, b in buffers.items()}
    each = torch.vmap(forward, in_dims=(0, 0, 0))  # own batch for each seed: [S, b, d] -> [S, b, C]
    same = torch.vmap(
        forward, in_dims=(0, None, None)
    )  # one split for all seeds: [n, d] -> [S, n, C]
    optimiser = torch.optim.AdamW(params.values(), lr=learning_rate, weight_decay=weight_decay)
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    best = {k: p.detach().clone() for k, p in params.items()}
    best_loss, best_epoch, curve = (
        torch.full((len(seeds),), math.inf),
        torch.zeros(len(seeds), dtype=torch.long),
        [],
    )
    for epoch in range(1, epochs + 1):
        train_loss = _epoch(each, params, data["train"], optimiser, generators, batch_size)
        val_loss, val_accuracy = _evaluate(same, params, data["val"])
        if not torch.isfinite(val_loss).all():
            raise Hw2Error(
                "the fusion network's loss is no number",
                where=f"epoch {epoch}",
                todo="lower learning_rate",
            )
        better = val_loss < best_loss
        best_loss, best_epoch = (
            torch.where(better, val_loss, best_loss),
            torch.where(better, epoch, best_epoch),
        )
        for k, p in params.items():
            best[k][better.to(p.device)] = p.detach()[better.to(p.device)]
        curve += [
            (epoch, s, *row)
            for s, *row in zip(
                seeds, train_loss.tolist(), val_loss.tolist(), val_accuracy.tolist(), strict=True
            )
        ]
        if (epoch - best_epoch >= patience).all():
            break
    with torch.inference_mode():
        scores = {
            k: torch.log_softmax(same(best, data[k].image, data[k].question), -1).cpu().numpy()
            for k in ("val", "test")
        }
    return {
        "log_probs": scores,
        "params_total": sum(p[0].numel() for p in params.values()),
        "curve": pd.DataFrame(
            curve, columns=["epoch", "seed", "train_loss", "val_loss", "val_accuracy"]
        ),
    }


def _epoch(
    each: Callable[..., torch.Tensor],
    params: dict[str, torch.Tensor],
    split: Split,
    optimiser: torch.optim.Optimizer,
    generators: Sequence[torch.Generator],
    batch_size: int,
) -> torch.Tensor:
    """One pass, each seed in its own order; mean training loss [S]. Examples whose answer isn't in the classes are left out."""
    usable = torch.nonzero(split.label >= 0).squeeze(1)
    order = torch.stack(
        [usable[torch.randperm(len(usable), generator=g).to(usable.device)] for g in generators]
    )
    total = torch.zeros(len(generators))
    for rows in order.split(batch_size, dim=1):
        logits = each(params, split.image[rows], split.question[rows])  # (S, b, C)
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), split.label[rows].flatten(), reduction="none"
        )
        loss = loss.view(len(generators), -1).mean(dim=1)  # (S,)
        optimiser.zero_grad()
        loss.sum().backward()  # seeds share no parameter, so each gets its own gradient
        optimiser.step()
        total += loss.detach().cpu() * rows.shape[1]
    return total / len(usable)


def _evaluate(
    same: Callable[..., torch.Tensor], params: dict[str, torch.Tensor], split: Split
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        logp = torch.log_softmax(same(params, split.image, split.question), -1)  # (S, n, C)
        known = split.label >= 0
        loss = (
            -logp[:, known]
            .gather(2, split.label[known].expand(len(logp), -1)[..., None])
            .mean(dim=(1, 2))
        )
        accuracy = (logp.argmax(-1) == split.label).float().mean(dim=1)
    return loss.cpu(), accuracy.cpu()


def cross_validate(
    network: Callable[..., nn.Module],
    frames: Mapping[str, pd.DataFrame],
    images: Mapping[str, np.ndarray],
    questions: Mapping[str, np.ndarray],
    *,
    classes: Sequence[str],
    n_folds: int,
    blind: bool,
    seeds: Sequence[int],
    hidden_dim: int,
    image_scale: float,
    device: str,
    **recipe: Any,
) -> dict[str, Any]:
    """Accuracy on each of `n_folds` parts of train and val pooled, cut by image; test is never touched.

    Of the other parts, the next one stops the training early, as val does. `blind` leaves the picture's branch out.
    Returns `folds`: a frame (fold, seed, accuracy).
    """
    from sklearn.model_selection import GroupKFold

    pooled = pd.concat([frames["train"], frames["val"]], ignore_index=True)
    parts = [
        held
        for _, held in GroupKFold(n_folds, shuffle=True, random_state=0).split(
            pooled, groups=pooled["image_id"]
        )
    ]
    dims = 0 if blind else len(next(iter(images.values()))), len(next(iter(questions.values())))
    rows = []
    for fold, held in enumerate(parts):
        stops = parts[(fold + 1) % n_folds]
        own = {
            "test": pooled.loc[held],
            "val": pooled.loc[stops],
            "train": pooled.drop(index=[*held, *stops]),
        }
        data = tensors(own, images, questions, classes=classes, image_scale=image_scale)
        scores = train(
            lambda: network(*dims, hidden_dim, len(classes)),
            data,
            seeds=seeds,
            device=device,
            **recipe,
        )["log_probs"]["test"]
        right = scores.argmax(-1) == data["test"].label.numpy()
        rows += [
            (fold, seed, accuracy) for seed, accuracy in zip(seeds, right.mean(axis=1), strict=True)
        ]
    return {"folds": pd.DataFrame(rows, columns=["fold", "seed", "accuracy"])}


def compare_choices(
    run: Run,
    network: Callable[..., nn.Module],
    frames: Mapping[str, pd.DataFrame],
    images: Mapping[str, Mapping[str, np.ndarray]],
    questions: Mapping[str, np.ndarray],
    choices: Sequence[Mapping[str, Any]],
    *,
    classes: Sequence[str],
    n_folds: int,
) -> pd.DataFrame:
    """Cross-validated accuracy of fusion and of the question alone for the run's settings and for each change of them.

    `images` holds one set of vectors a geometry. A row a choice: both accuracies, fusion's lead, and the change of each
    accuracy against the settings with its standard error over folds. What changes the picture alone leaves the question's.
    """
    names = (
        "epochs",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "hidden_dim",
        "image_scale",
        "geometry",
    )
    own, rows = {k: getattr(run.settings, k) for k in names}, {}
    for change in ({}, *choices):
        label = ", ".join(f"{k} {v}" for k, v in change.items()) or "as in the profile"
        for method, blind in (("fusion", False), ("question_only", True)):
            setting = {
                **own,
                **change,
                **({"image_scale": 1.0, "geometry": own["geometry"]} if blind else {}),
            }
            geometry = setting.pop("geometry")
            # blind, a change of the picture alone changes no input: the part is there already
            inputs = {
                "network": network,
                "frames": frames,
                "images": images[geometry],
                "questions": questions,
                "classes": classes,
                "n_folds": n_folds,
                "blind": blind,
                "seeds": run.settings.seeds,
                "device": run.settings.device,
                **setting,
            }
            done = run.part(f"{method}, {n_folds} folds, {label}", cross_validate, inputs)
            rows[label, method] = done["folds"].groupby("fold")["accuracy"].mean()
    by_fold = pd.DataFrame(rows)
    change = by_fold.sub(by_fold["as in the profile"], axis=1, level=1)
    table = by_fold.mean().unstack().reindex(by_fold.columns.unique(0))
    table["lead"] = table["fusion"] - table["question_only"]
    for method in ("fusion", "question_only"):
        found = change.xs(method, axis=1, level=1)
        table[f"{method} change"], table[f"{method} change SE"] = (
            found.mean(),
            found.std() / math.sqrt(n_folds),
        )
    return table.rename_axis("choice")


def tfidf_log_probs(
    frames: Mapping[str, pd.DataFrame], *, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Question-only reference without any neural network: TF-IDF of words and word pairs, logistic regression.

    Returns log-probabilities float32 [n, n_classes] for val and test.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=2000),
    )
    with explained(
        "the training questions have no words to tell them apart",
        ValueError,
        where="vqa_dir",
        todo="ask in words of two letters or more",
    ):
        model.fit(frames["train"]["question"], frames["train"]["answer"])
    columns = [list(classes).index(c) for c in model.classes_]
    out = {}
    for name in ("val", "test"):
        out[name] = np.full((len(frames[name]), len(classes)), -np.inf, np.float32)
        out[name][:, columns] = model.predict_log_proba(frames[name]["question"])
    return out


def fit(
    network: Callable[..., nn.Module],
    dims: tuple[int, int],
    data: Mapping[str, Split],
    frames: Mapping[str, pd.DataFrame],
    *,
    method: str,
    classes: Sequence[str],
    seeds: Sequence[int],
    hidden_dim: int,
    device: str,
    **recipe: Any,
) -> dict[str, Any]:
    """One method trained with all its seeds: what `train` returns, its time, and predictions on val and test."""
    with timing.memory_explained(recipe["batch_size"]), timing.timed(device) as clock:
        result = train(
            lambda: network(*dims, hidden_dim, len(classes)),
            data,
            seeds=seeds,
            device=device,
            **recipe,
        )
    predictions = [
        prediction_frame(
            frames[split], scores[i], method=method, seed=seed, split=split, classes=classes
        )
        for split, scores in result.pop("log_probs").items()
        for i, seed in enumerate(seeds)
    ]
    times = {"train_time_s": clock.time_s, "timing_note": clock.note}
    return {**result, **times, "predictions": pd.concat(predictions)}


def run_methods(
    run: Run,
    network: Callable[..., nn.Module],
    frames: Mapping[str, pd.DataFrame],
    images: Mapping[str, np.ndarray],
    questions: Mapping[str, np.ndarray],
    *,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Trains fusion and its blind ablations by one procedure; predictions and costs go on record. Returns the curves.

    `network(image_dim, question_dim, hidden_dim, n_classes)` builds the classifier; a dimension of 0 leaves that branch out. `images` and
    `questions` hold one vector an image id and a question text. Each method is one part, all its seeds together.
    """
    settings, curves = run.settings, []
    bag_of_words = tfidf_log_probs(frames, classes=classes)
    recipe = {
        name: getattr(settings, name)
        for name in ("hidden_dim", "epochs", "batch_size", "learning_rate", "weight_decay")
    }
    image_dim, question_dim = (len(next(iter(vectors.values()))) for vectors in (images, questions))
    methods = {
        "fusion": (image_dim, question_dim),
        "question_only": (0, question_dim),
        "image_only": (image_dim, 0),
        "fusion+shuffled_images": (image_dim, question_dim),
    }
    labelled = {s: f.rename(columns={"answer": "label"}) for s, f in frames.items()}
    for method, dims in methods.items():
        shuffled = method.endswith("shuffled_images")
        data = tensors(
            frames,
            images,
            questions,
            classes=classes,
            image_scale=settings.image_scale,
            shuffle_images=0 if shuffled else None,
        )
        inputs = {
            "network": network,
            "dims": dims,
            "data": data,
            "frames": labelled,
            "method": method,
            "classes": classes,
            "seeds": settings.seeds,
            "device": settings.device,
            **recipe,
        }
        result = run.part(f"{method}, all seeds", fit, inputs, measured=True)
        if result["timing_note"]:
            run.note(f"{method}: {result['timing_note']}")
            run.disturbed.append(method)
        curves.append(result["curve"].assign(method=method))
        run.add_predictions(result["predictions"], file=method, classes=classes)
        run.add_metrics(
            {"method": method, "split": "train", "name": name, "value": result[name]}
            for name in ("params_total", "train_time_s")
        )
    blind = [
        prediction_frame(
            labelled[s], scores, method="question_only+tfidf", seed=None, split=s, classes=classes
        )
        for s, scores in bag_of_words.items()
    ]
    run.add_predictions(pd.concat(blind), file="question_only+tfidf", classes=classes)
    run.add_predictions(
        majority_baseline(labelled, classes=classes), file="majority", classes=classes
    )
    return pd.concat(curves, ignore_index=True)
