"""The committed notebooks, run as people do: by the command line, each in its own process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(p.stem for p in (ROOT / "notebooks").glob("0*.ipynb"))


def run(tmp_path, *words):
    return subprocess.run(
        [sys.executable, "-m", "hw2_utils", "run", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "HW2_RUNS": str(tmp_path)},
        timeout=800,
    )


@pytest.mark.parametrize("name", NAMES)
def test_committed_without_outputs(name):
    for cell in json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["01_lora_roberta", "-p", "sedes", "[0]"], "no parameter 'sedes'"),
        (["01_lora_roberta", "-p", "seeds", "zero"], "isn't JSON"),
        (["01_lora_roberta", "-p", "epochs", '"two"'], "wanted is a int"),
        (["99_nothing"], "'99_nothing' is no notebook of this project"),
    ],
)
def test_bad_parameters_exit_2_before_a_kernel_starts(tmp_path, words, message):
    done = run(tmp_path, *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_the_fusion_network_is_the_same_in_both_notebooks():
    found = {
        re.search(r"class Fusion\(.*?(?=\n\S|\Z)", "".join(c["source"]), re.DOTALL)[0]
        for n in ("03_vqa_resnet_sbert", "04_vqa_clip")
        for c in json.loads((ROOT / "notebooks" / f"{n}.ipynb").read_text(encoding="utf-8"))[
            "cells"
        ]
        if "class Fusion" in "".join(c["source"])
    }
    assert len(found) == 1


def test_the_package_is_imported_at_once_and_without_torch():
    code = (
        "import sys, time; begin = time.perf_counter(); import hw2_utils; "
        "print(time.perf_counter() - begin, 'torch' in sys.modules)"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert min(float(seconds) for seconds, _ in found) < 0.3 and {
        loaded for _, loaded in found
    } == {"False"}
