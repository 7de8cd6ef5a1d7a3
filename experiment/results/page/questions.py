"""A few questions with what a trained network answers, and where it looks."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiment.networks import load_network
from experiment.settings import Settings
from model_space.errors import InputError
from trainer.data.digits.scenes import seen_as
from trainer.data.features.names import ImageId, positions
from trainer.data.pictures.reading import list_pictures, read_picture
from trainer.data.settings import DataSettings
from trainer.data.splits import load_split
from trainer.data.vqa import Entries
from trainer.evaluation.predict import predict

NUMBER = 6
"""Number of questions that are shown."""
BEST = 3
"""Number of answers of which the probability is shown, and of regions of which the share of the attention is."""
PHOTO_SIDE = 640
"""The longer side in pixels to which a larger photo is reduced: the page is one file, and holds it."""
SMALL = 0.005
"""A share of the attention that is smaller is not written, being 0 %."""


@dataclass(frozen=True)
class Region:
    """A region of an image, and how much the network looks at it."""

    box: tuple[float, float, float, float]
    """Its left side, upper side, width and height in pixels."""
    share: float
    """Its share of the attention, from 0 to 1."""
    strength: float
    """Its share as a part of the largest one of the image."""
    named: bool
    """Whether it is one of those whose share is written beside it."""
    digit: str = ""
    """The digit in it, where the data is the embedded one; empty for clutter and for other data."""
    colour: str = ""
    """The colour of the digit or of the clutter; empty for other data."""


@dataclass(frozen=True)
class Asked:
    """A question that a network was asked."""

    question: str
    answers: list[tuple[str, float]]
    """The best answers with their probabilities, the best first."""
    truth: str
    """The most frequent answer of the people who were asked."""
    regions: list[Region]
    """In the order of their attention: the one that is looked at most is the last one, to be drawn above the others."""
    view: tuple[float, float, float, float]
    """Left side, upper side, width and height in pixels of what is drawn: the photo, or else what all boxes are in; its
    sides are 0 without either."""
    photo: str = ""
    """The image itself, as a JPEG within a URL; empty where only its features are known."""


def ask(checkpoint: Path, settings: Settings) -> list[Asked]:
    """Asks a network the first questions of each form of the final split, see :func:`first_of_each_form`.

    Args:
        checkpoint: The network, that of a training here.
        settings: Name the split.

    Raises:
        InputError: A file is missing or wrong, or does not fit the others.
    """
    data, split = settings.data, settings.data.final
    loaded = load_network(Console(quiet=True), checkpoint, settings)
    every = Entries.read(split.questions, split.annotations)
    if every.annotations is None:
        raise InputError(f"{split.questions}: its answers are not known: data.val.annotations is missing")
    places = first_of_each_form([each["question_type"] for each in every.annotations])
    questions, annotations = [every.questions[i] for i in places], [every.annotations[i] for i in places]
    dataset = load_split(data, split, loaded.vocabulary, Entries(questions, annotations))
    loaded.check_features(dataset.feature_size, dataset.extractor, str(split.features))
    pictures = _pictures(data)
    embedded = data.digits is not None and split.questions.is_relative_to(data.digits.folder)
    asked = []
    for place, (question, annotation) in enumerate(zip(questions, annotations, strict=True)):
        batch = dataset[[place]]
        seen = batch.region_mask[0]
        features, boxes = batch.regions[0, seen].float(), batch.boxes[0, seen]
        reply = predict(loaded.network, loaded.vocabulary, features, boxes, question["question"], data.max_tokens, BEST)
        named = seen_as(features.numpy()) if embedded else None
        regions = regions_of(boxes.tolist(), reply.attention.tolist(), named)
        view, photo = view_of(boxes.tolist()), ""
        if path := pictures.get(dataset.image_ids[place]):
            view, photo = _photo(path)
        truth = annotation["multiple_choice_answer"]
        asked.append(Asked(question["question"], reply.answers, truth, regions, view, photo))
    return asked


def _pictures(data: DataSettings) -> dict[ImageId, Path]:
    """Returns the pictures of the final split by their image, where features are made of pictures that are there."""
    folders = [path for path in data.final.feature_paths if data.pictures and path.is_dir()]
    listed = {image: path for folder in folders for image, path in list_pictures(folder).items()}
    paths = list(listed.values())
    return {image: paths[place] for image, place in positions(list(listed)).items()}


def _photo(path: Path) -> tuple[tuple[float, float, float, float], str]:
    """Returns the view that is a whole photo, in its own pixels, and the photo within a URL."""
    picture = read_picture(path)
    view = (0.0, 0.0, float(picture.width), float(picture.height))
    picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=80)
    return view, f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def first_of_each_form(forms: Sequence[str], number: int = NUMBER) -> list[int]:
    """Returns the places of the first questions of each form; where these are too few, of the second ones, and so on.

    Example:
        >>> first_of_each_form(["is", "is", "how", "is"], number=3)
        [0, 1, 2]
    """
    times: Counter[str] = Counter()
    order = []
    for place, form in enumerate(forms):
        order.append((times[form], place))
        times[form] += 1
    return sorted(place for _, place in sorted(order)[:number])


def regions_of(
    boxes: Sequence[Sequence[float]], attention: Sequence[float], named: Sequence[tuple[str, str]] | None
) -> list[Region]:
    """Returns the regions of an image, the one that is looked at most last.

    Args:
        boxes: Their corners x1, y1, x2, y2.
        attention: The share of each.
        named: The digit and the colour of each, where the data is the embedded one.
    """
    largest = max(attention)
    order = sorted(range(len(boxes)), key=attention.__getitem__)
    regions = []
    for rank, place in enumerate(order, start=1 - len(order)):
        left, upper, right, lower = boxes[place]
        digit, colour = named[place] if named else ("", "")
        box, share = (left, upper, right - left, lower - upper), attention[place]
        named_share = rank > -BEST and share >= SMALL
        regions.append(Region(box, share, share / largest, named_share, digit, colour))
    return regions


def view_of(boxes: Sequence[Sequence[float]], margin: float = 0.07) -> tuple[float, float, float, float]:
    """Returns the smallest view of all boxes, with a margin that is a part of its longer side."""
    left, upper = (min(box[i] for box in boxes) for i in (0, 1))
    width, height = max(box[2] for box in boxes) - left, max(box[3] for box in boxes) - upper
    edge = margin * max(width, height)
    return left - edge, upper - edge, width + 2 * edge, height + 2 * edge
