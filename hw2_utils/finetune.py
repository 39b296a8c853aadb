"""Sentiment fine-tuning by Hugging Face's Trainer, full or with LoRA: the same recipe, seeds and data order for both."""

from __future__ import annotations

import copy
import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw2_utils import hub, keys, paths, timing
from hw2_utils.errors import Hw2Error, explained, require
from hw2_utils.hub import Model
from hw2_utils.predictions import majority_baseline, prediction_frame

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from hw2_utils.runs import Run

EVAL_BATCH_SIZE = 64
N_MEMORY_STEPS = 4
HEADS = ("classifier", "score")  # names that PEFT trains whole in a classifier, unasked
Rate = (
    float | tuple[float, float]
)  # one learning rate, or LoRA+'s two (Hayou et al. 2024, arXiv 2402.12354): of A, of B


def tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The model's own tokenizer. Raises InputError for none, or one that doesn't fit the model."""
    from transformers import AutoConfig, AutoTokenizer

    hub.check_tokenizer(model.path)
    with explained(
        "the model has no tokenizer that loads",
        where=model.id,
        todo="add the tokenizer's files to the model folder",
    ):
        tok = AutoTokenizer.from_pretrained(model.path, trust_remote_code=False)
        config = AutoConfig.from_pretrained(model.path, trust_remote_code=False)
    hub.check_vocabulary(tok, getattr(config, "vocab_size", len(tok)), where=model.id)
    require(
        tok.pad_token,
        "the tokenizer has no padding token, so texts of different lengths can't share a batch",
        where=model.id,
        todo="name its pad_token in the folder's tokenizer_config.json",
    )
    # XLNet classifies by what stands last; all others count from the start
    tok.padding_side = "left" if getattr(config, "summary_type", "") == "last" else "right"
    return tok


def tokenise(
    frame: pd.DataFrame, tok: PreTrainedTokenizerBase, *, classes: Sequence[str], max_length: int
) -> Dataset:
    """Token ids without padding, labels as class indices, rows in order.

    `max_length` is always explicit: a tokenizer without a length of its own would neither cut nor pad.
    """
    from datasets import Dataset

    index = {name: i for i, name in enumerate(classes)}
    encoded = tok(frame["text"].tolist(), truncation=True, max_length=max_length)
    columns = {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "labels": [index[label] for label in frame["label"]],
    }
    return Dataset.from_dict(columns)


def n_truncated(frame: pd.DataFrame, tok: PreTrainedTokenizerBase, *, max_length: int) -> int:
    """How many texts have more tokens than the model is given."""
    lengths = tok(frame["text"].tolist(), truncation=False, verbose=False)["input_ids"]
    return sum(len(ids) > max_length for ids in lengths)


def check_longest(
    network: nn.Module,
    splits: Mapping[str, pd.DataFrame],
    tok: PreTrainedTokenizerBase,
    *,
    max_length: int,
) -> None:
    """Raises InputError for a model with fewer positions than the longest text has tokens."""
    import torch

    texts = [text for frame in splits.values() for text in frame["text"]]
    longest = max(tok(texts, truncation=True, max_length=max_length)["input_ids"], key=len)
    what = f"the model can't read the longest text, {len(longest)} tokens"
    todo = "name a model with more positions, or shorten the texts"
    with torch.inference_mode(), explained(what, where="parameter text_model", todo=todo):
        network.eval()(input_ids=torch.tensor([longest], device=network.device))


def classifier(model: Model, *, classes: Sequence[str], seed: int) -> nn.Module:
    """The pretrained encoder, float32, with a new head whose weights depend on the seed alone.

    So they do where the folder holds a trained head. `new_weights` of the network names what isn't
    from the files: the head, and a pooler that they lack. Raises InputError if they lack more.
    """
    import transformers

    transformers.set_seed(seed)
    transformers.logging.set_verbosity_error()
    names = dict(enumerate(classes))
    with explained(
        "the model doesn't load as a text classifier",
        where=model.id,
        todo="give a complete encoder folder in Hugging Face's layout",
    ):
        network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            model.path,
            num_labels=len(classes),
            id2label=names,
            label2id={v: k for k, v in names.items()},
            dtype="float32",
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # of a head with other classes
            output_loading_info=True,
            **model.config,
        )
    base = f"{network.base_model_prefix}."
    head = [name for name, _ in network.named_parameters() if not name.startswith(base)]
    hub.check_loaded(report, where=model.id, new=[*head, f"{base}pooler."])
    trained = not report["missing_keys"].intersection(head)
    if trained:
        _draw_again(network, head, seed=seed)
    others = {name for name, *_ in report["mismatched_keys"]}
    network.new_weights = sorted({*report["missing_keys"], *others, *(head if trained else ())})
    if hasattr(network, "score"):  # it classifies by the last token that isn't padding
        network.config.pad_token_id = tokenizer(model).pad_token_id
    return network


def _draw_again(network: Any, names: Sequence[str], *, seed: int) -> None:
    """The library's first weights for these parameters, as if the files had lacked them."""
    import transformers

    for name in names:
        network.get_parameter(name)._is_hf_initialized = False
        for part, module in network.named_modules():
            if not part or name.startswith(f"{part}."):
                module._is_hf_initialized = False
    transformers.set_seed(seed)
    network.initialize_weights()


