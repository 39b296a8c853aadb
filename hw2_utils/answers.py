"""The homework's questions, answered from what a run measured: right for every outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hw2_utils.inference import LEVEL

SHOWN = ("leads", "trails")
ALPHA = round(1 - LEVEL, 12)


def verdict(row: Mapping[str, Any]) -> str:
    """What a row of `inference.compare` shows of its first method, in a word.

    One of "leads", "trails" and "not shown".
    """
    p_value = row.get("p_holm")
    if p_value is None or pd.isna(p_value) or p_value >= ALPHA:
        return "not shown"
    if row["low"] > 0 or row["high"] < 0:
        return "leads" if row["difference"] > 0 else "trails"
    return "not shown"


def paired_caption(what: str, *, units: str) -> str:
    """Caption of a table of paired tests (`inference.shown`); `units`: "tweets", "images", ..."""
    return (
        f"{what}, over seeds and {units}: interval at the level at which Holm's method judges the "
        "row, p after Holm, spread over seeds, and the difference that would have been shown with "
        "a power of 80 %."
    )


def vqa_recipe(settings: Any) -> str:
    """Problem 2's recipe whole, as the run used it."""
    return (
        "Vectors are L2-normalised (`image_scale` is a picture vector's length), the optimizer is "
        f"AdamW, the loss cross-entropy; learning rate {settings.learning_rate:g}, weight decay "
        f"{settings.weight_decay:g}, batches of {settings.batch_size}, at most {settings.epochs} "
        f"epochs with the best one by validation loss, hidden layers of {settings.hidden_dim}, "
        f"`image_scale` {settings.image_scale:g}, pictures used {settings.geometry}, "
        f"{len(settings.seeds)} seed(s)."
    )


# ---------------------------------------------------------------------------- full and LoRA
COST_NAMES = {
    "params_trainable": "trained parameters",
    "peak_memory_mib": "peak memory",
    "train_time_s": "time",
}


def costs(table: pd.DataFrame, *, disturbed: Sequence[str]) -> dict[str, float]:
    """LoRA's parameters, memory and time divided by full fine-tuning's, by name.

    No time where one was disturbed.
    """
    names = list(COST_NAMES)
    if set(disturbed) & {"full", "lora"}:
        names.remove("train_time_s")
    found = table.reindex(names).dropna(how="all")
    return (found["lora"] / found["full"]).to_dict()


def efficiency(table: pd.DataFrame, *, n_seeds: int, disturbed: Sequence[str]) -> str:
    """Aspect 1: what LoRA saves, in numbers that `table` (`finetune.summary`) holds too."""
    share = costs(table, disturbed=disturbed)
    parts = [
        _cost("the trained parameters", table.loc["params_trainable"], share["params_trainable"])
    ]
    if "peak_memory_mib" in share:
        memory = table.loc["peak_memory_mib"]
        parts.append(_cost("the peak memory", memory, share["peak_memory_mib"], "MiB"))
    shares = " and ".join(parts)
    told = f"**Efficiency.** `lora` has {shares} of `full` (memory measured once a method)."
    if "train_time_s" not in share:
        return f"{told} Their times are not compared: other work had the machine meanwhile."
    time = table.loc["train_time_s"]
    seeds = "one training each" if n_seeds == 1 else f"means over {n_seeds} seeds"
    return f"{told} It trains in {_cost('the time', time, share['train_time_s'], 's')} ({seeds})."


def _cost(what: str, row: pd.Series, share: float, unit: str = "") -> str:
    numbers = f"{row['lora']:,.0f} against {row['full']:,.0f} {unit}".strip()
    return f"{share:.1%} of {what} ({numbers})"


def performance(table: pd.DataFrame, tests: pd.DataFrame, own_rate: str) -> str:
    """Aspect 2: accuracy, F1 and loss side by side, and what of the difference is shown."""
    names = {"accuracy": "accuracy", "f1_weighted": "weighted F1", "loss": "loss"}
    numbers = [
        f"{said} {table.loc[n, 'lora']:.3f} against {table.loc[n, 'full']:.3f}"
        for n, said in names.items()
    ]
    at_own = tests.loc[f"{own_rate} - full"]
    better = {
        "leads": "leads `full`",
        "trails": "still trails `full`",
        "not shown": "shows no difference to `full`",
    }[verdict(at_own)]
    return (
        f"**Performance.** At the same learning rate `lora` has {', '.join(numbers)} of `full`: "
        f"{_told(verdict(tests.loc['lora - full']))}. "
        f"At a rate of its own LoRA {better} in accuracy."
    )


