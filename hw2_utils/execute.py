"""The strict papermill runner: one notebook, checked first, in a folder, complete or failed."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from hw2_utils import folders, parameters, paths, profiles, runs
from hw2_utils.errors import Hw2Error, InputError, disk_explained

CELL_TIMEOUT_S = 6 * 3600
# As a cell's error says it.
DISK_IS_FULL = r"No space left on device|Disk quota exceeded|disk is full"
ENDINGS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
DEFAULTS = {
    # glibc gives large freed blocks back and faults them in again at every step: up to a tenth of
    # a training's time
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    # threads that spin while they wait make a training several times slower on a busy machine
    "OMP_WAIT_POLICY": "PASSIVE",
}
PAGE = {  # what every kernel has: the same page and the same numbers for everybody
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # noise on a page
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # another one shows no figure
    "MATPLOTLIBRC": os.devnull,
    "PYTHONPATH": str(paths.ROOT),  # another folder may hold a statistics.py or a json.py
    "PYTHONUTF8": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TRANSFORMERS_VERBOSITY": "error",
}
# Switches of Python that leave out asserts, run files or talk, and of libraries that change numbers
# or tables.
LEFT_OUT = re.compile(
    r"PYTHON(STARTUP|OPTIMIZE|INSPECT|DEVMODE|VERBOSE|PROFILEIMPORTTIME|WARNDEFAULTENCODING)"
    r"|(ACCELERATE|PANDAS|TQDM)_.*|(HF_HUB|DATASETS)_VERBOSITY|HF_DEBUG|TORCH_LOGS|COLUMNS|LINES"
)


def parse_value(notebook: str, name: str, text: str) -> Any:
    """A command-line value: JSON where the parameter's default isn't a string, else the text.

    A path or model folder given relative to the working directory becomes absolute: the kernel
    runs elsewhere. Raises InputError for a text that can't be used.
    """
    default = parameters.declared(notebook).get(name, "")  # an unknown name is refused by `run`
    if isinstance(default, str):
        parameters.check_text(text, f"parameter {name}")
        is_folder = profiles.is_model(name) and text and Path(text).exists()
        is_path = is_folder or profiles.is_path(name, text)
        return str(Path(text).expanduser().absolute()) if is_path else text
    try:
        return json.loads(text)
    except ValueError:
        todo = f"its default is {default!r}"
        raise InputError(f"{text!r} isn't JSON", where=f"parameter {name}", todo=todo) from None


def run(notebook: str, given: Mapping[str, Any], *, out: Path | None = None) -> Path:
    """Executes one notebook into `out`, or its place under `runs/`; returns the folder.

    That place is `runs/<profile>/<notebook>`, or `runs/own/<notebook>` where a parameter gives
    other numbers than the profile's. Raises InputError for bad parameters or input (also when a
    cell finds it) and for a place that holds anything but a run of this notebook, Hw2Error for a
    cell that failed or a full disk; the failed attempt is kept as `<folder>.failed/` with its
    notebook, and the previous complete run stays.
    """
    source = parameters.notebook_path(notebook)
    notebook = source.stem
    parameters.check(notebook, given)
    parameters.check_files(given)
    _tell_saved_edits(source)
    run_dir = _place(notebook, given, out)
    profile = _profile(notebook, given)
    folder = run_dir.parent / f"{run_dir.name}.tmp-{_set_environment()}"
    end_cleanly()
    expected_s = last_seconds(run_dir) or profiles.load(profile)["expected_s"][notebook]
    # the folder is claimed to the end, also for the kernel: it ends when this process does
    written = (run_dir.parent, paths.RUNS, paths.EMBEDDINGS_CACHE, Path(tempfile.gettempdir()))
    with (
        disk_explained(*written),
        folders.claim(run_dir, notebook),
        live_line(notebook, expected_s),
    ):
        try:
            _complete(source, folder, {**given, "run_dir": str(run_dir)})
        except BaseException as error:
            _keep_failed(folder, run_dir, notebook, error)
            raise
        folders.swap_in(folder, run_dir)
    _tell_who_stands_in_what_was_replaced()
    return run_dir


def _tell_who_stands_in_what_was_replaced() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        print("note: the folder you are in was replaced; cd . leads to the new", file=sys.stderr)


def _tell_saved_edits(source: Path) -> None:
    for name, value in parameters.saved_edits(source.stem).items():
        now, where = parameters.declared(source.stem)[name], paths.short(source)
        print(f"note: {where} says {name} {now!r}, committed is {value!r}", file=sys.stderr)


def _complete(source: Path, folder: Path, values: dict[str, Any]) -> None:
    """Executes a notebook in the folder of its run, which is complete at the end."""
    folder.mkdir()
    _execute(source, folder / "notebook.ipynb", values)
    if (status := runs.status_of(folder)) != "complete":
        what = f"the notebook ended, but its record is {status or 'absent'}"
        todo = "its last cell must call run.finish()"
        raise Hw2Error(what, where=source.stem, todo=todo)
    runs.add_notebook(folder)


def _keep_failed(folder: Path, run_dir: Path, notebook: str, error: BaseException) -> None:
    """Keeps what a failed attempt has left, as far as the disk allows."""
    with suppress(OSError):
        if any(folder.glob("*")):
            runs.mark_failed(folder, notebook, error)
        folders.recover(run_dir, but=folder)
        folders.keep_failed(folder, run_dir)


def end_cleanly() -> None:
    """A request to end is an exit like any other; a second one changes nothing."""

    def end(number: int, _: object) -> None:
        for kind in kinds:
            signal.signal(kind, signal.SIG_IGN)
        sys.exit(128 + number)

    kinds = [k for k in ENDINGS if signal.getsignal(k) == signal.SIG_DFL]
    for kind in kinds:
        signal.signal(kind, end)


def _profile(notebook: str, given: Mapping[str, Any]) -> str:
    return given.get("profile", parameters.declared(notebook)["profile"])


def _place(notebook: str, given: Mapping[str, Any], out: Path | None) -> Path:
    """The run's folder: as asked for, or the profile's, or that of runs with other numbers."""
    if out is not None:
        parameters.check_text(out, "--out")
    kind = "own" if parameters.changed(notebook, given) else _profile(notebook, given)
    named = out or given.get("run_dir") or paths.RUNS / kind / notebook
    return Path(named).expanduser().resolve()


def _set_environment() -> str:
    """What the kernel inherits, with the marks of a run under this runner; returns the run's id."""
    run_id = runs.new_run_id()
    environment = {**page_environment(), paths.RUNNER: "1", paths.RUN_ID: run_id}
    os.environ.clear()
    os.environ.update(environment)
    return run_id