def count_parameters(network: nn.Module) -> dict[str, int]:
    """`params_total` and `params_trainable`; with PEFT the head counts twice: frozen original and trained copy."""
    return {
        "params_total": sum(p.numel() for p in network.parameters()),
        "params_trainable": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }


def with_lora(network: nn.Module, peft_config: PeftConfig | None) -> nn.Module:
    """The network itself, or wrapped by PEFT (adapters start at B = 0, so its output is unchanged).

    Raises InputError for what `check_lora` refuses, and where PEFT finds no layer to adapt, or would leave new weights
    at random.
    """
    from peft import get_peft_model

    if peft_config is None:
        return network
    check_lora(network, peft_config)
    names, new = linear_names(network), getattr(network, "new_weights", ())
    with explained(
        "LoRA doesn't find its layers in this model",
        ValueError,
        where="lora_targets",
        todo=f"name layers in lora_targets; this model has {', '.join(names)}",
    ):
        # a copy: PEFT writes the model's folder, and lists in an order that changes by process, into it
        wrapped = get_peft_model(network, copy.deepcopy(peft_config))
    saved = {name.partition(".modules_to_save.")[0] for name, _ in wrapped.named_parameters()}
    prefix = "base_model.model."
    at_random = [n for n in new if not any(f"{prefix}{n}".startswith(f"{s}.") for s in saved)]
    modules = dict.fromkeys("pooler" if ".pooler." in n else n.split(".")[0] for n in at_random)
    require(
        not at_random,
        f"{len(at_random)} new weights would stay at random under LoRA, such as "
        f"{min(at_random, default='')}",
        where="lora_save",
        todo=f"name their modules in lora_save, so that they are trained: {', '.join(modules)}",
    )
    return wrapped


def check_lora(network: nn.Module, config: PeftConfig) -> None:
    """Raises InputError for names that PEFT would pass over or take twice, and for a rank that no update can have."""
    save, targets = sorted(config.modules_to_save or ()), sorted(config.target_modules or ())
    _check_saved(network, save)
    adapted = _adapted(network, targets, save)
    if not adapted:
        return  # PEFT has no default for this architecture, and says so
    name = min(adapted, key=lambda name: min(adapted[name].weight.shape))
    shape = tuple(adapted[name].weight.shape)
    require(
        config.r <= min(shape),
        f"{config.r} is above the rank of the smallest adapted matrix, {name} {shape}",
        where="parameter lora_rank",
        todo=f"give 1 to {min(shape)}",
    )


