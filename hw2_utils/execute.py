"""The strict papermill runner: one notebook, checked before a kernel starts, in its own folder, complete or failed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hw2_utils import paths, profiles, runs
from hw2_utils.errors import Hw2Error, InputError

CELL_TIMEOUT_S = 6 * 3600
# glibc gives large freed blocks back and faults them in again at every step: up to a tenth of a training's time
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def parse_value(notebook: str, name: str, text: str) -> Any:
    """A command-line value: JSON where the parameter's default isn't a string, else the text as it is.

    A path or model folder given relative to the working directory becomes absolute: the kernel runs elsewhere.
    """
    default = runs.declared_parameters(notebook).get(
        name, ""
    )  # an unknown name is refused by `run`
    if isinstance(default, str):
        is_path = name in profiles.PATH_PARAMETERS or (
            name in profiles.MODEL_PARAMETERS and Path(text).exists()
        )
        return (
            str(Path(text).expanduser().absolute())
            if text and is_path and not text.startswith("hub:")
            else text
        )
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(
            f"{text!r} isn't JSON", where=f"parameter {name}", todo=f"default: {default!r}"
        ) from None


def run(notebook: str, parameters: Mapping[str, Any], *, out: Path | None = None) -> Path:
    """Executes one notebook into `runs/<profile>/<notebook>` (or `out`); returns the folder.

    Raises InputError for bad parameters or input (also when a cell finds it), Hw2Error for a cell that failed; the
    failed attempt is kept as `<folder>.failed/` with its notebook, and the previous complete run stays.
    """
    source = runs.notebook_path(notebook)
    notebook = source.stem
    runs.check_parameters(notebook, parameters)
    profile = parameters.get("profile") or runs.declared_parameters(notebook)["profile"]
    run_dir = (
        (out or Path(parameters.get("run_dir") or paths.RUNS / profile / notebook))
        .expanduser()
        .resolve()
    )
    run_id = runs.new_run_id()
    folder = run_dir.with_name(f"{run_dir.name}.tmp-{run_id}")
    os.environ.update({**MALLOC, **os.environ})  # what the user has set stays
    os.environ.update(
        HW2_RUNNER="1",
        HW2_RUN_ID=run_id,
        HF_HUB_DISABLE_PROGRESS_BARS="1",  # noise on a page
        PYTHONWARNINGS="ignore::FutureWarning",
        TRANSFORMERS_VERBOSITY="error",
    )
    expected_s = last_seconds(run_dir) or profiles.load(profile)["expected_s"][notebook]
    # the folder is claimed to the end, also for the kernel: it ends when this process does
    with runs.claim(run_dir), live_line(notebook, expected_s):
        folder.mkdir()
        try:
            _execute(source, folder / "notebook.ipynb", {**parameters, "run_dir": str(run_dir)})
            if (status := runs.status_of(folder)) != "complete":
                raise Hw2Error(
                    f"the notebook ended, but its record is {status or 'absent'}",
                    where=notebook,
                    todo="its last cell must call run.finish()",
                )
        except BaseException as error:
            _keep_failed(run_dir, folder, error)
            raise
        runs.swap_in(folder, run_dir)
    return run_dir


def _execute(source: Path, executed: Path, parameters: dict[str, Any]) -> None:
    import papermill as pm
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(
        logging.ERROR
    )  # it warns of typed parameters, which it can't parse
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        pm.execute_notebook(
            str(source),
            str(executed),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            cwd=str(paths.NOTEBOOKS),
            progress_bar=False,
            start_timeout=120,
            execution_timeout=CELL_TIMEOUT_S,
            request_save_on_cell_execute=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )  # it listens on loopback only, and says so
    except PapermillExecutionError as error:
        what = error.evalue or error.ename
        kind = InputError if error.ename == "InputError" else Hw2Error
        name = "" if error.ename in ("InputError", "Hw2Error") else f"{error.ename}: "
        raise kind(f"{name}{what}", where=f"{source.name}, cell {error.cell_index + 1}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        slow = isinstance(error, CellTimeoutError)
        what = (
            f"a cell ran longer than {CELL_TIMEOUT_S} s"
            if slow
            else "the kernel died (out of memory?)"
        )
        raise Hw2Error(
            what, where=source.name, todo="close other programs, or lower batch_size or epochs"
        ) from error


def _keep_failed(run_dir: Path, folder: Path, error: BaseException) -> None:
    failed = run_dir.with_name(f"{run_dir.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    folder.rename(failed)
    record = failed / "result.json"
    if record.is_file():
        data = json.loads(record.read_text(encoding="utf-8"))
        data["run"].update(
            status="failed", error=f"{type(error).__name__}: {error}", end=runs.now()
        )
        runs.write_json(record, data)


@contextmanager
def live_line(notebook: str, expected_s: float) -> Iterator[None]:
    """One line a notebook on standard error: elapsed and expected seconds, redrawn on a terminal."""
    begin, ended, redrawn = time.monotonic(), threading.Event(), sys.stderr.isatty()

    def say(word: str, end: str = "") -> None:
        text = (
            f"{notebook:22} {word:8} {time.monotonic() - begin:5.0f} s of about {expected_s:.0f} s"
        )
        print(
            f"\r\033[K{text}{end}" if redrawn else f"{text}\n", end="", file=sys.stderr, flush=True
        )

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
    """How long the previous complete run took, from its record."""
    start, end = (runs._run_field(run_dir, name) for name in ("start", "end"))
    return (
        (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
        if start and end
        else None
    )
