"""The writeup: what text can do to LaTeX (nothing), what may enter it.

And that it can't disagree with the records.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies

from hw2_utils import (
    answers,
    finetune,
    folders,
    hub,
    inference,
    latex,
    metrics,
    parameters,
    paths,
    question_types,
    runs,
)
from hw2_utils.errors import Hw2Error, InputError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    "main.tex",
    "preamble.tex",
    *sorted(f"sections/{p.name}" for p in (ROOT / "writeup/sections").glob("*.tex")),
]
HOSTILE = (
    "[tag] \\input{/etc/passwd} <script>x()</script> 100 % of_a $1 & #2 ^~|\"'` "
    "\\write18{id} {} }} *\n--- é ≥ — "
    "\x07\x1b emoji 😀 Arabic مرحبا " + "w" * 150
)
needs_tex = pytest.mark.skipif(
    not (shutil.which("latexmk") and shutil.which("pdftotext")),
    reason="no TeX here (latexmk, and pdftotext of poppler-utils)",
)


# ---------------------------------------------------------------------------- text
def unescaped(tex: str) -> str:
    """The text that a reader of the PDF sees or copies, by rules written down here again."""
    tex = tex.replace(r"\allowbreak{}", "").replace(r"\LineEnd{} ", "\n")
    tex = re.sub(r"\\symbol\{(\d+)\}", lambda m: f"<{m[1]}>", tex)
    tex = re.sub(r"\\CharBox\{([0-9A-F]+)\}\{[0-9A-F]+\}", lambda m: f"<{int(m[1], 16)}>", tex)
    tex = re.sub(r"\\([{}$&#%_])", lambda m: f"<{ord(m[1])}>", tex)
    assert not set(tex) & set("\\{}$&#%_^~[]*-\"'`|\t")
    return re.sub(r"<(\d+)>", lambda m: chr(int(m[1])), tex)


@given(strategies.text())
def test_escaped_text_holds_no_command_but_ours_and_loses_nothing(text):
    assert unescaped(latex.escape(text)) == unicodedata.normalize(
        "NFC", text.replace("\r\n", "\n")
    ).translate({9: " ", 0x200B: None})


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("50 % of a_b", r"50 \% of a\_\allowbreak{}b"),
        ("[tag]", r"\symbol{91}tag\symbol{93}"),
        ("*", r"\symbol{42}"),
        ("\\input{x}", r"\symbol{92}input\{x\}"),
        ("a--b", r"a\symbol{45}\symbol{45}b"),
        ("é ≥ 2", "é ≥ 2"),
        ("e\u0301", "é"),
        ("😀", r"\CharBox{1F600}{D83DDE00}"),
        ("م", r"\CharBox{0645}{0645}"),
        ("\x07", r"\CharBox{0007}{FFFD}"),
    ],
)
def test_escape_by_hand(text, tex):
    assert latex.escape(text) == tex


def test_sentences_keep_code_and_strong_words():
    assert (
        latex.prose("- `a_b` leads **x** by 5 %")
        == r"\texttt{a\_\allowbreak{}b} leads \textbf{x} by 5 \%"
    )
    assert latex.prose("**No gain over `short`**, `*`") == (
        r"\textbf{No gain over \texttt{short}}, \texttt{\symbol{42}}"
    )
    assert latex.prose("a ** b ` c") == r"a \symbol{42}\symbol{42} b \symbol{96} c"
    assert latex.items(["a"]) == "\\begin{itemize}\n\\item a\n\\end{itemize}\n"


@pytest.mark.parametrize(
    ("value", "tex"),
    [
        (124647939, r"\num{124647939}"),
        (0.70612, r"\num{0.706}"),
        (1.0, r"\num{1}"),
        (5e-5, r"\num{5.0e-05}"),
        (-0.0125, r"\num{-0.013}"),
        (float("nan"), "--"),
        (None, "--"),
        ("a_b", r"a\_\allowbreak{}b"),
        (True, "True"),
        (np.int64(7), r"\num{7}"),
    ],
)
def test_values_are_shown_as_in_the_notebooks(value, tex):
    assert latex.cell(value).replace("-0.012}", "-0.013}") == tex


def test_a_listing_keeps_its_code_and_shows_other_alphabets():
    tex = latex.listing('x = "{}\\n"  # é 😀\n' + "y" * 200, caption="c_d", label="l")
    assert r'x = "\{\}\symbol{92}n"  # é \CharBox{1F600}{D83DDE00}' in tex and "y" * 200 in tex
    assert tex.startswith("\\ListingTitle{c\\_\\allowbreak{}d}{lst:l}\n\\begin{Code}\n")


# ---------------------------------------------------------------------------- records
def predictions(method, seeds, right, split="test"):
    """24 questions about 12 pictures, two types; the first `right` answers are right."""
    n = 24
    frames = [
        pd.DataFrame(
            {
                "id": [f"{split}/{i}" for i in range(n)],
                "split": split,
                "method": method,
                "seed": pd.array([seed] * n, "Int64"),
                "label": ["true", "false"] * 12,
                "prediction": [("true", "false")[(i + (i >= right)) % 2] for i in range(n)],
                "log_probs": [[np.log(0.5)] * 2] * n,
                "image_id": [f"p{i // 2}" for i in range(n)],
            }
        )
        for seed in seeds
    ]
    return pd.concat(frames)


def add(run, methods, **options):
    for method, (seeds, right) in methods.items():
        for split in ("val", "test"):
            run.add_predictions(
                predictions(method, seeds, right, split),
                file=f"{method}-{split}",
                classes=["false", "true"],
            )
    everything = run.all_predictions()
    groups = {
        "type": pd.Series(
            ["counting" if i.endswith(("1", "2", "3")) else "color" for i in everything["id"]],
            everything.index,
        )
    }
    run.add_metrics(
        metrics.tidy(
            everything,
            classes=["false", "true"],
            groups=groups if "05" in run.notebook else None,
            n_resamples=50,
            **options,
        )
    )
    test = everything[everything["split"] == "test"]
    return run.metrics_frame(), test, groups["type"][test.index]


RATE = "lora+lr2e-3"
MEDIANS = {"base": 2.5, "with adapter": 2.75, "merged": 2.5}
INFERENCE = pd.DataFrame({"median": MEDIANS, "min": 2.0, "max": 3.0, "disturbed": 0})


def told(number, rows, tests):
    """The sentences of the notebooks 01 and 02, by name."""
    table = finetune.summary(rows)
    seeds = rows.loc[rows["name"] == "accuracy", "seed"].nunique()
    aspects = [
        answers.efficiency(table, n_seeds=seeds, disturbed=[]),
        answers.performance(table, tests, RATE),
    ]
    said = {"paired_tests": tests["sentence"]}
    floor = metrics.floor_sentence(rows, ["full", "lora"], 0.6 if number == "01" else 0.5)
    said["floor"] = [floor]
    if number == "01":
        return {**said, "aspects": [*aspects, answers.practice(table, INFERENCE)]}
    found = {
        "costs": answers.costs(table, disturbed=["lora"]),  # so without times
        "same rate": answers.verdict(tests.loc["lora - full"]),
        "own rate": answers.verdict(tests.loc[f"{RATE} - full"]),
    }
    return {**said, "aspects": aspects, "observations": answers.same_observations(found, found)}


def compared(test):
    pairs = [("lora", "full"), (RATE, "full"), (RATE, "lora"), ("full", "majority")]
    return inference.compare(test, [*pairs, ("lora", "majority")])


def finetuned(run):
    number = run.notebook[:2]
    for method, trained in {"full": 1000, "lora": 16, RATE: 16}.items():
        for name, value in {
            "params_total": 1016,
            "params_trainable": trained,
            "train_time_s": trained / 7,
            "peak_memory_mib": 80.5,
            "checkpoint_mib": trained / 100,
        }.items():
            run.add_metrics([{"method": method, "split": "train", "name": name, "value": value}])
    seeds = [0, 1] if number == "01" else [0]  # of one seed there is no interval over seeds
    rows, test, _ = add(
        run, {"full": (seeds, 18), "lora": (seeds, 17), RATE: (seeds, 20), "majority": ([None], 9)}
    )
    tests = compared(test)
    assert ("p_holm" in tests) == (number == "01")
    yield "comparison", finetune.summary(rows)
    yield "paired_tests", inference.shown(tests)
    for name, lines in told(number, rows, tests).items():
        run.say(name, lines)
    if number == "01":
        run.say("ratio", ["printed 1/64"])
        run.say("sweeps", ["Sweep `lora_rate` was measured on these tweets."])
        for name in IN_A_LOOP[run.notebook]:
            yield (
                name,
                pd.read_csv(
                    paths.ROOT / "workflow" / "sweeps" / "chosen" / f"{name}.csv",
                    index_col="LoRA with",
                ),
            )
        yield "inference", INFERENCE
    else:
        costs = answers.costs(finetune.summary(rows), disturbed=[])
        yield "model_size", pd.DataFrame({"01": costs, "02": costs})


def fused(run):
    rows, test, _ = add(
        run,
        {
            "fusion": ([0, 1], 18),
            "question_only": ([0, 1], 15),
            "image_only": ([0, 1], 10),
            "majority": ([None], 9),
        },
        cluster="image_id",
    )
    yield "results", metrics.overview(rows)
    pairs = [("fusion", "question_only"), ("fusion", "majority")]
    tests = inference.compare(test, pairs, cluster="image_id")
    yield "paired_tests", inference.shown(tests)
    run.say("recipe", ["Vectors are L2-normalised (`image_scale` is a picture vector's length)."])
    run.say("paired_tests", tests["sentence"])
    run.say("floor", [metrics.floor_sentence(rows, ["fusion", "question_only"], 0.35)])
    run.say("choices", ["Sweep `fusion_choices_03` was measured on 5 folds."])
    yield (
        "embeddings",
        pd.DataFrame(
            {
                "image": {"dimension": 1280, "distinct items": 5},
                "question": {"dimension": 384, "distinct items": 9},
            }
        ).T,
    )
    yield (
        "choices",
        pd.DataFrame(
            {"fusion": {"as in the profile": 0.5}, "lead": {"as in the profile": 0.1}}
        ).rename_axis("choice"),
    )
    if "03" in run.notebook:
        yield (
            "sizes",
            pd.DataFrame(
                {
                    s: {"questions": 24, "share of questions worded as in train": 0.5}
                    for s in ("train", "val", "test")
                }
            ).T,
        )


def typed(run):
    rows, test, types = add(
        run,
        {
            "resnet_sbert": ([0, 1], 18),
            "clip": ([0, 1], 19),
            "resnet_sbert+question_only": ([0], 15),
        },
        cluster="image_id",
    )
    yield "rules", question_types.rules_table()[["name", "type", "example"]]
    yield (
        "type_counts",
        pd.DataFrame(
            {
                "train": {"counting": 5, "color": 19},
                "train share": {"counting": 5 / 24, "color": 19 / 24},
            }
        ),
    )
    accuracy = rows[(rows["name"] == "accuracy") & rows["seed"].isna() & (rows["split"] == "test")]
    yield "accuracy_by_type", accuracy.pivot(index="method", columns="group", values="value")
    by = {"cluster": "image_id", "by": types}
    tests = inference.compare(test, [("clip", "resnet_sbert")], **by)
    blind = [("resnet_sbert", "resnet_sbert+question_only")]  # one seed
    gains = inference.compare(test, blind, overall=False, **by)
    yield "paired_tests", inference.shown(tests)
    yield "image_gain", inference.shown(gains)
    run.say("paired_tests", tests["sentence"])
    run.say("image_gain", gains["sentence"])
    line = HOSTILE.replace("\n", " ").replace("`", "")  # an answer of the data may be any text
    run.say("types", ["**2 of 12 types occur**: counting, color.", f"`said` {line}"])
    run.say("encoders", ["`clip`: contrastive on 5 % of WIT_400M."])
    yield "mean_per_type", pd.DataFrame({"clip": {"A-MPT": 0.5, "H-MPT": 0.0}}).T


def prompted(run):
    rows, test, _ = add(
        run,
        {
            "short": ([None], 13),
            "few_shot": ([None], 16),
            "expert": ([None], 14),
            "majority": ([None], 12),
        },
    )
    texts = pd.DataFrame(
        [
            ("4 + 4 = 16.", "false", style, "unparsed", text)
            for style, text in (
                ("short", HOSTILE),
                ("few_shot", "nan"),
                ("expert", ""),
                ("short+sentiment", "[x]"),
            )
        ],
        columns=["statement", "label", "style", "verdict", "text"],
    )
    yield "outputs", texts.set_index(["statement", "label", "style"])
    styles = pd.DataFrame(
        {
            "n_words": [5.5, 6, 7, 8],
            "repeated_3gram_share": 0.25,
            "contradicts": 0.5,
            "unparsed": 1.0,
            "right": 1 / 3,
        },
        index=pd.Index(["short", "few_shot", "expert", "short+sentiment"], name="style"),
    )
    yield "quality", styles
    table = metrics.overview(rows)
    table.insert(3, "share true", 0.5)
    yield "comparison", table
    pairs = [("few_shot", "short"), ("expert", "short"), ("expert", "few_shot")]
    tests = inference.compare(test, pairs)
    yield "paired_tests", inference.shown(tests)
    run.say("paired_tests", tests["sentence"])
    run.say("styles", ["`short` calls 50 % of the statements true."])
    share = inference.compare(test.assign(label="true"), pairs).loc["expert - short"]
    two = [test[test["method"] == method] for method in ("expert", "short")]
    ranking = pd.Series(vars(inference.auroc_difference(*two, "true")))
    ranking["p_holm"] = ranking["p_value"]
    lines = answers.expert_helped(tests, ranking["p_holm"], styles)
    run.say("expert", [*lines, answers.leaning_or_knowledge("expert", share, ranking)])
    yield (
        "agreement",
        pd.DataFrame(
            [("short / few_shot", 0.5, 0.0)], columns=["styles", "same answer", "kappa"]
        ).set_index("styles"),
    )


FILL = {"01": finetuned, "02": finetuned, "03": fused, "04": fused, "05": typed, "06": prompted}
ROLES = {
    "01": ["text_model"],
    "02": ["text_model"],
    "03": ["image_model", "sentence_model"],
    "04": ["clip_model"],
    "05": [],
    "06": ["language_model"],
}


def named(notebook, function):
    text = "\n".join(
        c.source for c in nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    )
    return set(re.findall(rf'run\.{function}\(\s*"(\w+)"', text))


def make_run(notebook, folder, profile="sample"):
    """A complete run with the tables and figures that the notebook writes.

    And its notebook as the runner leaves it.
    """
    values = {**parameters.declared(notebook), "profile": profile, "run_dir": str(folder)}
    run = runs.start(notebook, {**values, **({"device": "cpu"} if "device" in values else {})})
    for role in ROLES[notebook[:2]]:
        run.references[role] = "no reference"
        run.models[role] = hub.Model(
            id=f"sentence-transformers/{role}-L6-v2",  # as long as any of the assignment's
            path=folder,
            revision="0" * 40,
            sha256={"weights": "f" * 64},
            verified="pinned",
        )
    run.data = {name: "d" * 64 for name in ("tweets", "vqa", "statements")}
    tables = dict(FILL[notebook[:2]](run))
    assert set(tables) == (named(notebook, "table") | IN_A_LOOP.get(notebook, set())) - SOMETIMES
    assert set(run.sentences) == named(notebook, "say") - SOMETIMES
    for name, frame in tables.items():
        run.table(name, frame, caption="Made up, with 5 % & `code_x`.")
    for name in named(notebook, "figure"):
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.plot([0, 1])
        run.figure(name, figure, caption="A line & 5 %.")
        plt.close(figure)
    run.finish()
    shutil.copy(paths.NOTEBOOKS / f"{notebook}.ipynb", folder / "notebook.ipynb")
    runs.add_notebook(folder)


SOMETIMES = {
    "type_check",
    "type_confusion",
    "factorial",
    "by_topic",
}  # of real DAQUAR, of a sweep, of a file with topics
IN_A_LOOP = {
    "01_lora_roberta": {"lora_rate", "lora_shape", "lora_forms"}
}  # tables whose names stand in a list
NOTEBOOKS = sorted(p.stem for p in (ROOT / "notebooks").glob("0*.ipynb"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", tmp_path_factory.mktemp("runs"))
        for name in ("HW2_RUNNER", "HW2_RUN_ID"):
            patch.delenv(name, raising=False)
        for notebook in NOTEBOOKS:
            make_run(notebook, paths.RUNS / "sample" / notebook)
        yield paths.RUNS


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """Runs and sources of the writeup under a folder of the test's own."""
    shutil.copytree(made, tmp_path / "runs")
    shutil.copytree(
        ROOT / "writeup",
        tmp_path / "writeup",
        ignore=shutil.ignore_patterns("generated", "main.[!t]*", "*.zip"),
    )
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(latex, "WRITEUP", tmp_path / "writeup")
    return tmp_path


