"""The file of answers that the evaluation server of the VQA challenge takes (https://eval.ai, "Results Format")."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from model_space.errors import InputError
from model_space.files import write_whole


def write_submission(path: Path, question_ids: Sequence[int], answers: Sequence[str | None]) -> None:
    """Writes ``[{"question_id": int, "answer": str}, ...]``, one entry a line, whole or not at all.

    Args:
        path: The file to write.
        question_ids: Ids of all questions of the split.
        answers: One answer for each.

    Raises:
        InputError: A question has no answer or comes twice, so that the server would refuse the file; or the file
            cannot be written.
    """
    if len(question_ids) != len(answers):
        raise InputError(f"{path}: {len(answers)} answers to {len(question_ids)} questions: nothing written")
    for question_id, answer in zip(question_ids, answers):
        if type(question_id) is not int or not isinstance(answer, str) or not answer.strip():
            raise InputError(f"{path}: question {question_id!r} is answered by {answer!r}: nothing written")
    twice, times = Counter(question_ids).most_common(1)[0] if question_ids else (None, 0)
    if times != 1:
        problem = f"question {twice} comes {times} times" if times else "no question to answer"
        raise InputError(f"{path}: {problem}: nothing written")

    with write_whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for place, (question_id, answer) in enumerate(zip(question_ids, answers)):
            file.write("[" if place == 0 else ",\n")
            file.write(json.dumps({"question_id": question_id, "answer": answer}))
        file.write("]\n")
