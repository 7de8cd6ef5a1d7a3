"""The settings of the embedded data, and its files."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 6
"""The version of what is generated. It goes up whenever the same settings give other bytes."""
SPLITS = {"train": ("train2014", 0.6), "val": ("val2014", 0.2), "test": ("test2015", 0.2)}
"""The name of each split's files, and its share of the source digits."""


class DigitsSettings(BaseModel):
    """What the embedded data is made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    """Where the data is, or is made."""
    mix: Literal["quick", "facts", "hard"] = "quick"
    """How often each form of question is asked: `quick` is learned in minutes, `facts` too, and asks for what no image
    shows; `hard` is for studies."""
    seed: int = Field(0, ge=0, lt=2**32)
    """The random seed of scenes, questions and answers."""
    train_scenes: int = Field(8000, ge=1, le=1_000_000)
    """The number of scenes of the training split."""
    val_scenes: int = Field(1800, ge=1, le=1_000_000)
    """The number of scenes of the validation split."""
    test_scenes: int = Field(2400, ge=1, le=1_000_000)
    """The number of scenes of the test split."""
    questions_per_scene: int = Field(4, ge=1, le=999)
    """The number of questions about a scene, unless fewer can be asked."""

    def stated(self) -> dict[str, Any]:
        """Returns everything on which the bytes of the data depend, as it is in ``digits.json``."""
        return {"format": FORMAT, **self.model_dump(exclude={"folder"})}


def split_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Returns the files of the embedded data in a folder: split → ``questions``, ``annotations`` and ``features``."""
    return {
        split: {
            "questions": folder / f"v2_OpenEnded_mscoco_{name}_questions.json",
            "annotations": folder / f"v2_mscoco_{name}_annotations.json",
            "features": folder / name,
        }
        for split, (name, _) in SPLITS.items()
    }
