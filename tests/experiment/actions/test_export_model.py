"""A network as a folder to give away: it answers as its checkpoint does, and its card can be read by a program."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

from experiment.actions import answer, export_model, export_onnx, test, val
from experiment.networks import load_network
from experiment.results.card import Score, escaped, fenced, head, model_card
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.encoders.recurrent import RecurrentSettings
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_space
from tests.helpers.trained import settings_file, trained
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.data.splits import load_data
from trainer.data.vectors import WordVectors
from trainer.data.vocabulary import Vocabulary
from trainer.model_folder import load, load_model
from trainer.train import TrainSettings, load_trained, train

FILES = ["README.md", "architecture.json", "architecture.svg", "config.json", "model.safetensors"]
STACKED = StackedSettings(edges="one", cells=1, nodes=2)


@pytest.fixture(scope="module")
def checkpoint(tiny_data, tmp_path_factory) -> Path:
    return trained(tiny_data, tmp_path_factory.mktemp("trained"), STACKED)


@pytest.fixture(scope="module")
def settings(tiny_data_settings, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("settings") / "settings.yml"
    return settings_file(file, tiny_data_settings, name="mcan", layers=1)


def exported(checkpoint: Path, folder: Path, settings: Path) -> str:
    """Writes the folder of a checkpoint and returns what is printed."""
    console = Console(record=True, soft_wrap=True, width=400)
    export_model.run(console, [checkpoint, folder], settings=settings)
    return console.export_text()


@pytest.fixture(scope="module")
def written(checkpoint, settings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "model"
    exported(checkpoint, folder, settings)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(written, tmp_path / "model"))


def card_of(folder: Path) -> tuple[dict, str]:
    """The head and the text of a model card."""
    _, above, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(above), text


@pytest.mark.parametrize("vectors", [False, True], ids=["learned", "vectors"])
@pytest.mark.parametrize(
    "encoder", [None, RecurrentSettings(edges="one", nodes=3)], ids=lambda each: each.name if each else "lstm"
)
def test_the_folder_answers_bit_for_bit_as_the_checkpoint(tiny_data, settings, tmp_path, encoder, vectors):
    data = tiny_data
    if vectors:
        rows = torch.randn(len(data.vocabulary.words), 8)
        words = WordVectors(rows, found=len(rows), source="made-up")
        data = type(data)(data.train, data.val, data.sizes, words, data.described)
    checkpoint = trained(data, tmp_path / "trained", STACKED, encoder)
    exported(checkpoint, tmp_path / "model", settings)
    network, vocabulary, architecture = load_trained(checkpoint)
    again = load_model(tmp_path / "model")
    assert (again.vocabulary, again.architecture) == (vocabulary, architecture)
    weights = again.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    batch = data.val[[3, 1, 4, 0]]
    given = batch.regions, batch.region_mask, batch.tokens, batch.token_mask, batch.boxes
    with torch.no_grad():
        assert torch.equal(load(str(tmp_path / "model"))(*given), network.eval()(*given))


def test_what_is_in_the_folder(written, checkpoint):
    assert sorted(each.name for each in written.iterdir()) == FILES
    assert Architecture.load(written / "architecture.json") == load_trained(checkpoint)[2]
    assert Vocabulary.load(written / "config.json") == load_trained(checkpoint)[1]  # as `data.vocabulary` takes it too
    config = json.loads((written / "config.json").read_text())
    assert (config["format"], config["max_tokens"], config["max_regions"]) == (1, 14, 100)
    assert not list(written.parent.glob("*.partial"))


def test_where_a_checkpoint_goes_a_folder_goes(
    written, checkpoint, settings, tiny_data_settings, tmp_path, monkeypatch
):
    def said(action, *arguments, **options) -> str:
        console = Console(record=True, soft_wrap=True, width=400)
        action.run(console, *arguments, settings=settings, **options)
        return console.export_text()

    image = sorted(tiny_data_settings.val.features.iterdir())[0]
    asked = {"image": image, "question": "Is the big dog brown?", "output": tmp_path / "a.png"}
    assert said(val, written) == said(val, checkpoint)
    assert said(answer, written, **asked) == said(answer, checkpoint, **asked)
    for name, source in {"folder": written, "checkpoint": checkpoint}.items():
        said(test, [source], output=tmp_path / f"{name}.json")
    assert (tmp_path / "folder.json").read_text() == (tmp_path / "checkpoint.json").read_text()
    exported_as_onnx = []  # not written: that takes long, and tests/experiment/actions/test_export_onnx.py does
    monkeypatch.setattr(export_onnx, "difference", lambda *arguments: (0.0, 1.0))
    monkeypatch.setattr(export_onnx, "write", lambda network, *others: exported_as_onnx.append(network.state_dict()))
    for source in (written, checkpoint):
        said(export_onnx, [source, tmp_path / "network.onnx"])
    ours, theirs = exported_as_onnx
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_reads_as_many_words_as_its_training_did(folder, written, settings, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_tokens": 3}))
    console = Console(record=True, soft_wrap=True, width=400)
    assert load_network(console, folder, read_settings(settings)).data.max_tokens == 3
    assert "reads 3 words and 100 regions, as it was trained, not the 14 and 100" in console.export_text()
    with pytest.raises(InputError, match=r"reads 3 words and 100 regions, and .*: save the predictions of each"):
        test.run(Console(quiet=True), [written, folder], settings=settings, output=tmp_path / "a.json")


def test_the_head_of_the_card_is_what_the_hub_expects(written, checkpoint, tiny_data):
    above, text = card_of(written)
    assert above["pipeline_tag"] == "visual-question-answering" and above["library_name"] == "pytorch"
    assert {"visual-question-answering", "neural-architecture-search", "stacked"} == set(above["tags"])
    assert above["metrics"] == ["accuracy"] and "license" not in above
    (index,) = above["model-index"]
    (result,) = index["results"]
    assert index["name"] == "model" and result["task"]["type"] == "visual-question-answering"
    assert result["dataset"]["type"] == above["datasets"][0] and result["dataset"]["split"] == "validation"
    (metric,) = result["metrics"]
    assert metric["value"] == read_curve(checkpoint.parent)[-1]["accuracy"] and metric["type"] == "accuracy"
    assert re.search(rf"\({len(tiny_data.val)} questions, 95 % interval [\d.]+ to [\d.]+\)", metric["name"])
    assert "![The architecture](architecture.svg)" in text and "batch_size: 16" in text
    assert f"torch: {torch.__version__.split('+')[0]}" in text


def test_the_card_shows_how_to_ask(written, settings, tiny_data_settings, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (written / "README.md").read_text(), re.DOTALL)
    image = sorted(tiny_data_settings.val.features.iterdir())[0]
    shown = {"FOLDER": written, "FEATURES.npz": image, "SETTINGS.yml": settings, "...": "Is it?"}
    for words, real in shown.items():
        code = code.replace(words, str(real))
    exec(code, {})
    answers = eval(capsys.readouterr().out)
    assert {words for words, _ in answers} <= set(Vocabulary.load(written / "config.json").answers)


def test_the_figures_of_a_comparison(checkpoint, settings, tmp_path):
    """The accuracy of a search's comparison stands beside the checkpoint, with that of each question."""
    run = Path(shutil.copytree(checkpoint.parent, tmp_path / "found-seed1"))
    accuracies = np.array([100.0] * 30 + [0.0] * 10, np.float32)
    np.save(run / "accuracy_by_question.npy", accuracies)
    (run / "result.json").write_text(json.dumps({"overall": 75.0, "per_answer_type": {"yes/no": 75.0}}))
    said = exported(run / "last.ckpt", tmp_path / "model", settings)
    assert "the official accuracy, in the comparison, test" in said and "75.0 %" in said
    above, text = card_of(tmp_path / "model")
    assert "| test | 75.0 | 59.8 to 85.8 | 40 | yes/no 75.0 |" in text
    assert [result["metrics"][0]["value"] for result in above["model-index"][0]["results"]][1] == 75.0
    (run / "result.json").write_text("[1]")
    with pytest.raises(InputError, match=r"result\.json or .*: not what a comparison writes"):
        exported(run / "last.ckpt", tmp_path / "other", settings)
    assert not (tmp_path / "other").exists()


