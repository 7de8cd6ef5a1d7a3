"""The features of a split's images, from one or several folders and packed files."""

from collections.abc import Sequence
from itertools import accumulate, count
from pathlib import Path

import torch
from torch import Tensor

from model_space.errors import InputError
from trainer.data.features.extractors import only_extractor
from trainer.data.features.folder import NpzFiles, feature_files, open_folder
from trainer.data.features.names import ImageId, positions
from trainer.data.features.npz import MCAN, NpzForm
from trainer.data.features.packed import PackedFeatures, open_packed
from trainer.data.features.paths import PACKED, readable

Source = PackedFeatures | NpzFiles


class Features:
    """The features of certain images, from one source or several.

    Args:
        sources: Where the features are.
        source: The index of each image's source (I,).
        position: The position of each image in its source (I,).
        counts: The number of regions of each image that are used (I,).
    """

    def __init__(self, sources: Sequence[Source], source: Tensor, position: Tensor, counts: Tensor):
        self._sources, self._source, self._position = sources, source, position
        self.counts = counts

    @classmethod
    def joined(cls, parts: Sequence["Features"]) -> "Features":
        """Returns the images of several parts, one part after the other."""
        first = accumulate((len(part._sources) for part in parts), initial=0)
        return cls(
            [source for part in parts for source in part._sources],
            torch.cat([part._source + offset for part, offset in zip(parts, first)]),
            torch.cat([part._position for part in parts]),
            torch.cat([part.counts for part in parts]),
        )

    @property
    def feature_size(self) -> int:
        """The number of features of a region."""
        return self._sources[0].feature_size

    @property
    def extractor(self) -> str | None:
        """What made the features, if that is known of any."""
        return next((source.extractor for source in self._sources if source.extractor is not None), None)

    @property
    def read_by_batch(self) -> bool:
        """Whether every batch reads files. Worker processes can read these ahead."""
        return any(isinstance(source, NpzFiles) for source in self._sources)

    def gather(self, images: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Returns the regions of some images, padded with zeros.

        Args:
            images: The positions of the images (B,).
            longest: The number of regions to which every image is padded, at least the largest of their counts.

        Returns:
            Features (B, longest, D), float16 or float32, and boxes (B, longest, 4), float32.
        """
        source, position = self._source[images], self._position[images]
        if (source == source[0]).all():
            return self._sources[int(source[0])].gather(position, longest)
        regions = torch.zeros(len(images), longest, self.feature_size, dtype=self._dtype)
        boxes = torch.zeros(len(images), longest, 4)
        for number in source.unique().tolist():
            rows = source == number
            of_source = self._sources[number].gather(position[rows], longest)
            regions[rows], boxes[rows] = of_source[0].to(regions.dtype), of_source[1]
        return regions, boxes

    @property
    def _dtype(self) -> torch.dtype:
        return max((source.dtype for source in self._sources), key=lambda dtype: dtype.itemsize)


def open_features(
    paths: Sequence[Path],
    first_questions: dict[ImageId, int],
    questions_path: str | Path,
    max_regions: int,
    form: NpzForm = MCAN,
) -> Features:
    """Opens the features of a split's images.

    Args:
        paths: Folders of ``.npz`` files, or packed files, each with other images. If both ``X`` and ``X.safetensors``
            exist, the packed file is read.
        first_questions: The id of every image, in the order of the result, and of the first question about it.
        questions_path: The file of the questions, for error messages.
        max_regions: The number of regions of an image that are used, the first ones.
        form: What is in the ``.npz`` files.

    Raises:
        InputError: If a file is missing, broken or does not fit the others, or an image is in none or in two of them.
    """
    sources: list[Source] = []
    places: dict[ImageId, tuple[int, int]] = {}  # image id → the index of its source, and its position there
    opened: list[Path] = []
    for path in map(readable, paths):
        source, found = _open_source(path, first_questions, max_regions, form)
        if source is None:
            continue
        if twice := [image_id for image_id in found if image_id in places]:
            other = opened[places[twice[0]][0]]
            raise InputError(f"{path}: features of image {twice[0]} are also in {other}: expected them once")
        if sources and source.feature_size != sources[0].feature_size:
            raise InputError(
                f"{path}: features are {source.feature_size} wide, those of {opened[0]} are {sources[0].feature_size}"
            )
        places |= {image_id: (len(sources), position) for image_id, position in found.items()}
        sources.append(source)
        opened.append(path)
    if missing := [image_id for image_id in first_questions if image_id not in places]:
        first = missing[0]
        file = f"{first}.npz" if isinstance(first, str) else f"COCO_train2014_{first:012d}.jpg.npz"
        raise InputError(
            f"{' and '.join(map(str, paths))}: no features of image {first}, which question "
            f"{first_questions[first]} of {questions_path} is about (images missing: {len(missing)}); "
            f"expected a file like {file}"
        )
    only_extractor({str(path): source.extractor for path, source in zip(opened, sources)})
    source_of, position_of = torch.tensor([places[image_id] for image_id in first_questions]).unbind(1)
    counts = torch.empty_like(position_of)
    for number, each in enumerate(sources):
        counts[source_of == number] = each.counts[position_of[source_of == number]].clamp(max=max_regions)
    return Features(sources, source_of, position_of, counts)


def _open_source(
    path: Path, first_questions: dict[ImageId, int], max_regions: int, form: NpzForm
) -> tuple[Source | None, dict[ImageId, int]]:
    """Opens a folder or a packed file; returns it, or None if no question is about its images, and the positions of
    the images that questions are about."""
    if path.suffix == PACKED:
        source, image_ids = open_packed(path)
        listing = positions(image_ids)
        found = {image_id: listing[image_id] for image_id in first_questions if image_id in listing}
        return source if found else None, found
    files = feature_files(path)
    paths = list(files.values())
    files = {image_id: paths[position] for image_id, position in positions(list(files)).items()}
    wanted = [image_id for image_id in first_questions if image_id in files]
    return open_folder(path, files, wanted, max_regions, form) if wanted else None, dict(zip(wanted, count()))
