"""Networks from checkpoints, those that were trained here and those that mcan-vqa and mmnas publish."""

from pathlib import Path

import torch
from torch import nn

from experiment.architectures import architecture_of, read_architecture
from experiment.settings import Settings
from model_space.errors import InputError
from model_space.published.checkpoints import data_sizes, is_published, published_network
from trainer.callbacks import load_checkpoint
from trainer.data.splits import load_vocabulary, make_data
from trainer.data.vocabulary import Vocabulary
from trainer.train import trained_network


def load_network(path: Path, settings: Settings, source: Path | None = None) -> tuple[nn.Module, Vocabulary]:
    """The network of a checkpoint, ready to answer, on the GPU if there is one; and the words and answers it knows.

    Args:
        settings: say what a published checkpoint does not hold: its architecture and its vocabulary.
        source: the architecture of a published checkpoint, if not in the settings.

    Raises:
        InputError: not such a checkpoint, or it does not fit what the settings say.
    """
    content = load_checkpoint(path)
    if is_published(content):
        architecture = read_architecture(source, settings) if source else architecture_of(settings)
        make_data(settings.data)
        vocabulary = load_vocabulary(settings.data)
        sizes = data_sizes(content, str(path))
        words, answers = len(vocabulary.words), len(vocabulary.answers)
        if (sizes.vocabulary_size, sizes.answers) != (words, answers):
            raise InputError(
                f"{path}: knows {sizes.vocabulary_size} words and {sizes.answers} answers, the vocabulary of the "
                f"settings has {words} and {answers}: name the one it was trained with (data.vocabulary)"
            )
        network = published_network(content, architecture.for_data(sizes), str(path))
    elif source:
        raise InputError(f"{path}: holds its architecture: --architecture is for published checkpoints")
    else:
        network, vocabulary, _ = trained_network(content, str(path))
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu"), vocabulary


def check_width(network: nn.Module, features: int, path: Path, where: str) -> None:
    """Holds the width of features against a network, that of the checkpoint ``path``.

    Raises:
        InputError: the network takes features of another width.
    """
    expected = network.image_projection.in_features
    if features != expected:
        raise InputError(f"{where}: features are {features} wide, the network of {path} takes {expected}")
