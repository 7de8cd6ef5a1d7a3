"""Inspects the features of all images of a data set, each of them once."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from model_space.errors import InputError
from trainer.data.features.folder import list_images
from trainer.data.features.names import ImageId, also_by_number, positions
from trainer.data.features.npz import NpzForm, read_npz
from trainer.data.features.packed import image_ids_of, packed_arrays, verify
from trainer.data.features.paths import PACKED, readable
from trainer.data.inspection.report import FeaturesLocation, ImageSummary, Progress

READERS = 4
"""Threads that read files: while one waits for the disk, others work."""
AT_ONCE = 64
"""The files that a thread reads in one task."""
MB = 2**20
OUTSIDE = 1.0
"""The pixels by which a box may reach beyond its image, because of rounding."""


class ImageInspector:
    """Inspects the images of all splits.

    Args:
        progress: Is told how many images have been inspected.
        form: What is in the ``.npz`` files.
    """

    def __init__(self, progress: Progress, form: NpzForm):
        self._progress, self._form = progress, form
        self._inspected: dict[FeaturesLocation, ImageSummary | InputError] = {}
        self._packed: dict[Path, dict[ImageId, FeaturesLocation]] = {}

    def locations(self, path: Path) -> Iterable[tuple[ImageId, FeaturesLocation]]:
        """Returns the ids of all images in a folder or a packed file, and where they are. An image may have two ids.

        Raises:
            InputError: If the folder or file cannot be read.
        """
        path = readable(path)
        if path.suffix != PACKED:
            listed = [(image_id, FeaturesLocation(file)) for image_id, file in list_images(path)]
            known = [image_id for image_id, _ in listed]
            return listed + [(number, listed[place][1]) for number, place in also_by_number(known).items()]
        if path not in self._packed:
            self._packed[path] = self._inspect_packed(path)
        return self._packed[path].items()

    def inspect(self, locations: list[FeaturesLocation], what: str) -> list[ImageSummary | InputError]:
        """Returns the summary of each image, or what is wrong with it.

        Args:
            locations: Where the images are.
            what: Names the images for the progress.
        """
        new = [location for location in locations if location not in self._inspected]
        pool = ThreadPoolExecutor(READERS)
        try:
            portions = [new[start : start + AT_ONCE] for start in range(0, len(new), AT_ONCE)]
            for done in as_completed([pool.submit(_inspect_files, portion, self._form) for portion in portions]):
                self._inspected.update(done.result())
                self._progress(what, len(new), len(done.result()))
        finally:  # Also after Ctrl-C, where tasks that have not begun would otherwise still be done.
            pool.shutdown(cancel_futures=True)
        return [self._inspected[location] for location in locations]

    def _inspect_packed(self, path: Path) -> dict[ImageId, FeaturesLocation]:
        """Reads the whole file for its checksum. That all its numbers are finite was checked when it was packed."""
        reported = 0

        def progress(done: int, total: int) -> None:
            nonlocal reported
            self._progress(f"{path.name}: MB", total // MB, done // MB - reported)
            reported = done // MB

        verify(path, progress)
        arrays = packed_arrays(path)
        counts, width = arrays["counts"], arrays["features"].shape[1]
        sizes = np.repeat(arrays["sizes"], counts, axis=0)
        outside = np.add.reduceat(_outside(arrays["boxes"][: len(sizes)], sizes), counts.cumsum() - counts, dtype=int)
        image_ids = image_ids_of(arrays)
        locations = {each: FeaturesLocation(path, each) for each in image_ids}
        summaries = (ImageSummary(regions, width, boxes) for regions, boxes in zip(counts.tolist(), outside.tolist()))
        self._inspected.update(zip(locations.values(), summaries))
        return {image_id: locations[image_ids[place]] for image_id, place in positions(image_ids).items()}


def _inspect_files(
    locations: list[FeaturesLocation], form: NpzForm
) -> dict[FeaturesLocation, ImageSummary | InputError]:
    return {location: _inspect_file(location.path, form) for location in locations}


def _inspect_file(path: Path, form: NpzForm) -> ImageSummary | InputError:
    try:
        features, boxes, size = read_npz(path, form=form)
    except InputError as error:
        return error
    regions, feature_size = features.shape
    return ImageSummary(regions, feature_size, int(_outside(boxes, np.array(size)).sum()))


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns which boxes (N, 4) reach beyond images of sizes (N, 2) or (2,), or end before they begin."""
    corners, ends = boxes[:, :2], boxes[:, 2:]
    return np.any((corners < -OUTSIDE) | (ends > sizes + OUTSIDE) | (ends < corners), axis=1)
