"""Reads an architecture in any of the forms in which one is written down."""

import json
from pathlib import Path

from experiment.settings import Settings
from model_space.architecture import Architecture
from model_space.contracts import Choices
from model_space.errors import InputError
from model_space.files import read_text
from model_space.published import mmnas as mmnas_file
from model_space.published.nas_vqa import Genotype
from model_space.sizes import NO_DATA
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.stacked import StackedSettings


def read_architecture(source: Path, settings: Settings) -> Architecture:
    """An architecture from a file, which says by its content what it is, or by name.

    Args:
        source: a file that ``--export`` wrote, an architecture file of mmnas, a text with a ``VQAGenotype(...)`` of
            NAS-VQA, the name of the settings' own space if that is a fixed network, or the name of a published
            architecture (``mmnasnet_vqa``, ``mcan``).
        settings: what only the first of these says: the sizes of the network, and what else the space has.

    Raises:
        InputError: no such file, or none of these.
    """
    if str(source) == settings.space.name and not source.exists():
        return architecture_of(settings)
    if str(source) in mmnas_file.PUBLISHED and not source.exists():
        return of_mmnas(*mmnas_file.published(str(source), settings.network), settings)
    text = read_text(source)
    if "VQAGenotype(" in text:
        return of_nas_vqa(text, str(source), settings)
    if any(key in ("enc", "dec") or key.startswith("epoch") for key in keys(text)):
        return of_mmnas(*mmnas_file.read(text, str(source), settings.network), settings)
    return Architecture.from_json(text, str(source))


def architecture_of(settings: Settings) -> Architecture:
    """The architecture of settings in which nothing is to be chosen.

    Raises:
        InputError: there is something to be chosen.
    """
    space = settings.space_for(NO_DATA)
    if space.candidates():
        raise InputError(
            f"the settings' space '{space.backbone.name}' with the question encoder '{space.encoder.name}' has many "
            "architectures, and none was named"
        )
    return Architecture(space=space, choices={})


def of_mmnas(space: EncoderDecoderSettings, choices: Choices, settings: Settings) -> Architecture:
    if settings.space.name == space.name:
        blocks = {"encoder_blocks": space.encoder_blocks, "decoder_blocks": space.decoder_blocks}
        space = settings.space.model_copy(update=blocks)
    return Architecture(space=settings.space_for(NO_DATA).model_copy(update={"backbone": space}), choices=choices)


def of_nas_vqa(text: str, where: str, settings: Settings) -> Architecture:
    genotype = Genotype.parse(text, where)
    space, encoder = genotype.spaces(cells=StackedSettings().cells)
    if settings.space.name == space.name:
        space = space.model_copy(update={"cells": settings.space.cells})
    if settings.encoder.name == encoder.name:
        encoder = settings.encoder.model_copy(update={"edges": encoder.edges, "nodes": encoder.nodes})
    return Architecture(
        space=settings.space_for(NO_DATA).model_copy(update={"backbone": space, "encoder": encoder}),
        choices=genotype.choices,
    )


def keys(text: str) -> list[str]:
    """The keys of a JSON object; none where it is something else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return list(content) if isinstance(content, dict) else []
