"""Inspects all files of a data set before hours are spent on it, and finds everything that is wrong.

What stops a search or a training is told apart from what is only worth a look.
"""

from collections import Counter
from collections.abc import Collection
from itertools import chain, combinations

from model_space.errors import InputError
from trainer.data.answers import AccuracyVariant, normalise
from trainer.data.features.names import ImageId, in_order
from trainer.data.inspection.images import ImageInspector
from trainer.data.inspection.report import FeaturesLocation, Findings, Progress, Report, SplitReport
from trainer.data.questions import (
    ANNOTATION_FIELDS,
    QUESTION_FIELDS,
    annotation_mistakes,
    first_three,
    has_fields,
    load_entries,
    one_release,
    pairing_mistakes,
    people_mistakes,
    question_mistakes,
)
from trainer.data.settings import DataSettings
from trainer.data.splits import make_vocabulary
from trainer.data.vectors import WordVectors, load_pipeline, word_vectors
from trainer.data.vocabulary import Vocabulary, read_answers, tokenise


def inspect_data(settings: DataSettings, progress: Progress = lambda what, total, more: None) -> Report:
    """Reads every file that the settings name, also the features."""
    findings = Findings()
    splits = [SplitReport(name, files) for name, files in settings.named_splits.items()]
    for split in splits:
        _read_entries(split, settings.accuracy, findings, progress)
    _compare(splits, findings)
    if settings.val.annotations is None:
        findings.add("val", "no annotations are named, by which the accuracy of an epoch is measured", "")
    vocabulary = _vocabulary(settings, [split for split in splits if split.name.startswith("train")], findings)
    vectors = _word_vectors(settings, vocabulary, findings)
    if vocabulary:
        _compare_words(splits, vocabulary, findings)
    inspector = ImageInspector(progress, settings.form)
    for split in splits:
        _read_features(split, settings.max_regions, inspector, findings)
    _compare_widths(splits, findings)
    return Report(splits, list(findings), vocabulary, vectors)


def _read_entries(split: SplitReport, accuracy: AccuracyVariant, findings: Findings, progress: Progress) -> None:
    """Reads questions and annotations; entries that lack a field are left out of what follows."""
    whole = True
    for kind, fields, mistakes in (
        ("questions", QUESTION_FIELDS, question_mistakes),
        ("annotations", ANNOTATION_FIELDS, annotation_mistakes),
    ):
        path = getattr(split.files, kind)
        if path is None:
            continue
        progress(f"{split.name}: {kind}", 1, 0)
        try:
            entries = load_entries(path, kind)
        except InputError as error:
            whole = False
            findings.add(split.name, str(error), "")
        else:
            for mistake in mistakes(entries):
                findings.add(split.name, mistake.what, f"{path.name}: {mistake.where}", mistake.count or 1)
            usable = [entry for entry in entries if has_fields(entry, fields)]
            if kind == "annotations":
                for mistake in people_mistakes(usable, accuracy, evaluated=not split.name.startswith("train")):
                    findings.add(split.name, mistake.what, f"{path.name}: {mistake.where}")
            whole = whole and len(usable) == len(entries)
            setattr(split, kind, usable)
        progress(f"{split.name}: {kind}", 1, 1)
    if whole and split.annotations:
        _pair_entries(split, findings)
    if without := [each["question_id"] for each in split.questions if not tokenise(each["question"])]:
        findings.add(split.name, "questions without a word", first_three(without), len(without), stops=False)


def _pair_entries(split: SplitReport, findings: Findings) -> None:
    questions, annotations = split.files.questions, split.files.annotations
    assert annotations is not None  # since some were read
    for mistake in pairing_mistakes(split.questions, questions, split.annotations, annotations):
        where = f"{questions.name} and {annotations.name}" + (f": {mistake.where}" if mistake.where else "")
        findings.add(split.name, mistake.what, where, mistake.count or 1)


def _compare(splits: list[SplitReport], findings: Findings) -> None:
    """Finds questions and images that two splits have in common, and files of two releases of VQA."""
    for first, second in combinations(splits, 2):
        both = f"{first.name} and {second.name}"
        if twice := first.question_ids & second.question_ids:
            # In two parts of train, two questions would have one id; in val, the accuracy would be that of training.
            stops = second.name.startswith("train")
            findings.add(both, "question ids in both", first_three(twice), len(twice), stops)
        elif not second.name.startswith("train") and (common := first.image_ids & second.image_ids):
            findings.add(both, "images in both", first_three(common), len(common), stops=False)
    ids = {
        split.files.questions: [(each["question_id"], each["image_id"]) for each in split.questions]
        for split in splits
        if split.questions
    }
    try:
        one_release(ids)
    except InputError as error:
        findings.add("all", str(error), "")


