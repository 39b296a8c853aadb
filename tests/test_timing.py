"""Time and memory of a block against what is known to be allocated, in a process of its own."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from hw2_utils import timing
from hw2_utils.errors import Hw2Error, InputError

ALLOCATE = """
import sys
import numpy as np
from hw2_utils import timing
# float64: 2^17 are 1 MiB; freed before the block, so no part of its peak
before = np.ones(int(sys.argv[2]) * 2**17)
del before
with timing.measure("cpu") as memory:
    block = np.ones(int(sys.argv[1]) * 2**17)
    del block
print(memory.peak_memory_mib)
"""


def peak_mib(mib: int, *, before_mib: int = 1) -> float:
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE, str(mib), str(before_mib)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


@pytest.mark.parametrize("mib", [50, 200])
def test_peak_memory_of_a_block_is_what_it_allocated(mib):
    assert peak_mib(mib) == pytest.approx(mib, rel=0.1)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak can't be reset here"
)
def test_an_earlier_larger_peak_does_not_count():
    assert peak_mib(50, before_mib=400) == pytest.approx(50, rel=0.1)


def test_a_cpu_has_no_allocated_or_reserved_memory():
    with timing.measure("cpu") as memory:
        pass
    assert memory.allocated_memory_mib is None and memory.reserved_memory_mib is None


def test_timed_is_the_blocks_wall_clock():
    begin = time.perf_counter()
    with timing.timed("cpu") as inner:
        time.sleep(0.05)
    assert 0.05 <= inner.time_s <= time.perf_counter() - begin


SHARED_CORE = """
import os, subprocess, sys, time
from hw2_utils import timing
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
with timing.timed("cpu") as busy:
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        pass
other.kill()
other.wait()
with timing.timed("cpu") as idle:  # a block that wants no CPU can't be kept from it
    time.sleep(0.5)
print(busy.note, idle.note, sep="|")
"""


@pytest.mark.skipif(
    not os.path.exists("/proc/self/schedstat"), reason="the kernel doesn't tell who waits"
)
def test_a_block_that_shared_its_core_is_noted():
    done = subprocess.run(
        [sys.executable, "-c", SHARED_CORE], check=True, capture_output=True, text=True
    )
    busy, idle = done.stdout.strip().split("|")
    assert "not comparable" in busy and idle == "None"


def test_in_child_returns_what_the_function_returns_from_another_process():
    assert timing.in_child(math.factorial, 20) == math.factorial(20)
    assert timing.in_child(os.getpid) != os.getpid()
    np.testing.assert_array_equal(timing.in_child(np.full, 3, fill_value=2.0), [2, 2, 2])


def test_an_error_in_the_child_is_raised_here():
    with pytest.raises(ValueError, match="factorial"):
        timing.in_child(math.factorial, -1)


def test_a_child_that_was_killed_is_one_message():
    with pytest.raises(Hw2Error, match="was killed") as error:
        timing.in_child(signal.raise_signal, signal.SIGKILL)
    assert "batch_size" in error.value.todo


@pytest.mark.slow
def test_the_measuring_process_ends_with_the_one_that_waits_for_it():
    code = "import time; from hw2_utils import timing; timing.in_child(time.sleep, 300)"
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child_of = psutil.Process(waiting.pid)
    end = time.monotonic() + 60
    while (
        len(helpers := child_of.children(recursive=True)) < 3
    ):  # server, resource tracker, and the measuring process
        assert time.monotonic() < end, helpers
        time.sleep(0.2)
    time.sleep(1)  # it starts to watch
    waiting.kill()
    waiting.communicate(timeout=30)  # a process left behind would hold the pipe open
    assert not psutil.wait_procs(helpers, timeout=20)[1]


def test_a_device_that_is_not_there_is_refused():
    assert timing.resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no device 'tpu'"):
        timing.resolve_device("tpu")