def _told(outcome: str) -> str:
    return {
        "leads": "it leads",
        "trails": "it trails",
        "not shown": "no difference in accuracy is shown",
    }[outcome]


def practice(table: pd.DataFrame, inference: pd.DataFrame) -> str:
    """Aspect 3: what is saved to disk, and what an adapter costs when the model is used."""
    size, median = table.loc["checkpoint_mib"], inference["median"]
    told = (
        f"**Other aspects.** A trained `lora` is {size['lora']:.1f} MiB on disk where `full` is "
        f"{size['full']:,.0f} MiB, so one base model serves many tasks."
    )
    if inference["disturbed"].any():
        times = "How long prediction takes is not compared: other work had the machine meanwhile."
    else:
        times = (
            "Beside its matrices an adapter makes prediction "
            f"{median['with adapter'] / median['base']:.2f} times as long here, merged "
            f"{median['merged'] / median['base']:.2f} times (medians of five)."
        )
    return f"{told} {times} A batch that mixes tasks can't use a merged one."


def observations(
    table: pd.DataFrame, tests: pd.DataFrame, *, disturbed: Sequence[str]
) -> dict[str, Any]:
    """What one model's run shows of LoRA against full fine-tuning: costs, and both verdicts.

    `table`: its `finetune.summary`; `tests`: its paired tests, with one row "lora+... - full".
    """
    at_own_rate = [pair for pair in tests.index if pair.startswith("lora+")]
    own = next(pair for pair in at_own_rate if pair.endswith(" - full"))
    return {
        "costs": costs(table, disturbed=disturbed),
        "same rate": verdict(tests.loc["lora - full"]),
        "own rate": verdict(tests.loc[own]),
    }


