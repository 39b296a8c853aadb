"""Foreign files in every place that a command clears or replaces: no command touches one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hw2_utils import keys, paths

NAME = "05_question_types"
HEX = "0123456789abcdef" * 2
SAMPLE = f"runs/sample/{NAME}"
MINE = b"mine \x00\xff\n"
# A name ends with / for a folder, with @ for a link to a folder elsewhere; all else are files.
FOREIGN = [
    f"{SAMPLE}/mine.txt",
    f"{SAMPLE}/.hidden",
    f"{SAMPLE}/result.json",
    f"{SAMPLE}/tables/mine.csv",
    f"{SAMPLE}/figures/mine.png",
    f"{SAMPLE}/predictions/mine.parquet",
    f"{SAMPLE}/empty/",
    f"{SAMPLE}/link@",
    f"{SAMPLE}.failed/notebook.ipynb",
    f"{SAMPLE}.failed/tables/mine.csv",
    f"{SAMPLE}.old-backup/mine.txt",
    f"{SAMPLE}.old-202405/result.json",
    f"{SAMPLE}.old-{HEX}/mine.txt",
    f"{SAMPLE}.tmp-1/mine.txt",
    f"{SAMPLE}.tmp-20240501T100000-{HEX[:16]}/mine.txt",
    f"{SAMPLE}.old-{HEX[::-1]}@",
    "runs/sample/.x.lock",
    "runs/sample/mine/mine.txt",
    "runs/sample/index.html",
    "runs/sample/html/01_lora_roberta.html",
    "runs/sample/html/mine.html",
    "runs/full/html/mine.html",
    "runs/parts/mine.txt",
    f"runs/parts/{HEX}/mine.parquet.bak",
    f"runs/parts/{HEX}.tmp-{HEX}/part.json/mine.txt",
    f"runs/parts/{HEX[::-1]}@",
    "runs/parts/mine/part.json",
    "runs/sweeps/rows/metrics.csv",
    f"runs/sweeps/rows/000-{keys.digest({})[:8]}/.done",
    "runs/sweeps/rows/mine/mine.txt",
    "runs/mine.txt",
    "embeddings_cache/mine.txt",
    "embeddings_cache/mine/mine.sqlite",
    "writeup/generated/numbers.tex",
    "writeup/generated/mine.tex",
    "writeup/generated/tables/mine.tex",
    "writeup/overleaf.zip",
]
COMMANDS = {
    ("run", NAME): 2,
    ("run", NAME, "-p", "vqa_dir", "/nonexistent"): 2,
    ("run", NAME, "-p", "sedes", "[0]"): 2,
    ("run", NAME, "--out", "runs/sample/x"): 2,
    ("run", NAME, "--out", f"{SAMPLE}.failed"): 2,
    ("run", NAME, "--out", f"{SAMPLE}.old-{HEX}"): 2,
    ("run", NAME, "--out", "runs/mine.txt"): 2,
    ("run", NAME, "--out", "runs/sample"): 2,
    ("run", NAME, "--out", "embeddings_cache"): 2,
    ("run", NAME, "--out", "writeup/generated"): 2,
    ("run", NAME, "--out", f"runs/parts/{HEX}"): 2,
    ("chain",): 2,
    ("chain", "--sweep", "rows.yaml"): 2,
    ("report",): 2,
    ("report", "--profile", "full"): 0,
    ("writeup",): 2,
    ("cache", "list"): 0,
    ("cache", "verify"): 0,
    ("cache", "prune", "--model", "mine"): 0,
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, one notebook, the writeup's sources, and all the foreign things."""
    root = tmp_path_factory.mktemp("checkout")
    kept = shutil.ignore_patterns("__pycache__", "generated", "*.zip", "*.pdf")
    for name in ("hw2_utils", "writeup"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=kept)
    (root / "notebooks").mkdir()
    shutil.copy(paths.NOTEBOOKS / f"{NAME}.ipynb", root / "notebooks")
    (root / "rows.yaml").write_text(f"notebook: {NAME}\nrows: [{{}}]\n")
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "part.json").write_bytes(MINE)
    for name in FOREIGN:
        place = root / name.rstrip("/@")
        place.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            place.mkdir()
        elif name.endswith("@"):
            place.symlink_to(root / "elsewhere")
        else:
            place.write_bytes(MINE)
    return root


def is_there(root: Path, name: str) -> bool:
    place = root / name.rstrip("/@")
    if name.endswith("/"):
        return place.is_dir() and not any(place.iterdir())
    if name.endswith("@"):
        is_link = place.is_symlink() and place.readlink() == root / "elsewhere"
        return is_link and (place / "part.json").read_bytes() == MINE
    return not place.is_symlink() and place.is_file() and place.read_bytes() == MINE


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_touches_what_is_not_ours(checkout, words):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HW2_")}
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", *words],
        cwd=checkout,
        env={**kept, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == COMMANDS[words], done.stderr
    assert "Traceback" not in done.stderr
    assert [name for name in FOREIGN if not is_there(checkout, name)] == []


@pytest.mark.slow
def test_pruning_parts_leaves_what_is_not_a_part(checkout):
    code = "from hw2_utils import parts; parts.prune(set())"
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HW2_RUNS": str(checkout / "runs")}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, check=True)
    assert [name for name in FOREIGN if not is_there(checkout, name)] == []