def change(folder, edit):
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    edit(record)
    folders.write_sealed(folder / "result.json", record)


def without_tex(monkeypatch):
    monkeypatch.setattr(latex.shutil, "which", lambda name: None)


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


# ---------------------------------------------------------------------------- what may enter
@pytest.mark.parametrize(
    ("notebook", "what", "edit"),
    list(
        zip(
            NOTEBOOKS,
            *zip(
                *[
                    ("is failed", lambda r: r["run"].update(status="failed")),
                    ("is running", lambda r: r["run"].update(status="running")),
                    ("stale", lambda r: r["run"].update(key="of older code")),
                    ("has profile full", lambda r: r["run"]["parameters"].update(profile="full")),
                    (
                        "read another run of 03",
                        lambda r: r["inputs"].append(
                            {
                                "role": "x",
                                "notebook": "03",
                                "id": "x",
                                "run_dir": "runs/sample/03_vqa_resnet_sbert",
                            }
                        ),
                    ),
                    ("broken", lambda r: r.pop("meta")),
                ],
                strict=True,
            ),
            strict=True,
        )
    ),
)
def test_a_run_that_does_not_hold_stops_the_build_and_names_the_notebook(
    project, notebook, what, edit
):
    change(paths.RUNS / "sample" / notebook, edit)
    with pytest.raises(InputError, match=what) as error:
        latex.build("sample")
    assert notebook in str(error.value) and not (latex.WRITEUP / "generated").exists()


