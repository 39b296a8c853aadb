"""The assignment's own path: its architectures by their real names, from a server on loopback.

The weights are random.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import loopback_hub
import pandas as pd
import pytest
from safetensors import safe_open

from hw2_utils import finetune, hub, parameters, paths, profiles, runs, timing

NOTEBOOKS = sorted(p.stem for p in paths.NOTEBOOKS.glob("0*.ipynb"))
NO_NETWORK = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # but loopback
CLASSES = ("negative", "neutral", "positive")
PHI_LAYER = {
    f"{name}.{kind}"
    for kind in ("weight", "bias")
    for name in (
        "input_layernorm",
        "mlp.fc1",
        "mlp.fc2",
        *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "dense")),
    )
}


def slow(test: Callable) -> Callable:
    """The first of these tests pays for the checkpoints and for all notebooks."""
    return pytest.mark.slow(pytest.mark.timeout(900)(test))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All checkpoints, 1.7 GB, and what the tests fetch from them; removed at the end."""
    folder = tmp_path_factory.mktemp("hub")
    yield loopback_hub.make(folder)
    shutil.rmtree(folder)


# ---------------------------------------------------------------------------------- architectures
def phi_names(n_layers: int) -> set[str]:
    """Tensors of microsoft/phi-1_5's own file."""
    ends = {
        f"{name}.{kind}"
        for name in ("model.final_layernorm", "lm_head")
        for kind in ("weight", "bias")
    }
    layers = {f"model.layers.{layer}.{name}" for layer in range(n_layers) for name in PHI_LAYER}
    return {"model.embed_tokens.weight"} | ends | layers


def test_phi_1_5_by_its_own_configuration() -> None:
    """On the meta device, where 1.4 billion parameters need no memory."""
    import torch
    from transformers import PhiConfig, PhiForCausalLM

    with torch.device("meta"):
        network = PhiForCausalLM(PhiConfig(**loopback_hub.PHI))
    d, inner, vocabulary = 2048, 8192, 51200
    layer = 4 * (d * d + d) + (d * inner + inner) + (inner * d + d) + 2 * d
    by_hand = vocabulary * d + 24 * layer + 2 * d + vocabulary * d + vocabulary
    assert finetune.count_parameters(network)["params_total"] == by_hand == 1_418_270_720
    assert {name for name, _ in network.named_parameters()} == phi_names(24)


@slow
def test_the_served_files_have_the_published_tensors(served: Path) -> None:
    def tensors(repository: str) -> dict[str, tuple[str, list[int]]]:
        with safe_open(
            served / "models" / repository / "model.safetensors", framework="numpy"
        ) as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {name: (found.get_dtype(), found.get_shape()) for name, found in slices.items()}

    roberta, phi = tensors("FacebookAI/roberta-base"), tensors("microsoft/phi-1_5")
    # safetensors' own list of the hub's files has these two totals for roberta-base
    sizes = Counter()
    for kind, shape in roberta.values():
        sizes[kind] += math.prod(shape)
    assert sizes == {"F32": 124_697_433, "I64": 514}
    assert set(phi) == phi_names(2) and phi["lm_head.weight"] == ("F16", [51200, 2048])
    minilm = hub.fetch_model("sample:all-MiniLM-L6-v2").path / "model.safetensors"
    with safe_open(minilm, framework="numpy") as real:
        assert set(tensors("sentence-transformers/all-MiniLM-L6-v2")) == set(real.keys())
    pinned = hub.pins()["models"]["FacebookAI/roberta-base"]["sha256"]
    for file in ("config.json", "tokenizer_config.json"):  # byte for byte the published ones
        assert (
            hub.file_sha256(served / "models" / "FacebookAI" / "roberta-base" / file)
            == pinned[file]
        )


