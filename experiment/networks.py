"""Loads networks from checkpoints: those that were trained here, and those that mcan-vqa and mmnas publish."""

from pathlib import Path
from typing import NamedTuple

import torch

from experiment.architectures import fixed_architecture, read_architecture
from experiment.settings import Settings
from model_space.errors import InputError
from model_space.network import Network
from model_space.published.checkpoints import data_sizes, is_published, published_network
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.data.features.extractors import only_extractor
from trainer.data.splits import load_vocabulary, make_data
from trainer.data.vocabulary import Vocabulary
from trainer.train import EXTRACTOR, trained_network


class LoadedNetwork(NamedTuple):
    """The network of a checkpoint, ready to answer, and what is known of the data that it was trained on."""

    network: Network
    vocabulary: Vocabulary
    """The words and answers that it knows."""
    checkpoint: Path
    extractor: str | None
    """What made the features that it was trained on; None if that is not known."""

    def check_features(self, width: int, extractor: str | None, where: str) -> None:
        """Makes sure that the network takes some features.

        Args:
            width: Width of the features of a region.
            extractor: What made them; None if that is not known.
            where: Names the origin of the features in an error.

        Raises:
            InputError: The network takes features of another width, or was trained on those of another extractor.
        """
        only_extractor({f"the training of {self.checkpoint}": self.extractor, where: extractor})
        expected = self.network.image_projection.in_features
        if width != expected:
            raise InputError(f"{where}: features are {width} wide, the network of {self.checkpoint} takes {expected}")


def load_network(checkpoint: Path, settings: Settings, source: Path | None = None) -> LoadedNetwork:
    """Loads the network of a checkpoint, ready to answer, onto the GPU if there is one.

    Args:
        checkpoint: A checkpoint that was trained here, or a published one.
        settings: Say what a published checkpoint does not hold: its sizes, its architecture and its vocabulary.
        source: The architecture of a published checkpoint, as :func:`~experiment.architectures.read_architecture`
            takes it; None for the fixed network of the settings.

    Raises:
        InputError: The file is no such checkpoint, or does not fit what the settings say.
    """
    content = load_checkpoint(checkpoint)
    if is_published(content):
        network, vocabulary = _published(content, checkpoint, settings, source)
    elif source:
        raise InputError(f"{checkpoint}: holds its architecture: --architecture is for published checkpoints")
    else:
        network, vocabulary, _ = trained_network(content, str(checkpoint))
    network = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return LoadedNetwork(network, vocabulary, checkpoint, content.get(EXTRACTOR))


def _published(content: dict, checkpoint: Path, settings: Settings, source: Path | None) -> tuple[Network, Vocabulary]:
    """Returns the network and the vocabulary of a published checkpoint, see :func:`load_network`."""
    architecture = read_architecture(source, settings) if source else fixed_architecture(settings)
    make_data(settings.data)
    vocabulary = load_vocabulary(settings.data)
    sizes = data_sizes(content, str(checkpoint))
    words, answers = len(vocabulary.words), len(vocabulary.answers)
    if (sizes.vocabulary_size, sizes.answers) != (words, answers):
        raise InputError(
            f"{checkpoint}: knows {sizes.vocabulary_size} words and {sizes.answers} answers, the vocabulary of the "
            f"settings has {words} and {answers}: name the one it was trained with (data.vocabulary)"
        )
    return published_network(content, architecture.for_data(sizes), str(checkpoint)), vocabulary
