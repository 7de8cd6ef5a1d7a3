"""Features in the forms in which other projects have them: files with the same names, columns, datasets and types."""

import base64
import pickle
from pathlib import Path
from typing import NamedTuple

import h5py
import lmdb
import numpy as np
import torch

from trainer.data.features.npz import ImageFeatures


class Named(NamedTuple):
    """An image, as these projects know it."""

    name: str
    """``COCO_train2014_000000000009``."""
    number: int
    image: ImageFeatures


def write_bottom_up(path: Path, images: list[Named]) -> None:
    """The table of peteanderson80/bottom-up-attention."""
    with path.open("w", newline="") as file:
        for _, number, (features, boxes, (width, height)) in images:
            cells = (number, int(width), int(height), len(features), coded(boxes), coded(features))
            file.write("\t".join(map(str, cells)) + "\r\n")


def write_lxmert(path: Path, images: list[Named]) -> None:
    """The table of airsplay/lxmert, ``data/mscoco_imgfeat/extract_coco_image.py``."""
    with path.open("w", newline="") as file:
        for name, _, (features, boxes, (width, height)) in images:
            classes, sureness = np.arange(len(features)), np.ones(len(features), "f4")
            told = map(coded, (classes, sureness, classes, sureness))
            cells = (name, int(height), int(width), *told, len(features), coded(boxes), coded(features))
            file.write("\t".join(map(str, cells)) + "\r\n")


def write_grids(folder: Path, images: list[Named], rows: int) -> None:
    """The folder of facebookresearch/grid-feats-vqa, ``extract_grid_feature.py``: features of regions as a grid."""
    folder.mkdir()
    for _, number, (features, *_) in images:
        tensor = torch.from_numpy(features.T.copy()).reshape(1, features.shape[1], rows, -1)
        torch.save(tensor, folder / f"{number}.pth")


def info_of(image: ImageFeatures) -> dict:
    """What facebookresearch/mmf, ``extract_features_vmb.py``, keeps of an image beside its features."""
    features, boxes, (width, height) = image
    return {
        "bbox": boxes,
        "num_boxes": len(features),
        "objects": np.arange(len(features)),
        "cls_prob": np.ones((len(features), 3), "f4"),
        "image_width": int(width),
        "image_height": int(height),
    }


def write_npy(folder: Path, images: list[Named]) -> None:
    """The folder of mmf."""
    folder.mkdir()
    for name, _, image in images:
        np.save(folder / f"{name}.npy", image.features)
        np.save(folder / f"{name}_info.npy", info_of(image))


def write_lmdb(path: Path, images: list[Named], protocol: int = 3) -> None:
    """The LMDB of mmf, ``lmdb_conversion.py``, a folder."""
    values = {
        f"train2014/{name}": {"feature_path": f"train2014/{name}", "features": image.features, **info_of(image)}
        for name, _, image in images
    }
    write_values(path, {name: pickle.dumps(value, protocol) for name, value in values.items()})


def write_values(path: Path, values: dict[str, bytes]) -> None:
    """An LMDB of these values, and the list of their keys."""
    environment = lmdb.open(str(path), map_size=2**24)
    with environment.begin(write=True) as transaction:
        for name, value in values.items():
            transaction.put(name.encode(), value)
        transaction.put(b"keys", pickle.dumps([name.encode() for name in values]))
    environment.close()


def write_hdf5(path: Path, images: list[Named], adaptive: bool = False, protocol: int = 0) -> None:
    """The HDF5 of hengyuan-hu/bottom-up-attention-vqa, or the adaptive one of jnhwkim/ban-vqa, and its map of ids.

    As in these, images have rows in another order than in COCO, and the last row is of no image.
    """
    features, boxes = ([getattr(each.image, name) for each in images] for name in ("features", "boxes"))
    spatial = []
    for _, _, (_, box, (width, height)) in images:
        shares = (box / np.array([width, height, width, height])).astype("f4")
        spatial.append(np.hstack([shares, shares[:, 2:] - shares[:, :2]]))
    join = np.concatenate if adaptive else np.stack
    with h5py.File(path, "w") as file:
        for name, arrays in (("image_features", features), ("image_bb", boxes), ("spatial_features", spatial)):
            joined = join(arrays)
            unfilled = [(0, 1)] + [(0, 0)] * (joined.ndim - 1)
            file.create_dataset(name, data=np.pad(joined, unfilled), dtype="f")
        if adaptive:
            ends = np.cumsum([len(each) for each in features])
            starts = ends - [len(each) for each in features]
            file.create_dataset("pos_boxes", data=np.stack([starts, ends], 1), dtype="int32")
    rows = {each.number: row for row, each in enumerate(images)}
    path.with_name(f"{path.stem}_imgid2idx.pkl").write_bytes(pickle.dumps(rows, protocol))


def coded(array: np.ndarray) -> str:
    """An array as these tables have it."""
    return base64.b64encode(array.tobytes()).decode()
