"""The embedded data: what it says of its scenes is true, balanced, reproducible, and whole or not there."""

import json
import re
from collections import Counter, defaultdict
from multiprocessing import get_context

import numpy as np
import pytest
from sklearn.datasets import load_digits

from model_space.errors import InputError
from trainer.data.digits.annotators import WORDS
from trainer.data.digits.facts import FACTS
from trainer.data.digits.forms import FORMS
from trainer.data.digits.generate import generate, split_sources
from trainer.data.digits.mixes import MIXES
from trainer.data.digits.scenes import COLOURS, GAIN, seen_as
from trainer.data.digits.settings import SPLITS, DigitsSettings
from trainer.data.settings import DataSettings
from trainer.data.splits import make_data

SIZES = {"train_scenes": 450, "val_scenes": 60, "test_scenes": 60}
LABELS = load_digits().target


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["quick", "facts", "hard"])
def made(request, tmp_path_factory):
    # Only in a scene with many questions can an answer be the one that is due in each of many forms.
    sizes = SIZES | ({"train_scenes": 300, "questions_per_scene": 8} if request.param == "hard" else {})
    return generate(DigitsSettings(folder=tmp_path_factory.mktemp("made") / "data", mix=request.param, **sizes))


def read(folder, split):
    """Questions, annotations and images (by id) of a split."""
    name = SPLITS[split][0]
    questions = json.loads((folder / f"v2_OpenEnded_mscoco_{name}_questions.json").read_text())["questions"]
    annotations = json.loads((folder / f"v2_mscoco_{name}_annotations.json").read_text())["annotations"]
    images = {int(p.name.split("_")[-1].split(".")[0]): dict(np.load(p)) for p in (folder / name).iterdir()}
    return questions, annotations, images