def page_environment() -> dict[str, str]:
    """This process's environment, but for what would change a notebook's pages or numbers."""
    kept = {name: value for name, value in os.environ.items() if not LEFT_OUT.fullmatch(name)}
    return {**DEFAULTS, **kept, **PAGE}


def _execute(source: Path, executed: Path, values: dict[str, Any]) -> None:
    """Runs all cells in a kernel of their own; its failure is one message."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        _run_cells(source, executed, values)
    except PapermillExecutionError as error:
        what = error.evalue or error.ename
        if re.search(DISK_IS_FULL, what):
            raise OSError(errno.ENOSPC, what) from error
        kind = InputError if error.ename == "InputError" else Hw2Error
        name = "" if error.ename in ("InputError", "Hw2Error") else f"{error.ename}: "
        raise kind(f"{name}{what}", where=f"{source.name}, cell {error.cell_index + 1}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        is_slow = isinstance(error, CellTimeoutError)
        late = f"a cell ran longer than {CELL_TIMEOUT_S} s"
        what = late if is_slow else "the kernel died (out of memory?)"
        todo = "close other programs, or lower batch_size or epochs"
        raise Hw2Error(what, where=source.name, todo=todo) from error


def _run_cells(source: Path, executed: Path, values: dict[str, Any]) -> None:
    import papermill as pm

    # it warns of typed parameters, which it can't parse
    logging.getLogger("papermill").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        # IPython runs what lies in the user's profile at a kernel's start: here there is none.
        # A home folder that can't be written holds no kernel's connection file.
        os.environ.update(IPYTHONDIR=folder, JUPYTER_RUNTIME_DIR=folder)
        pm.execute_notebook(
            _for_papermill(source),
            _for_papermill(executed),
            parameters=values,
            kernel_name="python3",
            kernel_manager_class=_own_kernel_manager(),
            language="python",
            cwd=str(paths.NOTEBOOKS),
            progress_bar=False,
            start_timeout=120,
            execution_timeout=CELL_TIMEOUT_S,
            request_save_on_cell_execute=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )  # the kernel listens on loopback only, and says so


def _for_papermill(path: Path) -> str:
    """A path as papermill takes it: braces are its own."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _own_kernel_manager() -> type:
    """Starts the kernel of this very interpreter, whatever else is installed as "python3"."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

    class OwnKernelManager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return OwnKernelManager


@contextmanager
def live_line(notebook: str, expected_s: float) -> Iterator[None]:
    """One line on standard error: elapsed and expected seconds, redrawn on a terminal."""
    begin, ended, redrawn = time.monotonic(), threading.Event(), sys.stderr.isatty()

    def say(word: str, end: str = "") -> None:
        elapsed_s = time.monotonic() - begin
        line = f"{notebook:22} {word:8} {elapsed_s:5.0f} s of about {expected_s:.0f} s"
        shown = f"\r\033[K{line}{end}" if redrawn else f"{line}\n"
        print(shown, end="", file=sys.stderr, flush=True)

    def tick() -> None:
        while not ended.wait(1 if redrawn else 60):
            say("running")

    word = "failed"
    say("started")
    threading.Thread(target=tick, daemon=True).start()
    try:
        yield
        word = "complete"
    finally:
        ended.set()
        say(word, end="\n")


def last_seconds(run_dir: Path) -> float | None:
    """How long the previous run took, as its record says; None where it says nothing."""
    with suppress(TypeError, ValueError):
        return seconds(*(folders.run_field(run_dir, name) for name in ("start", "end")))
    return None


def seconds(start: str, end: str) -> float:
    """The time between two times of a record."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
