"""``launch.py --report``: what an experiment found, as one HTML file."""

from pathlib import Path

from rich.console import Console

from experiment.manager import records
from experiment.manager.configuration import Configuration, read_configuration
from experiment.results.page import write_page

RESULTS = Path("results")
COMPARISON = RESULTS / "comparison"
"""Where the latest comparison is, with the suffixes ``.json`` and ``.md``."""


def run(console: Console, experiment: str | None = None, *, config: Path, output: Path | None = None) -> None:
    """Writes the report of an experiment, which may run, be stopped, or have finished.

    Args:
        console: Where it is said what was written.
        experiment: Id of the experiment; None for the one that was started last.
        config: Configuration of the experiment.
        output: The HTML file; None for ``results/report.html``.

    Raises:
        InputError: There is no such experiment, or the file cannot be written.
    """
    write(console, records.find(read_configuration(config).working_directory, experiment), config, output)


def write(console: Console, folder: Path, config: Path, output: Path | None = None) -> None:
    """Writes the report of the experiment of a folder, see :func:`run`."""
    output = output or RESULTS / "report.html"
    experiment = records.read(folder)
    recorded = Configuration(config, experiment.config)
    settings_file = recorded.settings_file if "trialCommand" in experiment.config else None
    write_page(experiment, settings_file, COMPARISON.with_suffix(".json"), output)
    console.print(f"report: {output}", markup=False)
