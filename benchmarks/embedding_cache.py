"""How fast the embedding cache writes and reads, and how much memory a reader takes.

    python benchmarks/embedding_cache.py [--million] [--repeats N] [--folder DIR]

Items of 512 float32. Writes: one durable transaction a batch (of 32, the default of `encode`, and
of 512), with an encoder that costs nothing. Lookups: all items in one call, in random order, from a
store just written, checksums verified. Memory: anonymous resident memory (RssAnon, Linux) of a
process that reads 10^5.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hw2_utils.embedding_cache import SPEC_FIELDS, EmbeddingCache, text_key

DIM = 512
SPEC = {name: None for name in SPEC_FIELDS} | {"model": "benchmark", "dim": DIM}
BATCH_SIZES = (32, 512)


def keys_of(n_items: int) -> list[str]:
    return [text_key(str(i)) for i in range(n_items)]


def forbidden(rows: list[int]) -> np.ndarray:
    raise AssertionError(f"{len(rows)} items aren't in the store")


def seconds(action: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


def measure(
    folder: Path, n_items: int, *, batch_size: int, seed: int
) -> tuple[float, float, float]:
    """Items written and looked up a second, and the store's size in MiB, of a new store."""
    random = np.random.default_rng(seed)
    keys, vectors = keys_of(n_items), random.standard_normal((n_items, DIM), dtype=np.float32)
    shuffled = [keys[i] for i in random.permutation(n_items)]
    with tempfile.TemporaryDirectory(dir=folder) as store:
        cache = EmbeddingCache(SPEC, folder=Path(store))
        write_s = seconds(
            lambda: cache.encode(keys, lambda rows: vectors[rows], batch_size=batch_size)
        )
        read_s = seconds(lambda: cache.encode(shuffled, forbidden))
        return n_items / write_s, n_items / read_s, cache.path.stat().st_size / 2**20


def anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def read_in_slices(folder: Path, n_items: int, results: multiprocessing.Queue) -> None:
    """A reader's anonymous memory in MiB: before, after slices of 500 items, with all at once."""
    cache, keys = EmbeddingCache(SPEC, folder=folder), keys_of(n_items)
    memory_mib = {"before": anonymous_mib()}
    for start in range(0, n_items, 500):
        cache.encode(keys[start : start + 500], forbidden)
        if start == n_items // 10:
            memory_mib["after a tenth, in slices of 500"] = anonymous_mib()
    memory_mib["after all, in slices of 500"] = anonymous_mib()
    vectors = cache.encode(keys, forbidden)
    memory_mib["after all in one call, less its result"] = anonymous_mib() - vectors.nbytes / 2**20
    results.put(memory_mib)


def spread(values: list[float], digits: int = 0) -> str:
    low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return f"{statistics.median(values):,.{digits}f} ({low} to {high})"


def report_memory(folder: Path, n_items: int, *, repeats: int) -> None:
    vectors = np.zeros((512, DIM), np.float32)
    EmbeddingCache(SPEC, folder=folder).encode(
        keys_of(n_items), lambda rows: vectors[: len(rows)], batch_size=len(vectors)
    )
    context = multiprocessing.get_context("spawn")
    results, readers = context.Queue(), []
    for _ in range(repeats):
        reader = context.Process(target=read_in_slices, args=(folder, n_items, results))
        reader.start()
        readers.append(results.get())
        reader.join()
    print(f"\n| a reader of {n_items:,} items | anonymous memory, MiB |\n|:--|--:|")
    for name in readers[0]:
        print(f"| {name} | {spread([reader[name] for reader in readers], 1)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--million", action="store_true", help="10^6 items too (2.5 GB of disk, 5 of memory)"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where stores are written (the temporary folder)"
    )
    args = parser.parse_args()
    print("| items of 512 float32 | batch | written / s | looked up / s | store, MiB |")
    print("|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for n_items in (10**3, 10**4, 10**5) + ((10**6,) if args.million else ()):
            for batch_size in BATCH_SIZES:
                repeats = [
                    measure(Path(folder), n_items, batch_size=batch_size, seed=seed)
                    for seed in range(args.repeats)
                ]
                written, read, size_mib = map(list, zip(*repeats, strict=True))
                print(
                    f"| {n_items:,} | {batch_size} | {spread(written)} | {spread(read)} "
                    f"| {size_mib[0]:,.1f} |",
                    flush=True,
                )
        report_memory(Path(folder), 10**5, repeats=args.repeats)


if __name__ == "__main__":
    main()
