"""Sentiment fine-tuning by Hugging Face's Trainer, full or with LoRA.

Recipe, seeds and order of the data are the same for both.
"""

from __future__ import annotations

import copy
import json
import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
# One learning rate, or LoRA+'s two (Hayou et al. 2024, arXiv 2402.12354): of A, of B.
Rate = float | tuple[float, float]


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

    `max_length` is always explicit: a tokenizer without a length of its own wouldn't cut.
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
    """`params_total` and `params_trainable`.

    With PEFT the head counts twice: the frozen original and its trained copy.
    """
    return {
        "params_total": network.num_parameters(),
        "params_trainable": network.num_parameters(only_trainable=True),
    }


def with_lora(network: nn.Module, peft_config: PeftConfig | None) -> nn.Module:
    """The network itself, or wrapped by PEFT (adapters start at B = 0, so its output is unchanged).

    Raises InputError for what `check_lora` refuses, and where PEFT finds no layer to adapt, or
    would leave new weights at random.
    """
    from peft import get_peft_model

    if peft_config is None:
        return network
    check_lora(network, peft_config)
    names, new = linear_names(network), getattr(network, "new_weights", ())
    what = "LoRA doesn't find its layers in this model"
    todo = f"name layers in lora_targets; this model has {', '.join(names)}"
    with explained(what, ValueError, where="lora_targets", todo=todo):
        # a copy: PEFT writes the model's folder into it, and lists in an order that changes
        wrapped = get_peft_model(network, copy.deepcopy(peft_config))
    trained = {
        name.replace(".modules_to_save.default", "")
        for name, weights in wrapped.named_parameters()
        if weights.requires_grad
    }
    at_random = [name for name in new if f"base_model.model.{name}" not in trained]
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
    """Raises InputError for names that PEFT would pass over or take twice, and too high a rank."""
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
    """Each name must mean modules that have weights, none inside one that is trained whole."""
    trainable = [name for name, module in network.named_modules() if name and _is_trainable(module)]
    unknown = [
        name
        for name in names
        if not _meant(network, name) or not {*_whole(network, [name])} <= {*trainable}
    ]
    words = dict.fromkeys(w for name in trainable for w in name.split(".") if not w.isdigit())
    require(
        not unknown,
        f"no module that can be trained is named {', '.join(unknown)}",
        where="parameter lora_save",
        todo=f"this model has {', '.join(words)}",
    )
    whole = _whole(network, [*names, *HEADS]) if names else []
    inner = [name for name in whole if _is_inside(name, {*whole} - {name})]
    require(
        not inner,
        f"{', '.join(inner[:3])} would be trained twice, alone and in the module around it",
        where="parameter lora_save",
        todo="name each module once; the head is trained anyway",
    )


def _adapted(
    network: nn.Module, targets: Sequence[str], save: Sequence[str]
) -> dict[str, nn.Module]:
    """The layers that get an adapter.

    Each of `targets` must mean some, all linear, and none that is trained whole.
    """
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
    saved, whole = _whole(network, save), _whole(network, [*save, *HEADS])
    meant = {name: module for modules in layers.values() for name, module in modules.items()}
    adapted = {name: module for name, module in meant.items() if not _is_inside(name, whole)}
    twice = [name for name in meant if _is_inside(name, saved)]
    twice += [name for name in layers if layers[name] and not layers[name].keys() & adapted.keys()]
    require(
        not twice,
        f"{', '.join(twice[:3])} would be adapted and trained whole",
        where="parameters lora_targets and lora_save",
        todo="name a layer in one of them; the head is trained whole anyway",
    )
    return adapted


def _meant(network: nn.Module, name: str) -> dict[str, nn.Module]:
    """The modules that PEFT adapts by a name: those so named, alone or after a dot."""
    return {n: m for n, m in network.named_modules() if f".{n}".endswith(f".{name}")}


def _whole(network: nn.Module, names: Sequence[str]) -> list[str]:
    """The modules that PEFT trains whole by these names: all whose name ends so, dot or not."""
    return [name for name, _ in network.named_modules() if name.endswith(tuple(names))]


