"""What the challenge's server is given: every question once, by one network or several, whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from experiment.actions import test as answer_test
from experiment.actions import val
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.published.checkpoints import MCAN_NAMES, renamed
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers import reference
from tests.helpers.reference import names_at, save_published
from tests.helpers.tiny_vqa import write_split
from tests.helpers.trained import settings_file, trained
from trainer.data.settings import SplitSettings
from trainer.data.splits import load_split, load_vocabulary
from trainer.data.vocabulary import Vocabulary
from trainer.data.vqa import read_questions
from trainer.evaluation.evaluate import answers, by_question
from trainer.evaluation.submission import write_submission
from trainer.train import load_trained


@pytest.fixture(scope="module")
def checkpoints(tiny_data, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    spaces = MCANSettings(layers=1), StackedSettings(edges="one", cells=1, nodes=2)
    return [trained(tiny_data, folder / space.name, space, seed=seed) for seed, space in enumerate(spaces)]


@pytest.fixture
def settings(tiny_data_settings, tmp_path) -> Path:
    return settings_file(tmp_path / "settings.yml", tiny_data_settings, name="mcan", layers=1)


@pytest.fixture
def console() -> Console:
    return Console(highlight=False, soft_wrap=True, record=True)


def read(path: Path) -> dict[int, str]:
    """Question id → answer, of a file as the server reads it."""
    entries = json.loads(path.read_text())
    assert all(set(entry) == {"question_id", "answer"} for entry in entries)
    assert all(type(e["question_id"]) is int and type(e["answer"]) is str for e in entries)
    by_id = {entry["question_id"]: entry["answer"] for entry in entries}
    assert len(by_id) == len(entries)
    return by_id


def test_every_question_is_answered_once(checkpoints, settings, tiny_data_settings, tmp_path, console):
    file = tmp_path / "results" / "test.json"
    answer_test.run(console, checkpoints[:1], settings=settings, output=file)
    asked = [question["question_id"] for question in read_questions(tiny_data_settings.test.questions)]
    given = read(file)
    assert list(given) == asked
    network, vocabulary, _ = load_trained(checkpoints[0])
    assert given == answers(network, load_split(tiny_data_settings, tiny_data_settings.test, vocabulary))
    said = console.export_text()
    assert f"answers to 24 questions: {file}" in said and "the official accuracy on" in said
    assert list(file.parent.iterdir()) == [file]


def test_an_ensemble_averages_probabilities(checkpoints, settings, tiny_data_settings, tmp_path, console):
    answer_test.run(console, checkpoints, settings=settings, output=tmp_path / "both.json")
    mean = 0
    for checkpoint in checkpoints:
        network, vocabulary, _ = load_trained(checkpoint)
        split = load_split(tiny_data_settings, tiny_data_settings.test, vocabulary)
        mean = mean + by_question(network, split, lambda logits, targets: logits.sigmoid()) / 2
    best = [vocabulary.answers[index] for index in mean.argmax(1).tolist()]
    assert read(tmp_path / "both.json") == dict(zip(split.question_ids, best, strict=True))


def test_without_known_answers_nothing_is_said_of_accuracy(checkpoints, settings, tmp_path, console):
    without = settings.read_text().replace(str(read_settings(settings).data.test.annotations), "null")
    settings.write_text(without)
    answer_test.run(console, checkpoints[:1], settings=settings, output=tmp_path / "test.json")
    assert "accuracy" not in console.export_text() and len(read(tmp_path / "test.json")) == 24


def test_a_published_checkpoint(tiny_data, tiny_data_settings, checkpoints, settings, tmp_path, console):
    """By mcan-vqa's names, with the vocabulary of the settings: the same answers as from our own file."""
    network, vocabulary, _ = load_trained(checkpoints[0])
    assert vocabulary == load_vocabulary(tiny_data_settings)
    by_ours = {renamed(name, MCAN_NAMES): name for name in names_at(1, reference.load("mcan.npz")[0])}
    weights = {by_ours[name]: weight for name, weight in network.state_dict().items()}
    published = save_published(tmp_path / "epoch13.pkl", weights)
    answer_test.run(console, [published], settings=settings, output=tmp_path / "published.json")
    answer_test.run(console, checkpoints[:1], settings=settings, output=tmp_path / "own.json")
    assert read(tmp_path / "published.json") == read(tmp_path / "own.json")
    with pytest.raises(InputError, match="--architecture is for published checkpoints"):
        answer_test.run(
            console, checkpoints[:1], settings=settings, output=tmp_path / "x.json", architecture=Path("mcan")
        )
    fewer = weights | {name: weights[name][:-1] for name in (by_ours["classifier.weight"], by_ours["classifier.bias"])}
    with pytest.raises(InputError, match=r"knows \d+ words and \d+ answers, the vocabulary of the settings has"):
        answer_test.run(
            console, [save_published(tmp_path / "fewer.pkl", fewer)], settings=settings, output=tmp_path / "x.json"
        )
    del weights[by_ours["image_projection.weight"]]
    with pytest.raises(InputError, match="no weight of the features"):
        answer_test.run(
            console, [save_published(tmp_path / "cut.pkl", weights)], settings=settings, output=tmp_path / "x.json"
        )