def test_where_nothing_is_known_the_card_says_so(checkpoint, settings, tmp_path):
    """A checkpoint of an older version does not say how it was trained; one of the middle of an epoch has no score."""
    stored = load_checkpoint(checkpoint)
    del stored["trained"]
    stored["resume"]["place"] = (0, 1)
    torch.save(stored, tmp_path / "old.ckpt")
    said = exported(tmp_path / "old.ckpt", tmp_path / "model", settings)
    assert "does not say how it was trained; it reads 14 words and 100 regions" in said
    above, text = card_of(tmp_path / "model")
    assert "model-index" not in above and "datasets" not in above
    assert "No accuracy of these weights is recorded." in text and text.count("The checkpoint does not say it.") == 3


def test_text_of_users_stays_text(written):
    content = load_model(written)
    spoken = '``` # <script> | "x": [y]\n- &a !!python/object:os.system'
    architecture = content.architecture.model_copy(update={"provenance": {"settings": spoken}, "score": 1.0})
    content = content._replace(architecture=architecture)
    data = {"name": spoken, "train": {"files": [spoken]}}
    trained = {"data": data, "settings": {"lr": spoken}, "versions": {}}
    text = model_card(spoken, content, trained, [Score(spoken, spoken, 50.0, 100, {spoken: 1.0})])
    above = yaml.safe_load(text.split("---\n")[1])
    assert above["model-index"][0]["results"][0]["dataset"]["split"] == spoken
    assert re.fullmatch(r"[\w.-]+", above["datasets"][0])
    outside = re.sub(r"(````+)\w+\n.*?\n\1\n", "", text.split("---\n", 2)[2], flags=re.DOTALL)
    assert "<script>" not in outside and r"\<script\>" in outside
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert escaped("a\nb") == "a b" and fenced("a\n```\nb").startswith("````text\n")
    assert yaml.safe_load(head("x", architecture, None, []).strip("-\n"))["tags"]


