"""The order of questions and batches: every question once, batches of similar lengths, decided by seed and epoch; and
that trimming changes no result."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import Subset

from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.paired import PairedSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.paths import DIGITS
from tests.helpers.searching import search_settings
from tests.helpers.tiny import space_of
from trainer.data import batches as batches_module
from trainer.data.batches import ShuffledBatches, longest_first
from trainer.data.splits import load_data
from trainer.data.vqa import VQADataset, loader
from trainer.evaluation.evaluate import answers, mean_soft_accuracy
from trainer.module import VQAModule, answer_logits
from trainer.search import search, training_batches
from trainer.settings import LoopSettings
from trainer.train import TrainSettings, train


def bottom_up_lengths(n: int, seed: int = 0) -> np.ndarray:
    """Numbers of regions as bottom-up features have them: 10 to 100, 37 in the mean."""
    drawn = 10 + np.random.default_rng(seed).gamma(1.8, 16.2, 2 * n)
    return drawn[drawn < 101][:n].astype(int)


def padding(lengths: np.ndarray, batches: list[list[int]]) -> float:
    """Padded regions as a share of the real ones."""
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return padded / sum(lengths[batch].sum() for batch in batches) - 1


def of_epoch(sampler: ShuffledBatches, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


# Shuffled batches


@given(
    lengths=st.lists(st.integers(1, 100), max_size=300),
    batch_size=st.integers(1, 70),
    seed=st.integers(0, 2**32),
    drop_last=st.booleans(),
)
def test_every_question_once_an_epoch(lengths, batch_size, seed, drop_last):
    batches = ShuffledBatches(lengths, batch_size, seed, drop_last)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    rows = list(chain.from_iterable(drawn))
    assert len(set(rows)) == len(rows) and set(rows) <= set(range(len(lengths)))
    sizes = sorted(map(len, drawn))
    if drop_last:
        assert sizes == [batch_size] * (len(lengths) // batch_size)
    else:
        assert len(rows) == len(lengths) and sizes[1:] == [batch_size] * (len(sizes) - 1)


@given(n=st.integers(0, 200), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_an_order_depends_on_seed_and_epoch_alone(n, seed, epoch):
    lengths = np.arange(n) % 7
    first, resumed = ShuffledBatches(lengths, 8, seed), ShuffledBatches(lengths, 8, seed)
    for past in range(min(epoch, 3)):  # one has run before, the other begins here
        of_epoch(first, past)
    assert of_epoch(first, epoch) == list(first) == of_epoch(resumed, epoch)


@pytest.mark.parametrize("lengths", [np.full(50, 4), np.arange(50) % 6], ids=["equal", "different"])
def test_epochs_and_seeds_have_orders_of_their_own(lengths):
    orders = {
        tuple(chain.from_iterable(of_epoch(ShuffledBatches(lengths, 8, seed), epoch)))
        for seed in range(10)
        for epoch in range(10)
    }
    assert len(orders) == 100


@pytest.mark.parametrize("batch_size", [16, 64])
def test_a_batch_is_of_similar_lengths(batch_size):
    lengths = bottom_up_lengths(20_000)
    assert lengths.min() == 10 and 95 < lengths.max() <= 100 and abs(lengths.mean() - 37) < 1
    assert padding(lengths, list(ShuffledBatches(lengths, batch_size, seed=0))) < 0.05
    in_order = np.arange(len(lengths))[: len(lengths) // batch_size * batch_size].reshape(-1, batch_size).tolist()
    assert padding(lengths, in_order) > 1


def test_the_same_questions_do_not_meet_again():
    """Also where every length is another, so that sorted as a whole the batches of all epochs would be the same."""
    batches = ShuffledBatches(np.arange(1024), 8, seed=0)
    first, second = ({frozenset(batch) for batch in of_epoch(batches, epoch)} for epoch in range(2))
    assert len(first) == len(second) == 128 and not first & second


def test_short_and_long_batches_come_in_no_order():
    """Position in the epoch and length of the batch go together no more than by chance, also within a window."""
    lengths = bottom_up_lengths(3000)
    batches = ShuffledBatches(lengths, 16, seed=0, drop_last=True)
    mean = np.array([[lengths[batch].mean() for batch in of_epoch(batches, epoch)] for epoch in range(100)])
    at_position = mean.mean(0)  # of 187 positions, each the mean of 100 draws
    expected = mean.std() / np.sqrt(100)
    assert 0.8 * expected < at_position.std() < 1.2 * expected
    steps = np.corrcoef(mean[:, :-1].ravel(), mean[:, 1:].ravel())[0, 1]
    assert abs(steps) < 4 / np.sqrt(mean.size)


def test_what_is_left_over_is_chance():
    """16 of 80 questions stay out of each epoch, and not the longest, and the small batch may come at any time."""
    lengths = np.arange(80)
    dropped = [set(range(80)) - set(chain(*of_epoch(ShuffledBatches(lengths, 64, 0, True), e))) for e in range(200)]
    times = Counter(chain.from_iterable(dropped))
    assert {len(each) for each in dropped} == {16} and len(times) == 80
    assert abs(np.mean(list(chain.from_iterable(dropped))) - lengths.mean()) < 2  # 0.4 by chance
    places = {[len(batch) for batch in of_epoch(ShuffledBatches(lengths[:50], 8, 0), e)].index(2) for e in range(200)}
    assert places == set(range(7))


def test_where_lengths_are_equal_it_is_a_plain_shuffle(monkeypatch):
    """Every question at every place, and every pair in one batch, as often as in a plain shuffle: 3 windows here."""
    monkeypatch.setattr(batches_module, "WINDOW", 2)
    epochs, n, size = 6000, 12, 2
    batches = ShuffledBatches(np.full(n, 5), size, seed=0)
    orders = np.array([list(chain.from_iterable(of_epoch(batches, epoch))) for epoch in range(epochs)])
    at = np.array([[(orders[:, place] == question).sum() for question in range(n)] for place in range(n)])
    assert ((at - epochs / n) ** 2 / (epochs / n)).sum() < 190  # χ² of 121 degrees of freedom: p = 0.00006
    pairs = Counter(tuple(sorted(pair)) for pair in orders.reshape(-1, size).tolist())
    expected = epochs * n / size / (n * (n - 1) / 2)
    assert len(pairs) == 66 and sum((count - expected) ** 2 / expected for count in pairs.values()) < 120


def test_longest_first():
    assert longest_first([3, 9, 3, 7, 9], 2) == [[1, 4], [3, 0], [2]]
    assert longest_first(torch.full((5,), 4), 3) == [[0, 1, 2], [3, 4]]


# Loaders


def test_a_loader_gives_the_batches_of_its_sampler(tiny_data):
    data = tiny_data.train
    for batches in (loader(data, 40), loader(data, 40, seed=3), loader(data, 40, seed=3, drop_last=True)):
        rows = list(batches.sampler)
        assert len(rows) == len(batches)
        for expected, batch in zip(rows, batches, strict=True):
            assert all(torch.equal(*each) for each in zip(data[expected], batch, strict=True))
    assert [len(rows) for rows in rows] == [40, 40]
    assert [int(batch.region_mask.sum(1).max()) for batch in loader(data, 1)] == sorted(data.lengths, reverse=True)


def test_a_loader_of_a_subset_sorts_by_its_own_lengths(tiny_data):
    data = tiny_data.train
    part = Subset(data, [80, 3, 41, 7, 22, 60])
    rows = [[part.indices[place] for place in batch] for batch in loader(part, 2).sampler]
    lengths = [int(data.lengths[row]) for row in chain.from_iterable(rows)]
    assert lengths == sorted(lengths, reverse=True)
    for expected, batch in zip(rows, loader(part, 2), strict=True):
        assert all(torch.equal(*each) for each in zip(data[expected], batch, strict=True))


@pytest.fixture
def asked(monkeypatch):
    """The batches that are asked for, as tuples of places."""
    calls, whole = [], VQADataset.__getitem__

    def noting(self, indices):
        calls.append(tuple(indices))
        return whole(self, indices)

    monkeypatch.setattr(VQADataset, "__getitem__", noting)
    return calls


def without_evaluation(calls: list[tuple], val: VQADataset) -> list[tuple]:
    in_order = [tuple(batch) for batch in longest_first(val.lengths, 256)]
    return [call for call in calls if call not in in_order]


def test_training_sees_the_batches_of_each_epoch(tiny_data, tmp_path, asked):
    space = space_of(tiny_data, MCANSettings(layers=1))
    train(tiny_data, Architecture(space=space, choices={}), TrainSettings(epochs=3, batch_size=16, seed=5), tmp_path)
    sampler = loader(tiny_data.train, 16, seed=5, drop_last=True).sampler
    expected = [tuple(batch) for epoch in range(3) for batch in of_epoch(sampler, epoch)]
    assert without_evaluation(asked, tiny_data.val) == expected and len(set(expected)) == len(expected)


class Killed(Exception):
    pass


@pytest.mark.parametrize("strategy", ["snas", "darts"])
def test_a_search_sees_the_batches_of_each_epoch_also_when_it_goes_on(tiny_data, tmp_path, asked, strategy):
    settings = search_settings(strategy=strategy, epochs=3, batch_size=16, seed=5, architecture_share=0.5)
    parts = dict(zip(("train", "architecture"), training_batches(tiny_data.train, settings)))
    names = ["train", "architecture"] if strategy == "darts" else ["train"]

    def rows(name, epoch):
        part = parts[name]
        places = getattr(part.dataset, "indices", range(len(part.dataset)))
        return {tuple(places[place] for place in batch) for batch in of_epoch(part.sampler, epoch)}

    expected = [set().union(*(rows(name, epoch) for name in names)) for epoch in range(3)]
    assert not expected[0] & expected[1] and not expected[1] & expected[2]

    def kill(epoch):
        if epoch["epoch"] == 2:
            raise Killed

    space = space_of(tiny_data, StackedSettings(edges="one", cells=1, nodes=1))
    with pytest.raises(Killed):
        search(tiny_data, space, settings, tmp_path, kill)
    first = set(without_evaluation(asked, tiny_data.val))
    assert first == expected[0] | expected[1]
    asked.clear()
    search(tiny_data, space, settings, tmp_path, lambda epoch: None)
    assert set(without_evaluation(asked, tiny_data.val)) == expected[1] | expected[2]


def test_two_processes_share_the_batches_of_an_epoch(tiny_data):
    """As Lightning deals them out to several processes."""
    batches = loader(tiny_data.train, 8, seed=3, drop_last=True).sampler
    shares = [DistributedSamplerWrapper(batches, num_replicas=2, rank=rank) for rank in range(2)]
    for epoch in range(2):
        for share in shares:
            share.set_epoch(epoch)
        first, second = map(list, shares)
        assert len(first) == len(second) == 6 and sorted(first + second) == sorted(of_epoch(batches, epoch))


# Trimming


@pytest.fixture(scope="module")
def untrimmed_data(tiny_data_settings):
    return load_data(tiny_data_settings.model_copy(update={"trim": False, "max_regions": 20}))


SPACES = [
    StackedSettings(edges="all", nodes=3),
    StackedSettings(graph="cnn", edges="all", nodes=3),
    MCANSettings(layers=2),
    EncoderDecoderSettings(encoder_blocks=2, decoder_blocks=4, relation_size=8),
    PairedSettings(layers=3),
    DCNSettings(layers=2),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name} {getattr(space, 'graph', '')}")
def test_trimming_changes_no_result(tiny_data, untrimmed_data, space):
    fields = space_of(tiny_data, space, region_norm=True)
    module = VQAModule(LoopSettings(), steps_per_epoch=1)
    module.set_model(Architecture(space=fields, choices=fields.random_choices(2)).network().double())
    module.log = lambda *arguments, **options: None
    rows, results = [5, 0, 41, 17], []
    for data in (tiny_data.train, untrimmed_data.train):
        batch = data[rows]
        batch = batch._replace(boxes=batch.boxes.double(), targets=batch.targets.double())
        module.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        results.append([loss, answer_logits(module.model, batch), *gradients])
    assert batch.regions.shape[1] == 20
    for trimmed, whole in zip(*results, strict=True):
        torch.testing.assert_close(trimmed, whole, rtol=1e-10, atol=1e-10)


def test_trimming_changes_no_answer(tiny_data, untrimmed_data, monkeypatch):
    monkeypatch.setattr("trainer.evaluation.evaluate.BATCH", 10)
    space = space_of(tiny_data, StackedSettings(edges="all", nodes=3))
    network = Architecture(space=space, choices=space.random_choices(2)).network().double().eval()
    with torch.no_grad():  # a new network has one answer to everything
        network.classifier.bias -= answer_logits(network, tiny_data.val[range(24)]).mean(0)
    given = answers(network, tiny_data.val)
    assert answers(network, untrimmed_data.val) == given and len(set(given.values())) > 1
    alone = {}
    for place, question in enumerate(tiny_data.val.question_ids):
        logits = answer_logits(network, tiny_data.val[[place]])
        alone[question] = tiny_data.vocabulary.answers[logits.argmax()]
    assert given == alone and list(given) == list(tiny_data.val.question_ids)
    assert mean_soft_accuracy(network, tiny_data.val) == mean_soft_accuracy(network, untrimmed_data.val)


def test_without_trimming_batches_are_shuffled_plainly(untrimmed_data):
    data = untrimmed_data.train
    assert set(data.lengths.tolist()) == {20}
    assert all(batch.regions.shape == (16, 20, 12) for batch in loader(data, 16, seed=0))
    assert list(chain.from_iterable(loader(data, 16).sampler)) == list(range(len(data)))


def test_trim_is_yes_or_no(tmp_path):
    def read(value):
        file = tmp_path / "settings.yml"
        file.write_text(DIGITS.read_text().replace("  max_tokens:", f"  trim: {value}\n  max_tokens:", 1))
        return read_settings(file).data.trim

    assert read_settings(DIGITS).data.trim is True
    assert read("true") is True and read("false") is False
    with pytest.raises(InputError, match=r"data\.trim is 'sometimes': must be a valid boolean"):
        read("sometimes")
