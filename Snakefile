# The chain and the sweeps. Started by `python -m hw2_utils chain`, which holds the lock and chooses
# the cores, and takes away the stamp of every run that no longer holds or whose data are newer.
import os
import shlex
import sys
from hw2_utils import parameters, paths, profiles, sweeps

PROFILE = config.get("profile", "sample")
EXPECTED_S = profiles.load(PROFILE)["expected_s"]
RUN = f"{shlex.quote(sys.executable)} -m hw2_utils run"
# The engine tells PyTorch how many it may use; on a cluster, the cores of a job.
THREADS = int(config.get("threads", 2))


def stamp(notebook):
    """Relative to the engine's folder, `runs/`: it takes braces in a path for wildcards."""
    return f"{PROFILE}/{notebook}/.done"


def share(notebook):
    """Halves of the device: what measures time and memory runs alone, two others side by side."""
    return 2 if "lora_rank" in parameters.declared(notebook) else 1


def inputs(notebook):
    """The runs that its parameters name: `clip_run` is that of 04_vqa_clip."""
    runs = [name for name in parameters.declared(notebook) if name.endswith("_run")]
    read = tuple(name.removesuffix("_run") for name in runs)
    return [stamp(other) for other in parameters.names() if other.endswith(read)]


def starts(notebook):
    """A notebook's command, as a function: in a text the engine looks for wildcards."""
    place = shlex.quote(str(paths.RUNS / PROFILE / notebook))
    return lambda wildcards: f"{RUN} {notebook} --profile {PROFILE} --out {place}"


rule all:
    input: [stamp(n) for n in parameters.names()]


for name in parameters.names():
    rule:
        name: name
        input: inputs(name)
        output: touch(stamp(name))
        threads: max(1, THREADS * share(name) // 2)
        priority: EXPECTED_S[name]  # the long ones first: none is left over at the end
        resources: device=share(name)
        params: command=starts(name)
        shell: "{params.command}"


SWEEP = sweeps.read(os.environ[paths.SWEEP]) if os.environ.get(paths.SWEEP) else None


rule sweep:
    input: [f"sweeps/{SWEEP.name}/{run}/.done" for run in SWEEP.runs] if SWEEP else []


rule sweep_run:
    output: touch("sweeps/{sweep}/{run}/.done")
    threads: THREADS
    resources: device=2
    params: command=lambda w: sweeps.command(SWEEP, w.run, RUN, PROFILE)
    shell: "{params.command}"
