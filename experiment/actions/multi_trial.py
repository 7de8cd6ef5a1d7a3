"""``launch.py --multi-trial``: an experiment in which each trial trains one architecture."""

from pathlib import Path

import yaml
from rich.console import Console

from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.files import write_text
from model_space.sizes import DataSizes

TEXT = """\
# Multi-trial search: each trial trains one architecture of {settings} from new weights.
# Start it with `python launch.py --config {file}`, or NNI's own way: `nnictl create --config {file}`.

experimentName: vqa-architecture-search-multi-trial

# Every choice of the space, with its candidates.
searchSpace:
{space}
trialCommand: OMP_NUM_THREADS=1 python -m experiment.manager.trial {settings}
trialCodeDirectory: .
trialConcurrency: 2     # trials at a time
maxTrialNumber: 16      # architectures in all

# What chooses the next architecture: NNI's TPE or Random by name, or regularized evolution:
# tuner: {{codeDirectory: ., className: {evolution}, classArgs: {{population: 8, sample: 4, seed: 0}}}}
tuner: {{name: TPE, classArgs: {{optimize_mode: maximize, seed: 0}}}}
# What stops a trial early: here one that is below the median of the others, from this epoch on.
assessor: {{name: Medianstop, classArgs: {{optimize_mode: maximize, start_step: {start}}}}}

trainingService: {{platform: local}}
experimentWorkingDirectory: runs
"""

EVOLUTION = "experiment.manager.regularized_evolution.RegularizedEvolution"
"""The class of the tuner of regularized evolution, by its name: loading it loads NNI."""
ANY_DATA = DataSizes(feature_size=4, vocabulary_size=4, answers=4)
"""Sizes of data, which the choices of a space do not depend on."""


def run(console: Console, settings_file: Path, *, output: Path | None = None) -> None:
    """Writes the configuration of an experiment that searches the space of a settings file trial by trial.

    Args:
        console: Where it is said what was written.
        settings_file: Names the data and the space, and says how to train.
        output: Where the configuration is written; None for ``multi_trial.yml``.

    Raises:
        InputError: The settings are wrong, the network is fixed, or the file is there already.
    """
    file = output or Path("multi_trial.yml")
    settings = read_settings(settings_file)
    candidates = settings.space_for(ANY_DATA).candidates()
    if not candidates:
        raise InputError(f"{settings_file}: its network is fixed: there is nothing to search")
    if file.exists():
        raise InputError(f"{file}: is there already; delete it, or name another file with --output")
    space = "".join(
        f"  {label}: {yaml.safe_dump({'_type': 'choice', '_value': values}, default_flow_style=True, width=1000)}"
        for label, values in candidates.items()
    )
    start = max(1, settings.train.epochs // 3)
    names = {"settings": settings_file, "file": file, "evolution": EVOLUTION}
    write_text(file, TEXT.format(**names, space=space, start=start))
    console.print(f"{file}: an experiment that trains an architecture a trial; python launch.py --config {file}")
