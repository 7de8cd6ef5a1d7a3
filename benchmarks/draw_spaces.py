"""Draws an architecture of every space and network into docs/spaces, a random one where there is a choice.

python -m benchmarks.draw_spaces
"""

from pathlib import Path

from experiment.results.drawing import save_svg
from model_space.architecture import Architecture, Space
from model_space.encoders.lstm import LSTMSettings
from model_space.encoders.recurrent import RecurrentSettings
from model_space.published import mmnas as mmnas_file
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings

FOLDER = Path("docs/spaces")
SEED = 3

SPACES = {
    "stacked_rnn_one": (StackedSettings(edges="one"), LSTMSettings()),
    "stacked_rnn_all": (StackedSettings(edges="all", nodes=3), LSTMSettings()),
    "stacked_cnn_one": (StackedSettings(graph="cnn", edges="one"), LSTMSettings()),
    "stacked_cnn_all": (StackedSettings(graph="cnn", edges="all", nodes=3), LSTMSettings()),
    "recurrent": (MCANSettings(), RecurrentSettings(edges="one")),
    "paired": (PairedSettings(), LSTMSettings()),
    "mcan": (MCANSettings(), LSTMSettings()),
    "dcn": (DCNSettings(), LSTMSettings()),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    network, data = NetworkSettings(), DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3129)
    architectures = {}
    for name, (backbone, encoder) in SPACES.items():
        space = Space(backbone=backbone, encoder=encoder, network=network, data=data)
        architectures[name] = Architecture(space=space, choices=space.random_choices(SEED))
    backbone, choices = mmnas_file.published("mmnasnet_vqa", network)
    architectures["mmnasnet_vqa"] = Architecture(
        space=Space(backbone=backbone, network=network, data=data), choices=choices
    )
    for name, architecture in architectures.items():
        save_svg(architecture, FOLDER / f"{name}.svg")
        print(f"written: {FOLDER / name}.svg")


if __name__ == "__main__":
    main()