def test_networks_of_other_vocabularies_are_refused(tiny_data, checkpoints, settings, tmp_path, console):
    def other(name: str, words: tuple, answers: tuple) -> Path:
        content = torch.load(checkpoints[0], weights_only=True)
        architecture = Architecture.from_json(content["architecture"], "")
        sizes = architecture.space.data.model_copy(update={"vocabulary_size": len(words), "answers": len(answers)})
        first = next(name for name in content["state_dict"] if name.endswith("image_projection.weight"))
        prefix = first.removesuffix("image_projection.weight")
        state = {prefix + key: value for key, value in architecture.for_data(sizes).network().state_dict().items()}
        vocabulary = Vocabulary(words, answers).to_dict()
        content |= {"architecture": architecture.for_data(sizes).to_json(), "vocabulary": vocabulary}
        torch.save({**content, "state_dict": state}, tmp_path / name)
        return tmp_path / name

    known = tiny_data.vocabulary
    for name, words, answers_, said in (
        ("reordered.ckpt", known.words, known.answers[::-1], r"reordered\.ckpt: its \d+ answers are not the \d+ of"),
        ("fewer.ckpt", known.words, known.answers[:-1], r"fewer\.ckpt: its \d+ answers are not the \d+ of"),
        ("words.ckpt", known.words[:-1], known.answers, r"words\.ckpt: has other words than .*--save-predictions"),
    ):
        with pytest.raises(InputError, match=said):
            answer_test.run(
                console, [checkpoints[0], other(name, words, answers_)], settings=settings, output=tmp_path / "x.json"
            )
    assert not (tmp_path / "x.json").exists()


def test_other_mistakes_are_one_line(checkpoints, settings, tiny_data_settings, tmp_path, console):
    content = settings.read_text()
    settings.write_text(content.replace(str(tiny_data_settings.test.features), str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="nothing"):
        answer_test.run(console, checkpoints[:1], settings=settings, output=tmp_path / "x.json")
    no_answers = tiny_data_settings.val.model_copy(update={"annotations": None})
    with pytest.raises(InputError, match=r"data\.val\.annotations is missing"):
        data = tiny_data_settings.model_copy(update={"val": no_answers})
        val.run(console, checkpoints[0], settings=settings_file(settings, data, name="mcan"))
    no_test = tiny_data_settings.model_copy(update={"test": None})
    with pytest.raises(InputError, match=r"data\.test is missing"):
        answer_test.run(
            console, checkpoints, settings=settings_file(settings, no_test, name="mcan"), output=tmp_path / "x.json"
        )


def test_where_nothing_can_be_written_is_said_before_any_question_is_answered(
    checkpoints, settings, tmp_path, console, monkeypatch
):
    monkeypatch.setattr("experiment.actions.test.load_network", lambda *arguments: pytest.fail("a network was loaded"))
    (tmp_path / "a.safetensors").mkdir()
    for file, kept in ((tmp_path, None), (tmp_path / "x.json", tmp_path / "a.safetensors")):
        with pytest.raises(InputError, match="cannot be written: is a folder"):
            answer_test.run(console, checkpoints, settings=settings, output=file, save_predictions=kept)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".yml"] == ["a.safetensors"]


def test_features_of_another_width(checkpoints, tiny_data_settings, tmp_path, console):
    wide = SplitSettings(**write_split(tmp_path, "wide", 12, 24, feature_size=13, seed=3)._asdict())
    file = settings_file(
        tmp_path / "s.yml", tiny_data_settings.model_copy(update={"val": wide, "test": wide}), name="mcan"
    )
    for act in (
        lambda: answer_test.run(console, checkpoints[:1], settings=file, output=tmp_path / "x.json"),
        lambda: val.run(console, checkpoints[0], settings=file),
    ):
        with pytest.raises(InputError, match=r"features are 13 wide, the network of .* takes 12"):
            act()


def test_accuracy_is_shown_with_its_name(checkpoints, tiny_data_settings, tmp_path, console):
    for variant, said in (("official", "the official accuracy on"), ("mcan", "as mcan-vqa's evaluator has it on")):
        data = tiny_data_settings.model_copy(update={"accuracy": variant})
        val.run(console, checkpoints[0], settings=settings_file(tmp_path / "s.yml", data, name="mcan"))
        shown = console.export_text()
        assert said in shown
        assert all(kind in shown for kind in ("yes/no", "number", "other", "what color is the", "how many", "is the"))


@pytest.mark.parametrize(
    ("ids", "given", "said"),
    [
        ([1, 2, 1], ["a", "b", "c"], "question 1 comes 2 times"),
        ([1, 2], ["a", None], "question 2 is answered by None"),
        ([1, 2], ["a", " "], "question 2 is answered by ' '"),
        ([1, "2"], ["a", "b"], "question '2' is answered"),
        ([1, 2], ["a"], "1 answers to 2 questions"),
        ([], [], "no question to answer"),
    ],
)
def test_what_the_server_would_refuse_is_not_written(tmp_path, ids, given, said):
    file = tmp_path / "test.json"
    file.write_text("the one before")
    with pytest.raises(InputError, match=said):
        write_submission(file, ids, given)
    assert file.read_text() == "the one before" and list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be(checkpoints, settings, tmp_path, console):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: "):
        answer_test.run(
            console, [tmp_path / "not looked at yet"], settings=settings, output=tmp_path / "file" / "test.json"
        )
    with pytest.raises(InputError, match="cannot be written: "):
        write_submission(tmp_path / "file" / "test.json", [1], ["a"])


def test_answers_of_any_letters(tmp_path):
    given = ['say "cheese"', "café", "日本", "\\n"]
    write_submission(tmp_path / "test.json", [4, 3, 2, 1], given)
    assert read(tmp_path / "test.json") == dict(zip([4, 3, 2, 1], given))