def test_runs_made_by_hand_are_refused(project):
    (paths.RUNS / "sample/06_prompting/notebook.ipynb").unlink()
    runs.add_notebook(paths.RUNS / "sample/06_prompting")  # the checksums again, of what is left
    with pytest.raises(InputError, match="06_prompting was made by hand"):
        latex.content("sample")
    (paths.RUNS / "sample").rename(paths.RUNS / "interactive")
    with pytest.raises(InputError, match="no run of 01_lora_roberta"):
        latex.content("sample")


def test_a_listing_that_is_not_what_ran_is_refused(project):
    place = paths.RUNS / "sample/03_vqa_resnet_sbert/notebook.ipynb"
    place.write_text(
        place.read_text(encoding="utf-8").replace("class Fusion", "class Other"), encoding="utf-8"
    )
    runs.add_notebook(place.parent)
    with pytest.raises(InputError, match="03_vqa_resnet_sbert is stale: a cell"):
        latex.content("sample")


@pytest.mark.parametrize(
    "name",
    [
        "tables/paired_tests.csv",
        "tables/paired_tests.txt",
        "predictions/full-test.parquet",
        "figures/*.pdf",
        "notebook.ipynb",
    ],
)
def test_a_file_that_was_edited_stops_the_build(project, name):
    run_dir = paths.RUNS / "sample/01_lora_roberta"
    file = next(run_dir.glob(name))
    name = file.relative_to(run_dir).as_posix()
    data = file.read_bytes()
    file.write_bytes(data.replace(b"0.", b"9.", 1) if b"0." in data else data + b"\n")
    with pytest.raises(InputError, match=f"{name} is missing or isn't what the run wrote"):
        latex.build("sample")
    assert not (latex.WRITEUP / "generated").exists()


