# The chain and the sweeps. Started by `python -m hw2_utils chain`, which holds the lock and chooses the cores.
import sys
from hw2_utils import paths, profiles, sweeps

PROFILE = config.get("profile", "sample")
SETTINGS = profiles.load(PROFILE)
RUN = f"{sys.executable} -m hw2_utils run"
COMMON = ["runs", "execute", "metrics", "statistics", "hub", "profiles", "plots", "timing"]
NOTEBOOKS = {  # modules beside the common ones, data that it reads, notebooks whose runs it reads
    "01_lora_roberta": (["finetune", "tweets"], ["tweets_dir"], []),
    "02_lora_tinybert": (["finetune", "tweets"], ["tweets_dir"], ["01_lora_roberta"]),
    "03_vqa_resnet_sbert": (["fusion", "encoders", "embedding_cache", "daquar"], ["vqa_dir"], []),
    "04_vqa_clip": (["fusion", "encoders", "embedding_cache", "daquar"], ["vqa_dir"], []),
    "05_question_types": (["question_types", "daquar"], ["vqa_dir"], ["03_vqa_resnet_sbert", "04_vqa_clip"]),
    "06_prompting": (["prompting", "statements"], ["statements_file"], []),
}


def stamp(notebook):
    return str(paths.RUNS / PROFILE / notebook / ".done")


def inputs(notebook):
    modules, data, needs = NOTEBOOKS[notebook]
    code = [str(paths.PACKAGE / f"{m}.py") for m in [*COMMON, *modules]]
    files = [str(f) for d in data for f in profiles.data_files(SETTINGS["all"][d])]
    return [str(paths.NOTEBOOKS / f"{notebook}.ipynb"), str(paths.CONFIG / f"{PROFILE}.toml"), *code, *files, *map(stamp, needs)]


rule all:
    input: [stamp(n) for n in NOTEBOOKS]


for name in NOTEBOOKS:
    rule:
        name: name
        input: inputs(name)
        output: touch(stamp(name))
        resources: device=1
        params: command=f"{RUN} {name} --profile {PROFILE} --out {str(paths.RUNS / PROFILE / name)!r}"
        shell: "{params.command}"


SWEEP = sweeps.read(config["sweep"]) if "sweep" in config else None


rule sweep:
    input: [sweeps.stamp(SWEEP, run) for run in SWEEP.runs] if SWEEP else []


rule sweep_run:
    output: touch(str(paths.RUNS / "sweeps" / "{sweep}" / "{run}" / ".done"))
    resources: device=1
    params: command=lambda w: sweeps.command(SWEEP, w.run, RUN, PROFILE)
    retries: 1
    shell: "{params.command}"
