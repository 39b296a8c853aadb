"""Epoch time and memory of full fine-tuning and LoRA of roberta-base's shape on a GPU.

    python benchmarks/roberta_gpu.py --tweets FOLDER --tokenizer FOLDER
                                     [--examples N] [--repeats N] [--out FILE.md]

The weights are random (the true ones need the hub), which changes neither time nor memory; losses
and accuracies would say nothing and are not printed. Through the notebooks' own functions:
`finetune.train` for one epoch of batches of 16 grouped by length, `finetune.training_memory` in a
process of its own for each method. For each precision and method: one whole epoch, then `--repeats`
times 200 further steps, methods in turn, as median and range of seconds a step. Memory is taken
twice, full first and then LoRA first: the two must agree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import transformers
from peft import LoraConfig, TaskType

from hw2_utils import finetune, hub, timing, tweets

N_STEPS = 200
METHODS = {"full": None, "lora": LoraConfig(task_type=TaskType.SEQ_CLS, inference_mode=False, r=8)}


def roberta_base(folder: Path, tokenizer: Path) -> hub.Model:
    """A model folder with roberta-base's architecture, random weights and the given tokenizer."""
    config = transformers.RobertaConfig(
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)
    for file in tokenizer.glob("*"):
        if file.name.startswith(("tokenizer", "vocab", "special")):
            (folder / file.name).write_bytes(file.read_bytes())
    return hub.fetch_model(str(folder))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tweets", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument(
        "--examples", type=int, default=45_615, help="size of TweetEval's training split"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    data = tweets.read(args.tweets)
    frame = data.splits["train"]
    while (
        len(frame) < args.examples
    ):  # a smaller folder than the official one: its lengths, repeated
        frame = pd.concat([frame, frame], ignore_index=True)
    frame = frame.head(args.examples)
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = roberta_base(Path(folder), args.tokenizer)
        tok = finetune.tokenizer(model)
        for bf16 in (False, True):
            recipe = finetune.Recipe(
                epochs=1, batch_size=16, max_length=128, bf16=bf16, device=args.device
            )
            encoded = finetune.tokenise(
                frame, tok, classes=data.classes, max_length=recipe.max_length
            )
            few = encoded.select(range(min(len(encoded), N_STEPS * 16)))
            memory: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
            for method in (*METHODS, *reversed(METHODS)):
                memory[method].append(
                    timing.in_child(
                        finetune.training_memory,
                        model,
                        frame,
                        recipe,
                        classes=data.classes,
                        peft_config=METHODS[method],
                        learning_rate=5e-5,
                    )
                )
            networks = {
                method: finetune.with_lora(
                    finetune.classifier(model, classes=data.classes, seed=0), config
                )
                for method, config in METHODS.items()
            }
            epochs, steps = {}, {method: [] for method in METHODS}
            for method, network in networks.items():
                finetune.train(network, few, tok, recipe, learning_rate=5e-5, seed=0)  # warm-up
                result = finetune.train(network, encoded, tok, recipe, learning_rate=5e-5, seed=0)
                epochs[method] = result["train_time_s"]
                print(
                    f"{method}, bf16 {bf16}: one epoch {epochs[method]:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
            for repeat in range(args.repeats):
                for method, network in networks.items():
                    result = finetune.train(
                        network, few, tok, recipe, learning_rate=5e-5, seed=repeat
                    )
                    steps[method].append(result["train_time_s"] / -(-len(few) // 16))
            for method in METHODS:
                ms = [f"{1000 * f(steps[method]):.1f}" for f in (statistics.median, min, max)]
                mib = {
                    name: " / ".join(f"{m[name]:,.0f}" for m in memory[method])
                    for name in memory[method][0]
                }
                rows.append(
                    {
                        "precision": "bf16 autocast" if bf16 else "float32",
                        "method": method,
                        **finetune.count_parameters(networks[method]),
                        "epoch_s": round(epochs[method], 1),
                        "step_ms": f"{ms[0]} ({ms[1]} to {ms[2]})",
                        **mib,
                    }
                )
            ratios = [lora / full for full, lora in zip(*steps.values(), strict=True)]
            lines.append(
                f"{rows[-1]['precision']}: a LoRA step takes {statistics.median(ratios):.2f} of a "
                f"full step ({min(ratios):.2f} to {max(ratios):.2f}), "
                f"an epoch {epochs['lora'] / epochs['full']:.2f}."
            )
            print(rows[-2:], lines[-1], file=sys.stderr, flush=True)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    text = "\n".join(
        [
            f"{name}, {versions}, {time.strftime('%Y-%m-%d')}; "
            f"{len(frame):,} tweets, batches of 16",
            "",
            pd.DataFrame(rows).to_markdown(index=False),
            "",
            *lines,
            "",
        ]
    )
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