def _is_inside(name: str, modules: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


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
    """What all methods of a comparison share, beside their learning rate.

    All else is the Trainer's default. `max_length` is explicit, in tokens, since a tokenizer
    without a length of its own would neither cut nor pad; `bf16` is autocast to bfloat16 on a GPU,
    while a CPU always trains in float32.
    """

    epochs: float
    batch_size: int
    max_length: int
    bf16: bool
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
    """Hugging Face's Trainer, its defaults kept but for these.

    Batches hold texts of like lengths, so little of them is padding.
    """
    import torch
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class ShuffledBatches(LengthGroupedSampler):
        """The library's batches of like lengths, in random order but for an unfull last one.

        The library's own order, from long to short, ends on the shortest texts alone.
        """

        def __iter__(self) -> Iterator[int]:
            batches = torch.tensor([*super().__iter__()]).split(self.batch_size)
            n_full = len(self) // self.batch_size
            at_random = torch.randperm(n_full, generator=self.generator).tolist()
            for k in [*at_random, *range(n_full, len(batches))]:
                yield from batches[k].tolist()

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
        save_strategy="no",
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
    """Trains in place; returns `train_time_s`, `samples_per_s`, `timing_note` and the loss `curve`.

    Evaluation and saving are outside the time. Raises Hw2Error when the loss is no number, or
    memory runs out.
    """
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        run = trainer(
            network, data, tok, recipe, learning_rate=learning_rate, seed=seed, folder=folder
        )
        run.remove_callback(transformers.PrinterCallback)
        if not paths.under_runner():
            run.add_callback(_bar_alone())
        transformers.set_seed(seed)
        with timing.memory_explained(recipe.batch_size), timing.timed(recipe.device) as clock:
            run.train()
    log = [(entry["step"], entry["loss"]) for entry in run.state.log_history if "loss" in entry]
    for step, loss in log:
        if not math.isfinite(loss):
            what = f"the training loss is no number at step {step}"
            raise Hw2Error(what, where=f"learning_rate {learning_rate}", todo="lower learning_rate")
    n_samples = min(len(data) * recipe.epochs, run.state.global_step * recipe.batch_size)
    return {
        "train_time_s": clock.time_s,
        "samples_per_s": n_samples / clock.time_s,
        "timing_note": clock.note,
        "curve": pd.DataFrame(log, columns=["step", "loss"]),
    }


def _bar_alone() -> type:
    """The library's bar with the time left, without its hundred lines of losses."""
    import transformers

    silent = {"on_log": lambda *_, **__: None}
    return type("Progress", (transformers.ProgressCallback,), silent)


def log_probs(
    network: nn.Module, data: Dataset, tok: PreTrainedTokenizerBase, *, device: str
) -> np.ndarray:
    """Log-probabilities float32 [n, n_classes] in the data's order.

    Batches run from the shortest text to the longest. Raises Hw2Error for one that is no number.
    """
    import torch

    network.eval().to(device)
    ids = data["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batches = [order[i : i + EVAL_BATCH_SIZE] for i in range(0, len(order), EVAL_BATCH_SIZE)]
    by_length = []
    with torch.inference_mode():
        for rows in batches:
            batch = tok.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt").to(device)
            logits = network(**batch).logits.float()
            by_length.append(torch.log_softmax(logits, dim=-1).cpu().numpy())
    scores = np.concatenate(by_length)
    if not np.isfinite(scores).all():
        what = "the model's outputs are no numbers"
        raise Hw2Error(what, where="prediction", todo="lower learning_rate")
    return scores[np.argsort(order)]


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
    keep: bool,
) -> dict[str, Any]:
    """One training of one method and seed.

    Returns counts of parameters, times, the learning curve, predictions on val and test, the size
    on disk, and, to `keep` what was trained, the files that `load` reads.
    """
    tok = tokenizer(model)
    network = with_lora(classifier(model, classes=classes, seed=seed), peft_config)
    counts = count_parameters(network)
    data = {
        split: tokenise(frame, tok, classes=classes, max_length=recipe.max_length)
        for split, frame in splits.items()
    }
    trained = train(network, data["train"], tok, recipe, learning_rate=learning_rate, seed=seed)
    with timing.timed(recipe.device) as evaluation:
        scores = {
            split: log_probs(network, data[split], tok, device=recipe.device)
            for split in ("val", "test")
        }
    about = {"method": method, "seed": seed, "classes": classes}
    frames = [prediction_frame(splits[s], found, split=s, **about) for s, found in scores.items()]
    return {
        **counts,
        **trained,
        **save(network, model, keep=keep),
        "eval_time_s": evaluation.time_s,
        "predictions": pd.concat(frames),
    }


def save(network: nn.Module, model: Model, *, keep: bool) -> dict[str, Any]:
    """Size and seconds of one save: with PEFT the adapter and the head alone, else all weights.

    To `keep` them, also the saved files by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        network.save_pretrained(folder)
        seconds = time.perf_counter() - begin
        weights = [*Path(folder).glob("*.safetensors")]
        size = sum(file.stat().st_size for file in weights)
        kept = [*weights, *Path(folder).glob("*.json")] if keep else []
        files = {file.name: file.read_bytes() for file in kept}
    if adapter := files.get("adapter_config.json"):  # no folder of this machine's
        config = {**json.loads(adapter), "base_model_name_or_path": model.id}
        files["adapter_config.json"] = json.dumps(config, indent=2, sort_keys=True).encode()
    return {"save_time_s": seconds, "checkpoint_mib": size / timing.MIB, **files}


def load(model: Model, folder: Path, *, classes: Sequence[str]) -> nn.Module:
    """A trained classifier from the files that were kept of it, the adapter's or the whole one's.

    Raises InputError for files that don't load.
    """
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    with explained("the trained model doesn't load", where=folder, todo="run the notebook again"):
        if (folder / "adapter_config.json").is_file():
            return PeftModel.from_pretrained(classifier(model, classes=classes, seed=0), folder)
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype="float32", trust_remote_code=False
        )


def training_memory(
    model: Model,
    frame: pd.DataFrame,
    recipe: Recipe,
    *,
    classes: Sequence[str],
    peft_config: PeftConfig | None,
    learning_rate: Rate,
) -> dict[str, float]:
    """Memory of a training, in MiB above the libraries: weights, gradients, optimizer, activations.

    Runs the longest texts first, so that few steps reach the peak of an epoch. Call it through
    `timing.in_child`.
    """
    tok, recipe = tokenizer(model), replace(recipe, epochs=1)
    data = tokenise(frame, tok, classes=classes, max_length=recipe.max_length)
    longest = np.argsort([-len(ids) for ids in data["input_ids"]], kind="stable")
    data = data.select(longest[: N_MEMORY_STEPS * recipe.batch_size])
    _import_libraries(model, recipe)
    with timing.measure(recipe.device) as memory:
        network = with_lora(classifier(model, classes=classes, seed=0), peft_config)
        train(network, data, tok, recipe, learning_rate=learning_rate, seed=0)
    sizes = {name: value for name, value in vars(memory).items() if name.endswith("_mib")}
    return {name: value for name, value in sizes.items() if value is not None}


def memory_in_child(**inputs: Any) -> dict[str, float]:
    """`training_memory` in a process of its own."""
    return timing.in_child(training_memory, **inputs)


def _import_libraries(model: Model, recipe: Recipe) -> None:
    """Loads the code of the model and the Trainer without weights: it isn't counted as memory."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(
        model.path, trust_remote_code=False, **model.config
    )
    with torch.device("meta"):
        transformers.AutoModelForSequenceClassification.from_config(config)
    with tempfile.TemporaryDirectory() as folder:  # the smallest network that the Trainer takes
        trainer(torch.nn.Linear(1, 1), [], None, recipe, learning_rate=0.1, seed=0, folder=folder)


