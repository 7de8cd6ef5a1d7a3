"""Word vectors with which the embedding of words starts, such as those of GloVe, read by spaCy."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from model_space.errors import InputError
from trainer.data.vocabulary import FIRST_WORDS, PADDING, Vocabulary

if TYPE_CHECKING:
    from spacy.language import Language


class WordVectors(NamedTuple):
    """A vector for each of W words."""

    vectors: Tensor
    """The vectors (W, D), float32; zero for padding and for a word that has none."""
    found: int
    """The number of words that have a vector, without padding and the unknown word."""
    source: str
    """The pipeline or folder from which they are."""

    def __str__(self) -> str:
        words, width = self.vectors.shape
        return f"{self.source}, {width} wide: {self.found:,} of {words - len(FIRST_WORDS):,} words have a vector"


def word_vectors(vocabulary: Vocabulary, source: str) -> WordVectors:
    """Returns the vectors of a vocabulary's words.

    As in mcan-vqa, a word that spaCy's tokeniser splits (``whats``: ``what``, ``s``) has the mean of its parts.

    Args:
        vocabulary: The words.
        source: An installed pipeline with vectors, or a folder made by ``spacy init vectors``.

    Raises:
        InputError: If there is no such pipeline, or it has no vectors, or none for these words.
    """
    pipeline = load_pipeline(source)
    # spaCy cannot encode half of a surrogate pair, as of an emoji that was cut in two.
    docs = [pipeline.make_doc(word.encode(errors="replace").decode()) for word in vocabulary.words]
    found = sum(doc.has_vector for doc in docs[len(FIRST_WORDS) :])
    if not found:
        words = len(docs) - len(FIRST_WORDS)
        raise InputError(f"data.word_vectors: {source}: has a vector for none of the {words} words of the questions")
    vectors = torch.zeros(len(docs), pipeline.vocab.vectors_length)
    for row, doc in enumerate(docs):
        if row != PADDING and len(doc):
            vectors[row] = torch.from_numpy(doc.vector)
    return WordVectors(vectors, found, source)


def load_pipeline(source: str) -> "Language":
    """Loads the tokeniser and the vectors of a pipeline, without its other components.

    Raises:
        InputError: If there is no such pipeline, or it has no vectors.
    """
    where = f"data.word_vectors: {source}"
    if find_spec("spacy") is None:
        raise InputError(f"{where}: needs spaCy: python -m pip install spacy")
    import spacy  # takes a second, and so is imported only where vectors are used

    folder = Path(source)
    if not spacy.util.is_package(source) and not folder.exists():
        raise InputError(
            f"{where}: no folder, and no installed pipeline of spaCy; a pipeline comes by: "
            f"python -m spacy download {folder.name}; "
            f"a folder by: python -m spacy init vectors en GLOVE.txt {source}"
        )
    try:
        pipeline = spacy.load(source, config={"nlp": {"pipeline": []}})
    except Exception as error:  # spaCy has an error of its own for each file in the folder
        raise InputError(
            f"{where}: spaCy cannot read it, expected what spacy init vectors makes: {' '.join(str(error).split())}"
        ) from None
    if not pipeline.vocab.vectors_length:
        raise InputError(
            f"{where}: a pipeline without vectors; its relatives in md and lg have them, such as: "
            "python -m spacy download en_core_web_md"
        )
    return pipeline


@torch.no_grad()
def start_embedding(network: nn.Module, words: WordVectors) -> None:
    """Copies vectors into the embedding of a network, with which training then starts, as in mcan-vqa.

    Raises:
        InputError: If the embedding has another width.
    """
    weight = network.get_parameter("question_encoder.embedding.weight")
    check_width(words, weight.shape[1])
    weight.copy_(words.vectors)


def check_width(words: WordVectors, embedding_dim: int) -> None:
    """Checks that vectors have the width of an embedding.

    Raises:
        InputError: If they have another width.
    """
    width = words.vectors.shape[1]
    if width != embedding_dim:
        raise InputError(
            f"network.embedding_dim is {embedding_dim}, but the vectors of data.word_vectors ({words.source}) are "
            f"{width} wide: expected embedding_dim: {width}"
        )
