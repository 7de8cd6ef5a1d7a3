"""Features of a grid: the cells of the last feature map of a backbone of timm.

Jiang et al., 2020, In Defense of Grid Features for Visual Question Answering (https://arxiv.org/abs/2001.03615).
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from model_space.errors import InputError, one_line
from trainer.data.features.npz import ImageFeatures, cells
from trainer.data.pictures.extractor import ExtractorSettings
from trainer.data.pictures.weights import digest, fitted, read_weights

INSTALL = "pip install -r requirements-pictures.txt"


class GridSettings(ExtractorSettings):
    """The cells of a feature map of a backbone of timm, each a region with its box."""

    name: Literal["grid"]
    backbone: str = Field("resnet50", min_length=1, max_length=200)
    """The name of the backbone in timm; that of one of its weights may stand behind a dot: `resnet50.a1_in1k`."""
    weights: Path | Literal["hub"] = "hub"
    """`hub`: those that timm knows by the name, downloaded once; or a file of them, .safetensors or PyTorch's."""
    side: int = Field(224, ge=8, le=4_096)
    """The side in pixels to which a picture is scaled, whatever its shape."""
    stage: int = Field(-1, ge=-100, le=100)
    """Which of the backbone's feature maps is taken; -1 is the last one."""

    def extractor(self) -> "Grid":
        """Returns the extractor.

        Raises:
            InputError: If timm is not there, or does not know the backbone, or its weights cannot be had.
        """
        return Grid(self)


class Grid:
    """Makes features (H · W, C) of a picture, which is scaled to a square."""

    def __init__(self, settings: GridSettings):
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network, mean, deviation = _backbone(settings)
        self.digest = digest(self.network)
        self._channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"  # of Swin and its like
        self.network.to(self.device)
        self._mean, self._deviation = (
            torch.tensor(each, device=self.device).view(-1, 1, 1) for each in (mean, deviation)
        )

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[ImageFeatures]:
        square = 2 * (self.settings.side,)
        scaled = [picture.resize(square, Image.Resampling.BICUBIC, reducing_gap=2) for picture in pictures]
        pixels = torch.from_numpy(np.stack([np.asarray(each) for each in scaled])).to(self.device)
        pixels = (pixels.permute(0, 3, 1, 2) / 255 - self._mean) / self._deviation
        (maps,) = self.network(pixels)
        if self._channels_last:
            maps = maps.permute(0, 3, 1, 2)
        rows, columns = maps.shape[2:]
        features = maps.flatten(2).transpose(1, 2).float().cpu().numpy()
        sizes = [(float(picture.width), float(picture.height)) for picture in pictures]
        return [ImageFeatures(x, cells(rows, columns, size), size) for x, size in zip(features, sizes, strict=True)]


def _backbone(settings: GridSettings) -> tuple[torch.nn.Module, Sequence[float], Sequence[float]]:
    """Returns the backbone, and the mean and the deviation of the pixels that it was trained on."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of torchvision, about its own reading of pictures
            import timm
    except Exception as error:  # also a RuntimeError, of a torchvision that fits another torch
        raise InputError(f"data.pictures: grid needs timm: {INSTALL} ({one_line(error)})") from None
    logging.getLogger("timm").setLevel(logging.ERROR)  # it warns that the classifier is left out
    create: Any = timm.create_model
    try:
        whole = create(settings.backbone, num_classes=1000)
        options: dict[str, Any] = {"pretrained": True}
        if settings.weights != "hub":
            weights = fitted(read_weights(settings.weights), whole, settings.weights)
            options["pretrained_cfg_overlay"] = {"state_dict": weights}
        network = create(settings.backbone, features_only=True, out_indices=(settings.stage,), **options).eval()
    except InputError:
        raise
    except Exception as error:  # timm and the hub have many for a name that they do not know and for no connection
        what = f"backbone {settings.backbone!r}, stage {settings.stage}, weights {str(settings.weights)!r}"
        raise InputError(f"data.pictures: {what}: timm refuses: {one_line(error)[:300]}") from None
    about = timm.data.resolve_model_data_config(whole)
    return network, about["mean"], about["std"]