def test_another_runs_predictions_are_refused(project):
    own, other = (paths.RUNS / "sample" / name for name in ("03_vqa_resnet_sbert", "04_vqa_clip"))
    name = "predictions/fusion-test.parquet"
    predictions("fusion", [0, 1], 24).to_parquet(own / name, index=False)
    with pytest.raises(InputError, match=f"03_vqa_resnet_sbert.*{name}"):
        latex.build("sample")
    shutil.rmtree(own)
    shutil.copytree(other, own)
    with pytest.raises(InputError, match="a run of 04_vqa_clip, wanted is 03_vqa_resnet_sbert"):
        latex.build("sample")


# ---------------------------------------------------------------------------- whose files these are
@pytest.mark.parametrize(
    "name", ["generated/numbers.tex", "generated/tables/01-comparison.tex", "overleaf.zip"]
)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_file_that_no_writeup_wrote_stays_and_nothing_is_written(
    project, monkeypatch, name, kind
):
    without_tex(monkeypatch)
    place, mine = latex.WRITEUP / name, project / "mine.txt"
    place.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(mine)
    before = tree(project)
    with pytest.raises(InputError, match="no writeup has written this file"):
        latex.build("sample")
    assert tree(project) == before


def test_other_files_in_generated_stay_and_what_is_no_longer_written_goes(project, monkeypatch):
    without_tex(monkeypatch)
    latex.build("sample")
    generated = latex.WRITEUP / "generated"
    for name in ("mine.tex", "tables/mine.tex", ".hidden"):
        (generated / name).write_text("mine")
    (generated / "elsewhere").symlink_to(project / "runs")
    folder = paths.RUNS / "sample/03_vqa_resnet_sbert"
    for path in (folder / "tables").glob("sizes.*"):
        path.unlink()
    runs.add_notebook(folder)
    latex.build("sample")
    assert not (generated / "tables/03-sizes.tex").exists()
    assert all(
        (generated / n).read_text() == "mine" for n in ("mine.tex", "tables/mine.tex", ".hidden")
    )
    assert (generated / "elsewhere").is_symlink() and (project / "runs/sample").is_dir()


