"""The workflow engine behind one command: one chain at a time, what is finished stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from hw2_utils import paths, report, sweeps
from hw2_utils.errors import Hw2Error, InputError, require


def run(profile: str, *, cores: int, sweep: Path | None = None, slurm: bool = False) -> int:
    """Runs all notebooks of a profile, or a sweep file; exit code 0, or 1 when a notebook failed.

    Raises InputError when another chain is at work in these runs, or for a bad sweep file.
    """
    require(cores >= 1, f"{cores} cores", where="--cores", todo="give 1 or more")
    plan = sweeps.read(sweep) if sweep else None
    paths.RUNS.mkdir(parents=True, exist_ok=True)
    holder = paths.RUNS / ".chain.pid"
    lock = FileLock(paths.RUNS / ".chain.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = holder.read_text().strip() if holder.is_file() else "unknown"
        raise InputError(f"another chain is running (process {pid})", where=paths.short(paths.RUNS),
                         todo="wait for it, or end it") from None
    holder.write_text(f"{os.getpid()}\n")
    try:
        code = _snakemake(profile, cores, sweep, slurm)
    finally:
        lock.release()
    if plan:
        print(f"{len(sweeps.gather(plan)):,} metric rows in {paths.short(paths.RUNS / 'sweeps' / plan.name / 'metrics.csv')}")
    else:
        print("report:", paths.short(report.write(profile)))
    if code:
        raise Hw2Error("a notebook failed; its message is above, its notebook under *.failed/", where=f"profile {profile}",
                       todo="mend the cause and run the same command: what is finished stays")
    return 0


def _snakemake(profile: str, cores: int, sweep: Path | None, slurm: bool) -> int:
    config = [f"profile={profile}", *([f"sweep={Path(sweep).resolve()}"] if sweep else [])]
    command = [sys.executable, "-m", "snakemake", "sweep" if sweep else "all", "--snakefile", str(paths.ROOT / "Snakefile"),
               "--directory", str(paths.RUNS), "--jobs" if slurm else "--cores", str(cores), "--nolock", "--quiet", "all",
               "--workflow-profile", str(paths.ROOT / "workflow" / "profiles" / ("slurm" if slurm else "local")),
               "--config", *config]
    # a group of its own, so that a stop reaches the engine, the runners and their kernels
    engine = subprocess.Popen(command, start_new_session=True, env={**os.environ, "PYTHONPATH": str(paths.ROOT)})
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return engine.wait()
    except BaseException:
        os.killpg(engine.pid, signal.SIGTERM)
        engine.wait(timeout=30)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
