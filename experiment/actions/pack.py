"""``launch.py --pack``: one file of features for each folder, also of pictures, and archive of the settings."""

from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from experiment.settings import read_settings
from trainer.data.features.paths import packed_path
from trainer.data.packing.pack import pack as pack_features
from trainer.data.packing.pack import pack_pictures
from trainer.data.pictures.reading import holds_pictures
from trainer.data.splits import make_data


def run(console: Console, settings: Path) -> None:
    """Packs all features of the settings, one after the other; what is packed already stays as it is.

    Args:
        console: Where files are named.
        settings: Settings file.

    Raises:
        InputError: Features are wrong or missing, or the disk is full. The same command resumes it.
    """
    data = read_settings(settings).data
    make_data(data)
    for source in dict.fromkeys(path for split in data.named_splits.values() for path in split.feature_paths):
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[images]:,} images"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(str(source), total=None, images=0)

            def seen(
                images: int, looked_at: int, total: int, progress: Progress = progress, task: TaskID = task
            ) -> None:
                progress.update(task, completed=looked_at, total=total, images=images)

            was_there = packed_path(source).is_file()
            if data.pictures and holds_pictures(source):
                target = pack_pictures(source, data.pictures, seen, lambda why: console.print(f"left out: {why}"))
            else:
                target = pack_features(source, seen, data.form)
        size = decimal(target.stat().st_size)
        of = ", was there already" if was_there else f", of {source}"
        console.print(f"{target}: {size}{of}", markup=False)
