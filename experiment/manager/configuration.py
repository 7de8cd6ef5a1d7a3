"""The configuration of an NNI experiment, as ``config.yml`` has it."""

import shlex
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni.common.hpo_utils.validation import common_search_space_types
from nni.experiment.config import ExperimentConfig, utils

from model_space.errors import InputError
from model_space.files import parse_yaml


@dataclass(frozen=True)
class Configuration:
    """What a configuration file says, with NNI's keys."""

    file: Path
    content: dict[str, Any]

    @property
    def settings_file(self) -> Path:
        """The settings file of the trials, which is the last word of their command."""
        return Path(shlex.split(self.content["trialCommand"])[-1])

    @property
    def working_directory(self) -> Path:
        """The folder of the experiments."""
        return self.file.parent / self.content["experimentWorkingDirectory"]

    def describes(self, recorded: dict[str, Any]) -> bool:
        """Returns whether an experiment that was started with another configuration is one of this."""
        keys = ("searchSpace", "trialCommand", "maxTrialNumber")
        return all(recorded.get(key) == self.content.get(key) for key in keys)

    def for_nni(self) -> ExperimentConfig:
        """Returns the configuration as NNI checks it.

        Raises:
            InputError: NNI refuses it, or would wait for ever.
        """
        space = self.content.get("searchSpace")
        if not isinstance(space, dict):
            raise InputError(f"{self.file}: searchSpace is missing, or not a section")
        for key, values in space.items():  # NNI's tuners wait for ever where this is wrong
            right = isinstance(values, dict) and values.get("_type") in common_search_space_types
            if not (right and isinstance(values.get("_value"), list) and values["_value"]):
                expected = "expected as in {_type: choice, _value: [0]}"
                raise InputError(f"{self.file}: searchSpace.{key} is {values!r}, {expected}")
        utils.set_base_path(self.file.resolve().parent)
        try:
            config = ExperimentConfig(**self.content)
            config.validate()
        except Exception as error:  # NNI raises what it likes here, also assertions without a word
            words = str(error) or traceback.extract_tb(error.__traceback__)[-1].line or type(error).__name__
            raise InputError(f"{self.file}: NNI refuses it: {' '.join(words.split())}") from None
        finally:
            utils.unset_base_path()
        return config


def read_configuration(file: Path) -> Configuration:
    """Reads a configuration file.

    Raises:
        InputError: There is no such file, it is not YAML, has a key twice, or does not say what trials run and where.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: no experiment configuration here ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not YAML: {error}") from None
    content, _ = parse_yaml(text, str(file))
    for key in ("trialCommand", "experimentWorkingDirectory"):
        if not isinstance(content, dict) or not isinstance(content.get(key), str):
            raise InputError(f"{file}: '{key}' is missing, or not a text")
    return Configuration(file, content)
