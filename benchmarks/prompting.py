"""How much faster the prompting engine is than one statement at a time, on the sample model.

    python benchmarks/prompting.py [--statements N] [--repeats N] [--max-new-tokens N] [--threads N]
                                   [--model ID_OR_PATH]

Both sides get the same model object in float32, the same prompts (the assignment's two shots in a
complete frame, statements from data/sample) and the same stop, and take turns in one process.
(a) `generate` against transformers' text-generation pipeline, one prompt a call; tokens must be
identical.
(b) `score` of " True" and " False" against a loop of full forward passes, one a statement and
answer; and, as a stricter comparison, one a statement, from which both answers are read. Scores
must agree to 1e-4.
(c) `score` against lm-evaluation-harness on the same model object, prompts and batch size;
log-likelihoods must agree to 1e-3. Only where HW2_HARNESS names a folder with the harness
(requirements-harness.txt says how to get it).
Prints a Markdown table: medians with ranges, ratios of medians, and the range of the ratios turn by
turn.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import pipeline
from transformers.utils import logging

from hw2_utils import hub, prompting

FRAME = (
    'Statement: "The moon is made of cheese."\nAnswer: False\n\n'
    'Statement: "The Eiffel Tower is located in Paris."\nAnswer: True\n\n'
    'Statement: "[text]"\nAnswer:'
)
STATEMENTS = (
    Path(__file__).resolve().parent.parent / "data" / "sample" / "statements" / "statements.csv"
)
ANSWERS = (" True", " False")


def sample_prompts(n_statements: int) -> list[str]:
    with STATEMENTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:n_statements]
    return [prompting.fill(FRAME, row["statement"]) for row in rows]


def pipeline_tokens(
    lm: prompting.LanguageModel, prompts: Sequence[str], n_tokens: int
) -> list[list[int]]:
    generator = pipeline("text-generation", model=lm.model, tokenizer=lm.tokenizer)
    made = []
    for prompt in prompts:
        output = generator(
            prompt,
            max_new_tokens=n_tokens,
            do_sample=False,
            stop_sequence="\n",
            return_tensors=True,
        )
        made.append(output[0]["generated_token_ids"][len(lm.encode([prompt])[0]) :])
    return made


def pair_scores(lm: prompting.LanguageModel, prompts: Sequence[str]) -> np.ndarray:
    """One forward pass over prompt and answer for each pair."""
    scores = np.empty((len(prompts), len(ANSWERS)))
    with torch.inference_mode():
        for row, prompt in enumerate(prompts):
            n_context = len(lm.encode([prompt])[0])
            for column, answer in enumerate(ANSWERS):
                ids = torch.tensor(lm.encode([prompt + answer]))
                log_probs = lm.model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
                picked = log_probs.gather(1, ids[0, 1:, None])[n_context - 1 :]
                scores[row, column] = picked.double().sum()
    return scores


def prompt_scores(lm: prompting.LanguageModel, prompts: Sequence[str]) -> np.ndarray:
    """One forward pass for each prompt, both answers read at its end (they have one token each)."""
    answer_ids = [ids[0] for ids in lm.encode(ANSWERS)]
    with torch.inference_mode():
        return np.array(
            [
                lm.model(input_ids=torch.tensor(lm.encode([prompt])), use_cache=False)
                .logits[0, -1]
                .log_softmax(-1)[answer_ids]
                .double()
                .tolist()
                for prompt in prompts
            ]
        )


def harness_scores(lm: prompting.LanguageModel, prompts: Sequence[str]) -> np.ndarray:
    """lm-evaluation-harness's own log-likelihoods, by the requests of its multiple-choice tasks."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=16)
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(prompt, answer), idx=i)
        for i, prompt in enumerate(prompts)
        for answer in ANSWERS
    ]
    return np.array(
        [score for score, _ in harness.loglikelihood(requests, disable_tqdm=True)]
    ).reshape(-1, len(ANSWERS))


def turns(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action in each turn; the actions alternate, so that all see the same load."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start_s = time.perf_counter()
            action()
            taken[name].append(time.perf_counter() - start_s)
    return taken


def table_rows(part: str, taken: dict[str, list[float]], n_prompts: int) -> list[str]:
    ours = taken["ours"]
    rows = []
    for name, theirs in taken.items():
        median_s = statistics.median(theirs)
        ratios = [other / own for other, own in zip(theirs, ours, strict=True)]
        ratio = f"{median_s / statistics.median(ours):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        rows.append(
            f"| {part} | {name} | {median_s:.2f} ({min(theirs):.2f} to {max(theirs):.2f}) | "
            f"{n_prompts / median_s:.1f} | {'1' if name == 'ours' else ratio} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--statements", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--model", default="sample:SmolLM2-135M-Instruct", help="pinned id, folder or .gguf"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    lm = prompting.load(hub.fetch_model(args.model).path)
    prompts = sample_prompts(args.statements)
    load_before = os.getloadavg()[0]

    def ours() -> list[list[int]]:
        return prompting.generate_tokens(
            lm, prompts, max_new_tokens=args.max_new_tokens, stop=("\n",)
        )

    def pipelines() -> list[list[int]]:
        return pipeline_tokens(lm, prompts, args.max_new_tokens)

    assert ours() == pipelines(), "the tokens differ from the pipeline's"
    generated = turns({"ours": ours, "pipeline, one prompt a call": pipelines}, args.repeats)
    scores = prompting.score(lm, prompts, ANSWERS)
    for other in (pair_scores, prompt_scores):
        np.testing.assert_allclose(scores, other(lm, prompts), atol=1e-4, rtol=0)
    scored = turns(
        {
            "ours": lambda: prompting.score(lm, prompts, ANSWERS),
            "one forward pass a statement and answer": lambda: pair_scores(lm, prompts),
            "one forward pass a statement": lambda: prompt_scores(lm, prompts),
        },
        args.repeats,
    )

    compared = {}
    if "HW2_HARNESS" in os.environ:
        sys.path.append(os.environ["HW2_HARNESS"])
        np.testing.assert_allclose(scores, harness_scores(lm, prompts), atol=1e-3, rtol=0)
        compared = turns(
            {
                "ours": lambda: prompting.score(lm, prompts, ANSWERS),
                "lm-evaluation-harness": lambda: harness_scores(lm, prompts),
            },
            args.repeats,
        )

    n_tokens = [len(ids) for ids in lm.encode(prompts)]
    print(
        f"{len(prompts)} statements, {min(n_tokens)} to {max(n_tokens)} tokens with their shots; "
        f"{args.repeats} turns; {args.threads} threads; load average {load_before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after; tokens identical, scores equal to 1e-4\n"
    )
    print("| part | method | s (range) | statements/s | times as long as ours (range) |")
    print("|---|---|---|---|---|")
    print(
        "\n".join(
            table_rows("(a) generation", generated, len(prompts))
            + table_rows("(b) scoring", scored, len(prompts))
            + (table_rows("(c) scoring", compared, len(prompts)) if compared else [])
        )
    )


if __name__ == "__main__":
    main()
