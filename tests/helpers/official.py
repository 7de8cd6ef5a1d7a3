"""Files of the form, the names and the quirks of VQA-v2 and of mcan-vqa's features, made of random words and numbers.

    python -m tests.helpers.official FOLDER                # a dozen images
    python -m tests.helpers.official FOLDER --scale full   # question files of real size, few features

The forms are those of https://visualqa.org/download.html and https://github.com/MILVLG/mcan-vqa. Of the annotations of
Visual Genome mcan-vqa reads ``question_id`` and the ten ``answers`` (each the same) alone; they have no types here.
"""

import argparse
import json
import os
from collections.abc import Iterable
from itertools import chain, islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

SUBTYPES = ("train2014", "val2014", "test2015")
# https://visualqa.org/download.html; Visual Genome's number is about that of mcan-vqa's file
FULL = {"images": (82_783, 40_504, 81_434), "questions": (443_757, 214_354, 447_793), "vg": 485_000}
TEST_DEV = 107_394 / 447_793
"""part of the test questions that the smaller file has"""

HEAD = {
    "info": {
        "description": "This is v2.0 of the VQA dataset.",
        "url": "http://visualqa.org",
        "version": "2.0",
        "year": 2017,
        "contributor": "VQA Team",
        "date_created": "2017-04-26 17:07:13",
    },
    "license": {
        "url": "http://creativecommons.org/licenses/by/4.0/",
        "name": "Creative Commons Attribution 4.0 International License",
    },
    "data_type": "mscoco",
}
FORMS = {  # question_type → answer_type, how the question goes on
    "is the": ("yes/no", "{} {}?"),
    "are there any": ("yes/no", "{} in the {}?"),
    "does the": ("yes/no", "{} have a {}, or isn't it a {}-{}?"),
    "how many": ("number", "{} are there?"),
    "what number is": ("number", "on the {}'s {}?"),
    "what color is the": ("other", "{}?"),
    "what is the": ("other", "{} doing with the {} in front of the {} that stands on the left of the {} and the {}?"),
    "where is the": ("other", "{}?"),
    "none of the above": ("other", "{} {}/{}?"),
}
CONFIDENCE = ("yes", "maybe", "no")
ODD_ANSWERS = ("1,000", "don't know", "The dark-blue T-shirt!", "caf\u00e9", "yes ", "4.5 miles", "none", "isnt it")
SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "ra", "shi", "ta", "ve", "wo", "zu", "gri", "pla", "sten", "tro")
WORDS, ANSWERS = 12_000, 30_000


class Files(NamedTuple):
    """The fields of a split in the settings."""

    questions: Path
    annotations: Path | None
    features: Path | tuple[Path, ...]


class Official(NamedTuple):
    train: Files
    val: Files
    test: Files
    test_dev: Files
    vg: Files | None


def write_official(
    folder: Path,
    images: tuple[int, int, int] = (12, 6, 6),
    questions: tuple[int, int, int] = (40, 20, 20),
    feature_size: int = 16,
    seed: int = 0,
    vg: int = 0,
    regions: tuple[int, int] = (10, 100),
    dtype: type = np.float32,
    distinct: int | None = None,
) -> Official:
    """Writes train2014, val2014, test2015 and, with ``vg`` questions, Visual Genome; the same arguments give the same.

    Args:
        images, questions: of the three splits; where there are as many questions, every image has one.
        regions: fewest and most of an image.
        distinct: so many images a split have features of their own, the others' files are hard links to these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    words, answers = _words(WORDS), _words(ANSWERS)
    image_ids = np.split(9 + rng.choice(600_000, sum(images), replace=False), np.cumsum(images)[:-1])
    files = []
    for subtype, of_split, count in zip(SUBTYPES, image_ids, questions):
        _write_features(folder / subtype, subtype, of_split, feature_size, regions, dtype, distinct, rng)
        asked = np.sort(np.concatenate([of_split[:count], rng.choice(of_split, max(0, count - len(of_split)))]))
        ids = asked * 1000 + np.arange(count) - np.searchsorted(asked, asked)
        rows = _ask(asked.tolist(), ids.tolist(), words, rng)
        path, annotations = folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json", None
        head = HEAD | {"task_type": "Open-Ended", "data_subtype": subtype}
        _write(path, head, "questions", (question for question, _ in rows))
        if subtype != "test2015":  # its answers are not public
            annotations = folder / f"v2_mscoco_{subtype}_annotations.json"
            _write(annotations, HEAD | {"data_subtype": subtype}, "annotations", _answer(rows, answers, rng))
        files.append(Files(path, annotations, folder / subtype))

    path = folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    head["data_subtype"] = "test-dev2015"
    _write(path, head, "questions", (question for question, _ in rows[: round(TEST_DEV * len(rows))]))
    test_dev = files[2]._replace(questions=path)

    genome = None
    if vg:
        folders = tuple(each.features for each in files[:2])
        genome = Files(folder / "VG_questions.json", folder / "VG_annotations.json", folders)
        asked = rng.choice(np.concatenate(image_ids[:2]), vg)
        n = np.arange(vg)
        ids = 900_000 + n // 500 * 1000 + 500 + n % 500  # no image has 500 questions: these are not VQA's
        rows = _ask(asked.tolist(), ids.tolist(), words, rng)
        _write(genome.questions, {}, "questions", (question for question, _ in rows))
        fields = ("question_id", "image_id", "multiple_choice_answer", "answers")
        told = ({key: each[key] for key in fields} for each in _answer(rows, answers, rng, people_agree=True))
        _write(genome.annotations, {}, "annotations", told)
    return Official(*files, test_dev, genome)


def _words(count: int) -> list[str]:
    """Different words of one syllable, two, three and so on."""
    parts = chain.from_iterable(product(SYLLABLES, repeat=length) for length in (1, 2, 3, 4))
    return ["".join(each) for each in islice(parts, count)]


def _frequent_first(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Places in a list by Zipf's law: the first is drawn most often."""
    weights = 1 / np.arange(1, count + 1)
    return np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(size)).clip(max=count - 1)


