"""How fast fine-tuning is on CPU, beside the published recipe, LoRA and the matmul rate.

    python benchmarks/finetune.py [--model ID_OR_PATH] [--tweets FOLDER] [--examples N]
                                  [--published-examples N] [--epochs N] [--repeats N]
                                  [--threads N] [--merged-lora] [--profile]

One process; methods take turns on the same model, tweets and seeds (turn i has seed i), batches of
16, after a warm-up. Only training is timed: tokenising, building the model and evaluation are
outside, for every method.
(a) `finetune.train` (batches of equal lengths, padded to their own longest) against stock Trainers
in random order: the published recipe, every tweet padded to 512 tokens (slow, so it gets fewer
tweets, for one epoch), and padding to the batch's longest. Losses show whether ours and the latter
learn the same; over whole splits too, because the last steps of grouped batches hold the shortest
tweets.
(b) LoRA (r=8, PEFT's default targets) against full fine-tuning, over the same batches.
(c) The share of the machine's float32 matmul rate (the best of a large square one) that whole
trainings reach: counting real tokens alone, and counting padding as well.
(d) With --merged-lora: LoRA that forms W + BA once a step in place of the side path; first proven
equal to 1e-5.
(e) With --profile: only the 12 operations that take most of 20 steps.
Prints Markdown tables: medians with ranges over the turns; ratios are medians and ranges of the
ratios turn by turn.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import peft
import torch
import transformers
from torch import nn

from hw2_utils import finetune, hub, timing, tweets

TWEETS = Path(__file__).resolve().parent.parent / "data" / "sample" / "tweet_eval" / "sentiment"
OURS, PUBLISHED, DYNAMIC = (
    "ours, full",
    "published recipe: padded to 512",
    "stock Trainer, dynamic padding",
)
LORA, MERGED = "ours, LoRA", "LoRA, W + BA formed each step"
LORA_CONFIG = peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, r=8)
SQUARE = (2048, 2048, 2048)
N_PROFILED_STEPS, N_OPS = 20, 12


def stock_train(
    network: nn.Module,
    data: datasets.Dataset,
    tok: Any,
    recipe: finetune.Recipe,
    *,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """The Trainer as it comes, without saving: random order, a batch padded to its longest."""
    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=learning_rate,
            seed=seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=0.01,
            dataloader_pin_memory=False,
        )
        run = transformers.Trainer(
            model=network, args=args, train_dataset=data, processing_class=tok
        )
        run.remove_callback(transformers.PrinterCallback)
        transformers.set_seed(seed)
        with timing.timed("cpu") as clock:
            run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    return {"train_time_s": clock.time_s, "timing_note": clock.note, "curve": {"loss": losses}}


def merge_each_step(network: nn.Module) -> nn.Module:
    """Each LoRA layer multiplies by W + scaling * BA, formed once a step for autograd too."""

    def forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        return nn.functional.linear(
            x, layer.weight + layer.scaling["default"] * (up @ down), layer.bias
        )

    for layer in [m for m in network.modules() if isinstance(m, peft.tuners.lora.Linear)]:
        layer.forward = functools.partial(forward, layer)
    return network


def assert_merged_is_equal(build: Callable[[int], nn.Module], batch: Any) -> str:
    """Outputs and the gradients of A and B agree to 1e-5, with a B that isn't its initial 0."""
    found = []
    for network in (build(0).eval(), merge_each_step(build(0)).eval()):
        factors = {name: p for name, p in network.named_parameters() if "lora_" in name}
        torch.manual_seed(0)
        for name in (n for n in factors if "lora_B" in n):
            nn.init.normal_(factors[name], std=0.05)
        output = network(**batch)
        output.loss.backward()
        found.append([output.logits.detach(), *(p.grad for p in factors.values())])
    difference = max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))
    assert difference < 1e-5, difference
    largest = max(float(gradient.abs().max()) for gradient in found[0][1:])
    equal = f"outputs and gradients equal to {difference:.1e}"
    return f"merged LoRA: {equal} (the largest gradient is {largest:.1e})"


def encoder_weights(network: nn.Module) -> list[tuple[int, int]]:
    return [
        tuple(m.weight.shape)
        for name, m in network.named_modules()
        if isinstance(m, nn.Linear) and ".layer." in name
    ]