# -------------------------------------------------------------------------------- one comparison
# Name of a method -> its PEFT configuration (None = full), its learning rate.
Methods = Mapping[str, tuple["PeftConfig | None", Rate]]
TIMES = ["train_time_s", "samples_per_s", "eval_time_s", "save_time_s"]


def run_methods(
    run: Run,
    model: Model,
    splits: Mapping[str, pd.DataFrame],
    methods: Methods,
    *,
    classes: Sequence[str],
) -> pd.DataFrame:
    """Trains each (method, seed) as one part; predictions, costs and adapters go on record.

    So do whole models where `save_models` asks for them. Returns the learning curves: step, loss,
    method, seed.
    """
    recipe, curves = _recipe(run), []
    if cut := n_truncated(splits["train"], tokenizer(model), max_length=recipe.max_length):
        run.note(f"{cut} training tweets are longer than {recipe.max_length} tokens and were cut")
    common = {"model": model, "splits": splits, "recipe": recipe, "classes": classes}
    for method, (peft_config, learning_rate) in methods.items():
        common |= {"peft_config": peft_config, "learning_rate": learning_rate, "method": method}
        common["keep"] = peft_config is not None or run.settings.save_models
        results = {}
        for seed in run.settings.seeds:
            inputs = {**common, "seed": seed}
            result = run.part(f"{method} {seed}", fine_tune, inputs, measured=True)
            file = f"{method}-seed{seed}"
            for name in [name for name in result if isinstance(result[name], bytes)]:
                run.keep_model(f"{file}/{name}", result.pop(name))
            results[seed] = result
            curves.append(result["curve"].assign(method=method, seed=seed))
            run.add_predictions(result["predictions"], file=file, classes=classes)
            if result["timing_note"]:
                run.note(f"{method}, seed {seed}: {result['timing_note']}")
                run.disturbed.append(method)
        run.add_metrics(_costs(method, results))
    blind = majority_baseline(splits, classes=classes)
    run.add_predictions(blind, file="majority", classes=classes)
    return pd.concat(curves, ignore_index=True)


