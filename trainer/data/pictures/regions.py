"""Features of regions: what a detector of torchvision sees, by the rule of bottom-up attention.

Anderson et al., 2018, Bottom-Up and Top-Down Attention (https://arxiv.org/abs/1707.07998). Their detector knows 1,600
classes and attributes of Visual Genome, torchvision's the 90 of COCO.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from model_space.errors import InputError, one_line
from trainer.data.features.npz import ImageFeatures
from trainer.data.pictures.extractor import ExtractorSettings
from trainer.data.pictures.grid import INSTALL
from trainer.data.pictures.weights import digest, fitted, read_weights

OVERLAP = 0.3
"""The overlap (intersection over union) above which, of two boxes of one class, the one of the lower score is left out,
as in bottom-up attention."""


class RegionsSettings(ExtractorSettings):
    """The regions of a Faster R-CNN with ResNet-50-FPN (`fasterrcnn_resnet50_fpn_v2`), the best ones first."""

    name: Literal["regions"]
    weights: Path | Literal["hub"] = "hub"
    """`hub`: those of torchvision, trained on COCO, downloaded once; or a file of them."""
    fewest: int = Field(10, ge=1, le=1_000)
    """The number of regions that a picture has at least, if the detector proposes as many."""
    most: int = Field(100, ge=1, le=1_000)
    """The number of regions that a picture has at most."""
    score: float = Field(0.2, ge=0, le=1)
    """The score of the best class above which a region is taken."""
    batch_size: int = Field(4, ge=1, le=4_096)
    """The number of pictures that are read and go through the detector together."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.fewest > self.most:
            raise ValueError(f"fewest {self.fewest} is more than most {self.most}")
        return self

    def extractor(self) -> "Regions":
        """Returns the extractor.

        Raises:
            InputError: If torchvision is not there, or the weights cannot be had.
        """
        return Regions(self)


class Regions:
    """Makes features (N, 1024) of a picture: what the detector's head makes of its proposals, with their boxes."""

    def __init__(self, settings: RegionsSettings):
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.detector = _detector(settings)
        self.digest = digest(self.detector)
        self.detector.to(self.device)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[ImageFeatures]:
        from torchvision.transforms.functional import to_tensor

        given = [to_tensor(picture).to(self.device) for picture in pictures]
        scaled, _ = self.detector.transform(given)
        maps = self.detector.backbone(scaled.tensors)
        proposals, _ = self.detector.rpn(scaled, maps)
        heads = self.detector.roi_heads
        x = heads.box_head(heads.box_roi_pool(maps, proposals, scaled.image_sizes))
        logits, moves = heads.box_predictor(x)
        counts = [len(each) for each in proposals]
        boxes = heads.box_coder.decode(moves, proposals).split(counts)
        scores = logits.softmax(-1).split(counts)
        of_pictures = zip(x.split(counts), proposals, boxes, scores, scaled.image_sizes, pictures, strict=True)
        return [self._best(*of_picture) for of_picture in of_pictures]

    def _best(
        self,
        x: Tensor,
        proposals: Tensor,
        boxes: Tensor,
        scores: Tensor,
        size: tuple[int, int],
        picture: Image.Image,
    ) -> ImageFeatures:
        """Returns the best regions of a picture.

        Args:
            x: Features of the proposals, (P, 1024).
            proposals: Their corners in the scaled picture, (P, 4).
            boxes: Where the detector moves them for each class, (P, classes, 4).
            scores: Probabilities of the classes, (P, classes); class 0 is the background.
            size: Height and width of the scaled picture.
            picture: The picture.
        """
        from torchvision.ops import batched_nms

        classes = torch.arange(1, scores.shape[1], device=x.device).expand(len(x), -1)
        kept = batched_nms(boxes[:, 1:].reshape(-1, 4), scores[:, 1:].reshape(-1), classes.reshape(-1), OVERLAP)
        survived = torch.zeros(scores[:, 1:].numel(), device=x.device)
        survived[kept] = scores[:, 1:].reshape(-1)[kept]
        best, order = survived.view(len(x), -1).amax(1).sort(descending=True, stable=True)
        n = int((best > self.settings.score).sum().clamp(self.settings.fewest, self.settings.most))
        chosen = order[:n]
        scale = torch.tensor([picture.width / size[1], picture.height / size[0]], device=x.device).repeat(2)
        corners = (proposals[chosen] * scale).float().cpu().numpy()
        return ImageFeatures(x[chosen].float().cpu().numpy(), corners, (float(picture.width), float(picture.height)))


def _detector(settings: RegionsSettings) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            from torchvision.models import detection
            from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), OVERLAP)  # one built for another torch fails here
    except Exception as error:
        raise InputError(
            f"data.pictures: regions needs a torchvision that fits torch {torch.__version__}: {INSTALL} "
            f"({one_line(error)[:200]})"
        ) from None
    create = detection.fasterrcnn_resnet50_fpn_v2
    if settings.weights != "hub":
        detector = create(weights=None, weights_backbone=None)
        detector.load_state_dict(fitted(read_weights(settings.weights), detector, settings.weights))
    else:
        try:
            detector = create(weights=detection.FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT)
        except Exception as error:
            raise InputError(f"data.pictures: the weights cannot be downloaded: {one_line(error)[:300]}") from None
    return detector.eval()
