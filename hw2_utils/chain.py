"""The workflow engine behind one command: one chain at a time, what is finished stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from hw2_utils import paths, report, runs, sweeps
from hw2_utils.errors import Hw2Error, require


def run(profile: str, *, cores: int, sweep: Path | None = None, slurm: bool = False) -> None:
    """Runs all notebooks of a profile, or a sweep file.

    Raises InputError when another chain is at work here or for a bad sweep file, Hw2Error when a notebook failed.
    """
    require(cores >= 1, f"{cores} cores", where="--cores", todo="give 1 or more")
    plan = sweeps.read(sweep) if sweep else None
    with runs.hold(
        paths.RUNS / ".chain.lock",
        "another chain is running",
        where=paths.RUNS,
        todo="wait, or end it",
    ):
        code = _snakemake(profile, cores, sweep, slurm)
        if plan:
            print(
                f"{len(sweeps.gather(plan)):,} metric rows in",
                paths.short(sweeps.folder(plan, "metrics.csv")),
            )
        else:
            print("report:", paths.short(report.write(profile)))
    if code:
        raise Hw2Error(
            "a notebook failed; its message is above, its notebook under *.failed/",
            where=f"profile {profile}",
            todo="mend the cause and run it again: what is finished stays",
        )


def _snakemake(profile: str, cores: int, sweep: Path | None, slurm: bool) -> int:
    settings = paths.ROOT / "workflow" / "profiles" / ("slurm" if slurm else "local")
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "sweep" if sweep else "all",
        "--snakefile",
        paths.ROOT / "Snakefile",
        "--directory",
        paths.RUNS,
        "--jobs" if slurm else "--cores",
        str(cores),
        "--nolock",
        "--quiet",
        "all",
        "--workflow-profile",
        settings,
        "--config",
        f"profile={profile}",
    ]
    if sweep:
        command.append(f"sweep={sweep.resolve()}")
    # in our own process group: what kills the group leaves no engine behind that a next chain would meet
    engine = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(paths.ROOT)})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return engine.wait()
    except (
        BaseException
    ):  # a stop of this process alone has to reach the engine, the runners and their kernels
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        engine.wait(timeout=30)
        raise