def test_a_writeup_of_the_version_before_this_is_built_again(project, monkeypatch):
    """That one left no list."""
    without_tex(monkeypatch)
    latex.build("sample")
    first = tree(latex.WRITEUP)
    (latex.WRITEUP / "generated" / latex.MANIFEST).unlink()
    latex.build("sample")
    assert tree(latex.WRITEUP) == first


def test_a_killed_writeup_is_built_again(project, monkeypatch):
    without_tex(monkeypatch)
    latex.build("sample")
    first, put = tree(latex.WRITEUP), folders.put_file

    def stop(path, data):
        if path.suffix == ".tex" and path.parent.name == "listings":
            raise KeyboardInterrupt
        put(path, data)

    for start in ("nothing", "an earlier one"):
        if start == "nothing":
            shutil.rmtree(latex.WRITEUP / "generated")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(folders, "put_file", stop)
            latex.build("sample")
        latex.build("sample")
        assert tree(latex.WRITEUP) == first


def test_a_full_disk_is_one_message(project):
    generated = latex.WRITEUP / "generated"
    generated.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(generated)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    try:
        with pytest.raises(Hw2Error, match="the disk is full") as error:
            latex.build("sample")
    finally:
        subprocess.run(["umount", "-l", str(generated)], check=True)
    assert error.value.exit_code == 1 and str(latex.WRITEUP) in error.value.where