def training_flops(network: nn.Module, lengths: Iterable[int]) -> float:
    """Floating point operations of forward and backward over texts, matrix products alone.

    6 for each weight of a product and token: 2 forward, and 2 for each of the gradients of weights
    and inputs. Pooler and classifier see one token a text. Attention has two products of n x n x
    hidden a layer (queries by keys, weights by values), 4 n^2 hidden forward and twice that
    backward: 12 * layers * hidden * n for each of a text's n tokens.
    """
    per_token = sum(out * inp for out, inp in encoder_weights(network))
    per_text = (
        sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Linear)) - per_token
    )
    n, attention = (
        np.fromiter(lengths, float),
        12 * network.config.num_hidden_layers * network.config.hidden_size,
    )
    return 6 * (per_token * n.sum() + per_text * len(n)) + attention * (n**2).sum()


def matmul_rate(rows: int, inner: int, columns: int) -> float:
    """Floating point operations a second of a float32 product, the best of ten."""
    a, b = torch.randn(rows, inner), torch.randn(columns, inner).t()  # as a linear layer has it
    out, taken = torch.empty(rows, columns), []
    for _ in range(10):
        start_s = time.perf_counter()
        torch.mm(a, b, out=out)
        taken.append(time.perf_counter() - start_s)
    return 2 * rows * inner * columns / min(taken)


def print_profile(train: Callable[[], object], n_steps: int) -> None:
    train()  # warm-up
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        train()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total_us = sum(e.self_cpu_time_total for e in events)
    print(
        f"{n_steps} steps of ours, {total_us / 1e6:.2f} s of self CPU time in all\n\n"
        "| operation | self CPU, ms a step | share | calls a step |\n|---|---|---|---|"
    )
    for e in events[:N_OPS]:
        each_ms, share = e.self_cpu_time_total / 1000 / n_steps, e.self_cpu_time_total / total_us
        print(f"| `{e.key}` | {each_ms:.2f} | {share:.1%} | {e.count / n_steps:.1f} |")


