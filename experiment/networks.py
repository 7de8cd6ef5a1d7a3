"""Loads networks: from checkpoints of trainings here, from model folders, from what mcan-vqa and mmnas publish."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from experiment.architectures import fixed_architecture, read_architecture
from experiment.settings import Settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.network import Network
from model_space.published.checkpoints import data_sizes, is_published, published_network
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.data.features.extractors import only_extractor
from trainer.data.settings import DataSettings
from trainer.data.splits import load_vocabulary, make_data
from trainer.data.vocabulary import Vocabulary
from trainer.model_folder import load_model
from trainer.train import EXTRACTOR, trained_network


class LoadedNetwork(NamedTuple):
    """A network that is ready to answer, with what it was loaded from."""

    network: Network
    vocabulary: Vocabulary
    """The words and answers that it knows."""
    data: DataSettings
    """How questions and images are read: as the settings say, with as many words and regions as a model folder says."""
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


def load_network(console: Console, checkpoint: Path, settings: Settings, source: Path | None = None) -> LoadedNetwork:
    """Loads the network of a checkpoint or of a model folder, onto the GPU if there is one.

    Args:
        console: Is told where a model folder has another say than the settings.
        checkpoint: A checkpoint that was trained here, a published one, or a folder that ``--export-model`` wrote.
        settings: Say how data are read, and what a published checkpoint does not hold: its sizes, its architecture and
            its vocabulary.
        source: The architecture of a published checkpoint, as :func:`~experiment.architectures.read_architecture`
            takes it; None for the fixed network of the settings.

    Raises:
        InputError: It is no such checkpoint or folder, or does not fit what the settings say.
    """
    data = settings.data
    if checkpoint.is_dir():
        _no_source(checkpoint, source)
        network, vocabulary, _, reads = load_model(checkpoint)
        data, extractor = data.model_copy(update=reads.model_dump(exclude={EXTRACTOR})), reads.extractor
        if data != settings.data:
            console.print(
                f"{checkpoint}: reads {data.max_tokens} words and {data.max_regions} regions, as it was trained, not "
                f"the {settings.data.max_tokens} and {settings.data.max_regions} of the settings",
                markup=False,
            )
    else:
        content = load_checkpoint(checkpoint)
        network, vocabulary, _ = network_of(content, checkpoint, settings, source)
        extractor = content.get(EXTRACTOR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LoadedNetwork(network.eval().to(device), vocabulary, data, checkpoint, extractor)


def network_of(
    content: dict[str, Any], checkpoint: Path, settings: Settings, source: Path | None
) -> tuple[Network, Vocabulary, Architecture]:
    """Returns the network, the vocabulary and the architecture of a checkpoint's content, see :func:`load_network`."""
    if is_published(content):
        return _published(content, checkpoint, settings, source)
    _no_source(checkpoint, source)
    return trained_network(content, str(checkpoint))


def _no_source(checkpoint: Path, source: Path | None) -> None:
    if source:
        raise InputError(f"{checkpoint}: holds its architecture: --architecture is for published checkpoints")


def _published(
    content: dict[str, Any], checkpoint: Path, settings: Settings, source: Path | None
) -> tuple[Network, Vocabulary, Architecture]:
    """Returns the network, the vocabulary and the architecture of a published checkpoint, see :func:`load_network`."""
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
    architecture = architecture.for_data(sizes)
    return published_network(content, architecture, str(checkpoint)), vocabulary, architecture
