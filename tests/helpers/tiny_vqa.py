"""A tiny data set in the file form of VQA-v2, made of random numbers, for tests."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.data.settings import DataSettings, SplitSettings

FORMS = {  # question_type → (answer_type, a question, its answers)
    "is the": ("yes/no", "Is the {} dog brown?", ("yes", "no")),
    "how many": ("number", "How many {} cats are there?", ("1", "2", "3", "Four")),
    "what color is the": (
        "other",
        "What color is the {}-house?",
        ("red", "dark-blue", "a grey", "black & white"),
    ),
}
THINGS = ("big", "small", "left", "right", "old", "new")


class SplitFiles(NamedTuple):
    questions: Path
    annotations: Path
    features: Path


def write_split(
    folder: Path,
    split: str,
    n_images: int,
    n_questions: int,
    feature_size: int,
    seed: int,
    dtype: type = np.float32,
) -> SplitFiles:
    """Random images of 1 to 8 regions, and random questions about them with answers of ten people."""
    rng = np.random.default_rng(seed)
    features = folder / f"{split}_features"
    features.mkdir(parents=True)
    for image_id in range(1, n_images + 1):
        regions = rng.integers(1, 9)
        corners = rng.uniform((0, 0, 50, 40), (50, 40, 100, 80), (regions, 4))
        np.savez(
            features / f"COCO_{split}_{image_id:012d}.jpg.npz",
            x=rng.normal(size=(feature_size, regions)).astype(dtype),
            bbox=corners.astype(np.float32),
            image_w=np.int64(100),
            image_h=np.int64(80),
            num_bbox=np.int64(regions),
        )

    questions, annotations = [], []
    for place in range(n_questions):
        ids = {"image_id": int(rng.integers(1, n_images + 1)), "question_id": 1000 * seed + place}
        form = list(FORMS)[rng.integers(len(FORMS))]
        answer_type, text, answers = FORMS[form]
        given = [answers[index] for index in rng.integers(len(answers), size=10)]
        questions.append({**ids, "question": text.format(" ".join(rng.choice(THINGS, rng.integers(0, 4))))})
        annotations.append(
            {
                **ids,
                "question_type": form,
                "answer_type": answer_type,
                "multiple_choice_answer": max(given, key=given.count),
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": number}
                    for number, answer in enumerate(given, start=1)
                ],
            }
        )

    head = {
        "info": {},
        "license": {},
        "data_type": "mscoco",
        "data_subtype": split,
        "task_type": "Open-Ended",
    }
    files = SplitFiles(folder / f"{split}_questions.json", folder / f"{split}_annotations.json", features)
    files.questions.write_text(json.dumps({**head, "questions": questions}, indent=1))
    files.annotations.write_text(json.dumps({**head, "annotations": annotations}, indent=1))
    return files


def tiny_splits(folder: Path) -> DataSettings:
    """Three splits of random questions about random images."""
    splits = {
        split: SplitSettings(**write_split(folder, split, 12, questions, feature_size=12, seed=seed)._asdict())
        for seed, (split, questions) in enumerate({"train": 96, "val": 24, "test": 24}.items(), start=1)
    }
    return DataSettings(**splits, min_answer_count=1)
