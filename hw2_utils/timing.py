"""Time and memory of a block of code, on GPU or CPU, so that two methods can be compared."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hw2_utils.errors import Hw2Error, require

MIB = 2**20


@dataclass
class Measurement:
    """What `measure` fills in: seconds, and MiB above the level at the block's start.

    None where there is none; `note` when other work had the CPU meanwhile.
    """

    time_s: float = 0.0
    peak_memory_mib: float = 0.0
    allocated_memory_mib: float | None = None
    reserved_memory_mib: float | None = None
    note: str | None = None


def resolve_device(device: str) -> str:
    """ "auto" becomes the first GPU or the CPU; a device that isn't there is refused."""
    import torch

    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    device = there[-1] if device == "auto" else device
    todo = f"use auto or one of {there}"
    require(device in there, f"no device {device!r} here", where="parameter device", todo=todo)
    return device


def device_name(device: str) -> str:
    """The GPU's name, or the CPU's."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"CPU ({_cpu_model()})"


def _cpu_model() -> str:
    """The processor's model where Linux names it, else its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def machine(device: str) -> dict[str, Any]:
    """What times and memory belong to: the device's name and this process's threads."""
    import torch

    return {"device": device_name(device), "threads": torch.get_num_threads()}


def synchronise(device: str) -> None:
    """Waits for the GPU's queued work; on a CPU there is none."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _waited_s() -> float:
    """Seconds that the main thread was ready while others had the CPU (Linux; elsewhere 0)."""
    delays = Path("/proc/self/schedstat")
    return int(delays.read_text().split()[1]) / 1e9 if delays.is_file() else 0.0


@contextmanager
def timed(device: str) -> Iterator[Measurement]:
    """Wall-clock seconds of a block, the device synchronised at both ends.

    Notes when they aren't comparable.
    """
    result = Measurement()
    synchronise(device)
    begin, waited_s = time.perf_counter(), _waited_s()
    yield result
    synchronise(device)
    result.time_s = time.perf_counter() - begin
    share = (_waited_s() - waited_s) / result.time_s
    if share > 0.05:
        result.note = (
            f"other work had the CPU for {share:.0%} of a measured block: "
            "its times are not comparable"
        )


@contextmanager
def memory_explained(batch_size: int) -> Iterator[None]:
    """Turns a training's error for lack of memory, on GPU or CPU, into one message."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's are of the second kind
        is_torchs = re.search("(out of|allocate) memory", str(error))
        if isinstance(error, RuntimeError) and not is_torchs:
            raise
        raise Hw2Error(
            "training ran out of memory",
            where=f"batch_size {batch_size}",
            todo="lower batch_size, or take a smaller model",
        ) from error


@contextmanager
def measure(device: str) -> Iterator[Measurement]:
    """Seconds and peak memory of a block above its own baseline.

    On a GPU `peak_memory_mib` is the peak of the allocated bytes and `reserved_memory_mib` the peak
    of what the allocator held; `allocated_memory_mib` is what is still allocated at the end. On a
    CPU the peak is that of the resident set, which includes what the allocator keeps: measure a
    training in a process of its own (`in_child`).
    """
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
    else:
        _reset_peak_rss()
        base = _rss("VmRSS")
    with timed(device) as result:
        yield result
    if device == "cuda":
        result.peak_memory_mib = (torch.cuda.max_memory_allocated() - base) / MIB
        result.allocated_memory_mib = (torch.cuda.memory_allocated() - base) / MIB
        result.reserved_memory_mib = torch.cuda.max_memory_reserved() / MIB
    else:
        result.peak_memory_mib = (_rss("VmHWM") - base) / MIB


def _reset_peak_rss() -> None:
    """Linux keeps a high-water mark that a process may reset for itself (proc(5), clear_refs)."""
    # elsewhere the peak only grows, so a block in a fresh child process is still right
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _rss(name: str) -> int:
    """VmRSS or VmHWM of this process in bytes; without /proc the peak serves for both."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else []:
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    n_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * n_bytes


def in_child(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of an importable function in a fresh process, where memory starts from nothing."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Forked from a server that has imported the libraries and done nothing else: seconds sooner
    # than a bare start.
    context = multiprocessing.get_context("forkserver")
    preloaded = [function.__module__, "datasets", "peft", "transformers.trainer"]
    context.set_forkserver_preload(preloaded)
    ending = {"initializer": _end_with, "initargs": (os.getpid(),)}
    with ProcessPoolExecutor(1, mp_context=context, **ending) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise Hw2Error(
                "the measuring process was killed (out of memory?)",
                where=function.__name__,
                todo="close other programs, or lower batch_size",
            ) from error


def _end_with(pid: int) -> None:
    """Ends this process, and so its server, soon after the one that waits for it.

    Killed, that one can't say so.
    """

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            waiting = psutil.Process(pid)
            while waiting.is_running() and waiting.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
