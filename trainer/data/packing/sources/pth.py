"""A folder of the ``.pth`` files of https://github.com/facebookresearch/grid-feats-vqa: a tensor an image."""

from pathlib import Path

import torch
from torch import Tensor

from model_space.errors import InputError, one_line
from trainer.data.features.folder import feature_files
from trainer.data.features.npz import ImageFeatures, NpzForm, image_features
from trainer.data.packing.sources.files import open_files
from trainer.data.packing.sources.source import Source

GRID = NpzForm(boxes="grid", names=("the tensor", "", "", ""))


def open_pth_folder(folder: Path, form: NpzForm) -> Source:
    """Opens a folder of ``.pth`` files. Regions are the cells of their grids, row by row."""
    return open_files({image_id: [path] for image_id, path in feature_files(folder, ".pth").items()}, read_pth)


def read_pth(path: Path) -> ImageFeatures:
    """Reads a tensor (1, D, rows, columns), or without the 1. The size of the image is not in the file, so that
    the cells are those of an image of columns x rows pixels.

    Raises:
        InputError: If the file is broken, or is not of one such tensor.
    """
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch has many errors for a broken file
        raise InputError(f"{path}: broken, or not a .pth of a tensor: {one_line(error)}") from None
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise InputError(f"{path}: holds {type(tensor).__name__}, expected a tensor (1, features, rows, columns)")
    shape = tuple(tensor.shape)
    if len(shape) == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.is_quantized:
        raise InputError(f"{path}: the tensor is {tensor.dtype} {shape}, expected numbers (1, features, rows, columns)")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():  # The same numbers many times.
        raise InputError(f"{path}: the tensor is {shape}, but the file has not so many numbers")
    if tensor.dtype == torch.bfloat16:  # which NumPy does not know
        tensor = tensor.float()
    try:
        array = tensor.detach().resolve_conj().resolve_neg().numpy()
    except TypeError as error:
        raise InputError(f"{path}: the tensor is {tensor.dtype}, expected numbers: {one_line(error)}") from None
    return image_features(array, None, None, None, str(path), GRID)