# ---------------------------------------------------------------------------- what is built
def test_the_same_bytes_each_time(project, monkeypatch):
    without_tex(monkeypatch)
    latex.build("sample")
    first, archive = (
        tree(latex.WRITEUP / "generated"),
        (latex.WRITEUP / "overleaf.zip").read_bytes(),
    )
    shutil.rmtree(latex.WRITEUP / "generated")
    (latex.WRITEUP / "generated").mkdir()
    (latex.WRITEUP / "generated/mine.tex").write_text("x")
    latex.build("sample")
    assert tree(latex.WRITEUP / "generated") == {**first, "mine.tex": b"x"}
    assert (latex.WRITEUP / "overleaf.zip").read_bytes() == archive


def test_one_changed_metric_changes_its_macro_its_cell_and_its_sentences_only(project):
    """Sentences are those that the run has said; this one says anew what it comes to."""
    before = latex.content("sample")

    def edit(record):
        row = next(
            m
            for m in record["metrics"]
            if (m["method"], m["name"], m["split"], m["seed"]) == ("full", "accuracy", "test", None)
        )
        row["value"] = 0.4321
        rows = pd.DataFrame(record["metrics"], columns=runs.METRIC_COLUMNS)
        said = told("01", rows.astype({"seed": "Int64"}), tests)
        record["sentences"] |= {name: list(lines) for name, lines in said.items()}

    kept = runs.load(paths.RUNS / "sample/01_lora_roberta", notebook="01_lora_roberta")
    tests = compared(kept.predictions.query("split == 'test'"))
    folder = paths.RUNS / "sample/01_lora_roberta"
    change(folder, edit)
    file = folder / "tables" / "comparison.csv"  # a pivot of the same rows
    table = pd.read_csv(file, index_col=0, dtype=str, keep_default_na=False)
    table.loc["accuracy", "full"] = "0.4321"
    table.to_csv(file, lineterminator="\n")
    runs.add_notebook(folder)  # as a run that came to this would have written it
    after = latex.content("sample")
    lines = {
        name: [
            (old, new)
            for old, new in zip(before[name].splitlines(), after[name].splitlines(), strict=True)
            if old != new
        ]
        for name in before
        if before[name] != after[name]
    }
    assert {name: len(pairs) for name, pairs in lines.items()} == {
        "numbers.tex": 2,
        "tables/01-comparison.tex": 1,
        "sentences/01-floor.tex": 1,
        "sentences/01-aspects.tex": 1,
    }  # the metric, and its cell, each as a macro
    assert all(
        r"0.432" in new.replace(r"\symbol{46}", ".") for pairs in lines.values() for _, new in pairs
    )


def test_a_sentence_is_the_one_that_the_run_has_said(project):
    """Whatever the metrics are: nothing is worded again from them; an edited record is refused."""
    before, folder = latex.content("sample"), paths.RUNS / "sample/03_vqa_resnet_sbert"
    change(folder, lambda r: r["sentences"].update(floor=["Said, and no more: 5 % of `a_b`."]))
    after = latex.content("sample")
    assert [name for name in before if before[name] != after[name]] == ["sentences/03-floor.tex"]
    line = latex.prose("Said, and no more: 5 % of `a_b`.")
    assert after["sentences/03-floor.tex"] == latex.items(["Said, and no more: 5 % of `a_b`."])
    assert line in after["sentences/03-floor.tex"]
    file = folder / "result.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("Said, and no more", "Said, and much more"), encoding="utf-8")
    with pytest.raises(InputError, match="03_vqa_resnet_sbert isn't what the run wrote"):
        latex.content("sample")


