"""Draws the pictures of docs/spaces: one architecture of each space or network, at random where there is a choice.

python -m benchmarks.draw_spaces
"""

from pathlib import Path

from experiment.results.drawing import save_svg
from model_space.architecture import Architecture, Space
from model_space.encoders.recurrent import RecurrentSettings
from model_space.published import mmnas
from model_space.sizes import NO_DATA, NetworkSettings
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings

FOLDER = Path("docs/spaces")
SEED = 3

SIZES = {"network": NetworkSettings(), "data": NO_DATA}
SPACES = {
    "stacked_rnn_one": Space(backbone=StackedSettings(edges="one"), **SIZES),
    "stacked_rnn_all": Space(backbone=StackedSettings(edges="all", nodes=3), **SIZES),
    "stacked_cnn_one": Space(backbone=StackedSettings(graph="cnn", edges="one"), **SIZES),
    "stacked_cnn_all": Space(backbone=StackedSettings(graph="cnn", edges="all", nodes=3), **SIZES),
    "recurrent": Space(backbone=MCANSettings(), encoder=RecurrentSettings(edges="one"), **SIZES),
    "paired": Space(backbone=PairedSettings(), **SIZES),
    "mcan": Space(backbone=MCANSettings(), **SIZES),
    "dcn": Space(backbone=DCNSettings(), **SIZES),
}
"""The spaces that are drawn, by the name of the picture."""


def main() -> None:
    """Draws all pictures."""
    architectures = {
        **{name: Architecture(space=space, choices=space.random_choices(SEED)) for name, space in SPACES.items()},
        "mmnasnet_vqa": mmnas.published("mmnasnet_vqa", Space(backbone=EncoderDecoderSettings(), **SIZES)),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, architecture in architectures.items():
        save_svg(architecture, FOLDER / f"{name}.svg")
        print(f"written: {FOLDER / name}.svg")


if __name__ == "__main__":
    main()