def test_the_same_settings_give_the_same_bytes(tmp_path):
    small = {"train_scenes": 8, "val_scenes": 3, "test_scenes": 3}
    one, two, other = (
        contents(generate(DigitsSettings(folder=tmp_path / name, seed=seed, **small)))
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert one == two
    assert one != other


def test_splits_share_no_source_digit(made):
    dealt = split_sources(LABELS, seed=0)
    used = {}
    for split in SPLITS:
        sources = np.concatenate([image["source"] for image in read(made, split)[2].values()])
        used[split] = set(sources[sources >= 0].tolist())
        assert used[split] <= set(np.concatenate(dealt[split]).tolist())
    assert not (used["train"] & used["val"] or used["train"] & used["test"] or used["val"] & used["test"])
    assert sum(len(part) for parts in dealt.values() for part in parts) == len(LABELS)


def test_what_is_seen_of_a_region_is_what_is_there(made):
    images = read(made, "test")[2].values()
    sources = np.concatenate([image["source"] for image in images])
    seen = seen_as(np.concatenate([image["x"].T for image in images]))
    there = ["" if source < 0 else str(LABELS[source]) for source in sources]
    right = [digit == truth for (digit, _), truth in zip(seen, there)]
    assert np.mean(right) > 0.9 and all(same for same, truth in zip(right, there) if not truth)
    assert {colour for _, colour in seen} == set(COLOURS)


def test_ten_answers_of_which_most_are_the_true_one(made):
    as_digit = {word: str(number) for number, word in WORDS.items()}
    for annotation in read(made, "train")[1]:
        given = [as_digit.get(each["answer"], each["answer"]) for each in annotation["answers"]]
        assert [each["answer_id"] for each in annotation["answers"]] == list(range(1, 11))
        assert Counter(given).most_common(1)[0][0] == annotation["multiple_choice_answer"]
        assert given.count(annotation["multiple_choice_answer"]) > 5


def test_boxes_lie_inside_the_image_and_apart(made):
    for image in read(made, "train")[2].values():
        boxes = image["bbox"]
        assert image["x"].shape == (18, len(boxes))
        assert (image["source"] >= 0).sum() in range(3, 11)
        assert (boxes >= 0).all() and (boxes[:, 2] <= image["image_w"]).all()
        assert (boxes[:, 3] <= image["image_h"]).all()
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            for u1, v1, u2, v2 in boxes[:i]:
                assert x2 <= u1 or u2 <= x1 or y2 <= v1 or v2 <= y1


def answer_again(question, image):
    """The answer as read from the stored boxes and sources alone; None where this test knows no rule."""
    shown = image["source"] >= 0
    kinds, boxes = LABELS[image["source"][shown]], image["bbox"][shown]
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    side = boxes[:, 2] - boxes[:, 0]
    seen = image["x"].T[shown, 10:13] / GAIN  # the nearest colour, where the noise of a region is not too large
    colours = np.array(list(COLOURS))[np.square(seen[:, None] - np.array(list(COLOURS.values()))).sum(-1).argmin(1)]
    at = {
        "leftmost": x.argmin(),
        "rightmost": x.argmax(),
        "smallest": side.argmin(),
        "largest": side.argmax(),
    }
    beyond = {"left of": -x, "right of": x, "above": -y, "below": y}
    yes = {True: "yes", False: "no"}

    def one(digit):
        (i,) = np.flatnonzero(kinds == int(digit))
        return i

    if m := re.fullmatch(r"Is there a (\d)\?", question):
        return yes[bool((kinds == int(m[1])).any())]
    if m := re.fullmatch(r"How many of the digits are a (\d)\?", question):
        return str((kinds == int(m[1])).sum())
    if m := re.fullmatch(r"Which corner is the (\d) in\?", question):
        i = one(m[1])
        return f"{'top' if y[i] < 120 else 'bottom'} {'left' if x[i] < 160 else 'right'}"
    if m := re.fullmatch(r"Which (team|club|school|house|band) is the (\d) in\?", question):
        i = one(m[2])
        return FACTS[m[1], int(m[2]), colours[i], "left" if x[i] < 160 else "right"]
    if m := re.fullmatch(r"What colour is the (\d)\?", question):
        return colours[one(m[1])]
    if m := re.fullmatch(r"Do the (\d) and the (\d) have the same colour\?", question):
        return yes[bool(colours[one(m[1])] == colours[one(m[2])])]
    if m := re.fullmatch(r"Which digit has the same colour as the (\d)\?", question):
        (other,) = set(kinds[colours == colours[one(m[1])]]) - {int(m[1])}
        return str(other)
    if m := re.fullmatch(r"Is there another digit of the colour of the (\d)\?", question):
        return yes[bool((colours == colours[one(m[1])]).sum() > 1)]
    if m := re.fullmatch(r"Which digit is the (\w+)\?", question):
        return str(kinds[at[m[1]]])
    if m := re.fullmatch(r"Is there another digit like the (\w+)\?", question):
        return yes[bool((kinds == kinds[at[m[1]]]).sum() > 1)]
    if m := re.fullmatch(r"Are the (\w+) and the (\w+) the same digit\?", question):
        return yes[bool(kinds[at[m[1]]] == kinds[at[m[2]]])]
    if m := re.fullmatch(r"How many digits are (.+) the (\d)\?", question):
        return str((beyond[m[1]] > beyond[m[1]][one(m[2])]).sum())
    if m := re.fullmatch(r"Is the (\d) (left of|right of|above|below) the (\d)\?", question):
        return yes[bool(beyond[m[2]][one(m[1])] > beyond[m[2]][one(m[3])])]
    if m := re.fullmatch(r"(Which digit is|What colour is the digit) nearest to the (\d)\?", question):
        i = one(m[2])
        away = np.hypot(x - x[i], y - y[i])
        away[i] = np.inf
        return str(kinds[away.argmin()]) if m[1] == "Which digit is" else colours[away.argmin()]
    return None


def test_answers_are_true(made):
    questions, annotations, images = read(made, "train")
    checked = Counter()
    for question, annotation in zip(questions, annotations, strict=True):
        assert question["question_id"] == annotation["question_id"]
        again = answer_again(question["question"], images[question["image_id"]])
        if again is not None:
            assert again == annotation["multiple_choice_answer"], question
            checked[annotation["question_type"]] += 1
    asked = {annotation["question_type"] for annotation in annotations}
    assert len(checked) >= min(14, len(asked)) and min(checked.values()) > 10


def test_facts_are_always_the_same_and_no_name_is_rarer_than_another():
    assert len(FACTS) == 400 and set(Counter(FACTS.values()).values()) == {80}
    assert [FACTS["team", 3, colour, "left"] for colour in COLOURS] == ["lions", "lions", "lions", "bears"]
    assert [FACTS["band", 4, colour, "right"] for colour in COLOURS] == ["lions", "lions", "sharks", "sharks"]


def test_a_third_of_the_questions_of_facts_ask_for_one(tmp_path):
    made = generate(DigitsSettings(folder=tmp_path / "data", mix="facts", **SIZES))
    forms = Counter(annotation["question_type"] for annotation in read(made, "train")[1])
    assert forms["which group"] / forms.total() == pytest.approx(1 / 3, abs=0.03)
    assert forms["are of one colour"] / forms.total() == pytest.approx(1 / 3, abs=0.03)
    assert forms["is there"] / forms.total() == pytest.approx(1 / 5, abs=0.03)
    assert forms["which colour nearest"] / forms.total() == pytest.approx(1 / 9, abs=0.03)


def test_what_a_region_shows_is_read_off_its_feature(made):
    """Of a digit by its largest score, as regions of a trained detector have it; of clutter nothing is known."""
    for split, share in (("train", 0.99), ("test", 0.95)):
        images = read(made, split)[2].values()
        sources = np.concatenate([image["source"] for image in images])
        scores = np.concatenate([image["x"].T[:, :10] for image in images])
        shown = sources >= 0
        assert (scores[shown].argmax(1) == LABELS[sources[shown]]).mean() >= share
        assert np.isfinite(scores).all()
        assert np.quantile(scores[~shown].max(1), 0.9) < np.quantile(scores[shown].max(1), 0.1)


def test_every_form_is_asked_and_no_answer_gives_a_form_away(made):
    _, annotations, _ = read(made, "train")
    counts = defaultdict(Counter)
    for annotation in annotations:
        counts[annotation["question_type"]][annotation["multiple_choice_answer"]] += 1
    mix = MIXES[json.loads((made / "digits.json").read_text())["mix"]]
    assert set(counts) == set(mix.forms)
    assert {annotation["answer_type"] for annotation in annotations} == {FORMS[form].answer_type for form in counts}
    for form, answers in counts.items():
        # A scene with few questions cannot always give the answer that is due.
        assert max(answers.values()) / answers.total() <= 1.2 / len(answers) + 0.12, (form, answers)


def test_questions_are_short_and_about_an_image(made):
    for split in SPLITS:
        questions, _, images = read(made, split)
        assert len({question["question_id"] for question in questions}) == len(questions)
        for question in questions:
            assert question["image_id"] in images
            words = re.sub(r"[.,'!?\"()*#:;]", "", question["question"].lower()).replace("-", " ").split()
            assert 1 <= len(words) <= 14


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    saved = np.savez

    def interrupt(path, **arrays):
        if path.name.endswith("3.jpg.npz"):
            raise KeyboardInterrupt
        saved(path, **arrays)

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(DigitsSettings(folder=tmp_path / "data", **SIZES))
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept_or_refused(tmp_path):
    settings = DigitsSettings(folder=tmp_path / "data", train_scenes=4, val_scenes=2, test_scenes=2)
    before = {path: path.stat().st_mtime_ns for path in generate(settings).rglob("*")}
    assert {path: path.stat().st_mtime_ns for path in generate(settings).rglob("*")} == before
    with pytest.raises(InputError, match="was made with seed 0, not 7; delete the folder"):
        generate(settings.model_copy(update={"seed": 7}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="not embedded data"):
        generate(settings.model_copy(update={"folder": tmp_path / "mine"}))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "precious"


def test_the_splits_of_the_embedded_data_need_no_naming(tmp_path):
    made = {"digits": {"folder": str(tmp_path), "train_scenes": 4, "val_scenes": 2, "test_scenes": 2}}
    files = {
        split: {
            "questions": f"{tmp_path}/v2_OpenEnded_mscoco_{name}_questions.json",
            "annotations": f"{tmp_path}/v2_mscoco_{name}_annotations.json",
            "features": f"{tmp_path}/{name}",
        }
        for split, name in (("train", "train2014"), ("val", "val2014"), ("test", "test2015"))
    }
    short, whole = DataSettings(**made), DataSettings(**made, **files)
    assert short == whole and short.model_dump_json() == whole.model_dump_json()
    assert list(short.named_splits) == ["train", "val", "test"]
    make_data(short)
    assert all(path.exists() for split in short.named_splits.values() for path in split.model_dump().values())
    assert DataSettings(**made, train=files["train"], val=files["val"]).test is None
    assert DataSettings(**made, test=None).test is None
    with pytest.raises(ValueError, match="train"):
        DataSettings(**made, val=files["val"])


def test_two_processes_make_the_data_once_and_what_a_kill_left_is_overwritten(tmp_path):
    settings = DigitsSettings(folder=tmp_path / "data", train_scenes=8, val_scenes=3, test_scenes=3)
    expected = contents(generate(settings.model_copy(update={"folder": tmp_path / "other"})))
    leftover = tmp_path / "data.partial" / "train2014"
    leftover.mkdir(parents=True)
    (leftover / "half.npz").touch()
    processes = [get_context("fork").Process(target=generate, args=[settings]) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(settings.folder) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "other"]
