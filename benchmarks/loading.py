"""How fast batches are loaded from a packed file, against reading the ``.npz`` files one by one.

    python -m benchmarks.loading            # --images 256: a quick look

The benchmark writes random features, 2048 wide, with as many regions as bottom-up attention finds (10 to 100, mean 37),
into a temporary folder and packs them. Each round loads the same batches of 64, made as in training, from both, one
after the other in this process. All files are in the page cache, so that no disk takes part. The table has the medians
of the rounds after the first.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.step import region_counts
from trainer.data.batches import ShuffledBatches
from trainer.data.features.folder import NpzFiles, feature_files
from trainer.data.features.packed import PackedFeatures, open_packed
from trainer.data.packing.pack import pack

WIDTH, BATCH = 2048, 64
FORMS = {
    "float16": (np.float16, np.savez),
    "float32": (np.float32, np.savez),
    "float32, compressed": (np.float32, np.savez_compressed),
}


def write(folder: Path, images: int, dtype: type, save: Callable[..., None]) -> None:
    """Writes a folder of random features, half of them zero as after a ReLU."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for image_id, count in enumerate(rng.permutation(region_counts(images))):
        x = np.maximum(rng.standard_normal((WIDTH, count), dtype=np.float32), 0)
        boxes = rng.random((count, 4), dtype=np.float32)
        save(folder / f"COCO_train2014_{image_id:012d}.jpg.npz", x=x.astype(dtype), bbox=boxes, image_w=1, image_h=1)


def items_a_second(source: PackedFeatures | NpzFiles, batches: list[list[int]]) -> float:
    """Loads batches and returns the number of images loaded per second."""
    start = perf_counter()
    for batch in batches:
        images = torch.tensor(batch)
        source.gather(images, int(source.counts[images].max()))
    return sum(map(len, batches)) / (perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    table = Table("files", *(f"{name}, items/s" for name in ("one by one", "packed")), "ratio")
    with tempfile.TemporaryDirectory() as temporary:
        for name, (dtype, save) in FORMS.items():
            folder = Path(temporary) / name
            write(folder, args.images, dtype, save)
            packed, image_ids = open_packed(pack(folder))
            files = feature_files(folder)
            paths = [files[image_id] for image_id in image_ids]
            one_by_one = NpzFiles(paths, packed.counts.numpy(), WIDTH, torch.from_numpy(np.zeros(1, dtype)).dtype)
            sampler = ShuffledBatches(packed.counts, BATCH, seed=0)
            rounds = []
            for number in range(args.rounds):
                sampler.set_epoch(number)
                batches = list(sampler)
                rounds.append([items_a_second(source, batches) for source in (one_by_one, packed)])
            medians = [statistics.median(each) for each in zip(*rounds[1:])]
            ratio = statistics.median(there / here for here, there in rounds[1:])
            table.add_row(name, *(f"{median:,.0f}" for median in medians), f"{ratio:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
