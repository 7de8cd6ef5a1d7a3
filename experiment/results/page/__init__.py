"""All that is known of an experiment as one HTML page, to be given to others as one file.

The page names nothing outside of itself and holds no program. What is not there, or not yet, has a sentence in its
place. The same records give the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jinja2
import yaml
from markupsafe import Markup

from experiment.manager.records import Experiment
from experiment.results.page import contents
from experiment.results.page.contents import Absent
from experiment.results.page.inline import INK_AT_NIGHT, PAPER, legible, palette
from model_space.errors import InputError
from model_space.files import write_text

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of the page, or in words why it is not there."""

    value: T | None
    absent: str = ""


def write_page(experiment: Experiment, settings_file: Path | None, comparison: Path, file: Path) -> None:
    """Writes the page of an experiment.

    Args:
        experiment: What NNI recorded of it.
        settings_file: The settings file of its trials; None where its records name none.
        comparison: The file of the latest comparison (``.json``), of this experiment or another, or of none yet.
        file: The HTML file.

    Raises:
        InputError: The file cannot be written.
    """
    write_text(file, page(experiment, settings_file, comparison))


def page(experiment: Experiment, settings_file: Path | None, comparison: Path) -> str:
    """Returns the page of an experiment; its arguments are those of :func:`write_page`."""
    settings = _part(contents.settings, settings_file)
    template = _environment().get_template("page.html")
    return template.render(
        experiment=experiment,
        facts=contents.facts(experiment),
        comparison=_part(contents.comparison, experiment, comparison),
        drawings=_part(contents.drawings, experiment),
        asked=_part(contents.asked, experiment, settings.value),
        trials=contents.trials(experiment),
        curves=_part(contents.curves, experiment.trials),
        moves=_part(contents.moves, experiment.trials),
        trainings=_part(contents.trainings, experiment),
        failures=contents.failures(experiment.trials),
        ran_with=_part(contents.ran_with, experiment.trials),
        settings=settings,
        settings_file=contents.without_places(str(settings_file)),
        palette=palette(),
        paper=PAPER,
        ink_at_night=INK_AT_NIGHT,
    )


def _part(make: Callable[..., T], *arguments: Any) -> Part[T]:
    try:
        return Part(make(*arguments))
    except (Absent, InputError) as reason:
        said = str(reason)
    except OSError as error:
        said = f"{error.filename}: {error.strerror}"
    return Part(None, contents.without_places(said))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["yaml"] = _yaml
    environment.filters["duration"] = _duration
    return environment


def _printable(value: Any) -> Any:
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _yaml(content: Any) -> str:
    return contents.without_places(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _duration(seconds: float) -> str:
    """Returns a time in words, such as ``1 h 5 min`` or ``48 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
