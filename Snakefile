# The chain and the sweeps. Started by `python -m hw2_utils chain`, which holds the lock and chooses the cores.
import re
import sys
from hw2_utils import paths, profiles, runs, sweeps

PROFILE = config.get("profile", "sample")
SETTINGS = profiles.load(PROFILE)
RUN = f"{sys.executable} -m hw2_utils run"
COMMON = ["runs", "execute", "hub", "profiles", "timing", "datafiles", "embedding_cache"]  # what notebooks use unnamed
READS = {"roberta_run": "01_lora_roberta", "resnet_sbert_run": "03_vqa_resnet_sbert", "clip_run": "04_vqa_clip"}
THREADS = workflow.cores or 4  # the engine tells PyTorch how many it may use; on a cluster, cores a job
NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("0*.ipynb"))


def stamp(notebook):
    return str(paths.RUNS / PROFILE / notebook / ".done")


def share(notebook):
    """Halves of the device: one that measures time and memory runs alone, two of the others run side by side."""
    return 2 if "lora_rank" in runs.declared_parameters(notebook) else 1


# The notebook, its profile, the modules that it imports, its data, and the runs that its parameters name.
def inputs(notebook):
    file, parameters = paths.NOTEBOOKS / f"{notebook}.ipynb", runs.declared_parameters(notebook)
    imported = re.search(r"from hw2_utils import ([\w, ]+)", file.read_text(encoding="utf-8"))[1].split(", ")
    code = [paths.PACKAGE / f"{module}.py" for module in [*COMMON, *imported]]
    data = [f for name, value in SETTINGS["all"].items() if name in parameters for f in profiles.data_files(value)]
    needs = [stamp(other) for name, other in READS.items() if name in parameters]
    tables = [t for module in [PROFILE, *imported] if (t := paths.CONFIG / f"{module}.toml").is_file()]
    return list(map(str, [file, *tables, *code, *data, *needs]))


rule all:
    input: [stamp(n) for n in NOTEBOOKS]


for name in NOTEBOOKS:
    rule:
        name: name
        input: inputs(name)
        output: touch(stamp(name))
        threads: max(1, THREADS * share(name) // 2)
        priority: SETTINGS["expected_s"][name]  # the long ones first, so that none is left over at the end
        resources: device=share(name)
        params: command=f"{RUN} {name} --profile {PROFILE} --out {str(paths.RUNS / PROFILE / name)!r}"
        shell: "{params.command}"


SWEEP = sweeps.read(config["sweep"]) if "sweep" in config else None


rule sweep:
    input: [sweeps.stamp(SWEEP, run) for run in SWEEP.runs] if SWEEP else []


rule sweep_run:
    output: touch(str(paths.RUNS / "sweeps" / "{sweep}" / "{run}" / ".done"))
    threads: THREADS
    resources: device=2
    params: command=lambda w: sweeps.command(SWEEP, w.run, RUN, PROFILE)
    retries: 1
    shell: "{params.command}"
