"""Makes the embedded data: questions about scenes of handwritten digits, in the file form of VQA-v2.

The digits are scikit-learn's: 1,797 images of 8 x 8 pixels, from the UCI "Optical Recognition of Handwritten Digits"
data. A scene shows 3 to 10 of them, and some noise, in four colours on a canvas; each is a region with a box and a
feature. Questions are sampled by form, so that the answers of a form are balanced, and answered by ten simulated
annotators.
"""

import json
from pathlib import Path

import numpy as np

from model_space.errors import InputError
from model_space.files import locked, new_folder
from trainer.data.digits.annotators import annotate
from trainer.data.digits.detector import Detector
from trainer.data.digits.forms import Form
from trainer.data.digits.mixes import MIXES, Asker
from trainer.data.digits.scenes import HEIGHT, WIDTH, Scene, region_features, sample_scene
from trainer.data.digits.settings import FORMAT, SPLITS, DigitsSettings, split_files
from trainer.data.packing.pack import pack

STATED = "digits.json"
"""The file that says with which settings a folder was made. It is written last."""


def generate(settings: DigitsSettings) -> Path:
    """Makes the embedded data in the folder of the settings, unless it is there already.

    The same settings give the same bytes. The folder appears whole or not at all. Each split,
    train2014, val2014 and test2015, has ``v2_OpenEnded_mscoco_<split>_questions.json``,
    ``v2_mscoco_<split>_annotations.json``, a folder ``<split>`` with the features of each image in
    ``COCO_<split>_<image id>.jpg.npz``, and the packed form of these, ``<split>.safetensors``.

    Returns:
        The folder.

    Raises:
        InputError: If the folder holds something else, or data made with other settings.

    Example:
        >>> made = generate(DigitsSettings(folder="data/digits", train_scenes=8, val_scenes=2, test_scenes=2))
        >>> (made / "train2014.safetensors").exists()
        True
    """
    folder = settings.folder
    if _is_made(settings):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent):  # Two trials may begin at the same time, and the second one waits for the data.
        if not _is_made(settings):
            with new_folder(folder) as partial:
                _write(partial, settings)
    return folder


def split_sources(labels: np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
    """Deals the source digits out to the splits, so that no two splits share one.

    Args:
        labels: The digit of each source image (I,).
        seed: The random seed.

    Returns:
        For each split, and in it for each digit from 0 to 9, the indices of its source images.
    """
    rng = np.random.default_rng(seed)
    ends = np.cumsum([share for _, share in SPLITS.values()])[:-1]
    by_kind = []
    for kind in range(10):
        own = rng.permutation(np.flatnonzero(labels == kind))
        by_kind.append(np.split(own, np.round(ends * len(own)).astype(int)))
    return {split: [parts[i] for parts in by_kind] for i, split in enumerate(SPLITS)}


def _is_made(settings: DigitsSettings) -> bool:
    """Returns whether the folder holds the data of these settings; an absent or empty folder holds none."""
    folder = settings.folder
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = dict(json.loads((folder / STATED).read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"{folder}: exists and is not embedded data (no readable {STATED}); give another folder"
        ) from None
    wanted = settings.stated()
    differ = [f"{key} {found.get(key)!r}, not {wanted[key]!r}" for key in wanted if found.get(key) != wanted[key]]
    if differ:
        raise InputError(
            f"{folder}: was made with {'; '.join(differ)}; delete the folder to make it anew, or give another"
        )
    return True


def _write(folder: Path, settings: DigitsSettings) -> None:
    from sklearn.datasets import load_digits  # takes a second to load, and is not needed where the data is there

    images, labels = load_digits(return_X_y=True)
    sources = split_sources(labels, settings.seed)
    detector = Detector(images, labels, np.concatenate(sources["train"]))
    first_id = 1
    for number, (split, files) in enumerate(split_files(folder).items()):
        # Each split has random numbers of its own, so that the size of one does not change the others.
        rng = np.random.default_rng([settings.seed, number])
        scenes = getattr(settings, f"{split}_scenes")
        _write_split(files, range(first_id, first_id + scenes), sources[split], detector, settings, rng)
        first_id += scenes
    (folder / STATED).write_text(json.dumps(settings.stated(), indent=2) + "\n")


def _write_split(
    files: dict[str, Path],
    image_ids: range,
    sources: list[np.ndarray],
    detector: Detector,
    settings: DigitsSettings,
    rng: np.random.Generator,
) -> None:
    mix = MIXES[settings.mix]
    ask = Asker(mix, rng)
    folder = files["features"]
    folder.mkdir()
    questions, annotations = [], []
    for image_id in image_ids:
        scene = sample_scene(sources[: mix.kinds], mix.crowding, rng)
        x = region_features(scene, detector.scores(scene.sources, rng), rng).T
        _save_image(folder / f"COCO_{folder.name}_{image_id:012d}.jpg.npz", scene, x)
        for position, (form, question, answer) in enumerate(ask(scene, settings.questions_per_scene)):
            question_id = 1000 * image_id + position
            questions.append({"image_id": image_id, "question": question, "question_id": question_id})
            annotations.append(_annotation(form, answer, annotate(form, answer, rng), image_id, question_id))
    pack(folder)  # A trial starts sooner if it maps one file than if it reads thousands.
    about = {
        "info": {"description": "Questions about scenes of handwritten digits", "version": str(FORMAT)},
        "license": {"name": "CC BY 4.0 (the digits)", "url": "https://archive.ics.uci.edu/dataset/80"},
        "data_type": "digits",
        "data_subtype": folder.name,
    }
    asked = {**about, "task_type": "Open-Ended", "questions": questions}
    files["questions"].write_text(json.dumps(asked))
    files["annotations"].write_text(json.dumps({**about, "annotations": annotations}))


def _save_image(path: Path, scene: Scene, x: np.ndarray) -> None:
    boxes = scene.boxes.astype(np.float32)
    np.savez(path, x=x, bbox=boxes, image_w=WIDTH, image_h=HEIGHT, source=scene.sources)


def _annotation(form: Form, answer: str, given: list[str], image_id: int, question_id: int) -> dict:
    return {
        "question_type": form.name,
        "multiple_choice_answer": answer,
        "answers": [{"answer": each, "answer_confidence": "yes", "answer_id": 1 + i} for i, each in enumerate(given)],
        "image_id": image_id,
        "answer_type": form.answer_type,
        "question_id": question_id,
    }