def spread(values: Sequence[float], form: str, middle: Callable = statistics.median) -> str:
    return f"{middle(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="sample:all-MiniLM-L6-v2", help="pinned id or folder")
    parser.add_argument("--tweets", type=Path, default=TWEETS)
    parser.add_argument("--examples", type=int, default=0, help="training tweets (0 = all)")
    parser.add_argument("--published-examples", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--merged-lora", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    os.environ["HW2_RUNNER"] = "1"  # no bar for ours, since the others have none to draw

    source = tweets.subset(tweets.read(args.tweets), max_train_examples=args.examples)
    model, frame, classes = hub.fetch_model(args.model), source.splits["train"], source.classes
    tok = finetune.tokenizer(model)
    recipe = finetune.Recipe(
        epochs=args.epochs, batch_size=16, max_length=128, bf16=False, device="cpu"
    )
    data, val = (
        finetune.tokenise(f, tok, classes=classes, max_length=128)
        for f in (frame, source.splits["val"])
    )
    few = finetune.tokenise(
        frame.head(args.published_examples), tok, classes=classes, max_length=512
    )
    padded = few.map(lambda row: tok.pad(row, padding="max_length", max_length=512))

    def full(seed: int) -> nn.Module:
        return finetune.classifier(model, classes=classes, seed=seed)

    def lora(seed: int) -> nn.Module:
        return finetune.with_lora(full(seed), LORA_CONFIG)

    methods = {
        PUBLISHED: (stock_train, full, padded, replace(recipe, epochs=1)),
        DYNAMIC: (stock_train, full, data, recipe),
        OURS: (finetune.train, full, data, recipe),
        LORA: (finetune.train, lora, data, recipe),
    }
    if args.merged_lora:
        methods[MERGED] = (finetune.train, lambda seed: merge_each_step(lora(seed)), data, recipe)

    def measured(name: str, seed: int, n_examples: int | None = None) -> dict[str, Any]:
        """One training: its time, shapes of batches, and losses where methods learn the same."""
        train, build, rows, own = methods[name]
        rows, network, shapes = (
            rows.select(range(min(n_examples or len(rows), len(rows)))),
            build(seed),
            [],
        )
        hook = network.register_forward_pre_hook(
            lambda *a: shapes.append(a[2]["input_ids"].shape), with_kwargs=True
        )
        result = train(network, rows, tok, own, learning_rate=args.learning_rate, seed=seed)
        hook.remove()
        real = [sum(mask) for mask in rows["attention_mask"]] * int(own.epochs)
        held = [length for n, length in shapes for _ in range(n)]
        if name in (OURS, DYNAMIC) and not n_examples:
            losses = list(result["curve"]["loss"])
            result["losses"] = [np.mean(losses[-math.ceil(len(losses) / 10) :])]
            for split in (data, val):
                scores = finetune.log_probs(network, split, tok, device="cpu")
                result["losses"].append(-scores[np.arange(len(scores)), split["labels"]].mean())
        return {
            **result,
            "sample_s": result["train_time_s"] / len(held),
            "mean_batch": sum(held) // len(shapes),
            "real": sum(real) / sum(held),
            "flops": [training_flops(network, n) for n in (real, held)],
        }

    if args.profile:
        network, rows = full(0), data.select(range(min(len(data), N_PROFILED_STEPS * 16)))
        train = functools.partial(
            finetune.train, network, rows, tok, replace(recipe, epochs=1), seed=0
        )
        return print_profile(
            lambda: train(learning_rate=args.learning_rate), math.ceil(len(rows) / 16)
        )
    proof = (
        [assert_merged_is_equal(lora, tok.pad(data[:16], return_tensors="pt"))]
        if args.merged_lora
        else []
    )
    load_before = os.getloadavg()[0]
    for name in methods:
        measured(name, 0, 16)  # warm-up
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
    rates: dict[tuple[int, int, int], list[float]] = {}
    for seed in range(args.repeats):
        for name in methods:
            results[name].append(measured(name, seed))
        n = results[OURS][0]["mean_batch"]  # forward, and the gradient of the weights
        for shape in {
            SQUARE,
            *(s for out, inp in encoder_weights(full(0)) for s in ((n, inp, out), (out, n, inp))),
        }:
            rates.setdefault(shape, []).append(matmul_rate(*shape))

    square, best = rates.pop(SQUARE), {shape: max(found) for shape, found in rates.items()}
    n_disturbed = sum(r["timing_note"] is not None for found in results.values() for r in found)
    print(
        f"{args.model}, {len(data)} tweets, {args.epochs} epochs "
        f"(the published recipe: {len(padded)}, 1); {args.repeats} turns; {args.threads} threads; "
        f"torch {torch.__version__}, transformers {transformers.__version__}; "
        f"load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after; "
        f"other work had the CPU for over 5 % of {n_disturbed} trainings\n"
    )
    print(
        "| method | samples/s (range) | a sample's time / ours (range) | real tokens of all | "
        "matmul rate reached by real tokens | with padding |\n|---|---|---|---|---|---|"
    )
    for name, found in results.items():
        ratios = [
            r["sample_s"] / ours["sample_s"] for r, ours in zip(found, results[OURS], strict=True)
        ]
        shares = [
            spread([r["flops"][i] / r["train_time_s"] / max(square) for r in found], ".1%")
            for i in (0, 1)
        ]
        per_s = spread([1 / r["sample_s"] for r in found], ".1f")
        n_real = statistics.mean(r["real"] for r in found)
        # frozen weights need fewer operations
        reached = " | ".join(shares) if methods[name][1] is full else "– | –"
        print(f"| {name} | {per_s} | {spread(ratios, '.2f')} | {n_real:.1%} | {reached} |")
    print(
        f"\nFloat32 matmuls, GFLOP/s: square of {SQUARE[0]} "
        f"{spread([r / 1e9 for r in square], '.1f')}, shares are of the best; "
        "shapes of a mean batch, best of each "
        f"{spread([r / 1e9 for r in best.values()], '.1f')}.\n\n"
        "| loss, mean over seeds (range) | last 10 % of steps | train, after | val, after |\n"
        "|---|---|---|---|"
    )
    curves = {name: np.array([r["losses"] for r in results[name]]).T for name in (OURS, DYNAMIC)}
    for name, rows in {
        **curves,
        "ours minus stock, same seed": curves[OURS] - curves[DYNAMIC],
    }.items():
        print(
            f"| {name} | " + " | ".join(spread(row, ".3f", statistics.fmean) for row in rows) + " |"
        )
    print("", *proof, sep="\n")


if __name__ == "__main__":
    main()