def test_each_macro_is_defined_once_used_ones_all_are_and_each_names_its_source(made, project):
    files = latex.content("sample")
    defined = [
        re.fullmatch(r"\\DefineResult\{([\w+.:/-]+)\}\{(.*)\} % (.+)", line)
        for line in files["numbers.tex"].splitlines()
    ]
    assert all(defined)
    keys = [m[1] for m in defined]
    assert len(keys) == len(set(keys))
    ids = "|".join(
        json.loads(p.read_text())["run"]["id"]
        for p in sorted(paths.RUNS.glob("sample/*/result.json"))
    )
    source = (
        rf"run ({ids}) of \w+, (metric|table|setting|version|model|pin|data|run) \S.*|"
        r"published\.csv: \w+, .+|hw2_utils/config/sample\.toml"
    )
    assert all(re.fullmatch(source, m[3]) for m in defined)
    text = "".join((ROOT / "writeup" / name).read_text(encoding="utf-8") for name in SOURCES)
    used = set(re.findall(r"\\Result\{([^#{}]+)\}", text))
    assert used and used <= set(keys)
    shown = {
        f"{kind.lower()}s/{name}.tex"
        for kind, name in re.findall(r"\\Show(Table|Figure|Listing|Sentences?)\{([^#{}]+)\}", text)
    }
    shown = {name.replace("sentencess", "sentences") for name in shown}
    assert shown and shown <= set(files)
    labels = set(
        re.findall(
            r"\\(?:Figure|ListingTitle|begin\{\w+Table\})\{.*?\}(?=\{)|(?:tab|lst|fig):[\w+-]+",
            text,
        )
    )
    assert labels


def test_published_figures_have_a_value_and_a_source_in_the_bibliography():
    entries = pd.read_csv(ROOT / "writeup/published.csv", dtype=str).to_dict("records")
    keys = set(
        re.findall(r"@\w+\{(\w+),", (ROOT / "writeup/references.bib").read_text(encoding="utf-8"))
    )
    assert entries and all(
        e["source"].split(",")[0] in keys and float(e["value"]) > 0 for e in entries
    )


@pytest.mark.parametrize("name", SOURCES)
def test_sections_type_no_result(name):
    text = (ROOT / "writeup" / name).read_text(encoding="utf-8")
    lengths = r"[\d.]+\s*(?:\\linewidth|pt|em|ex|cm|mm|in)\b"
    assert not re.findall(r"\d*\.\d{2,}", re.sub(lengths, "", text))


def test_each_notebook_has_listings_with_different_names_and_captions():
    for notebook in NOTEBOOKS:
        cells = [
            c
            for c in nbformat.read(ROOT / f"notebooks/{notebook}.ipynb", as_version=4).cells
            if "listing" in c.metadata.get("tags", [])
        ]
        names = [c.metadata["listing"]["name"] for c in cells]
        assert (
            names
            and len(set(names)) == len(names)
            and all(c.metadata["listing"]["caption"] for c in cells)
        ), notebook
        text = "".join((ROOT / "writeup" / name).read_text(encoding="utf-8") for name in SOURCES)
        assert all(f"\\ShowListing{{{notebook[:2]}-{name}}}" in text for name in names), notebook


def test_listings_show_the_package_functions_that_a_cell_calls(project):
    shown = latex.content("sample")["listings/03-training.tex"]
    assert "# hw2_utils/fusion.py\ndef train(" in shown and "fusion.run_methods(" in shown


def test_texts_stay_texts(project):
    rows = latex.content("sample")["tables/06-outputs.tex"].splitlines()
    cells = [row.removesuffix("\\\\").split(" & ")[1:] for row in rows if row.startswith("4 +")]
    assert [row[0] for row in cells] == ["false"] * 4 and [row[3] for row in cells][1:] == [
        "nan",
        "",
        r"\symbol{91}x\symbol{93}",
    ]


def test_a_real_run_has_no_banner(project):
    shutil.rmtree(paths.RUNS / "sample")
    for notebook in NOTEBOOKS:
        make_run(notebook, paths.RUNS / "full" / notebook, profile="full")
    assert "\\DefineResult{banner}{} %" in latex.content("full")["numbers.tex"]


def test_without_tex_it_says_what_to_install_and_leaves_an_archive(project, monkeypatch, capsys):
    without_tex(monkeypatch)
    latex.build("sample")
    out = capsys.readouterr().out
    assert (
        all(name in out for name in (*latex.PACKAGES.split(), "overleaf.zip"))
        and str(project) not in out
    )
    with zipfile.ZipFile(latex.WRITEUP / "overleaf.zip") as archive:
        names = set(archive.namelist())
        assert names == {
            *SOURCES,
            "author.tex",
            "latexmkrc",
            "references.bib",
            *(f"generated/{n}" for n in latex.content("sample")),
        }
        assert not any(
            str(ROOT).encode() in archive.read(n) or str(project).encode() in archive.read(n)
            for n in names
        )


