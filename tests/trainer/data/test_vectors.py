"""Word vectors through spaCy, from a folder that spaCy itself makes of a text file."""

import shutil
import sys

import pytest
import spacy
import torch
from spacy.cli.init_pipeline import init_vectors_cli
from spacy.cli.package import package

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import search_settings
from tests.helpers.tiny import tiny_space
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.data.splits import load_data
from trainer.data.vectors import start_embedding, word_vectors
from trainer.data.vocabulary import Vocabulary
from trainer.search import search
from trainer.train import TrainSettings, load_trained, train

GLOVE = {"what": (1, 2, 3, 4), "s": (3, 0, 1, 0), "red": (0.5, -1, 0, 2), "dog": (1, 1, 1, 1), "UNK": (9, 9, 9, 9)}
VOCABULARY = Vocabulary(("PAD", "UNK", "red", "whats", "zebu", "dog", "\N{DOG FACE}", "half\ud83d"), ("yes",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What ``python -m spacy init vectors en glove.txt FOLDER`` makes."""
    path = tmp_path_factory.mktemp("vectors")
    rows = [f"{word} {' '.join(map(str, vector))}\n" for word, vector in GLOVE.items()]
    (path / "glove.txt").write_text(f"{len(GLOVE)} 4\n{''.join(rows)}")
    init_vectors_cli(
        "en",
        path / "glove.txt",
        path / "made",
        prune=-1,
        truncate=0,
        mode="default",
        name=None,
        verbose=False,
        jsonl_loc=None,
        attr="ORTH",
    )
    return path / "made"


def test_vectors_of_a_folder(folder):
    words = word_vectors(VOCABULARY, str(folder))
    expected = torch.zeros(8, 4)
    expected[1], expected[2], expected[5] = (torch.tensor(GLOVE[word]) for word in ("UNK", "red", "dog"))
    expected[3] = torch.tensor([2.0, 1, 2, 2])  # the mean of "what" and "s", as spaCy parts it
    assert torch.equal(words.vectors, expected) and words.vectors.dtype == torch.float32
    assert words.found == 3
    assert str(words) == f"{folder}, 4 wide: 3 of 6 words have a vector"


def test_a_pipeline_is_not_run(folder, tmp_path):
    pipeline = spacy.load(folder)
    pipeline.add_pipe("sentencizer")
    pipeline.to_disk(tmp_path / "pipeline")
    config = tmp_path / "pipeline" / "config.cfg"
    config.write_text(config.read_text().replace('factory = "sentencizer"', 'factory = "of_another_package"'))
    with pytest.raises(ValueError, match="of_another_package"):
        spacy.load(tmp_path / "pipeline")
    assert word_vectors(VOCABULARY, str(tmp_path / "pipeline")).found == 3


def test_an_installed_pipeline(folder, tmp_path, monkeypatch):
    """As ``python -m spacy download`` leaves it: a package with the pipeline inside."""
    package(folder, tmp_path, create_sdist=False, create_wheel=False, name="tiny", version="1.0", silent=True)
    (made,) = tmp_path.glob("en_tiny-*")
    shutil.copy(made / "meta.json", made / "en_tiny")  # as its setup.py does
    (made / "en_tiny-1.0.dist-info").mkdir()
    (made / "en_tiny-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: en_tiny\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(made)
    assert word_vectors(VOCABULARY, "en_tiny").found == 3


def refuse(message, source):
    with pytest.raises(InputError, match=message) as error:
        word_vectors(VOCABULARY, str(source))
    assert "\n" not in str(error.value) and str(source) in str(error.value)


def test_a_pipeline_that_is_not_there():
    refuse("^data.word_vectors: en_core_web_none: .*python -m spacy download en_core_web_none", "en_core_web_none")


def test_what_has_no_vectors(folder, tmp_path, monkeypatch):
    spacy.blank("en").to_disk(tmp_path / "small")
    refuse("without vectors.*python -m spacy download en_core_web_md", tmp_path / "small")
    (tmp_path / "empty").mkdir()
    refuse("cannot read it, expected what spacy init vectors makes: .*meta.json", tmp_path / "empty")
    refuse("cannot read it, expected what spacy init vectors makes", folder.parent / "glove.txt")
    with pytest.raises(InputError, match="for none of the 1 words"):
        word_vectors(Vocabulary(("PAD", "UNK", "zebu"), ("yes",)), str(folder))
    monkeypatch.setitem(sys.modules, "spacy", None)
    monkeypatch.setattr("trainer.data.vectors.find_spec", lambda name: None)
    refuse("needs spaCy: python -m pip install spacy", folder)


@pytest.fixture(scope="module")
def data(tiny_data_settings, folder):
    """The tiny data, some of whose words have vectors."""
    return load_data(tiny_data_settings.model_copy(update={"word_vectors": str(folder)}))


def test_training_starts_from_the_vectors_and_goes_on_from_them(data, tmp_path, monkeypatch):
    space = tiny_space(StackedSettings(edges="one", nodes=2), embedding_dim=4)
    settings = TrainSettings(epochs=1, steps_per_epoch=1, batch_size=16, lr=1e-3)
    checkpoint = train(data, Architecture(space=space, choices=space.random_choices(4)), settings, tmp_path)
    monkeypatch.setitem(sys.modules, "spacy", None)  # a checkpoint holds the embedding
    network, vocabulary, _ = load_trained(checkpoint)
    moved = network.question_encoder.embedding.weight - data.word_vectors.vectors
    assert data.word_vectors.found == 2  # what, dog
    assert moved.abs().max() < 2e-3  # Adam moves each weight by the learning rate at most
    assert moved[vocabulary.word_index["dog"]].abs().min() > 1e-4

    other = data.vocabulary.to_dict() | {"answers": data.vocabulary.answers[::-1]}
    monkeypatch.setattr(data.train, "vocabulary", Vocabulary(**{key: tuple(value) for key, value in other.items()}))
    with pytest.raises(InputError, match="another 'vocabulary'"):  # as long, but each place is another answer
        train(data, Architecture(space=space, choices=space.random_choices(4)), settings, tmp_path)


def test_search_starts_from_the_vectors(data, tmp_path):
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=1), embedding_dim=4).model_copy(
        update={"data": data.sizes}
    )
    search(data, space, search_settings(epochs=1, steps_per_epoch=1, batch_size=16, lr=1e-3), tmp_path, lambda _: None)
    state = load_checkpoint(tmp_path / "last.ckpt")["state_dict"]
    embedding = next(weight for name, weight in state.items() if name.endswith("embedding.weight"))
    assert (embedding - data.word_vectors.vectors).abs().max() < 2e-3


def test_vectors_of_another_width(data):
    space = tiny_space(MCANSettings(layers=1), embedding_dim=8).model_copy(update={"data": data.sizes})
    with pytest.raises(
        InputError, match=r"^network.embedding_dim is 8, but the vectors .* 4 wide: expected embedding_dim: 4"
    ):
        start_embedding(space.build(), data.word_vectors)
