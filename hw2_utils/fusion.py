"""Training of the assignment's small classifier on frozen embeddings, all seeds at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from hw2_utils import timing
from hw2_utils.errors import Hw2Error, explained, require
from hw2_utils.predictions import majority_baseline, prediction_frame

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

    from hw2_utils.datafiles import Dataset
    from hw2_utils.runs import Run

# A classifier by its sizes: network(image_dim, question_dim, hidden_dim, n_classes), which takes
# (image, question); a dimension of 0 leaves that branch out.
Network = Callable[[int, int, int, int], nn.Module]

KEPT = "fusion"  # the method whose trained networks are kept
KEPT_FILE = f"{KEPT}.safetensors"  # parameters [S, ...] by name, in the order of the run's seeds


@dataclass(frozen=True)
class Embedded:
    """Questions about pictures by split, and one vector for each distinct picture and question.

    `frames` have the columns id, question, answer and image_id; `images` holds float32 [d_image] by
    image id, `questions` float32 [d_question] by question text.
    """

    frames: Mapping[str, pd.DataFrame]
    images: Mapping[str, np.ndarray]
    questions: Mapping[str, np.ndarray]
    classes: Sequence[str]

    @property
    def dims(self) -> tuple[int, int]:
        """Dimensions of a picture's and of a question's vector."""
        image, question = (next(iter(v.values())) for v in (self.images, self.questions))
        return len(image), len(question)


class Split(NamedTuple):
    """One split: image float32 [n, d_image], question float32 [n, d_question], label int64 [n]."""

    image: torch.Tensor
    question: torch.Tensor
    label: torch.Tensor


def training_frames(run: Run, data: Dataset) -> dict[str, pd.DataFrame]:
    """The splits, with the first `max_train_examples` training questions (0 = all).

    Raises InputError where these have one answer only, and for more `folds` than there are pictures
    to cut by.
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
    embedded: Embedded, *, image_scale: float, shuffle_images: int | None = None
) -> dict[str, Split]:
    """Tensors of each split.

    Vectors are L2-normalised; an image vector then gets the length `image_scale`, so that its many
    dimensions don't drown the question's (0: it stays as the encoder gave it). `shuffle_images`, a
    seed, gives every question a random other picture: what then remains isn't seen in the picture.
    A label outside the classes becomes -1 and never counts as right.
    """
    index = {name: i for i, name in enumerate(embedded.classes)}
    splits = {}
    for name, frame in embedded.frames.items():
        image = _scaled(np.stack([embedded.images[i] for i in frame["image_id"]]), image_scale)
        question = _unit(np.stack([embedded.questions[q] for q in frame["question"]]))
        if shuffle_images is not None:
            image = image[np.random.default_rng(shuffle_images).permutation(len(image))]
        label = torch.tensor([index.get(answer, -1) for answer in frame["answer"]])
        splits[name] = Split(torch.from_numpy(image), torch.from_numpy(question), label)
    return splits


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norm, 1e-12)).astype(np.float32)


def _scaled(vectors: np.ndarray, length: float) -> np.ndarray:
    return _unit(vectors) * length if length else vectors


