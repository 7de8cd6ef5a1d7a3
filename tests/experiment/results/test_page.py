"""The page of an experiment: what is in it, what stands in place of what is missing, and that nothing can break it."""

import base64
import io
import json
import random
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from experiment.actions import pack
from experiment.manager import records
from experiment.results.page import contents
from experiment.results.page.inline import inline
from experiment.results.page.plots import Line, by_epoch, look_of
from experiment.results.page.questions import ask, first_of_each_form
from experiment.settings import read_settings
from model_space.errors import InputError
from tests.helpers.photos import write_photos, write_table
from tests.helpers.reported import Reported
from trainer.data.questions import read_annotations
from trainer.data.settings import DataSettings
from trainer.data.splits import load_data, load_split
from trainer.evaluation.evaluate import by_question
from trainer.train import load_trained

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\x00\u202e"


class Read(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # all that is opened is closed, in order

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def made(tmp_path, tiny_data_settings, tiny_data, monkeypatch) -> Reported:
    monkeypatch.chdir(tmp_path)
    return Reported(tmp_path, tiny_data_settings, tiny_data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_data_settings, tiny_data) -> tuple[Reported, str]:
    """An experiment of which all is known, and its page, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reported = Reported(folder, tiny_data_settings, tiny_data)
        return reported, reported.whole()


def test_all_that_is_known_is_on_the_page(whole):
    made, page = whole[0], Read(whole[1])
    for words in (
        *("abc", "python 3.11.0, torch 2.0", "3 of 2: 2 succeeded, 1 failed"),
        *("Found architecture is 1.0 above MCAN, 1 layer (95 % interval 0.2 to 1.9)", "+1.0 (0.2 to 1.9)"),
        *("62.0 ± 0.4", "All trials: strategy snas", "1 (T2)", "60.00", "1 min 15 s", "seed 1", "entropy 0.40"),
        *("share of idle operations 0.25", "The best architecture, ", "MCAN, ", "validation accuracy 60.0 %"),
        *("Trial 2 (T3): RuntimeError: no <b>", "image_node1_operation", "guided attention", "strategy: snas"),
        *("min_answer_count: 1", "trialCommand: python -m experiment.manager.trial settings.yml", "People answered:"),
        *("scored 60.0 % on the validation split", "trained from new weights it has 62.0 % on the test split"),
    ):
        assert words in page.said, words
    plots = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    beginnings = ["Found architecture is", "Validation and test", "The best architecture", "MCAN"]
    beginnings += ["Regions of the image"] * 6 + ["validation accuracy", "entropy of the"]
    assert [label[: len(begin)] for label, begin in zip(plots, beginnings)] == beginnings
    moved = [label for label in plots if label.startswith("Probability of each candidate of ")]
    choices = [label for label, each in made.space.candidates().items() if len(each) > 1]
    assert len(moved) == 2 * len(choices) and all(any(choice in label for label in moved) for choice in choices)
    assert "None" not in page.said and "nan" not in page.said.split()


def test_the_same_records_give_the_same_bytes_and_few(whole, monkeypatch):
    monkeypatch.chdir(whole[0].folder)
    assert whole[0].written() == whole[1]
    assert len(whole[1].encode()) < 3_000_000


def test_nothing_leads_out_of_the_file_and_ids_are_there_once(whole):
    text = whole[1]
    page = Read(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "image", "base", "form"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value[0] == "#" and value[1:] in ids
            for target in re.findall(r"url\(([^)]*)\)", value or ""):
                assert target[0] == "#" and target[1:] in ids
            if name in ("aria-labelledby", "aria-describedby"):
                assert value in ids
    assert "@import" not in text and not re.search(r"url\((?!#)", text) and not re.search(r"https?://", text)


def test_the_page_is_in_order(whole):
    page = Read(whole[1])
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert ("html", {"lang": "en"}) in page.tags and "Architecture search abc" in page.said


def test_what_data_and_settings_say_is_text_and_no_more(made, tiny_data_settings):
    """A label, a candidate, a parameter, an error, a rival, an experiment's name and the questions are hostile."""
    test = tiny_data_settings.test
    content = json.loads(test.questions.read_text())
    content["questions"][0]["question"] = f"Is the big dog {HOSTILE}?"
    (made.folder / "questions.json").write_text(json.dumps(content))
    answers = json.loads(test.annotations.read_text())
    answers["annotations"][0] |= {"multiple_choice_answer": HOSTILE, "question_type": HOSTILE}
    (made.folder / "answers.json").write_text(json.dumps(answers))
    split = test.model_copy(
        update={"questions": made.folder / "questions.json", "annotations": made.folder / "answers.json"}
    )
    hostile = Reported(
        made.folder,
        tiny_data_settings.model_copy(update={"test": split}),
        made.loaded,
        "xyz",
        experimentName=HOSTILE,
        trialConcurrency=HOSTILE,
    )
    hostile.succeeded(
        "T1", 60.0, {"strategy": HOSTILE, HOSTILE: 3}, image_node1_operation=HOSTILE, guided_attention=HOSTILE
    )
    hostile.failed("<i>T2", {"seed": HOSTILE}, f"{HOSTILE}\n")
    hostile.compared(hostile.architecture(60), rival=HOSTILE)
    text = hostile.written("xyz")
    page = Read(text)
    assert not any(tag in ("script", "b", "i") for tag, _ in page.tags)
    assert "\x00" not in text and "\u202e" not in text
    shown = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    in_pictures = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert any("&lt;script" in words for words in in_pictures)
    for before in ("Is the big dog ", "People answered: ", "strategy ", "above ", "Trial 1 (<i>T2): ", "name "):
        assert f"{before}{shown}" in page.said, before
    assert page.said.count(shown) >= 10
    labels = [attributes.get("aria-label", "") for _, attributes in page.tags]
    assert any(f"Probability of each candidate of {shown}" in label for label in labels)


def test_before_the_first_trial(made):
    page = Read(made.written())
    for words in (
        *("No trial has ended with a result yet.", "No trial has started yet.", "none has started yet"),
        *("has not been compared yet", "not been trained from new weights yet", "No trial has recorded yet"),
        *("No trial has a distribution of choices", "No trial failed."),
    ):
        assert words in page.said, words
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_a_running_experiment(made):
    made.running("T1", {"seed": 0}, epochs=2)
    made.running("T2", {"seed": 1}, epochs=0)
    page = Read(made.written())
    for words in ("2 of 2: 2 running", "0 trials have ended", "No trial has ended with a result yet.", "2 of 3"):
        assert words in page.said, words
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert sum(label.startswith("Probability") for label in labels) == len(labels) - 2 > 0


def test_all_trials_failed(made):
    for number in range(2):
        made.failed(f"T{number}", {"seed": number}, "\n".join(f"line {i}" for i in range(100)) + "\nValueError: 3\n")
    page = Read(made.written())
    assert "2 of 2: 2 failed" in page.said and "Trial 1 (T1): ValueError: 3" in page.said
    assert "line 99" in page.said and "line 80" not in page.said
    assert "No trial has ended its first epoch yet." in page.said


def test_one_architecture_a_trial(made):
    """A multi-trial experiment has no distribution, and no entropy."""
    for number in range(3):
        choices = made.space.random_choices(number)
        made.records.event(f"T{number}", "RUNNING", choices)
        made.records.metric(f"T{number}", {"default": 30.0, "epoch": 1, "epochs": 1}, sequence=0)
        text = made.architecture(number, score=30.0 + number, provenance={"strategy": "multi-trial"}).to_json()
        made.records.metric(f"T{number}", {"default": 30.0 + number, "architecture": text, "parameters": "{}"})
        made.records.event(f"T{number}", "SUCCEEDED")
    page = Read(made.written())
    assert "No trial has a distribution of choices" in page.said and "2 (T2)" in page.said
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert [label.split(",")[0] for label in labels] == ["The best architecture", "MCAN", "validation accuracy"]


def test_plots_of_long_searches_stay_small():
    epochs, noise = range(1, 2001), random.Random(0)
    lines = [Line(f"c{i}", epochs, [noise.random() for _ in epochs], *look_of(i)) for i in range(6)]
    plot = by_epoch("one", "words", lines, "", share=True)
    assert len(plot) * contents.PANELS < 2_000_000
    marks = [
        by_epoch("one", "words", [Line("c", range(n), [0.5] * n, *look_of(0))], "", share=True).count("<use")
        for n in (25, 26, 35)
    ]
    assert marks[1] == marks[0] + 1 and marks[2] < 25  # an epoch has a mark of its own where there are few


def test_thousands_of_trials_stay_small(made):
    data = json.dumps({"parameter_id": 0, "parameters": made.space.random_choices(0)})
    event = "(1, 'T{}', 'SUCCEEDED', '{}', null, 0, null, null)"
    events = ", ".join(event.format(number, data) for number in range(2000))
    made.records.execute(f"insert into TrialJobEvent values {events}")
    text = made.written()
    assert "1800 more are not listed" in Read(text).said and len(text.encode()) < 3_000_000


def test_a_comparison_of_another_experiment_is_not_shown(made):
    made.whole()
    file = made.folder / "results/comparison.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"experiment": "zzz"}))
    said = Read(made.written()).said
    assert "is of experiment zzz" in said and "95 % interval 0.2 to 1.9" not in said
    assert "The best of 3 trials so far" in said
    experiment = records.read(made.records.folder)
    file.write_text(json.dumps({key: value for key, value in content.items() if key != "experiment"}))
    with pytest.raises(contents.Absent, match="by an older version, which names no experiment"):
        contents.comparison(experiment, file)
    file.write_text("{}")
    with pytest.raises(InputError, match=r"comparison\.json: not a comparison"):
        contents.comparison(experiment, file)


def test_what_cannot_be_read_has_a_sentence(made):
    made.whole()
    (made.folder / "settings.yml").write_text("data: 3\n")
    said = Read(made.written()).said
    assert "settings.yml" in said and "The settings, which name the questions, cannot be read." in said


def test_places_of_this_machine_are_not_told(made):
    made.failed("T1", {"seed": 0}, f"File {Path.home()}/x.py\nOSError: {made.folder}/data is missing\n")
    text = made.written()
    assert str(made.folder) not in text and "OSError: ./data is missing" in text
    assert str(Path.home() / "x.py") not in text


def test_a_wrong_id_is_one_line(made):
    with pytest.raises(InputError, match=r"no experiment 'nope'; there are \(the latest last\): abc"):
        made.written("nope")


def test_the_first_of_each_form():
    assert first_of_each_form(["a", "a", "b", "a", "c", "b"], 3) == [0, 2, 4]
    assert first_of_each_form(["a", "a", "b", "a"], 3) == [0, 1, 2]
    assert first_of_each_form(["a"] * 10, 6) == [0, 1, 2, 3, 4, 5]


def test_what_is_answered_is_what_is_answered_in_the_split(whole, tiny_data_settings):
    checkpoint = whole[0].records.folder / "comparison" / "found-seed0" / "last.ckpt"
    shown = ask(checkpoint, read_settings(whole[0].folder / "settings.yml"))
    network, vocabulary, _ = load_trained(checkpoint)
    test = tiny_data_settings.test
    split = load_split(tiny_data_settings, test, vocabulary)
    expected = by_question(network, split, lambda logits, targets: logits.sigmoid())
    annotations = read_annotations(test.annotations)
    places = first_of_each_form([each["question_type"] for each in annotations])
    assert len({annotations[place]["question_type"] for place in places}) == 3 == len(shown) // 2
    for place, each in zip(places, shown, strict=True):
        best = expected[place].topk(3)
        assert [answer for answer, _ in each.answers] == [vocabulary.answers[index] for index in best.indices]
        assert [probability for _, probability in each.answers] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert each.truth == annotations[place]["multiple_choice_answer"]
        assert sum(region.share for region in each.regions) == pytest.approx(1, abs=1e-5)
        assert each.regions[-1].strength == 1 and each.regions[-1].named


def test_photos_are_on_the_page_where_features_are_made_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    write_table(tmp_path / "photos.csv", photos, write_photos(photos, 24))
    Image.new("RGB", (1800, 900), (220, 30, 30)).save(photos / "photo-00.jpg")
    split = {"questions": tmp_path / "photos.csv", "features": photos}
    patches = {"name": "patches", "side": 8, "patch": 4}
    content = {"train": split, "val": split, "pictures": patches, "accuracy": "agreement", "min_answer_count": 1}
    data = DataSettings.model_validate(content)
    settings = {"data": data.model_dump(mode="json"), "space": {"name": "mcan"}}
    (tmp_path / "settings.yml").write_text(yaml.safe_dump(settings))
    pack.run(Console(quiet=True), tmp_path / "settings.yml")
    made = Reported(tmp_path, data, load_data(data))
    page = Read(made.whole())
    images = [attributes for tag, attributes in page.tags if tag == "image"]
    checkpoint = made.records.folder / "comparison" / "found-seed0" / "last.ckpt"
    shown = ask(checkpoint, read_settings(tmp_path / "settings.yml"))
    assert len(images) == len(shown) == 6 and [each["href"] for each in images] == [each.photo for each in shown]
    first = shown[0]  # larger than what is kept of it; its boxes are in its own pixels
    assert first.view == (0, 0, 1800, 900) and max(region.box[0] + region.box[2] for region in first.regions) == 1800
    assert (images[0]["width"], images[0]["height"]) == ("1800.0", "900.0")
    with Image.open(io.BytesIO(base64.b64decode(first.photo.removeprefix("data:image/jpeg;base64,")))) as kept:
        assert kept.size == (640, 320) and np.abs(np.asarray(kept).mean((0, 1)) - (220, 30, 30)).max() < 4

    (photos / "photo-00.jpg").unlink()  # features are packed: all else is as it was
    without = ask(checkpoint, read_settings(tmp_path / "settings.yml"))
    assert [bool(each.photo) for each in without] == [False] + 5 * [True]
    assert without[0].regions == first.regions and without[0].view[2] > 0


def test_two_pictures_of_a_page_define_nothing_twice():
    picture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><defs><path id="a"/></defs>'
    picture += '<style>*{fill:red}</style><path stroke="#1f2937" marker-end="url(#a)"/><use href="#a"/></svg>'
    one, two = inline(picture, "one", "first"), inline(picture, "two", "second")
    assert 'id="one-a"' in one and "url(#one-a)" in one and 'href="#one-a"' in one and "one-a" not in two
    assert "style" not in one and 'stroke="currentColor"' in one and 'aria-label="first"' in one