def _check_saved(network: nn.Module, names: Sequence[str]) -> None:
    """Each name must mean modules that have weights, none of them a part of another one that is trained whole."""
    there = {n: m for n, m in network.named_modules() if n and _is_trainable(m)}
    unknown = [
        n for n in names if not _meant(network, n) or not there.keys() >= {*_whole(network, [n])}
    ]
    own = dict.fromkeys(part for name in there for part in name.split(".") if not part.isdigit())
    require(
        not unknown,
        f"no module that can be trained is named {', '.join(unknown)}",
        where="parameter lora_save",
        todo=f"this model has {', '.join(own)}",
    )
    whole = _whole(network, [*names, *HEADS]) if names else []
    inner = [name for name in whole if _is_inside(name, [w for w in whole if w != name])]
    require(
        not inner,
        f"{', '.join(inner[:3])} would be trained twice, alone and in the module around it",
        where="parameter lora_save",
        todo="name each module once; the head is trained anyway",
    )


def _adapted(
    network: nn.Module, targets: Sequence[str], save: Sequence[str]
) -> dict[str, nn.Module]:
    """The layers that get an adapter. Each of `targets` must mean some, all linear, and none that is trained whole."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

    default = DEFAULTS.get(network.config.model_type, ())
    layers = {name: _meant(network, name) for name in targets or default}
    unknown = [n for n in targets if not layers[n] or not all(map(_is_linear, layers[n].values()))]
    require(
        not unknown,
        f"no linear layer is named {', '.join(unknown)}",
        where="parameter lora_targets",
        todo=f"this model has {', '.join(linear_names(network))}",
    )
    saved, whole = (_whole(network, names) for names in (save, [*save, *HEADS]))
    twice = [n for found in layers.values() for n in found if _is_inside(n, saved)]
    twice += [
        n for n, found in layers.items() if found and all(_is_inside(m, whole) for m in found)
    ]
    require(
        not twice,
        f"{', '.join(twice[:3])} would be adapted and trained whole",
        where="parameters lora_targets and lora_save",
        todo="name a layer in one of them; the head is trained whole anyway",
    )
    found = {name: module for modules in layers.values() for name, module in modules.items()}
    return {name: module for name, module in found.items() if not _is_inside(name, whole)}


def _meant(network: nn.Module, name: str) -> dict[str, nn.Module]:
    """The modules that PEFT adapts by a name: the one so named, or those whose name ends in a dot and it."""
    modules = dict(network.named_modules())
    return {n: m for n, m in modules.items() if n == name or n.endswith(f".{name}")}


def _whole(network: nn.Module, names: Sequence[str]) -> list[str]:
    """The modules that PEFT trains whole by these names: all whose own name ends so, with or without a dot."""
    return [name for name, _ in network.named_modules() if name.endswith(tuple(names))]


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _is_linear(module: nn.Module) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def _is_trainable(module: nn.Module) -> bool:
    """Whether PEFT can train it whole: it has weights, and isn't a mere list of modules."""
    import torch

    listed = isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict)
    return not listed and any(True for _ in module.parameters())


def linear_names(network: nn.Module) -> list[str]:
    """Last names of the linear layers of a network's encoder, those of attention first."""
    encoder = getattr(network, "base_model", network)
    linear = [n for n, m in encoder.named_modules() if _is_linear(m)]
    ordered = sorted(linear, key=lambda name: not re.search("att(e?)n", name))
    return list(dict.fromkeys(name.split(".")[-1] for name in ordered))


@dataclass(frozen=True)
class Recipe:
    """What all methods of a comparison share, beside their learning rate; all else is the Trainer's default."""

    epochs: float
    batch_size: int
    max_length: int  # tokens; explicit, since a tokenizer without a length of its own would neither cut nor pad
    bf16: bool  # autocast to bfloat16 on a GPU; a CPU always trains in float32
    device: str