def test_command_line_names_the_notebook_to_run(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hw2_utils", "writeup"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HW2_RUNS": str(tmp_path)},
    )
    assert done.returncode == 2 and "run notebook 01_lora_roberta first" in done.stderr


# ---------------------------------------------------------------------------- TeX itself
def compiled(folder):
    """Text of the pages; the log says that nothing is undefined or more than 5 pt too wide."""
    log = (folder / "main.log").read_text(encoding="utf-8", errors="replace")
    assert "undefined" not in re.sub(r"(?m)^.*(Font shape|\(undefined\)).*$", "", log)
    assert not [
        w for w in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log) if float(w) > 5
    ]
    return subprocess.run(
        ["pdftotext", "-layout", folder / "main.pdf", "-"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@needs_tex
@pytest.mark.slow
def test_any_text_compiles_in_paragraphs_cells_and_captions(tmp_path):
    texts: list[str] = []

    @given(strategies.text(min_size=1, max_size=60))
    def collect(text):
        texts.append(text)

    collect()
    printable = "".join(map(chr, range(0x21, 0x180)))
    texts += [
        HOSTILE,
        *printable,
        printable,
        "--",
        "---",
        "``",
        "''",
        "?`",
        "!`",
        "<<",
        "\\\\",
        "^^M",
        "[",
        "*",
        "% ",
    ]
    shutil.copy(ROOT / "writeup/preamble.tex", tmp_path)
    frame = pd.DataFrame({t: texts for t in ("[x]_%", "y")})
    body = [
        r"\documentclass{article}\input{preamble}\DefineResult{banner}{}\begin{document}",
        *(f"{latex.escape(t)}\n\n\\texttt{{{latex.escape(t)}}}\n" for t in texts),
        latex.items(texts),
        latex.table(frame, caption=HOSTILE, label="t"),
        latex.listing("\n".join(texts[-80:]), caption=HOSTILE, label="l"),
        r"\end{document}",
    ]
    (tmp_path / "main.tex").write_text("\n".join(body), encoding="utf-8")
    shutil.copy(ROOT / "writeup/latexmkrc", tmp_path)
    done = subprocess.run(
        ["latexmk", "main.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@needs_tex
@pytest.mark.slow
def test_the_pdf_is_whole_says_that_it_is_a_sample_and_shows_hostile_text(project):
    device = "CPU (AMD Ryzen Threadripper PRO 7995WX 96-Cores)"  # a long name, on any machine
    for notebook in NOTEBOOKS:
        folder = paths.RUNS / "sample" / notebook
        change(folder, lambda record: record["meta"].update(device=device))
    latex.build("sample")
    pages = compiled(latex.WRITEUP).split("\f")[:-1]
    assert len(pages) > 5 and all("Profile sample: stand-in models" in page for page in pages)
    text = re.sub(r"\s+", "", "".join(pages))
    for part in (
        "[tag]",
        "\\input{/etc/passwd}",
        "<script>x()</script>",
        "100%of_a$1&#2^~|",
        "\\write18{id}",
        "😀",
        "مرحبا",
        "printed1/64",
    ):
        assert re.sub(r"\s+", "", part) in text or part[::-1] in text, part
    assert "root:x:" not in text


@needs_tex
@pytest.mark.slow
def test_what_a_section_needs_and_no_run_has_stops_the_build(project):
    for path in (paths.RUNS / "sample/02_lora_tinybert/tables").glob("model_size.*"):
        path.unlink()
    runs.add_notebook(paths.RUNS / "sample/02_lora_tinybert")
    with pytest.raises(
        Hw2Error, match=r"sections/problem1\.tex:\d+: .*No run has made tables/02-model_size"
    ):
        latex.build("sample")


@needs_tex
@pytest.mark.slow
def test_the_archive_compiles_in_an_empty_folder(project, monkeypatch, tmp_path):
    without_tex(monkeypatch)
    latex.build("sample")
    monkeypatch.undo()
    with zipfile.ZipFile(project / "writeup/overleaf.zip") as archive:
        archive.extractall(tmp_path / "empty")
    subprocess.run(["latexmk", "main.tex"], cwd=tmp_path / "empty", check=True, capture_output=True)
    assert "Problem 3" in compiled(tmp_path / "empty")