def _vocabulary(settings: DataSettings, train: list[SplitReport], findings: Findings) -> Vocabulary | None:
    """Returns the vocabulary of the settings, if everything that it is made of can be read."""
    try:
        if settings.vocabulary:
            return Vocabulary.load(settings.vocabulary)
        if settings.answers:
            read_answers(settings.answers)
        if all(split.questions and split.annotations for split in train):
            questions = chain.from_iterable(split.questions for split in train)
            return make_vocabulary(settings, questions, chain.from_iterable(split.annotations for split in train))
    except InputError as error:
        findings.add("train", str(error), "")
    return None


def _word_vectors(settings: DataSettings, vocabulary: Vocabulary | None, findings: Findings) -> WordVectors | None:
    """Returns the word vectors of the settings. Without a vocabulary, it only checks that they can be loaded."""
    if settings.word_vectors:
        try:
            if vocabulary:
                return word_vectors(vocabulary, settings.word_vectors)
            load_pipeline(settings.word_vectors)
        except InputError as error:
            findings.add("train", str(error), "")
    return None


def _compare_words(splits: list[SplitReport], vocabulary: Vocabulary, findings: Findings) -> None:
    """Finds out whether the vocabulary belongs to other data."""
    for split in splits:
        words = chain.from_iterable(tokenise(each["question"]) for each in split.questions)
        if split.questions and vocabulary.word_index.keys().isdisjoint(words):
            findings.add(split.name, "the vocabulary has none of the words of these questions", "")
        answers = (normalise(each["multiple_choice_answer"]) for each in split.annotations)
        if split.annotations and vocabulary.answer_index.keys().isdisjoint(answers):
            findings.add(split.name, "the vocabulary has none of these answers", "")


def _read_features(split: SplitReport, max_regions: int, inspector: ImageInspector, findings: Findings) -> None:
    """Finds images without features or with two, and what is wrong with those that there are."""
    locations = _locate_features(split, inspector, findings)
    of_questions = [locations[image_id] for image_id in in_order(split.image_ids) if image_id in locations]
    for location, image in zip(of_questions, inspector.inspect(of_questions, f"{split.name}: images")):
        if isinstance(image, InputError):
            findings.add(split.name, str(image).removeprefix(f"{location.path}: "), str(location))
            continue
        split.images[location] = image
        if image.boxes_outside:
            findings.add(split.name, "boxes outside their image", str(location), image.boxes_outside, stops=False)
        if image.regions > max_regions:
            what = f"images have more than max_regions ({max_regions}) regions, of which the first are taken"
            findings.add(split.name, what, str(location), stops=False)


def _locate_features(
    split: SplitReport, inspector: ImageInspector, findings: Findings
) -> dict[ImageId, FeaturesLocation]:
    """Returns where the features of each image are, by its id."""
    wanted = split.image_ids
    locations: dict[ImageId, FeaturesLocation] = {}
    all_listed = True
    for path in split.files.feature_paths:
        try:
            found = inspector.locations(path)
        except InputError as error:
            findings.add(split.name, str(error), "")
            all_listed = False
            continue
        for image_id, location in found:
            first = locations.setdefault(image_id, location)
            if first != location and (image_id in wanted or first.path.parent == location.path.parent):
                findings.add(split.name, "images have features twice", f"{first} and {location}")
    if (missing := wanted - locations.keys()) and all_listed:
        where = " and ".join(map(str, split.files.feature_paths))
        findings.add(split.name, f"images have no features in {where}", first_three(missing), len(missing))
    return locations


def _compare_widths(splits: Collection[SplitReport], findings: Findings) -> None:
    """Finds images with features of another width than most images have."""
    widths = Counter(image.feature_size for split in splits for image in split.images.values())
    if len(widths) < 2:
        return
    most = widths.most_common(1)[0][0]
    for split in splits:
        for location, image in split.images.items():
            if image.feature_size != most:
                findings.add(split.name, f"images have features of another width than {most}", str(location))