def trainer(
    network: nn.Module,
    train: Dataset,
    tok: PreTrainedTokenizerBase | None,
    recipe: Recipe,
    *,
    learning_rate: Rate,
    seed: int,
    folder: str,
) -> Any:
    """Hugging Face's Trainer, its defaults kept but for these; batches of equal lengths, so little of them is padding."""
    import torch
    from peft.optimizers import create_loraplus_optimizer
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class ShuffledBatches(LengthGroupedSampler):
        """The library's batches of equal lengths in random order: its own, from long to short, end on the shortest texts alone."""

        def __iter__(self) -> Iterator[int]:
            order = torch.tensor(list(super().__iter__()))
            n = (
                len(order) // self.batch_size * self.batch_size
            )  # a last batch that isn't full stays the last
            batches = order[:n].view(-1, self.batch_size)
            return iter(
                [
                    *batches[torch.randperm(len(batches), generator=self.generator)]
                    .flatten()
                    .tolist(),
                    *order[n:].tolist(),
                ]
            )

    class GroupedTrainer(Trainer):
        def _get_train_sampler(self, train_dataset: Dataset) -> LengthGroupedSampler:
            return ShuffledBatches(
                self.args.train_batch_size,
                train_dataset,
                generator=torch.Generator().manual_seed(seed),
            )

    on_gpu, optimizer = recipe.device == "cuda", None
    if isinstance(learning_rate, tuple):
        learning_rate, rate_b = learning_rate
        optimizer = create_loraplus_optimizer(
            network, torch.optim.AdamW, lr=learning_rate, loraplus_lr_ratio=rate_b / learning_rate
        )
    args = TrainingArguments(
        output_dir=folder,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=learning_rate,
        seed=seed,
        data_seed=seed,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        label_names=["labels"],
        logging_steps=0.01,  # a hundred points: each is a wait for the GPU
        logging_nan_inf_filter=False,
        use_cpu=not on_gpu,
        bf16=on_gpu and recipe.bf16,
        dataloader_pin_memory=on_gpu,
    )
    return GroupedTrainer(
        model=network,
        args=args,
        train_dataset=train,
        processing_class=tok,
        optimizers=(optimizer, None),
        data_collator=DataCollatorWithPadding(tok) if tok else None,
    )


def train(
    network: nn.Module,
    data: Dataset,
    tok: PreTrainedTokenizerBase,
    recipe: Recipe,
    *,
    learning_rate: Rate,
    seed: int,
) -> dict[str, Any]:
    """Trains in place; returns `train_time_s` (evaluation and saving are outside), `samples_per_s` and the loss curve.

    Raises Hw2Error when the loss is no number, or memory runs out.
    """
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        run = trainer(
            network, data, tok, recipe, learning_rate=learning_rate, seed=seed, folder=folder
        )
        run.remove_callback(transformers.PrinterCallback)
        if (
            not paths.under_runner()
        ):  # a bar with the time left, without the library's hundred lines of losses
            run.add_callback(
                type(
                    "Progress", (transformers.ProgressCallback,), {"on_log": lambda *_, **__: None}
                )
            )
        transformers.set_seed(seed)
        with timing.memory_explained(recipe.batch_size), timing.timed(recipe.device) as clock:
            run.train()
        log = [(entry["step"], entry["loss"]) for entry in run.state.log_history if "loss" in entry]
    bad = [step for step, loss in log if not math.isfinite(loss)]
    if bad:
        raise Hw2Error(
            f"the training loss is no number at step {bad[0]}",
            where=f"learning_rate {learning_rate}",
            todo="lower learning_rate",
        )
    n_samples = min(len(data) * recipe.epochs, run.state.global_step * recipe.batch_size)
    return {
        "train_time_s": clock.time_s,
        "samples_per_s": n_samples / clock.time_s,
        "timing_note": clock.note,
        "curve": pd.DataFrame(log, columns=["step", "loss"]),
    }


