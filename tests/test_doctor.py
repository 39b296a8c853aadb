"""The doctor, run on copies of the project in which one thing is wrong."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path):
    """A copy without data: what the doctor reads, and nothing else."""
    shutil.copytree(
        ROOT / "hw2_utils", tmp_path / "hw2_utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "requirements.txt", "requirements-sample-models.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def doctor(project, profile="sample", **environment):
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "doctor", "--profile", profile],
        cwd=project,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(project),
            "HW2_RUNS": str(project / "runs"),
            **environment,
        },
    )
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stdout.splitlines()
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    missing = {line[8:]: todo.strip() for line, todo in pairs if line.startswith("MISSING")}
    assert done.returncode == (1 if missing else 0) and all(
        t.startswith("What to do: ") for t in missing.values()
    )
    return done.stdout, missing


def test_this_checkout_is_ready_for_the_sample():
    assert doctor(ROOT)[1] == {}


def test_what_is_there_and_what_is_not(project):
    (project / "data/sample/daquar").mkdir(parents=True)
    out, missing = doctor(project)
    assert (
        "ok      data data/sample/daquar" in out
        and "ok      model sample:all-MiniLM-L6-v2\n" in out
    )
    assert "data/README.md" in missing["data data/sample/tweet_eval/sentiment"]
    assert not (project / "runs").exists()


def test_python_and_packages_that_differ(project):
    pyproject, lock = project / "pyproject.toml", project / "requirements.txt"
    pyproject.write_text(
        re.sub('requires-python = ".*"', 'requires-python = ">=3.99"', pyproject.read_text())
    )
    lock.write_text(re.sub(r"(?m)^pandas==\S+", "pandas==0.0.1", lock.read_text()))
    _, missing = doctor(project)
    pandas = importlib.metadata.version("pandas")
    assert (
        missing[f"packages not as locked: pandas ==0.0.1 (here {pandas})"]
        == "What to do: make venv"
    )
    assert any("needed >=3.99" in line for line in missing)


def test_a_model_file_with_another_checksum(project):
    pins = (project / "hw2_utils/config/pins.toml").read_text()
    wanted = re.search(r'"efficientnet-lite0-57934424.pth" = "(\w+)"', pins)[1]
    (project / "pins.toml").write_text(pins.replace(wanted, "0" * 64))
    out, missing = doctor(project, HW2_PINS=str(project / "pins.toml"))
    assert any(
        line.startswith(f"model sample:efficientnet-lite0: sha256 is {wanted}") for line in missing
    )
    assert "ok      model sample:SmolLM2-135M-Instruct" in out


def test_full_profile_on_a_machine_that_has_nothing_cached(project):
    empty = {"HF_HOME": str(project / "hf"), "TORCH_HOME": str(project / "torch")}
    out, missing = doctor(project, "full", **empty)
    models = [line.split()[1].rstrip(":") for line in missing if line.startswith("model ")]
    assert {
        "FacebookAI/roberta-base",
        "microsoft/phi-1_5",
        "openai:ViT-B-32",
        "torchvision:resnet50-v1",
    } <= set(models)
    assert not list((project / "torch").rglob("*.pth")) and "sample:" not in out
    assert re.match(
        r"full takes about \S+ minutes .* on an H200 .* were not measured .*GiB to download", out
    )


def test_a_machine_that_is_too_small(project):
    table = project / "hw2_utils/config/sample.toml"
    table.write_text(re.sub(r"(?m)^(disk|memory)_gib = \d+", r"\1_gib = 999999", table.read_text()))
    _, missing = doctor(project)
    assert {line.split(":")[0] for line in missing} >= {"disk", "memory"}
    assert all(
        line.endswith("needed 999999") for line in missing if line.startswith(("disk", "memory"))
    )
