"""Probabilities of all answers to all questions of a split, from networks or files, and averaged over several.

A network gives every answer a probability of its own, by a sigmoid. The file is in the safetensors form, as half
precision: ``question_ids`` (Q,) and ``probabilities`` (Q, A), and the answers as JSON in its metadata. All of VQA-v2's
test split, 447,793 questions and 3,129 answers, is 2.8 GB, which are written and read through a memory mapping.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model_space.errors import InputError
from model_space.files import parse_json, write_whole
from trainer.data.safetensors_file import header, open_safetensors
from trainer.data.vqa import Batch, VQADataset, loader
from trainer.evaluation.evaluate import BATCH, move
from trainer.module import answer_logits

SUFFIX = ".safetensors"
CHECKSUM = "crc32"
"""What the metadata call the checksum of all that the file holds."""
ROWS = 4096
"""The questions whose probabilities are read together for the checksum."""


@dataclass(frozen=True)
class SavedPredictions:
    """What a file of predictions holds."""

    path: Path
    answers: tuple[str, ...]
    question_ids: np.ndarray
    """Ids of the questions, ``(Q,)`` int64."""
    probabilities: Tensor
    """Probabilities of the answers, ``(Q, A)`` float16, mapped from the file."""

    @classmethod
    def load(cls, path: Path) -> "SavedPredictions":
        """Maps a file of predictions, and reads all of it once for its checksum.

        Raises:
            InputError: There is no such file, it is no file of predictions, or it is not what was written.
        """
        with open_safetensors(path, "predictions") as file:
            metadata = file.metadata() or {}
            answers = parse_json(metadata.get("answers", "null"), str(path), "the answers of predictions")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
        if not isinstance(answers, list) or tensors.keys() != {"question_ids", "probabilities"}:
            raise InputError(f"{path}: not a file of predictions: it holds {', '.join(sorted(tensors))}")
        ids, probabilities = tensors["question_ids"], tensors["probabilities"]
        if probabilities.dtype != torch.float16 or probabilities.shape != (len(ids), len(answers)):
            raise InputError(
                f"{path}: probabilities are {probabilities.dtype} {tuple(probabilities.shape)}, expected float16 "
                f"({len(ids)}, {len(answers)}) for its questions and answers"
            )
        expected, found = metadata.get(CHECKSUM), checksum(answers, ids.numpy(), probabilities.numpy())
        if expected not in (None, found):  # none in a file of an earlier version
            raise InputError(f"{path}: damaged: its CRC-32 is {found}, expected {expected}; save the predictions anew")
        return cls(path, tuple(answers), ids.numpy(), probabilities)

    def rows(self, question_ids: Sequence[int]) -> np.ndarray:
        """Returns the rows of the predictions of these questions.

        Raises:
            InputError: The file does not have all of them.
        """
        order = np.argsort(self.question_ids)
        asked = np.asarray(question_ids)
        found = np.searchsorted(self.question_ids, asked, sorter=order).clip(max=len(order) - 1)
        rows = order[found]
        if len(missing := asked[self.question_ids[rows] != asked]):
            raise InputError(
                f"{self.path}: predictions of another split: question {missing[0]} is not in it "
                f"({len(missing)} of {len(asked)} are not)"
            )
        return rows


def checksum(answers: Sequence[str], question_ids: np.ndarray, probabilities: np.ndarray) -> str:
    """Returns the CRC-32 of what a file of predictions holds."""
    crc = zlib.crc32(np.ascontiguousarray(question_ids).data, zlib.crc32(json.dumps(answers).encode()))
    for start in range(0, len(probabilities), ROWS):
        crc = zlib.crc32(np.ascontiguousarray(probabilities[start : start + ROWS]).data, crc)
    return f"{crc:08x}"


@contextmanager
def saving(path: Path, question_ids: Sequence[int], answers: Sequence[str]) -> Iterator[np.ndarray]:
    """Gives a float16 matrix (Q, A) to fill with probabilities, which is the file ``path`` once the block is left.

    It is mapped from a file beside, which is removed when the block is left by an error. Disk space is taken first.

    Raises:
        InputError: The file cannot be written.
    """
    shape = len(question_ids), len(answers)
    arrays = {"question_ids": ("int64", shape[:1]), "probabilities": ("float16", shape)}
    ids, about = np.asarray(question_ids, "<i8"), {"answers": json.dumps(answers), CHECKSUM: 8 * "?"}
    begin = header(arrays, about) + ids.tobytes()
    with write_whole(path) as partial:
        with open(partial, "wb") as file:
            file.write(begin)
            file.flush()
            os.posix_fallocate(file.fileno(), 0, len(begin) + 2 * shape[0] * shape[1])
        matrix = np.memmap(partial, "<f2", "r+", len(begin), shape)
        yield matrix
        about[CHECKSUM] = checksum(answers, ids, matrix)
        matrix.flush()
        with open(partial, "r+b") as file:
            file.write(header(arrays, about))


@torch.inference_mode()
def ensemble(
    networks: Sequence[nn.Module],
    saved: Sequence[SavedPredictions],
    question_ids: Sequence[int],
    dataset: VQADataset | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Averages the probabilities that the networks and the files give.

    Args:
        networks: Networks in evaluation mode, all with the answers of the files.
        saved: Files of predictions.
        question_ids: Ids of the questions.
        dataset: The split with these questions; only networks need it.

    Yields:
        Places of questions among ``question_ids``, and their probabilities ``(B, A)`` float32 on the CPU; every place
        comes once.

    Raises:
        InputError: A question is not in a file, or what a network or a file gives is no number.
    """
    rows = [each.rows(question_ids) for each in saved]
    for places, batch in batches(len(question_ids), dataset if networks else None):
        mean = torch.zeros(())
        for network in networks:
            assert batch is not None  # networks need a data set
            on_device = move(batch, next(network.parameters()).device)
            mean = mean + answer_logits(network, on_device).sigmoid().float().cpu()
        for each, row in zip(saved, rows, strict=True):
            mean = mean + each.probabilities[row[places]].float()
        mean = mean / (len(networks) + len(saved))
        if len(wrong := (~mean.isfinite().all(1)).nonzero()):
            raise InputError(f"question {question_ids[places[wrong[0, 0]]]}: the probabilities are no numbers (NaN)")
        yield places, mean


def batches(questions: int, dataset: VQADataset | None) -> Iterator[tuple[list[int], Batch | None]]:
    """Yields places of questions with their batch, or with None where no data set is read."""
    if dataset is None:
        yield from ((list(range(i, min(i + BATCH, questions))), None) for i in range(0, questions, BATCH))
    else:
        loaded = loader(dataset, BATCH)
        yield from zip(loaded.sampler, loaded, strict=True)
