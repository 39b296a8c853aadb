"""The workflow engine behind one command: one chain at a time, what is finished stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from hw2_utils import execute, folders, parameters, paths, profiles, report, runs, sweeps
from hw2_utils.errors import Hw2Error, InputError, disk_explained, require


def run(profile: str, *, cores: int, sweep: Path | None = None, slurm: bool = False) -> None:
    """Runs all notebooks of a profile, or a sweep file.

    Raises InputError when another chain is at work here or for a bad sweep file, Hw2Error when a
    notebook failed or the disk is full.
    """
    require(cores >= 1, f"{cores} cores", where="--cores", todo="give 1 or more")
    plan = sweeps.read(sweep) if sweep else None
    if slurm:
        _check_plain_names([paths.ROOT, paths.RUNS, Path(sys.prefix), *([sweep] if sweep else [])])
    execute.end_cleanly()
    lock, taken = paths.RUNS / ".chain.lock", "another chain is running"
    with (
        disk_explained(paths.RUNS),
        folders.hold(lock, taken, where=paths.RUNS, todo="wait, or end it"),
    ):
        _check_what_is_there(profile, plan)
        begin = time.time()
        code = _snakemake(profile, cores, sweep, slurm)
        if plan:
            place = paths.short(paths.RUNS / "sweeps" / plan.name)
            print(f"{len(sweeps.complete(plan))} of {len(plan.runs)} runs complete in {place}")
        else:
            print("report:", paths.short(report.write(profile)))
    if code:
        if slurm:
            _print_job_errors(since=begin)
        raise Hw2Error(
            "a notebook failed; its message is above, its notebook under *.failed/",
            where=f"profile {profile}",
            todo="mend the cause and run it again: what is finished stays",
        )


def _check_plain_names(places: Iterable[Path]) -> None:
    """Refuses names in which the plugin's shell or sbatch would read a command or a pattern."""
    for place in places:
        plain = re.fullmatch(r"[\w./+=@,:~-]+", str(place))
        todo = "use letters, digits and ./+=@,:~- there"
        require(plain, "SLURM's plugin can't take this name", where=place, todo=todo)


def _print_job_errors(since: float) -> None:
    """The last error in each log of a SLURM job that didn't complete; the plugin removes others."""
    for log in sorted((paths.RUNS / ".snakemake" / "slurm_logs").rglob("*.log")):
        if log.stat().st_mtime >= since:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            ours = [line for line in lines if line.startswith("error: ")]
            others = [line for line in lines if "error: " in line]
            last = [*others, *ours][-1:] or ["no error in it"]
            print(f"{paths.short(log)}: {last[0]}", flush=True)


def _check_what_is_there(profile: str, plan: sweeps.Sweep | None) -> None:
    """Refuses what would be replaced and isn't ours; lets what no longer holds run again."""
    folders.check_writable(paths.RUNS / "parts")
    if plan:
        for run, values in plan.runs.items():
            files = _data_files(plan.notebook, {"profile": profile, **values})
            _unstamp_unless_it_holds(sweeps.folder(plan, run), plan.notebook, profile, files)
        return
    report.check_pages(profile)
    for notebook in parameters.names():
        files = _data_files(notebook, {"profile": profile})
        files.append(parameters.notebook_path(notebook))
        _unstamp_unless_it_holds(paths.RUNS / profile / notebook, notebook, profile, files)


def _data_files(notebook: str, given: Mapping[str, Any]) -> list[Path]:
    """The files that a run with these parameters reads, as far as they are here."""
    settings = profiles.settings(notebook, {**parameters.declared(notebook), **given})
    read = [value for name, value in settings.items() if profiles.is_data(name)]
    return [file for value in read for file in profiles.data_files(value)]


def _unstamp_unless_it_holds(
    run_dir: Path, notebook: str, profile: str, files: Iterable[Path]
) -> None:
    """Takes the engine's stamp from a run whose record is absent, altered, stale or older."""
    stamp = run_dir / folders.STAMP
    if not os.path.lexists(stamp):
        return
    is_stamp = stamp.is_file() and not stamp.is_symlink() and not stamp.stat().st_size
    todo = "move it: the workflow engine makes an empty file of that name"
    require(is_stamp, "this file isn't the engine's stamp", where=stamp, todo=todo)
    try:
        runs.load(run_dir, notebook=notebook, profile=profile)
        for file in files:
            older = file.stat().st_mtime <= stamp.stat().st_mtime
            require(older, f"{file.name} is newer", where=run_dir, todo="run it again")
    except InputError as error:
        print(f"{paths.short(run_dir)} is run again: {error.what}", flush=True)
        stamp.unlink()


def _snakemake(profile: str, cores: int, sweep: Path | None, slurm: bool) -> int:
    engine_profile = paths.ROOT / "workflow" / "profiles" / ("slurm" if slurm else "local")
    command = [sys.executable, "-m", "snakemake", "sweep" if sweep else "all"]
    command += ["--snakefile", paths.ROOT / "Snakefile", "--directory", paths.RUNS]
    command += ["--jobs" if slurm else "--cores", str(cores), "--nolock", "--quiet"]
    # of a cluster's jobs only the engine knows; a run on this machine speaks for itself
    command += ["host", "progress", "reason"] if slurm else ["all"]
    command += ["--workflow-profile", engine_profile, "--config", f"profile={profile}"]
    if not slurm:  # there a job has cores of its own, not a share of this machine's
        command.append(f"threads={cores}")
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    environment[paths.SWEEP] = str(sweep.resolve()) if sweep else ""
    # in our own process group: what kills the group leaves no engine behind to meet a next chain
    engine = subprocess.Popen(command, env=environment)
    try:
        return engine.wait()
    except BaseException as stop:  # a stop of this process alone has to reach all that it started
        if slurm:
            _cancel_jobs(engine, told=isinstance(stop, KeyboardInterrupt))
            raise
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        engine.wait(timeout=30)
        raise


def _cancel_jobs(engine: subprocess.Popen[bytes], told: bool) -> None:
    """Has the engine cancel its SLURM jobs; at SIGTERM it would wait for them to end.

    Ctrl-C has `told` it already. It then sleeps until its next poll, which nobody needs.
    """
    if not told:
        engine.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        engine.wait(timeout=30)
    engine.kill()
