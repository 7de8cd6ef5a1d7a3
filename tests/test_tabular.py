"""The tabular benchmark: what is kept is of the space it says, and a table is made, resumed and asked."""

import dataclasses
import itertools
import random
import re
import sys

import pytest
import yaml

from benchmarks import tabular
from benchmarks.tabular import FILE, Table, Training, every_architecture, over_seeds
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.sizes import DataSizes
from tests.helpers.paths import DIGITS, ROOT
from tests.helpers.trained import settings_file
from trainer.callbacks.curve import read_curve
from trainer.data.splits import load_data
from trainer.train import train


def test_the_kept_table_is_of_the_whole_space_and_has_some_twice():
    data = DataSizes(feature_size=18, vocabulary_size=20, answers=6)
    space = read_settings(DIGITS).space_for(data)
    order = every_architecture(space)
    assert len(order) == len({repr(choices) for choices in order}) == 256
    kept = list(tabular._read(FILE))
    trained = [(repr(training.choices), training.seed) for training in kept]
    assert sorted(trained) == sorted((repr(choices), seed) for choices, seed in zip(2 * order, range(304)))
    for training in kept:
        space.check(training.choices, str(FILE))
        assert len(training.val) == read_settings(DIGITS).train.epochs
        assert all(0 <= accuracy <= 100 for accuracy in (*training.val, training.test))


def test_ten_entries_begin_as_the_table_says(tmp_path):
    """Trained again, an entry has its accuracy after the first epoch. Products of other machines differ in rounding."""
    settings = read_settings(DIGITS)
    data = load_data(settings.data)
    once = settings.train.model_copy(update={"epochs": 1})
    off = []
    for kept in itertools.islice(tabular._read(FILE), 10):
        architecture = Architecture(space=settings.space_for(data.sizes), choices=kept.choices)
        folder = tmp_path / str(kept.seed)
        train(data, architecture, once.model_copy(update={"seed": kept.seed}), folder)
        off.append(read_curve(folder)[0]["accuracy"] - kept.val[0])
    assert all(abs(each) < 3 for each in off) and abs(sum(off)) / len(off) < 1, off


def test_the_document_has_the_tables_that_are_printed_of_what_is_kept(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tabular", "--limit", "0"])
    tabular.main()
    printed = capsys.readouterr().out
    document = (ROOT / "docs" / "data.md").read_text()
    (count,) = re.findall(r"\d+ trainings of \d+ of 256 architectures", printed)
    assert count in " ".join(document.split())
    rows = [[cell.strip() for cell in row.split("│")] for row in re.findall("│(.*)│", printed)]
    assert len(rows) == 5
    for row in rows:
        assert f"| {' | '.join(row)} |" in document


def test_the_deviation_over_seeds_is_that_of_one_training():
    """Made up: half of the architectures have 70 % and trainings that differ by 3 points, the others 97 % and 0.5."""
    generator = random.Random(0)
    trainings = [Training({"label": "once"}, 0, (90.0,), 90.0, 1.0)]
    for seed in range(1, 1200):
        mean, deviation = ((70, 3), (97, 0.5))[seed % 2]
        test = generator.gauss(mean, deviation)
        trainings.append(Training({"label": str(seed % 400)}, seed, (test,), test, 1.0))
    counts, deviations = zip(*(column.cells for column in over_seeds(trainings).columns[1:]), strict=True)
    assert counts == ("400", "200", "0", "200")
    everything, low, none, high = deviations
    assert float(low) == pytest.approx(3, abs=0.3) and none == "" and float(high) == pytest.approx(0.5, abs=0.1)
    assert float(everything) == pytest.approx(((9 + 0.25) / 2) ** 0.5, abs=0.3)


@pytest.fixture
def tiny(tiny_data_settings, tmp_path):
    file = settings_file(
        tmp_path / "settings.yml", tiny_data_settings, name="encoder_decoder", encoder_blocks=1, decoder_blocks=1
    )
    content = yaml.safe_load(file.read_text()) | {"train": {"epochs": 2, "steps_per_epoch": 2, "batch_size": 16}}
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_table_is_made_goes_on_where_it_was_and_is_asked(tiny, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        file = str(tmp_path / "table.csv")
        monkeypatch.setattr(sys, "argv", ["tabular", "--settings", str(tiny), "--file", file, *arguments])
        tabular.main()
        return Table.load(tiny, tmp_path / "table.csv")

    part = run("--limit", "2", "--processes", "1")
    whole = run("--processes", "2")
    assert "8 trainings of 8 of 8 architectures" in capsys.readouterr().out
    assert whole.trainings[:2] == part.trainings and len(whole.trainings) == 8
    again = run("--seeds", "2", "--limit", "9", "--processes", "1")
    assert again.trainings[:8] == whole.trainings
    choices = again.trainings[8].choices
    one, two = (training for training in again.trainings if training.choices == choices)
    assert (one.seed, two.seed) == (0, 8)
    assert again.accuracy(choices) == pytest.approx((one.val[-1] + two.val[-1]) / 2)
    assert again.accuracy(choices, epoch=1) == pytest.approx((one.val[0] + two.val[0]) / 2)
    assert again.accuracy(choices, split="test") == pytest.approx((one.test + two.test) / 2)
    with pytest.raises(KeyError, match="not in the table"):
        Table(again.space, []).accuracy(choices)

    # The same training once more gives the same figures.
    tabular._begin(read_settings(tiny))
    repeated = tabular.measure(one.choices, one.seed)
    assert dataclasses.replace(repeated, seconds=0).val == pytest.approx(one.val, abs=1e-3)
    assert repeated.test == pytest.approx(one.test, abs=1e-3)


def test_its_space_is_that_of_the_settings(tiny):
    settings = read_settings(tiny)
    space = Table.load(tiny).space
    assert space.backbone == settings.space and space.network == settings.network and len(space.candidates()) == 2