# -------------------------------------------------------------------------------------- training
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
    """Trains one network a seed, all at once; of each the best epoch by validation loss is kept.

    `build()` makes a fresh network whose forward takes (image, question). The networks' parameters
    are stacked along a first dimension S, one of each seed. Returns `log_probs`: for val and test
    float32 [S, n, n_classes]; `curve`: a frame (epoch, seed, train_loss, val_loss, val_accuracy);
    `params`, those kept, by name; `params_total`, of one network. Each seed's result is that of
    training it alone, up to float rounding. Raises Hw2Error for a validation loss that isn't
    finite.
    """
    params, forward = _stacked(build, seeds, device)
    # of a batch for each seed: [S, b, d] -> [S, b, C]; of one split for all: [n, d] -> [S, n, C]
    own_batch = torch.vmap(forward, in_dims=(0, 0, 0))
    shared = torch.vmap(forward, in_dims=(0, None, None))
    data = {name: Split(*(tensor.to(device) for tensor in data[name])) for name in data}
    optimiser = torch.optim.AdamW(params.values(), lr=learning_rate, weight_decay=weight_decay)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]  # of the batches' order
    best, curve = _BestEpochs(params, len(seeds)), []
    for epoch in range(1, epochs + 1):
        train_loss = _epoch(own_batch, params, data["train"], optimiser, generators, batch_size)
        val_loss, val_accuracy = _evaluate(shared, params, data["val"])
        best.update(epoch, val_loss, params)
        curve.append(_curve_rows(epoch, seeds, train_loss, val_loss, val_accuracy))
        if (epoch - best.epoch >= patience).all():
            break
    scores = {name: _log_probs(shared, best.params, data[name]) for name in ("val", "test")}
    return {
        "log_probs": {name: score.cpu().numpy() for name, score in scores.items()},
        "params": best.params,
        "params_total": sum(stacked[0].numel() for stacked in params.values()),
        "curve": pd.concat(curve, ignore_index=True),
    }


def _curve_rows(
    epoch: int,
    seeds: Sequence[int],
    train_loss: torch.Tensor,
    val_loss: torch.Tensor,
    val_accuracy: torch.Tensor,
) -> pd.DataFrame:
    """An epoch's row of each seed; the measured values are [S]."""
    measured = {"train_loss": train_loss, "val_loss": val_loss, "val_accuracy": val_accuracy}
    values = {name: value.tolist() for name, value in measured.items()}
    return pd.DataFrame({"epoch": epoch, "seed": list(seeds), **values})


def _stacked(
    build: Callable[[], nn.Module], seeds: Sequence[int], device: str
) -> tuple[dict[str, torch.Tensor], Callable[..., torch.Tensor]]:
    """The networks' parameters [S, ...] by name, and the forward pass of one set of them."""
    networks = []
    for seed in seeds:
        torch.manual_seed(seed)
        networks.append(build().to(device))
    params, buffers = stack_module_state(networks)
    first_buffers = {name: buffer[0] for name, buffer in buffers.items()}
    shell = build().to("meta")  # the structure without weights

    def forward(
        weights: dict[str, torch.Tensor], image: torch.Tensor, question: torch.Tensor
    ) -> torch.Tensor:
        return functional_call(shell, (weights, first_buffers), (image, question))

    return {name: stack.detach().requires_grad_() for name, stack in params.items()}, forward


class _BestEpochs:
    """Of each seed the parameters with its lowest validation loss so far, and their epoch."""

    def __init__(self, params: Mapping[str, torch.Tensor], n_seeds: int) -> None:
        self.params = {name: stack.detach().clone() for name, stack in params.items()}
        self.loss = torch.full((n_seeds,), math.inf)
        self.epoch = torch.zeros(n_seeds, dtype=torch.long)

    def update(self, epoch: int, loss: torch.Tensor, params: Mapping[str, torch.Tensor]) -> None:
        """Takes over the seeds whose `loss` [S] is lower; refuses one that is no number."""
        what, todo = "the fusion network's loss is no number", "lower learning_rate"
        if not torch.isfinite(loss).all():
            raise Hw2Error(what, where=f"epoch {epoch}", todo=todo)
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.epoch = torch.where(better, epoch, self.epoch)
        for name, stack in params.items():
            rows = better.to(stack.device)
            self.params[name][rows] = stack.detach()[rows]


