"""What a detector says of the regions of the embedded data.

The regions of bottom-up attention come from a trained detector: what a thing is can be read off its feature nearly
linearly. So it is here. A classifier is fitted once on the digits of the training split, and a region's feature holds
its scores.
"""

import numpy as np


class Detector:
    """Ten support vector machines with a radial kernel, each of which tells one digit from the others.

    Args:
        images: Pixels (I, 64) of all source images.
        labels: The digit of each (I,).
        training: The indices of those on which it is fitted.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, training: np.ndarray):
        # They take a second to load, and are not needed where the data is there.
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import SVC

        self.classifier = OneVsRestClassifier(SVC(gamma=0.001)).fit(images[training], labels[training])
        known = self.classifier.decision_function(images[training])
        self.mean, self.deviation = known.mean(0), known.std(0)
        self.of_sources = self(images)
        """The scores of each source image (I, 10)."""
        self.of_clutter = self(np.random.default_rng(0).integers(0, 17, size=(1000, 64)))
        """The scores of images of noise (1000, 10)."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the standardised scores (N, 10) of images (N, 64) with pixels from 0 to 16."""
        return ((self.classifier.decision_function(pixels) - self.mean) / self.deviation).astype(np.float32)

    def scores(self, sources: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the scores (N, 10) of regions.

        Args:
            sources: The source image of each region (N,), or -1 for clutter, which is noise.
            rng: The source of random numbers.
        """
        clutter = self.of_clutter[rng.integers(len(self.of_clutter), size=len(sources))]
        return np.where(sources[:, None] >= 0, self.of_sources[sources], clutter)