def log_probs(
    network: nn.Module, data: Dataset, tok: PreTrainedTokenizerBase, *, device: str
) -> np.ndarray:
    """Log-probabilities float32 [n, n_classes] in the data's own order; batches run from the shortest text to the longest."""
    import torch

    network.eval().to(device)
    ids = data["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out: np.ndarray | None = None
    with torch.inference_mode():
        for start in range(0, len(order), EVAL_BATCH_SIZE):
            rows = order[start : start + EVAL_BATCH_SIZE]
            batch = tok.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt").to(device)
            found = torch.log_softmax(network(**batch).logits.float(), dim=-1).cpu().numpy()
            out = np.empty((len(ids), found.shape[1]), np.float32) if out is None else out
            out[rows] = found
    if out is None or not np.isfinite(out).all():
        raise Hw2Error(
            "the model's outputs are no numbers", where="prediction", todo="lower learning_rate"
        )
    return out


def fine_tune(
    model: Model,
    splits: Mapping[str, pd.DataFrame],
    recipe: Recipe,
    *,
    classes: Sequence[str],
    peft_config: PeftConfig | None,
    learning_rate: Rate,
    method: str,
    seed: int,
) -> dict[str, Any]:
    """One training of one method and seed: counts, times, learning curve, predictions on val and test, sizes on disk."""
    tok = tokenizer(model)
    network = with_lora(classifier(model, classes=classes, seed=seed), peft_config)
    counts = count_parameters(network)
    data = {
        s: tokenise(f, tok, classes=classes, max_length=recipe.max_length)
        for s, f in splits.items()
    }
    trained = train(network, data["train"], tok, recipe, learning_rate=learning_rate, seed=seed)
    with timing.timed(recipe.device) as evaluation:
        scores = {
            s: log_probs(network, data[s], tok, device=recipe.device) for s in ("val", "test")
        }
    frames = [
        prediction_frame(splits[s], scores[s], method=method, seed=seed, split=s, classes=classes)
        for s in scores
    ]
    return {
        **counts,
        **trained,
        **save_cost(network),
        "eval_time_s": evaluation.time_s,
        "predictions": pd.concat(frames),
    }


def save_cost(network: nn.Module) -> dict[str, float]:
    """Size and seconds of one save: with PEFT the adapter and the head alone, else all weights."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        network.save_pretrained(folder)
        seconds = time.perf_counter() - begin
        size = sum(p.stat().st_size for p in Path(folder).rglob("*.safetensors"))
    return {"save_time_s": seconds, "checkpoint_mib": size / timing.MIB}


def training_memory(
    model: Model,
    frame: pd.DataFrame,
    recipe: Recipe,
    *,
    classes: Sequence[str],
    peft_config: PeftConfig | None,
    learning_rate: Rate,
) -> dict[str, float]:
    """Memory of a training, in MiB above the libraries: weights, gradients, optimizer and activations.

    Runs the longest texts first, so that few steps reach the peak of an epoch. Call it through `timing.in_child`.
    """
    tok, recipe = tokenizer(model), replace(recipe, epochs=1)
    data = tokenise(frame, tok, classes=classes, max_length=recipe.max_length)
    longest = np.argsort([-len(ids) for ids in data["input_ids"]], kind="stable")
    data = data.select(longest[: N_MEMORY_STEPS * recipe.batch_size])
    _import_libraries(model, recipe)
    with timing.measure(recipe.device) as memory:
        network = with_lora(classifier(model, classes=classes, seed=0), peft_config)
        train(network, data, tok, recipe, learning_rate=learning_rate, seed=0)
    return {
        name: value
        for name, value in vars(memory).items()
        if name.endswith("_mib") and value is not None
    }


def memory_in_child(**inputs: Any) -> dict[str, float]:
    """`training_memory` in a process of its own."""
    return timing.in_child(training_memory, **inputs)


def _import_libraries(model: Model, recipe: Recipe) -> None:
    """Loads the code of the model and the Trainer without any weights, so that it isn't counted as their memory."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(
        model.path, trust_remote_code=False, **model.config
    )
    with torch.device("meta"):
        transformers.AutoModelForSequenceClassification.from_config(config)
    with tempfile.TemporaryDirectory() as folder:  # the smallest network that the Trainer takes
        trainer(torch.nn.Linear(1, 1), [], None, recipe, learning_rate=0.1, seed=0, folder=folder)


# ---------------------------------------------------------------------------------------------- one comparison
Methods = Mapping[
    str, tuple["PeftConfig | None", Rate]
]  # name: PEFT configuration (None = full), learning rate
TIMES = ["train_time_s", "samples_per_s", "eval_time_s", "save_time_s"]