def same_observations(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Whether what holds for the larger model (01) holds for the smaller one (02), by aspect.

    Each of the two has `costs` (shares as `costs` gives them), `same rate` and `own rate` (verdicts
    of LoRA against full fine-tuning).
    """
    rates = {"same rate": "At the same learning rate", "own rate": "At a rate of its own"}
    both = [name for name in first["costs"] if name in second["costs"]]
    observed = [name for name in rates if first[name] in SHOWN]
    agreed = [(first["costs"][n] < 1) == (second["costs"][n] < 1) for n in both]
    agreed += [first[name] == second[name] for name in observed]
    answer = "Yes" if all(agreed) else "In part" if any(agreed) else "No"
    if not observed:
        answer += ", as to its costs; in accuracy 01 shows no difference that could apply"
    shares = [
        f"{COST_NAMES[n]} {first['costs'][n]:.1%} there, {second['costs'][n]:.1%} here"
        for n in both
    ]
    lines = [
        f"**Do the same observations apply to the smaller model? {answer}.** "
        f"LoRA's share of full fine-tuning: {'; '.join(shares)}."
    ]
    for name, what in rates.items():
        there, here = _told(first[name]), _told(second[name])
        lines.append(f"{what} LoRA against full fine-tuning: {there} in 01, {here} here.")
    return lines


# ---------------------------------------------------------------------------------- prompts
def expert_helped(tests: pd.DataFrame, auroc_p: float | None, quality: pd.DataFrame) -> list[str]:
    """Part 3.2's question: did the expert persona make answers more accurate, and more coherent?

    `auroc_p`: of the comparison of the AUROCs; None where too few statements allow none.
    """
    outcome = verdict(tests.loc["expert - short"])
    accurate = {
        "leads": "Yes in accuracy: `expert` leads `short`",
        "trails": "No: `expert` trails `short` in accuracy",
        "not shown": "No gain in accuracy is shown over `short`",
    }[outcome]
    order = "nor does it order" if outcome != "leads" else "but it doesn't order"
    if auroc_p is None:
        ranked = "and so few statements can't tell whether the order of its scores (AUROC) differs"
    elif auroc_p >= ALPHA:
        ranked = f"{order} the statements better (AUROC)"
    else:
        ranked = "and the order of its scores (AUROC) differs"
    expert, short = quality.loc["expert"], quality.loc["short"]
    return [
        f"**Did the expert persona help? {accurate}**, {ranked}.",
        f"Coherence on the seven statements: its texts have {expert['n_words']:.0f} words against "
        f"{short['n_words']:.0f}, repeat {expert['repeated_3gram_share']:.0%} of their 3-grams "
        f"against {short['repeated_3gram_share']:.0%}, and "
        f"{expert['contradicts']:.0%} against {short['contradicts']:.0%} hold both verdicts.",
    ]


def leaning_or_knowledge(style: str, share: pd.Series, ranking: pd.Series | None) -> str:
    """Whether a style moved, against `short`, which answer is given, how statements are ordered.

    `share`: the comparison of the shares called true; `ranking`: that of the AUROCs, None where too
    few statements allow none.
    """
    moved = verdict(share)
    more = {"leads": "more", "trails": "fewer"}
    leaning = (
        f"calls {more[moved]} statements true"
        if moved in SHOWN
        else "calls no other share of statements true, as far as shown"
    )
    told = f"Against `short`, `{style}` {leaning} ({100 * share['difference']:+.0f} points)"
    if ranking is None:
        return f"{told}; too few statements to compare their order (AUROC)."
    order = {
        "leads": "orders them better",
        "trails": "orders them worse",
        "not shown": "no difference in their order is shown",
    }[verdict(ranking)]
    return f"{told}, and {order} (AUROC {ranking['difference']:+.3f})."


def prompt_style(
    style: str, table: pd.DataFrame, quality: pd.DataFrame, *, share_true: float
) -> str:
    """How far a style leans, how well it orders statements, and what its texts are like.

    `table`: `metrics.overview` with "share true" and n; `quality`: means over the seven's texts;
    `share_true`: of the statements' labels.
    """
    preferred, written = table.loc[style], table.loc[f"{style}+generated"]
    seven = quality.loc[style]
    return (
        f"`{style}` calls {preferred['share true']:.0%} of the statements true "
        f"({share_true:.0%} are), with AUROC {preferred['auroc']:.3f}; in text "
        f"{written['unparsed_rate']:.0%} of {written['n']:.0f} answers hold no verdict. "
        f"On the seven its texts have {seven['n_words']:.0f} words, "
        f"{seven['repeated_3gram_share']:.0%} of their 3-grams repeated, and "
        f"{seven['contradicts']:.0%} hold both verdicts."
    )


def swapped_shots(table: pd.DataFrame) -> str:
    """What the order of the two shots moves; `table` as in `prompt_style`."""
    given, swapped = table.loc["few_shot"], table.loc["few_shot+swapped"]
    return (
        "Swapping the two shots moves the share that is called true from "
        f"{given['share true']:.0%} to {swapped['share true']:.0%}, accuracy from "
        f"{given['accuracy']:.3f} to {swapped['accuracy']:.3f} and AUROC from "
        f"{given['auroc']:.3f} to {swapped['auroc']:.3f}."
    )


def drawn_shots(by_draw: pd.DataFrame) -> list[str]:
    """How far "share true" and "accuracy" spread over other shots, a row each; nothing of none."""
    if by_draw.empty:
        return []
    lowest, highest = by_draw.min(), by_draw.max()
    return [
        f"Over {len(by_draw)} other pairs and orders of shots the share that is called true runs "
        f"from {lowest['share true']:.0%} to {highest['share true']:.0%}, and accuracy from "
        f"{lowest['accuracy']:.3f} to {highest['accuracy']:.3f}."
    ]


# ----------------------------------------------------------------------------------- question types
def encoders(facts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What is on record about each model's encoders, and what a difference could come from.

    `facts`: of each of the two models, its encoders' objective, pretraining_data and towers.
    """
    lines = [
        f"`{name}`: "
        + "; ".join(f"{fact['objective']} on {fact['pretraining_data']}" for fact in of_model)
        + "."
        for name, of_model in facts.items()
    ]
    first, second = (
        {tower for fact in of_model for tower in fact.get("towers", ["unknown"])}
        for of_model in facts.values()
    )
    if first != second:
        return [
            *lines,
            "Hypothesis, not measured: an objective that ties pictures to sentences keeps "
            "attributes and relations that object classification may discard.",
        ]
    return [
        *lines,
        f"Both use the same towers ({', '.join(sorted(first))}): here the models differ in the "
        "projection alone, so no difference between them can be one of pretraining data.",
    ]


def types_shown(tests: pd.DataFrame, gains: pd.DataFrame) -> str:
    """The question types on which a difference of the two models, or the picture's gain, is shown.

    `tests`: `inference.compare` of the models, overall and by type; `gains`: of each model with the
    picture against itself without, by type.
    """
    differing = [
        row.split(": ")[1]
        for row in tests.index
        if ": " in row and verdict(tests.loc[row]) in SHOWN
    ]
    gaining = [
        row.replace(" - ", " over ") for row in gains.index if verdict(gains.loc[row]) == "leads"
    ]
    models = (
        f"The two models differ on {', '.join(differing)}"
        if differing
        else "No type shows a difference of the two models"
    )
    return (
        f"{models}; that the picture adds something is shown for "
        f"{', '.join(gaining) or 'no type'}. "
        "That is how far a reason can be tied to what was measured."
    )