@pytest.mark.parametrize(
    ("value", "questions", "interval"),
    [(50.0, 100, (40.4, 59.6)), (100.0, 4, (51.0, 100.0)), (0.0, 10, (0.0, 27.8)), (100.0001, 1, (20.7, 100.0))],
)
def test_intervals_are_those_of_wilson(value, questions, interval):
    """The figures of the method's tables, with 1.96 deviations."""
    assert Score("a", "b", value, questions).interval == pytest.approx(interval, abs=0.06)
    assert Score("a", "b", value).interval is None


def test_a_network_that_no_search_found(tiny_data, settings, tmp_path):
    checkpoint = trained(tiny_data, tmp_path / "trained", MCANSettings(layers=1))
    exported(checkpoint, tmp_path / "model", settings)
    above, text = card_of(tmp_path / "model")
    assert "neural-architecture-search" not in above["tags"] and "## Search" not in text
    assert "of a fixed architecture" in text


def test_a_folder_with_something_in_it_is_left_as_it_is(checkpoint, settings, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "full": r"full: holds something already \('mine.txt'\)",
        "full/mine.txt": "Not a directory",
    }.items():
        with pytest.raises(InputError, match=message):
            exported(checkpoint, tmp_path / name, settings)
    exported(checkpoint, tmp_path / "empty", settings)
    assert sorted(each.name for each in (tmp_path / "empty").iterdir()) == FILES
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match=r"empty: is a folder; expected a checkpoint"):
        exported(tmp_path / "empty", tmp_path / "new", settings)


