"""Reference outputs: true weights have them, random ones under a true id don't; verdicts kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import loopback_hub
import numpy as np
import pytest
import torch

from hw2_utils import doctor, hub, parameters, paths, references, runs
from hw2_utils.errors import Hw2Error

MINILM, ROBERTA = "sentence-transformers/all-MiniLM-L6-v2", "FacebookAI/roberta-base"
PHI, RESNET, CLIP = "microsoft/phi-1_5", "torchvision:resnet50-v1", "openai:ViT-B-32"
PICTURE = loopback_hub.SAMPLE / "daquar" / "images"


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "EMBEDDINGS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")


def pin(monkeypatch: pytest.MonkeyPatch, path: Path, **facts: object) -> hub.Model:
    """A folder or file as the pinned model "mine", by a pins file of its own."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    facts |= {} if path.is_dir() else {"file": path.name}
    lines = ['[models."mine"]', f'project_folder = "{root}"', *map(line, facts.items())]
    lines += ['[models."mine".sha256]']
    lines += [f'"{p.relative_to(root)}" = "{hub.file_sha256(p)}"' for p in files]
    pins = path.with_name("pins.toml")
    pins.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(paths, "PINS", pins)
    return hub.fetch_model("mine")


def line(fact: tuple[str, object]) -> str:
    return f"{fact[0]} = {json.dumps(fact[1])}"


def expect(monkeypatch: pytest.MonkeyPatch, name: str, expected: object) -> None:
    """Has the table say something else."""
    entry = {**references.TABLE[name], "expected": expected}
    monkeypatch.setattr(references, "TABLE", {**references.TABLE, name: entry})


# ----------------------------------------------------------------------------------- the table
def test_a_hash_of_the_table_is_the_one_pinned_and_unknown_ones_are_named():
    pins = hub.pins()["models"]
    for name, reference in references.TABLE.items():
        hashes = pins[name].get("sha256", {}).values()
        named = pins[name].get("reference")
        assert (reference["weights"] in hashes) if "weights" in reference else (named == name)
        assert reference["source"] and reference["tolerance"] <= 0.01
    known = {references.TABLE[name].get("weights") for name in references.TABLE} - {None}
    assert known & set(pins["sample:all-MiniLM-L6-v2"]["sha256"].values())


# ----------------------------------------------------------------------------------- true weights
def test_the_true_minilm_has_the_published_cosines():
    model = hub.fetch_model("sample:all-MiniLM-L6-v2")
    found = references.output(model, references.of(model))
    np.testing.assert_allclose(found, [0.6660, 0.1046, 0.1411], rtol=0, atol=1e-4)
    assert references.hold(model).startswith("passed: at most ")


def test_what_has_passed_is_not_computed_again_unless_something_changes(monkeypatch):
    model = hub.fetch_model("sample:all-MiniLM-L6-v2")
    assert references.remembered(model) is None
    verdict = references.hold(model)
    kept = list((paths.EMBEDDINGS_CACHE / "references").iterdir())
    assert len(kept) == 1 and references.remembered(model) == verdict
    kept[0].write_text("passed: as remembered", encoding="utf-8")
    assert references.hold(model) == "passed: as remembered"
    for content in (b"", b"pass", b"failed", b"\xff"):  # cut, or not a pass: computed again
        kept[0].write_bytes(content)
        assert references.hold(model) == verdict
    expect(monkeypatch, MINILM, [0.0, 0.0, 0.0])  # another table: the old pass says nothing
    with pytest.raises(Hw2Error, match="published are 0.0000 0.0000 0.0000"):
        references.hold(model)


@pytest.mark.parametrize(
    "name", ["sample:all-MiniLM-L6-v2-2layers", "sample:efficientnet-lite0", "sample:clip"]
)
def test_other_weights_or_layers_have_no_reference(name):
    assert references.hold(hub.fetch_model(name)) == "no reference"
    assert not paths.EMBEDDINGS_CACHE.exists()