def _ask(image_ids: list[int], question_ids: list[int], words: list[str], rng) -> list[tuple[dict, str]]:
    """Questions as the official files have them, each with its question_type."""
    forms = list(FORMS)
    things = iter([words[place] for place in _frequent_first(len(words), 5 * len(image_ids), rng)])
    rows = []
    for image_id, question_id, form in zip(image_ids, question_ids, rng.integers(len(forms), size=len(image_ids))):
        text = FORMS[forms[form]][1].format(*(next(things) for _ in range(5)))
        start = "" if forms[form] == "none of the above" else forms[form].capitalize() + " "
        question = {"image_id": image_id, "question": start + text, "question_id": question_id}
        rows.append((question, forms[form]))
    return rows


def _answer(rows: list[tuple[dict, str]], words: list[str], rng, people_agree: bool = False) -> Iterable[dict]:
    """Annotations in another order than the questions; of ten people one in four has an answer of their own."""
    own = rng.random((len(rows), 10)) < (0 if people_agree else 0.25)
    drawn = np.where(own, _frequent_first(len(words), 10 * len(rows), rng).reshape(-1, 10), 0)
    drawn[~own] = np.repeat(_frequent_first(len(words), len(rows), rng), 10)[~own.ravel()]
    confidence = rng.integers(len(CONFIDENCE), size=drawn.shape).tolist()
    known = {
        "yes/no": ("yes", "no"),
        "number": ("1", "2", "0", "3", "two", "4", "1,000", "none"),
        "other": (*words[:4], *ODD_ANSWERS, *words[4:]),
    }
    drawn = drawn.tolist()
    for row in rng.permutation(len(rows)).tolist():
        question, form = rows[row]
        kind = FORMS[form][0]
        given = [known[kind][place % len(known[kind])] for place in drawn[row]]
        people = enumerate(zip(given, confidence[row]), start=1)
        yield {
            "question_type": form,
            "multiple_choice_answer": max(given, key=given.count),
            "answers": [
                {"answer": answer, "answer_confidence": CONFIDENCE[sure], "answer_id": number}
                for number, (answer, sure) in people
            ],
            "image_id": question["image_id"],
            "answer_type": kind,
            "question_id": question["question_id"],
        }


def _write(path: Path, head: dict, key: str, entries: Iterable[dict]) -> None:
    """JSON in one line, entry by entry: the whole would not fit into a small machine's memory."""
    with path.open("w") as file:
        file.write(json.dumps(head)[:-1] + (", " if head else "") + f'"{key}": [')
        for number, entry in enumerate(entries):
            file.write((", " if number else "") + json.dumps(entry))
        file.write("]}")


def _write_features(
    folder: Path, subtype: str, image_ids: np.ndarray, width: int, regions: tuple[int, int], dtype, distinct, rng
) -> None:
    """One file an image, as mcan-vqa has them: features after a ReLU, boxes in pixels."""
    folder.mkdir()
    written = []
    for number, image_id in enumerate(image_ids):
        path = folder / f"COCO_{subtype}_{image_id:012d}.jpg.npz"
        if distinct and number >= distinct:
            os.link(written[number % distinct], path)
            continue
        count, size = rng.integers(regions[0], regions[1] + 1), rng.integers(300, 641, 2)
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * size
        x = np.maximum(rng.standard_normal((width, count), dtype=np.float32), 0)
        np.savez(
            path,
            x=x.astype(dtype),
            image_w=size[0],
            image_h=size[1],
            num_bbox=count,
            bbox=corners.reshape(count, 4).astype(np.float32),
        )
        written.append(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    args = parser.parse_args()
    sizes = {"feature_size": 2048, "dtype": np.float16, "distinct": 300, **FULL} if args.scale == "full" else {"vg": 20}
    for name, files in write_official(args.folder, **sizes)._asdict().items():
        folders = files.features if isinstance(files.features, tuple) else [files.features]
        print(f"{name}:", *(path for path in (files.questions, files.annotations, *folders) if path))


if __name__ == "__main__":
    main()
