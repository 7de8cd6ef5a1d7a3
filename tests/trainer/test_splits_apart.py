"""Search, selection and test are apart: nothing but an evaluation opens the test split."""

import re
import shutil

import pytest

from experiment.results.comparison import measure
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import ignore, short_search
from tests.helpers.tiny import space_of
from tests.helpers.tiny_vqa import tiny_splits
from tests.helpers.trained import settings_file
from trainer.data.splits import load_data
from trainer.search import search
from trainer.strategies import STRATEGIES
from trainer.train import TrainSettings, train

SPACE = StackedSettings(edges="one", cells=1, nodes=1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_search_and_no_training_opens_the_test_split(strategy, tmp_path):
    without_test = tiny_splits(tmp_path / "data")
    content = settings_file(tmp_path / "settings.yml", without_test, name="stacked", edges="one", cells=1, nodes=1)
    settings = read_settings(content)
    shutil.rmtree(without_test.final.features)
    without_test.final.questions.unlink()
    without_test.final.annotations.unlink()
    data = load_data(settings.data)
    options = short_search(strategy=strategy, epochs=1, samples=4)
    found = search(data, space_of(data, SPACE), options, tmp_path / "search", ignore)
    assert found.score > 0
    short = TrainSettings(epochs=1, steps_per_epoch=2, batch_size=16)
    train(data, found, short, tmp_path / "train")
    with pytest.raises(InputError, match=re.escape(str(without_test.final.questions))):
        measure(found, 0, tmp_path / "measured", settings.model_copy(update={"train": short}), data)
