"""How much faster `encoders.embed` is than plain loops, and what else a CPU could give.

    python benchmarks/embeddings.py [--vqa FOLDER] [--images N] [--repeats N] [--threads N]

"ours" is notebook 03's call: each distinct picture or question once, into an empty store in a
temporary folder. All sides have the same float32 weights and take turns in one process after a
warm-up; vectors agree to 1e-5 of their norm.
(a) Pictures: against the library's network(picture), one at a time in the default memory format, of
each distinct picture (the last column is then the gain per distinct picture) and of each question's
picture (the gain per row).
(b) Questions: against sentence-transformers, one row a call, all rows in one call, and the distinct
ones in one call.
(c) ResNet-50: the encoder's call, decoding and network apart, beside the machine's rate for a large
float32 matrix product (the best of all turns). Weights are random where the pinned ones aren't on
this machine: nothing is fetched.
(d) The same calls with everything in the store; that nothing is encoded is asserted.
(e) (a)'s network in the same batches under torch.compile, and under onnxruntime where that, onnx
and onnxscript are installed; the warm-up (export, compilation without any cache, first batch) is
stated apart.
Prints Markdown tables: medians with ranges, ratios of medians, and the range of the ratios turn by
turn.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
import torchvision
from embedding_cache import spread
from prompting import turns
from torch.utils.flop_counter import FlopCounterMode

from hw2_utils import daquar, encoders, hub, paths, pictures, profiles
from hw2_utils.errors import Hw2Error

MATRIX = 4096  # rows and columns


def inside(encoder: encoders.Encoder) -> dict[str, Any]:
    """What `encoder.encode` closes over: its network and transform, so that no side has others."""
    return dict(inspect.getclosurevars(encoder.encode).nonlocals)


def call(encoder: encoders.Encoder, items: list[Any], full: Path | None = None) -> np.ndarray:
    """`encoders.embed` with an empty store, or the one in `full` that has all; never the user's."""
    with (
        tempfile.TemporaryDirectory() as empty,
        mock.patch.object(paths, "EMBEDDINGS_CACHE", full or Path(empty)),
    ):
        vectors, cache = encoders.embed(encoder, items)
    assert (cache.n_encoded if full else cache.n_found) == 0
    return vectors


def plain_loop(
    network: torch.nn.Module, transform: Callable[[Any], torch.Tensor], files: list[Path]
) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate(
            [network(transform(pictures.open_image(file))[None]).numpy() for file in files]
        )


def prepared(own: dict[str, Any], files: list[Path]) -> list[torch.Tensor]:
    """The batches that `encode` gives to the network."""
    images = [own["transform"](pictures.open_image(file)) for file in files]
    return [
        torch.stack(images[i : i + own["n_at_once"]]).to(memory_format=torch.channels_last)
        for i in range(0, len(images), own["n_at_once"])
    ]