def _epoch(
    own_batch: Callable[..., torch.Tensor],
    params: dict[str, torch.Tensor],
    split: Split,
    optimiser: torch.optim.Optimizer,
    generators: Sequence[torch.Generator],
    batch_size: int,
) -> torch.Tensor:
    """One pass, each seed in its own order; mean training loss [S].

    Examples whose answer isn't in the classes are left out.
    """
    usable = torch.nonzero(split.label >= 0).squeeze(1)
    order = torch.stack(
        [usable[torch.randperm(len(usable), generator=g).to(usable.device)] for g in generators]
    )
    total = torch.zeros(len(generators))
    for rows in order.split(batch_size, dim=1):
        logits = own_batch(params, split.image[rows], split.question[rows])  # (S, b, C)
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
    shared: Callable[..., torch.Tensor], params: dict[str, torch.Tensor], split: Split
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss [S], over examples whose answer is in the classes, and accuracy [S]."""
    log_probs = _log_probs(shared, params, split)
    known = split.label >= 0
    label = split.label[known].expand(len(log_probs), -1)[..., None]  # (S, n_known, 1)
    loss = -log_probs[:, known].gather(2, label).mean(dim=(1, 2))
    accuracy = (log_probs.argmax(-1) == split.label).float().mean(dim=1)
    return loss.cpu(), accuracy.cpu()


def _log_probs(
    shared: Callable[..., torch.Tensor], params: dict[str, torch.Tensor], split: Split
) -> torch.Tensor:
    with torch.inference_mode():
        return torch.log_softmax(shared(params, split.image, split.question), -1)  # (S, n, C)


def training_options(settings: SimpleNamespace) -> dict[str, Any]:
    """What a run's settings say of a training, by the names of `fit` and `cross_validate`."""
    training = ("seeds", "epochs", "batch_size", "learning_rate", "weight_decay", "device")
    return {name: getattr(settings, name) for name in ("hidden_dim", *training)}


# ------------------------------------------------------------------------------------ uses of it
def cross_validate(
    network: Network,
    embedded: Embedded,
    *,
    n_folds: int,
    blind: bool,
    hidden_dim: int,
    image_scale: float,
    **recipe: Any,
) -> dict[str, Any]:
    """Accuracy on each of `n_folds` parts of train and val pooled, cut by image; test isn't used.

    `blind` leaves the picture's branch out. Returns `folds`: a frame (fold, seed, accuracy).
    """
    image_dim, question_dim = embedded.dims
    dims = 0 if blind else image_dim, question_dim
    accuracies = []
    for fold, frames in enumerate(_folds(embedded.frames, n_folds)):
        data = tensors(replace(embedded, frames=frames), image_scale=image_scale)
        trained = train(lambda: network(*dims, hidden_dim, len(embedded.classes)), data, **recipe)
        right = trained["log_probs"]["test"].argmax(-1) == data["test"].label.numpy()  # (S, n)
        row = {"fold": fold, "seed": list(recipe["seeds"]), "accuracy": right.mean(axis=1)}
        accuracies.append(pd.DataFrame(row))
    return {"folds": pd.concat(accuracies, ignore_index=True)}


def _folds(frames: Mapping[str, pd.DataFrame], n_folds: int) -> Iterator[dict[str, pd.DataFrame]]:
    """Splits in which each fold is once `test`; the next one is `val`, which stops the training."""
    from sklearn.model_selection import GroupKFold

    pooled = pd.concat([frames["train"], frames["val"]], ignore_index=True)
    cut = GroupKFold(n_folds, shuffle=True, random_state=0).split(pooled, groups=pooled["image_id"])
    folds = [rows for _, rows in cut]
    for test, val in zip(folds, [*folds[1:], folds[0]], strict=True):
        train = pooled.drop(index=[*test, *val])
        yield {"test": pooled.loc[test], "val": pooled.loc[val], "train": train}


def tfidf_log_probs(
    frames: Mapping[str, pd.DataFrame], *, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Reference without picture or neural network: TF-IDF of words and pairs, logistic regression.

    Returns log-probabilities float32 [n, n_classes] for val and test. Raises Hw2Error for questions
    without words.
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
    network: Network,
    dims: tuple[int, int],
    data: Mapping[str, Split],
    frames: Mapping[str, pd.DataFrame],
    *,
    method: str,
    classes: Sequence[str],
    hidden_dim: int,
    **recipe: Any,
) -> dict[str, Any]:
    """One method trained with all its seeds: what `train` returns, its time, and predictions.

    The parameters of the method that `predict` and `ask` use are kept, as a safetensors file.
    """
    with timing.memory_explained(recipe["batch_size"]), timing.timed(recipe["device"]) as clock:
        result = train(lambda: network(*dims, hidden_dim, len(classes)), data, **recipe)
    predictions = [
        prediction_frame(
            frames[split], scores[i], method=method, seed=seed, split=split, classes=classes
        )
        for split, scores in result.pop("log_probs").items()
        for i, seed in enumerate(recipe["seeds"])
    ]
    times = {"train_time_s": clock.time_s, "timing_note": clock.note}
    params = {name: stack.cpu() for name, stack in result.pop("params").items()}
    kept = {KEPT: safetensors.torch.save(params)} if method == KEPT else {}
    return {**result, **times, **kept, "predictions": pd.concat(predictions)}


