"""How much faster `fusion.train` is with all seeds at once than with one call a seed.

    python benchmarks/fusion.py [--seeds N] [--epochs N] [--vqa FOLDER] [--repeats N] [--threads N]

The network is notebook 03's own cell, the recipe the sample profile's. Each distinct picture and
question gets a random unit vector of the sample encoders' dimensions (time doesn't depend on the
values); labels are the folder's. Both sides train every epoch (no early stopping) and take turns in
one process; log-probabilities must agree to 1e-3.
Prints a Markdown table: medians with ranges, the ratio of medians, and the range of the ratios turn
by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from embedding_cache import spread
from prompting import turns
from torch import nn

from hw2_utils import daquar, fusion, paths, profiles

IMAGE_DIM, QUESTION_DIM = 1280, 384


def network_class() -> Callable[..., nn.Module]:
    """The class that notebook 03 defines: there is no other definition."""
    notebook = json.loads(
        (paths.NOTEBOOKS / "03_vqa_resnet_sbert.ipynb").read_text(encoding="utf-8")
    )
    sources = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if "listing" in cell["metadata"].get("tags", [])
    ]
    scope: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(next(source for source in sources if source.startswith("class Fusion")), scope)
    return scope["Fusion"]


def random_vectors(items: Iterable[str], dim: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(dim)
    return {
        item: random.standard_normal(dim, dtype=np.float32) for item in items
    }  # fusion.tensors makes them unit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--vqa", type=Path, default=paths.ROOT / "data" / "sample" / "daquar")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load_before, settings = os.getloadavg()[0], profiles.load("sample")["03_vqa_resnet_sbert"]
    data, Fusion = daquar.read(args.vqa), network_class()
    rows = pd.concat(data.splits.values())
    embedded = fusion.Embedded(
        data.splits,
        random_vectors(rows["image_id"].unique(), IMAGE_DIM),
        random_vectors(rows["question"].unique(), QUESTION_DIM),
        data.classes,
    )
    parts = fusion.tensors(embedded, image_scale=settings["image_scale"])

    def train(seeds: Sequence[int]) -> dict[str, np.ndarray]:
        recipe = {name: settings[name] for name in ("batch_size", "learning_rate", "weight_decay")}
        result = fusion.train(
            lambda: Fusion(IMAGE_DIM, QUESTION_DIM, settings["hidden_dim"], len(data.classes)),
            parts,
            seeds=seeds,
            epochs=args.epochs,
            patience=args.epochs,
            device="cpu",
            **recipe,
        )
        assert result["curve"]["epoch"].max() == args.epochs, "stopped early"
        return result["log_probs"]

    seeds = list(range(args.seeds))
    together, alone = train(seeds), [train([seed]) for seed in seeds]  # the warm-up too
    for split, scores in together.items():
        np.testing.assert_allclose(
            scores, np.concatenate([one[split] for one in alone]), atol=1e-3, rtol=0
        )
    taken = turns(
        {"at once": lambda: train(seeds), "in turn": lambda: [train([s]) for s in seeds]},
        args.repeats,
    )
    ratio = statistics.median(taken["at once"]) / statistics.median(taken["in turn"])
    each = [at_once_s / in_turn_s for at_once_s, in_turn_s in zip(*taken.values(), strict=True)]
    print(
        f"{args.seeds} seeds, {args.epochs} epochs of {len(parts['train'].label):,} questions, "
        f"{len(data.classes)} answers; {args.repeats} turns; {args.threads} threads; "
        f"load average {load_before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after; log-probabilities equal to 1e-3\n"
    )
    print("| method | s (range) | share of the time in turn (range) |\n|---|--:|--:|")
    print(
        f"| all seeds at once | {spread(taken['at once'], 2)} | "
        f"{ratio:.2f} ({min(each):.2f} to {max(each):.2f}) |"
    )
    print(f"| one call a seed, in turn | {spread(taken['in turn'], 2)} | 1 |")


if __name__ == "__main__":
    main()