@slow
@pytest.mark.parametrize(
    ("repository", "full", "trainable", "total"),
    [
        ("FacebookAI/roberta-base", 124_647_939, 887_811, 125_535_750),
        ("huawei-noah/TinyBERT_General_4L_312D", 14_351_187, 40_875, 14_392_062),
    ],
)
def test_parameter_counts(
    served: Path, repository: str, full: int, trainable: int, total: int
) -> None:
    from peft import LoraConfig, TaskType

    model = hub.fetch_model(str(served / "models" / repository))
    network = finetune.classifier(model, classes=CLASSES, seed=0)
    assert finetune.count_parameters(network) == {"params_total": full, "params_trainable": full}
    wrapped = finetune.with_lora(network, LoraConfig(task_type=TaskType.SEQ_CLS, r=8))
    assert finetune.count_parameters(wrapped) == {
        "params_total": total,
        "params_trainable": trainable,
    }


# ---------------------------------------------------------------------------------- refused by hash
EACH = """
import json
from hw2_utils import hub, profiles
from hw2_utils.errors import Hw2Error
found = {}
tables = profiles.load("full")
models = [table[k] for table in tables.values() for k in table if profiles.is_model(k)]
for name in [*models, tables["all"]["tweets_dir"]]:
    try:
        if name.startswith("hub:"):
            found[name] = hub.data_path(name).name
        else:
            found[name] = hub.fetch_model(name).verified
    except Hw2Error as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@slow
def test_with_the_real_pins_the_served_files_are_refused(served: Path) -> None:
    """Where a hash is pinned; the others are held against the hub's own, and say so.

    No public hash was found for those.
    """
    caches = served / "refused"
    with loopback_hub.serve(served) as server:
        env = {
            **loopback_hub.environment(served, server.url, caches),
            "HW2_PINS": str(paths.CONFIG / "pins.toml"),
        }
        done = subprocess.run(
            [sys.executable, "-c", EACH],
            cwd=paths.ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout)
    for name in ("FacebookAI/roberta-base", "sentence-transformers/all-MiniLM-L6-v2"):
        revision = hub.pins()["models"][name]["revision"][:12]
        assert found.pop(name).startswith(f"{name} at {revision}, model.safetensors: hash is ")
        kept = {
            p.name
            for p in (
                caches / "hf" / "hub" / f"models--{name.replace('/', '--')}" / "snapshots"
            ).rglob("*.*")
        }
        assert kept == {"config.json"}, "the weights, and what would have come after them"
    for name in ("torchvision:resnet50-v1", "openai:ViT-B-32"):
        assert "the download failed: invalid hash value" in found.pop(name)
    assert not list((caches / "torch").rglob("*.p*")) and not list(caches.rglob("*.incomplete"))
    assert found.pop("hub:cardiffnlp/tweet_eval") == "sentiment"
    assert set(found.values()) == {"from hub, not pinned"} and len(found) == 2
    shutil.rmtree(caches)


# ---------------------------------------------------------------------------------- all notebooks
def small_vqa(folder: Path, n_images: dict[str, int]) -> Path:
    """The questions about the first pictures of each split of the sample."""
    source = loopback_hub.SAMPLE / "daquar"
    (folder / "images").mkdir(parents=True)
    for split, n in n_images.items():
        frame = pd.read_csv(source / f"new_data_{split}.csv", dtype=str)
        frame = frame[frame["image_id"].isin(frame["image_id"].unique()[:n])]
        frame.to_csv(folder / f"new_data_{split}.csv", index=False)
        for image in frame["image_id"].unique():
            shutil.copy(source / "images" / f"{image}.jpg", folder / "images")
    return folder


def run(served: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with the server beside it, and no other network where a test may take it away."""
    can_cut = (
        subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    )
    command = [
        sys.executable,
        loopback_hub.__file__,
        str(served),
        sys.executable,
        "-m",
        "hw2_utils",
        *words,
    ]
    return subprocess.run(
        [*(NO_NETWORK if can_cut else []), *command],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def outcome(served: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each notebook's run said: the full profile, with little data and few steps."""
    vqa = str(small_vqa(served / "daquar", {"train": 12, "val": 5, "test": 6}))
    rows = (
        (loopback_hub.SAMPLE / "statements" / "statements.csv")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    (served / "statements.csv").write_text("\n".join(rows[:9]) + "\n", encoding="utf-8")
    tweets = ["-p", "max_train_examples", "16", "-p", "batch_size", "4"]
    parameters = {
        "01_lora_roberta": [*tweets, "-p", "seeds", "[0]"],
        "02_lora_tinybert": tweets,  # without seeds, for what a CPU makes of them
        "03_vqa_resnet_sbert": ["-p", "vqa_dir", vqa, "-p", "epochs", "5"],
        "04_vqa_clip": ["-p", "vqa_dir", vqa, "-p", "epochs", "5"],
        "05_question_types": ["-p", "vqa_dir", vqa],
        "06_prompting": [
            "-p",
            "statements_file",
            str(served / "statements.csv"),
            "-p",
            "max_generated",
            "2",
            "-p",
            "batch_size",
            "16",
        ],
    }
    # small data make runs of one's own; placed as the profile's, 05 finds 03's and 04's, and 02
    # finds 01's
    return {
        name: run(
            served, "run", name, "--profile", "full", *words, "--out", str(folder_of(served, name))
        )
        for name, words in parameters.items()
    }


def folder_of(served: Path, notebook: str) -> Path:
    return served / "caches" / "runs" / "full" / notebook


def record_of(served: Path, notebook: str) -> dict:
    return json.loads((folder_of(served, notebook) / "result.json").read_text(encoding="utf-8"))


def asked_models(notebook: str) -> dict[str, str]:
    return {k: v for k, v in profiles.load("full")[notebook].items() if profiles.is_model(k)}


@slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_notebook_runs_with_the_assignments_models(
    served: Path, outcome, notebook: str
) -> None:
    assert outcome[notebook].returncode == 0, outcome[notebook].stderr
    record = record_of(served, notebook)
    assert (
        record["run"]["status"] == "complete" and record["run"]["parameters"]["profile"] == "full"
    )
    models = record["meta"]["models"]
    assert {role: model["id"] for role, model in models.items()} == asked_models(notebook)
    assert {model["verified"] for model in models.values()} <= {"pinned"}
    pins = hub.pins()["models"]
    assert all(model["revision"] == pins[model["id"]]["revision"] for model in models.values())
    assert (folder_of(served, notebook) / "notebook.ipynb").is_file()


@slow
@pytest.mark.parametrize(
    ("notebook", "full", "trainable", "total"),
    [
        ("01_lora_roberta", 124_647_939, 887_811, 125_535_750),
        ("02_lora_tinybert", 14_351_187, 40_875, 14_392_062),
    ],
)
def test_the_tables_have_the_counts(
    served: Path, outcome, notebook: str, full: int, trainable: int, total: int
) -> None:
    table = pd.read_csv(folder_of(served, notebook) / "tables" / "comparison.csv", index_col="name")
    assert table.loc["params_total", ["full", "lora", "lora+lr5e-4"]].tolist() == [
        full,
        total,
        total,
    ]
    assert table.loc["params_trainable", ["full", "lora", "lora+lr5e-4"]].tolist() == [
        full,
        trainable,
        trainable,
    ]


@slow
@pytest.mark.parametrize(
    ("notebook", "dims"), [("03_vqa_resnet_sbert", [2048, 384]), ("04_vqa_clip", [512, 512])]
)
def test_the_embeddings_have_the_dimensions(
    served: Path, outcome, notebook: str, dims: list[int]
) -> None:
    table = pd.read_csv(folder_of(served, notebook) / "tables" / "embeddings.csv", index_col=0)
    assert sorted(table.filter(like="dim").to_numpy().ravel().tolist(), reverse=True)[:2] == dims


@slow
def test_a_cpu_runs_one_seed_and_says_so(served: Path, outcome) -> None:
    record = record_of(served, "02_lora_tinybert")["run"]
    if record_of(served, "02_lora_tinybert")["run"]["settings"]["device"] != "cpu":
        pytest.skip("a GPU runs all seeds")
    assert record["parameters"]["seeds"] == [] and record["settings"]["seeds"] == [0]
    assert [note for note in record["notes"] if "on a CPU" in note]
    assert not [
        note for note in record_of(served, "01_lora_roberta")["run"]["notes"] if "on a CPU" in note
    ]


@slow
def test_nothing_but_the_pinned_files_was_asked_for(served: Path, outcome) -> None:
    """The server is every process's proxy too: it would have seen a request for another host."""
    requests = [
        line.split() for line in (served / "requests.log").read_text(encoding="utf-8").splitlines()
    ]
    assert {method for method, _, _ in requests} == {"HEAD", "GET"}
    assert all(
        path.startswith("/") for _, path, _ in requests
    )  # what is meant for a proxy begins with the host
    assert {path for _, path, status in requests if status not in ("200", "302")} <= {
        "/api/agent-harnesses"
    }
    for name, pin in hub.pins()["models"].items():
        files = [f"/{name}/resolve/{pin['revision']}/{file}" for file in pin.get("files", [])]
        files += [f"/weights/{pin['file']}"] if "url" in pin else []
        assert set(files) <= {
            path.removeprefix("/cdn") for method, path, status in requests if method == "GET"
        }


@slow
def test_without_the_server_the_cache_is_enough(served: Path, outcome) -> None:
    env = {
        **loopback_hub.environment(served, "http://127.0.0.1:9", served / "caches"),
        "HF_HUB_OFFLINE": "1",
    }

    def offline(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hw2_utils", *words],
            cwd=paths.ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    out = served / "caches" / "runs" / "again"
    done = offline(
        "run",
        "02_lora_tinybert",
        "--profile",
        "full",
        "--out",
        str(out),
        "-p",
        "max_train_examples",
        "16",
        "-p",
        "batch_size",
        "4",
    )
    assert done.returncode == 0, done.stderr
    first, again = (
        record_of(served, "02_lora_tinybert"),
        json.loads((out / "result.json").read_text(encoding="utf-8")),
    )
    assert (
        again["run"]["parts"] == first["run"]["parts"]
        and again["meta"]["models"] == first["meta"]["models"]
    )
    doctor = offline("doctor", "--profile", "full")
    found = set(re.findall(r"(?m)^ok +((?:model|data) \S+)$", doctor.stdout))
    models = {name for notebook in NOTEBOOKS for name in asked_models(notebook).values()}
    assert {
        *(f"model {name}" for name in models),
        "data hub:cardiffnlp/tweet_eval",
    } <= found and len(models) == 6


# ---------------------------------------------------------------------------------- make full
@pytest.mark.parametrize(
    ("profile", "device", "seeds", "expected"),
    [
        ("full", "cpu", [], [0]),
        ("full", "cpu", [1, 2], [1, 2]),
        ("full", "cuda", [], [0, 1, 2, 3, 4]),
        ("sample", "cpu", [], [0, 1]),
    ],
)
def test_the_full_profile_has_one_seed_on_a_cpu_unless_asked(
    tmp_path, monkeypatch, profile, device, seeds, expected
):
    monkeypatch.setattr(timing, "resolve_device", lambda _: device)
    monkeypatch.setattr(timing, "device_name", lambda _: device)
    declared = parameters.declared("01_lora_roberta")
    run = runs.Run(
        "01_lora_roberta",
        {**declared, "profile": profile, "seeds": seeds, "run_dir": str(tmp_path / "run")},
    )
    run.close()
    assert run.settings.seeds == expected and bool(run.notes) == (len(expected) == 1)


def test_make_full_says_first_what_it_takes() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "full"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert [line.split(" -m ")[1] for line in done.stdout.splitlines() if " -m " in line] == [
        "hw2_utils doctor --profile full",
        "hw2_utils chain --profile full",
    ]