def test_a_local_folder_has_no_reference(tmp_path):
    """What somebody does with the same weights, such as other pooling, is theirs."""
    shutil.copytree(hub.fetch_model("sample:all-MiniLM-L6-v2").path, tmp_path / "mine")
    assert references.hold(hub.fetch_model(str(tmp_path / "mine"))) == "no reference"


# ----------------------------------------------------------------------------------- random weights
def random_minilm(folder: Path) -> Path:
    loopback_hub.minilm(folder)
    return folder


def small_roberta(folder: Path) -> Path:
    from transformers import RobertaConfig, RobertaForMaskedLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = RobertaConfig(**json.loads(loopback_hub.ROBERTA) | sizes | {"num_hidden_layers": 2})
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def small_phi(folder: Path) -> Path:
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    settings = {"num_hidden_layers": 2, "vocab_size": 3000, "initializer_range": 1.0}
    PhiForCausalLM(PhiConfig(**loopback_hub.PHI | sizes | settings)).save_pretrained(folder)
    end = "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": end, "tokenizer_class": "GPT2Tokenizer"}), encoding="utf-8"
    )
    loopback_hub.byte_level_tokenizer(folder, [end])
    return folder


MADE = [(MINILM, random_minilm), (ROBERTA, small_roberta), (PHI, small_phi)]


@pytest.mark.parametrize(("name", "make"), MADE, ids=[name for name, _ in MADE])
def test_random_weights_under_a_forced_reference_stop_with_both_numbers(
    monkeypatch, tmp_path, name, make
):
    (tmp_path / "model").mkdir()
    model = pin(monkeypatch, make(tmp_path / "model"), revision="1", reference=name)
    published = references.TABLE[name]["expected"]
    before = torch.get_rng_state()
    with pytest.raises(Hw2Error, match="HW2_PINS") as error:
        references.hold(model)
    assert error.value.exit_code == 1 and error.value.where == "mine"
    found = references.output(model, references.of(model))
    for values in (np.array(published), found):
        assert " ".join(f"{value:.4f}" for value in values.ravel()) in error.value.what
    assert torch.equal(before, torch.get_rng_state())
    assert references.remembered(model) is None

    expect(monkeypatch, name, found.tolist())  # with its own numbers it passes
    assert references.hold(model).startswith("passed: at most 0.0e+00 off")


def test_the_rows_are_those_of_a_plain_forward_pass(monkeypatch, tmp_path):
    from transformers import RobertaForMaskedLM

    model = pin(monkeypatch, small_roberta(tmp_path / "model"), revision="1", reference=ROBERTA)
    network = RobertaForMaskedLM.from_pretrained(model.path)
    with torch.inference_mode():
        ids = torch.tensor([references.TABLE[ROBERTA]["ids"]])
        states = network(ids, output_hidden_states=True).hidden_states[-1]
    found = references.output(model, references.TABLE[ROBERTA])
    np.testing.assert_allclose(found, states[0, :3, :3], rtol=0, atol=1e-6)