def test_a_write_that_fails_leaves_nothing(checkpoint, settings, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    (tmp_path / "model.partial").mkdir()  # what a killed process left
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        exported(checkpoint, tmp_path / "model", settings)
    assert not list(tmp_path.iterdir())


def with_weights(folder: Path, change) -> None:
    """Writes the weights of a folder again, changed."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    weights = load_file(folder / "model.safetensors")
    change(weights, metadata)
    save_file(weights, folder / "model.safetensors", metadata)


def in_json(file: str, **changes):
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return change


def other_choices(folder: Path) -> None:
    architecture = Architecture.load(folder / "architecture.json")
    label = "image_node2_input"
    changed = architecture.choices | {label: [1 - architecture.choices[label][0]]}
    architecture.model_copy(update={"choices": changed}).save(folder / "architecture.json")


def other_answers(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"answers": content["answers"][::-1]}))


BIAS = "classifier.bias"
BROKEN = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "'model.safetensors' is missing"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "not the folder of a network: 'config.json'"),
    "cut weights": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        r"model\.safetensors: broken, or not a file of weights",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json, line 1, .*the JSON ends"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json: .*expected a JSON object"),
    "another format": (in_json("config.json", format=2), r"config\.json: format is 2"),
    "no number": (in_json("config.json", max_tokens="many"), r"config\.json: max_tokens is 'many'"),
    "fewer answers": (in_json("config.json", answers=["yes"]), r"words and 1 answers, where the network of"),
    "no architecture": (in_json("architecture.json", space=3), r"architecture\.json: space"),
    "not finite": (
        lambda folder: with_weights(folder, lambda weights, _: weights[BIAS].fill_(float("nan"))),
        f"'{BIAS}' has a number that is not finite",
    ),
    "another shape": (
        lambda folder: with_weights(folder, lambda weights, _: weights.update({BIAS: torch.zeros(2)})),
        rf"'{BIAS}' has the shape \[2\], expected \[\d+\]",
    ),
    "another type": (
        lambda folder: with_weights(folder, lambda weights, _: weights.update({BIAS: weights[BIAS].half()})),
        f"'{BIAS}' is of torch.float16, expected torch.float32",
    ),
    "a weight less": (
        lambda folder: with_weights(folder, lambda weights, _: weights.pop(BIAS)),
        rf"not the weights of architecture\.json: '{BIAS}' is missing",
    ),
    "a weight more": (
        lambda folder: with_weights(folder, lambda weights, _: weights.update(more=torch.zeros(1))),
        "'more' is none of its weights",
    ),
    "weights of nobody": (
        lambda folder: with_weights(folder, lambda _, metadata: metadata.pop("architecture")),
        "does not say to which architecture.json",
    ),
    "another weight": (
        lambda folder: with_weights(folder, lambda weights, _: weights[BIAS].add_(1e-7)),
        r"model\.safetensors: damaged: its checksum is not the one in config\.json",
    ),
    "another architecture of the same shapes": (other_choices, "belong to another architecture.json"),
    "answers in another order": (other_answers, "belong to another config.json"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_folder_is_one_line(folder, mistake):
    change, message = BROKEN[mistake]
    change(folder)
    with pytest.raises(InputError, match=message) as refused:
        load(folder)
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)


@pytest.mark.parametrize("file", ["architecture.json", "config.json", "model.safetensors"])
def test_what_is_broken_at_random_is_refused_or_the_same(folder, written, file):
    """A bit is flipped, or the file is cut: one line, or the network that was written."""
    generator = random.Random(file)
    whole = (folder / file).read_bytes()
    expected = load(written).state_dict()
    refused = 0
    for trial in range(20):
        place = generator.randrange(len(whole))
        flipped = bytes([whole[place] ^ 1 << generator.randrange(8)])
        (folder / file).write_bytes(whole[:place] + (flipped + whole[place + 1 :] if trial % 4 else b""))
        try:
            given = load(folder).state_dict()
        except InputError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
        else:
            assert all(torch.equal(weight, given[name]) for name, weight in expected.items())
    assert refused == 20 or (file != "model.safetensors" and refused > 10)


def test_a_huge_architecture_takes_no_memory(folder):
    """What the weights do not fit is refused before the network is made: of a terabyte it could not be."""
    architecture = Architecture.load(folder / "architecture.json")
    sizes = architecture.space.network.model_copy(update={"hidden": 512_000})
    space = architecture.space.model_copy(update={"network": sizes})
    architecture.model_copy(update={"space": space}).save(folder / "architecture.json")
    with pytest.raises(InputError, match="has the shape"):
        load(folder)


def test_choices_that_no_shape_shows(tiny_data, settings, tmp_path):
    """Two activations of the recurrent encoder have no weights: only the file of the weights knows which it was."""
    space = tiny_space(STACKED, RecurrentSettings(edges="one", nodes=3))
    architecture = Architecture(space=space, choices=space.random_choices(0))
    few = TrainSettings(epochs=1, steps_per_epoch=1, batch_size=16)
    checkpoint = train(tiny_data, architecture, few, tmp_path / "trained")
    exported(checkpoint, tmp_path / "model", settings)
    changed = Architecture.load(tmp_path / "model" / "architecture.json")
    label = next(label for label in changed.choices if label not in tiny_space(STACKED).candidates())
    other = next(each for each in changed.space.candidates()[label] if each != changed.choices[label])
    changed.model_copy(update={"choices": changed.choices | {label: other}}).save(tmp_path / "model/architecture.json")
    with pytest.raises(InputError, match=r"another architecture\.json|not the weights of"):
        load(tmp_path / "model")


def test_the_data_of_a_checkpoint_name_no_folder_of_the_machine(tiny_data_settings, checkpoint):
    described = load_checkpoint(checkpoint)["trained"]["data"]
    assert described == load_data(tiny_data_settings).described
    assert "/" not in json.dumps(described)
