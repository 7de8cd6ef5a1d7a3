"""Draws the pictures of docs/spaces: one architecture of each space or network, at random where there is a choice.

python -m benchmarks.draw_spaces
"""

from pathlib import Path

from experiment.results.drawing import save_svg
from model_space.architecture import Architecture, Space
from model_space.contracts import BackboneSettings, EncoderSettings
from model_space.encoders.lstm import LSTMSettings
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


def space(backbone: BackboneSettings, encoder: EncoderSettings = LSTMSettings()) -> Space:  # noqa: B008  frozen
    """Returns a space at the default sizes."""
    return Space(backbone=backbone, encoder=encoder, network=NetworkSettings(), data=NO_DATA)


SPACES = {
    "stacked_rnn_one": space(StackedSettings(edges="one")),
    "stacked_rnn_all": space(StackedSettings(edges="all", nodes=3)),
    "stacked_cnn_one": space(StackedSettings(graph="cnn", edges="one")),
    "stacked_cnn_all": space(StackedSettings(graph="cnn", edges="all", nodes=3)),
    "recurrent": space(MCANSettings(), RecurrentSettings(edges="one")),
    "paired": space(PairedSettings()),
    "mcan": space(MCANSettings()),
    "dcn": space(DCNSettings()),
}
"""The spaces that are drawn, by the name of the picture."""


def main() -> None:
    """Draws all pictures."""
    architectures = {
        **{name: Architecture(space=each, choices=each.random_choices(SEED)) for name, each in SPACES.items()},
        "mmnasnet_vqa": mmnas.published("mmnasnet_vqa", space(EncoderDecoderSettings())),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, architecture in architectures.items():
        save_svg(architecture, FOLDER / f"{name}.svg")
        print(f"written: {FOLDER / name}.svg")


if __name__ == "__main__":
    main()