def test_without_the_pins_word_random_weights_have_no_reference(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    model = pin(monkeypatch, random_minilm(tmp_path / "model"), revision="1")
    assert references.hold(model) == "no reference"


def test_outputs_that_are_no_numbers_do_not_pass(monkeypatch):
    expect(monkeypatch, MINILM, [float("nan")] * 3)
    with pytest.raises(Hw2Error, match="published are nan"):
        references.hold(hub.fetch_model("sample:all-MiniLM-L6-v2"))


# ----------------------------------------------------------------------------------- pictures
def with_picture(name: str) -> Path:
    file = references.picture(references.TABLE[name])
    file.parent.mkdir(parents=True)
    return Path(shutil.copy(sorted(PICTURE.glob("*.jpg"))[0], file))


def random_resnet(monkeypatch: pytest.MonkeyPatch, folder: Path) -> hub.Model:
    loopback_hub.resnet50(folder / "resnet50.pth")
    facts = {"revision": "IMAGENET1K_V1", "architecture": "resnet50", "reference": RESNET}
    return pin(monkeypatch, folder / "resnet50.pth", **facts)


def test_a_picture_that_is_not_there_is_named(monkeypatch, tmp_path):
    verdict = references.hold(random_resnet(monkeypatch, tmp_path))
    assert verdict == "skipped: needs the picture data/references/dog.jpg"


def test_a_difference_after_preprocessing_warns(monkeypatch, tmp_path):
    model = random_resnet(monkeypatch, tmp_path)
    with_picture(RESNET)
    verdict = references.hold(model)
    assert verdict.startswith("differs: probabilities of classes are ")
    assert "published are 0.8733 0.0303 0.0197 0.0111 0.0092" in verdict


def test_class_probabilities_are_those_of_torchvision(monkeypatch, tmp_path):
    import torchvision
    from PIL import Image

    model, file = random_resnet(monkeypatch, tmp_path), with_picture(RESNET)
    network = torchvision.models.resnet50()
    network.load_state_dict(torch.load(model.path, weights_only=True))
    transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        scores = network.eval()(transform(Image.open(file).convert("RGB"))[None])[0]
    expected = scores.softmax(0)[references.TABLE[RESNET]["classes"]].tolist()
    expect(monkeypatch, RESNET, expected)
    assert references.hold(model).startswith("passed")


def test_text_probabilities_are_those_of_open_clip(monkeypatch, tmp_path):
    import open_clip
    from PIL import Image

    network, transform = loopback_hub.openai_clip()
    loopback_hub.save_as_openai(network, tmp_path / "clip.pt")
    facts = {"revision": "1", "architecture": "ViT-B-32-quickgelu", "reference": CLIP}
    model, file = pin(monkeypatch, tmp_path / "clip.pt", **facts), with_picture(CLIP)
    with torch.inference_mode():
        image = network.encode_image(transform(Image.open(file).convert("RGB"))[None])
        text = network.encode_text(open_clip.tokenize(references.TABLE[CLIP]["texts"]))
        scores = 100 * torch.nn.functional.cosine_similarity(image, text)
    expect(monkeypatch, CLIP, scores.softmax(0).tolist())
    assert references.hold(model).startswith("passed")


# ----------------------------------------------------------------------------------- on record
def start(tmp_path: Path, **values: object) -> runs.Run:
    declared = parameters.declared("01_lora_roberta")
    given = {"profile": "sample", "run_dir": str(tmp_path / "run"), **values}
    return runs.Run("01_lora_roberta", {**declared, **given})


def test_a_run_records_the_verdict(tmp_path):
    run = start(tmp_path)
    run.model("text_model")
    run._write("running")
    record = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
    run.close()
    assert record["meta"]["models"]["text_model"]["reference"].startswith("passed: at most ")
    assert not [note for note in run.notes if "reference" in note]


def test_a_warning_is_a_note_of_the_run(monkeypatch, tmp_path):
    expect(monkeypatch, MINILM, [0.0, 0.0, 0.0])
    monkeypatch.setitem(references.TABLE[MINILM], "exact", False)
    run = start(tmp_path)
    run.model("text_model")
    run.close()
    assert any("public reference of sample:all-MiniLM-L6-v2: differs" in n for n in run.notes)


def test_the_doctor_says_which_references_there_are(monkeypatch, capsys):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    doctor.check("sample")
    told = "reference outputs of sample:all-MiniLM-L6-v2: "
    out = capsys.readouterr().out
    assert f"ok      {told}not held against it yet" in out
    assert "ok      reference outputs of sample:efficientnet-lite0: no reference" in out
    verdict = references.hold(hub.fetch_model("sample:all-MiniLM-L6-v2"))
    doctor.check("sample")
    assert f"{told}{verdict}" in capsys.readouterr().out