def run_methods(
    run: Run,
    model: Model,
    splits: Mapping[str, pd.DataFrame],
    methods: Methods,
    *,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Trains each (method, seed) as one part; predictions and costs go on record. Returns the learning curves."""
    settings, curves = run.settings, []
    recipe = _recipe(run)
    if cut := n_truncated(splits["train"], tokenizer(model), max_length=recipe.max_length):
        run.note(f"{cut} training tweets are longer than {recipe.max_length} tokens and were cut")
    for method, (peft_config, learning_rate) in methods.items():
        results = {}
        for seed in settings.seeds:
            inputs = {
                "model": model,
                "splits": splits,
                "recipe": recipe,
                "classes": classes,
                "peft_config": peft_config,
                "learning_rate": learning_rate,
                "method": method,
                "seed": seed,
            }
            label = f"{method} {seed}"
            results[seed] = result = run.part(label, fine_tune, inputs, measured=True)
            curves.append(result["curve"].assign(method=method, seed=seed))
            file = f"{method}-seed{seed}"
            run.add_predictions(result["predictions"], file=file, classes=classes)
            if result["timing_note"]:
                run.note(f"{method}, seed {seed}: {result['timing_note']}")
                run.disturbed.append(method)
        for name in TIMES:
            times = {seed: result[name] for seed, result in results.items()}
            run.add_metrics(
                {"method": method, "split": "train", "seed": seed, "name": name, "value": value}
                for seed, value in {**times, None: np.mean(list(times.values()))}.items()
            )
        first = results[settings.seeds[0]]
        run.add_metrics(
            {"method": method, "split": "train", "name": name, "value": first[name]}
            for name in ("params_total", "params_trainable", "checkpoint_mib")
        )
    run.add_predictions(
        majority_baseline(splits, classes=classes), file="majority", classes=classes
    )
    return pd.concat(curves, ignore_index=True)


def run_memory(
    run: Run, model: Model, frame: pd.DataFrame, methods: Methods, *, classes: Sequence[str]
) -> None:
    """Measures each method's training memory in a process of its own; methods that differ in the rate alone share one."""
    recipe, known = _recipe(run), {}
    for method, (peft_config, learning_rate) in methods.items():
        kind = keys.digest([peft_config, isinstance(learning_rate, tuple)])
        if kind not in known:
            inputs = {
                "model": model,
                "frame": frame,
                "recipe": recipe,
                "classes": classes,
                "peft_config": peft_config,
                "learning_rate": learning_rate,
            }
            known[kind] = run.part(f"memory of {method}", memory_in_child, inputs, measured=True)
        run.add_metrics(
            {"method": method, "split": "train", "name": name, "value": value}
            for name, value in known[kind].items()
            if name != "part"
        )


def _recipe(run: Run) -> Recipe:
    return Recipe(**{field.name: getattr(run.settings, field.name) for field in fields(Recipe)})


COSTS = (
    "params_total",
    "params_trainable",
    "train_time_s",
    "samples_per_s",
    "peak_memory_mib",
    "allocated_memory_mib",
    "reserved_memory_mib",
    "checkpoint_mib",
)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The comparison's table: costs of training and quality on test as rows, methods as columns, means over seeds.

    Below the accuracy stands its standard deviation over seeds.
    """
    names = (*COSTS, "accuracy", "f1_weighted", "f1_macro", "recall_macro", "loss")
    kept = rows[(rows["split"] != "val") & rows["seed"].isna() & rows["name"].isin(names)]
    table = kept.pivot(index="name", columns="method", values="value")
    spread = "accuracy, SD over seeds"
    accuracies = rows.query("name == 'accuracy' and split == 'test' and group == 'all'")
    table.loc[spread] = accuracies.dropna(subset="seed").groupby("method")["value"].std()
    order = [n for n in (*COSTS, "accuracy", spread, *names[len(COSTS) + 1 :]) if n in table.index]
    return table.reindex(index=order, columns=kept["method"].unique())
