"""Reads the architecture that a user names: a file in any of the forms that there are, or a name."""

from pathlib import Path

from experiment.settings import Settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.files import read_text
from model_space.published import mmnas
from model_space.published.nas_vqa import Genotype
from model_space.sizes import NO_DATA
from model_space.spaces import SPACES
from model_space.validation import hint


def read_architecture(source: Path, settings: Settings) -> Architecture:
    """Reads an architecture from a file or by its name.

    A name means the same with all settings, and comes before a file that is called so: the name of a space means the
    fixed network of the settings, which have to be of that space; the name of a published architecture means that one.
    What a file is, its content says.

    Args:
        source: A name (``mcan``, ``dcn``, ``mmnasnet_vqa``, ``mmnas_mcan``), a file that ``--export`` wrote, an
            architecture file of mmnas, or a text with a ``VQAGenotype(...)`` of NAS-VQA.
        settings: Say what only the first of these files does: the sizes of the network, and the other parameters of
            the space and the question encoder.

    Returns:
        The architecture. Unless it comes from a file of ``--export``, it is for no data yet: see
        :meth:`~model_space.architecture.Architecture.for_data`.

    Raises:
        InputError: There is no such file, or it is none of these, or the settings are of another space.
    """
    name, space = str(source), settings.space_for(NO_DATA)
    if name in SPACES:
        if settings.space.name != name:
            raise InputError(
                f"{name}: names the network of settings with 'space: {{name: {name}}}', but the settings have the "
                f"space '{settings.space.name}': expected other settings, or an architecture that goes with all "
                f"settings: {', '.join(mmnas.PUBLISHED)}"
            )
        return fixed_architecture(settings)
    if name in mmnas.PUBLISHED:
        return mmnas.published(name, space)
    if not source.suffix and not source.exists():
        raise InputError(f"{name}: no file, and no name of an architecture{hint(name, [*SPACES, *mmnas.PUBLISHED])}")
    text = read_text(source)
    if "VQAGenotype(" in text:
        return Genotype.parse(text, name).architecture(space)
    if mmnas.is_mmnas(text):
        return mmnas.read(text, name, space)
    return Architecture.from_json(text, name)


def fixed_architecture(settings: Settings) -> Architecture:
    """Returns the one architecture of settings in which nothing is to be chosen.

    Raises:
        InputError: There is something to be chosen.
    """
    space = settings.space_for(NO_DATA)
    if space.candidates():
        raise InputError(
            f"the settings' space '{space.backbone.name}' with the question encoder '{space.encoder.name}' has many "
            "architectures, and none was named"
        )
    return Architecture(space=space, choices={})