def through(forward: Callable[[torch.Tensor], Any], batches: list[torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([np.asarray(forward(batch)) for batch in batches])


def check(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    error = (np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max()
    assert error < 1e-5, f"{name}: vectors differ by {error:.1e} of their norm"


def ratio(theirs: list[float], ours: list[float]) -> str:
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    of_medians = statistics.median(theirs) / statistics.median(ours)
    return f"{of_medians:.2f} ({min(each):.2f} to {max(each):.2f})"


def compare(
    part: str,
    encoder: encoders.Encoder,
    others: dict[str, tuple[Callable, list[Any]]],
    repeats: int,
) -> None:
    """Rows of the first table; each of `others` is a function and the items it is called with."""
    distinct = list(dict.fromkeys(item for _, items in others.values() for item in items))
    with tempfile.TemporaryDirectory() as folder:
        with mock.patch.object(paths, "EMBEDDINGS_CACHE", Path(folder)):
            vectors = dict(zip(distinct, encoders.embed(encoder, distinct)[0], strict=True))
        for name, (encode, items) in others.items():  # the warm-up too
            check(encode(items), np.stack([vectors[item] for item in items]), name)
        methods = {
            f"({part}) ours": (partial(call, encoder), distinct),
            f"(d) ours, all of ({part}) in the store": (
                partial(call, encoder, full=Path(folder)),
                distinct,
            ),
            **{f"({part}) {name}": other for name, other in others.items()},
        }
        taken = turns({name: partial(*method) for name, method in methods.items()}, repeats)
    for name, times_s in taken.items():
        n_items = len(methods[name][1])
        each_ms = statistics.median(times_s) / n_items * 1e3
        slower = ratio(times_s, taken[f"({part}) ours"])
        row = f"| {name} | {n_items:,} | {spread(times_s, 3)} | {each_ms:.2f} | {slower} |"
        print(row, flush=True)


def resnet50(files: list[Path], geometry: str, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = hub.fetch_model("torchvision:resnet50-v1")
        except Hw2Error:
            file, facts = Path(folder) / "random.pth", {"architecture": "resnet50"}
            torch.save(torchvision.models.resnet50().state_dict(), file)
            model = hub.Model(
                "random weights", file, "IMAGENET1K_V1", sha256={}, verified="", facts=facts
            )
        encoder = encoders.image_encoder(model, geometry=geometry, device="cpu")
    own, matrix = inside(encoder), torch.rand(MATRIX, MATRIX)
    batches = prepared(own, files)
    with FlopCounterMode(display=False) as counter:
        through(own["forward"], [batches[0][:1]])
    encoder.encode(files[:8])
    taken = turns(
        {
            "the call": partial(encoder.encode, files),
            "decoding and preprocessing": partial(prepared, own, files),
            "network": partial(through, own["forward"], batches),
            "product": lambda: matrix @ matrix,
        },
        repeats,
    )
    rate, flops = 2 * MATRIX**3 / min(taken.pop("product")), counter.get_total_flops()
    print(
        f"\n(c) ResNet-50 ({model.id}): {flops / 1e9:.2f} GFLOP a picture; a product of two "
        f"float32 matrices of {MATRIX} rows and columns: {rate / 1e9:.0f} GFLOP/s\n"
    )
    print("| (c) ResNet-50 | ms/picture | pictures/s | % of that rate |\n|---|--:|--:|--:|")
    for name, times_s in taken.items():
        each_s = [time_s / len(files) for time_s in times_s]
        shares = [flops / time_s / rate * 100 for time_s in each_s]
        share = "" if name.startswith("decoding") else spread(shares, 1)
        each_ms = spread([time_s * 1e3 for time_s in each_s], 1)
        per_s = spread([1 / time_s for time_s in each_s], 1)
        print(f"| {name} | {each_ms} | {per_s} | {share} |")


def in_onnxruntime(
    network: torch.nn.Module, example: torch.Tensor, folder: str
) -> Callable[[torch.Tensor], Any]:
    import onnxruntime

    torch.onnx.export(
        network, (example,), f"{folder}/network.onnx", input_names=["picture"], verbose=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        f"{folder}/network.onnx", options, providers=["CPUExecutionProvider"]
    )
    return lambda batch: session.run(None, {"picture": batch.contiguous().numpy()})[0]


def runtimes(encoder: encoders.Encoder, files: list[Path], repeats: int) -> None:
    own = inside(encoder)
    # another batch size would be compiled anew
    files = files[: len(files) // own["n_at_once"] * own["n_at_once"]]
    batches, warm_s = prepared(own, files), {"eager": 0.0}
    expected, actions = (
        through(own["forward"], batches),
        {"eager": partial(through, own["forward"], batches)},
    )
    print(
        "\n| (e) network only | warm-up, s | ms/picture | eager takes times as long | pays from |"
    )
    print("|---|--:|--:|--:|--:|")
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder),
    ):
        makers = {
            "torch.compile": lambda network, *_: torch.compile(network, options={"freezing": True}),
            "onnxruntime": in_onnxruntime,
        }
        for name, make in makers.items():
            start_s = time.perf_counter()
            try:
                forward = make(copy.deepcopy(own["forward"]), batches[0], folder)
                through(forward, batches[:1])
            except (ImportError, RuntimeError) as error:  # not installed, no C++ compiler
                print(f"| {name} | left out: {str(error).strip().splitlines()[0]:.80} | | | |")
                continue
            warm_s[name] = time.perf_counter() - start_s
            actions[name] = partial(through, forward, batches)
            check(actions[name](), expected, name)
        taken = turns(actions, repeats)
    for name, times_s in taken.items():
        gain_s = (statistics.median(taken["eager"]) - statistics.median(times_s)) / len(files)
        pays = (
            f"{warm_s[name] / gain_s:,.0f} pictures"
            if gain_s > 0
            else ""
            if name == "eager"
            else "never"
        )
        print(
            f"| {name} | {warm_s[name]:.1f} | "
            f"{spread([s / len(files) * 1e3 for s in times_s], 2)} | "
            f"{ratio(taken['eager'], times_s)} | {pays} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vqa", type=Path, default=paths.ROOT / "data" / "sample" / "daquar")
    parser.add_argument(
        "--images", type=int, help="only so many distinct pictures (4 or more) and their questions"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    os.environ.update(HF_HUB_OFFLINE="1", HW2_RUNNER="1")  # nothing is fetched; no progress bars
    load_before, settings = os.getloadavg()[0], profiles.load("sample")["03_vqa_resnet_sbert"]
    data = daquar.read(args.vqa)
    rows = pd.concat(data.splits.values())
    rows = rows[rows["image_id"].isin(rows["image_id"].unique()[: args.images])]
    pictures, questions = [data.image_paths[i] for i in rows["image_id"]], list(rows["question"])
    files, distinct = list(dict.fromkeys(pictures)), list(dict.fromkeys(questions))
    images = encoders.image_encoder(
        hub.fetch_model(settings["image_model"]), geometry=settings["geometry"], device="cpu"
    )
    texts = encoders.sentence_encoder(hub.fetch_model(settings["sentence_model"]), device="cpu")
    encode = partial(inside(texts)["network"].encode, show_progress_bar=False)
    # the library's network as it is
    with mock.patch.object(encoders, "_fold_batch_norms", lambda network: network):
        model = hub.fetch_model(settings["image_model"])
        library = inside(encoders.image_encoder(model, geometry=settings["geometry"], device="cpu"))
    plain = partial(
        plain_loop,
        library["forward"].to(memory_format=torch.contiguous_format),
        library["transform"],
    )
    print(
        f"{len(rows):,} questions, {len(distinct):,} of them distinct, about {len(files):,} "
        f"pictures; {args.repeats} turns; {args.threads} threads\n\n"
        "| method | items | s (range) | ms/item | times as long as ours (range) |\n"
        "|---|--:|--:|--:|--:|",
        flush=True,
    )
    compare(
        "a",
        images,
        {
            "plain loop, each distinct picture": (plain, files),
            "plain loop, each row's picture": (plain, pictures),
        },
        args.repeats,
    )
    compare(
        "b",
        texts,
        {
            "sentence-transformers, one row a call": (
                lambda rows: np.stack([encode(row) for row in rows]),
                questions,
            ),
            "sentence-transformers, all rows": (encode, questions),
            "sentence-transformers, distinct questions": (encode, distinct),
        },
        args.repeats,
    )
    resnet50(files, settings["geometry"], args.repeats)
    runtimes(images, files, args.repeats)
    print(f"\nLoad average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