def run_methods(run: Run, network: Network, embedded: Embedded) -> pd.DataFrame:
    """Trains fusion and its blind ablations by one procedure; returns their curves.

    Predictions and costs go on record. Each method is one part, all its seeds together.
    """
    classes = embedded.classes
    bag_of_words = tfidf_log_probs(embedded.frames, classes=classes)  # refuses before any training
    labelled = {s: f.rename(columns={"answer": "label"}) for s, f in embedded.frames.items()}
    image_dim, question_dim = embedded.dims
    methods = {
        "fusion": (image_dim, question_dim),
        "question_only": (0, question_dim),
        "image_only": (image_dim, 0),
        "fusion+shuffled_images": (image_dim, question_dim),
    }
    curves = [
        _run_method(run, network, embedded, labelled, method=method, dims=dims)
        for method, dims in methods.items()
    ]
    method = "question_only+tfidf"
    blind = [
        prediction_frame(labelled[s], scores, method=method, seed=None, split=s, classes=classes)
        for s, scores in bag_of_words.items()
    ]
    run.add_predictions(pd.concat(blind), file=method, classes=classes)
    majority = majority_baseline(labelled, classes=classes)
    run.add_predictions(majority, file="majority", classes=classes)
    return pd.concat(curves, ignore_index=True)


def _run_method(
    run: Run,
    network: Network,
    embedded: Embedded,
    labelled: Mapping[str, pd.DataFrame],
    *,
    method: str,
    dims: tuple[int, int],
) -> pd.DataFrame:
    """One method as a part, on record; its curve."""
    shuffle = 0 if method.endswith("shuffled_images") else None
    inputs = {
        "network": network,
        "dims": dims,
        "data": tensors(embedded, image_scale=run.settings.image_scale, shuffle_images=shuffle),
        "frames": labelled,
        "method": method,
        "classes": embedded.classes,
        **training_options(run.settings),
    }
    result = run.part(f"{method}, all seeds", fit, inputs, measured=True)
    if method == KEPT:
        run.keep_model(KEPT_FILE, result[KEPT])
    if result["timing_note"]:
        run.note(f"{method}: {result['timing_note']}")
        run.disturbed.append(method)
    run.add_predictions(result["predictions"], file=method, classes=embedded.classes)
    run.add_metrics(
        {"method": method, "split": "train", "name": name, "value": result[name]}
        for name in ("params_total", "train_time_s")
    )
    return result["curve"].assign(method=method)


def answer_probabilities(
    network: Network,
    file: Path,
    settings: SimpleNamespace,
    *,
    classes: Sequence[str],
    seed: int,
    image: np.ndarray,
    question: np.ndarray,
) -> np.ndarray:
    """Probabilities float32 [n, n_classes] of the answers to questions about pictures.

    Takes their vectors, float32 [n, d_image] and [n, d_question], and the `file` of a run with
    these settings that holds its trained networks. Nothing is trained.
    """
    what, todo = "the trained network doesn't load", "run the notebook again"
    with explained(what, where=file, todo=todo):
        stacked = safetensors.torch.load_file(file)
        place = list(settings.seeds).index(seed)
        trained = network(image.shape[1], question.shape[1], settings.hidden_dim, len(classes))
        trained.load_state_dict({name: stack[place] for name, stack in stacked.items()})
    vectors = _scaled(image, settings.image_scale), _unit(question)
    with torch.inference_mode():
        logits = trained.eval()(*map(torch.from_numpy, vectors))
    return torch.softmax(logits, -1).numpy()