def _costs(method: str, results: Mapping[int, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Tidy rows: times of each seed and their mean, and what is the same for all seeds."""
    about = {"method": method, "split": "train"}
    for name in TIMES:
        times = {seed: result[name] for seed, result in results.items()}
        for seed, value in {**times, None: np.mean(list(times.values()))}.items():
            yield {**about, "seed": seed, "name": name, "value": value}
    first = next(iter(results.values()))
    for name in ("params_total", "params_trainable", "checkpoint_mib"):
        yield {**about, "name": name, "value": first[name]}


def run_memory(
    run: Run, model: Model, frame: pd.DataFrame, methods: Methods, *, classes: Sequence[str]
) -> None:
    """Measures each method's training memory in a process of its own.

    Methods that differ in the rate alone share one.
    """
    measured: dict[str, dict[str, Any]] = {}
    common = {"model": model, "frame": frame, "recipe": _recipe(run), "classes": classes}
    for method, (peft_config, learning_rate) in methods.items():
        kind = keys.digest([peft_config, isinstance(learning_rate, tuple)])
        if kind not in measured:
            inputs = {**common, "peft_config": peft_config, "learning_rate": learning_rate}
            label = f"memory of {method}"
            measured[kind] = run.part(label, memory_in_child, inputs, measured=True)
        run.add_metrics(
            {"method": method, "split": "train", "name": name, "value": value}
            for name, value in measured[kind].items()
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
SPREAD = "accuracy, SD over seeds"


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The comparison's table: costs of training and quality on test, means over seeds.

    One row a metric, one column a method. Below the accuracy stands its standard deviation over
    seeds.
    """
    order = (*COSTS, "accuracy", SPREAD, "f1_weighted", "f1_macro", "recall_macro", "loss")
    kept = rows[(rows["split"] != "val") & rows["seed"].isna() & rows["name"].isin(order)]
    table = kept.pivot(index="name", columns="method", values="value")
    accuracies = rows.query("name == 'accuracy' and split == 'test' and group == 'all'")
    table.loc[SPREAD] = accuracies.dropna(subset="seed").groupby("method")["value"].std()
    there = [name for name in order if name in table.index]
    return table.reindex(index=there, columns=kept["method"].unique())
