"""Cards in Markdown, with the head that Hugging Face's hub reads: of a trained network, and of what a search found.

What is told comes from the checkpoint and the architecture; what they do not know the card says it does not know. All
text that is from settings or data is escaped.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import yaml

from experiment.manager.records import Trial
from experiment.results.drawing import printable, text
from model_space.architecture import Architecture
from trainer.data.features.extractors import in_words
from trainer.data.questions import UNTYPED
from trainer.model_folder import ModelFolder

CARD = "---\nlibrary_name:"
"""What a card begins with."""
TASK = "visual-question-answering"
SEARCHED = "neural-architecture-search"
PICTURE = "architecture.svg"
UNKNOWN = "The checkpoint does not say it.\n"
NORMAL_95 = 1.96
"""Standard deviations on each side of a mean within which a normal distribution has 95 %."""


@dataclass(frozen=True)
class Score:
    """An accuracy that was measured of a network."""

    metric: str
    """What was measured, such as the official VQA accuracy."""
    split: str
    """On which questions."""
    value: float
    """The accuracy in percent."""
    questions: int | None = None
    """The number of questions; None where that is not known."""
    per_answer_type: Mapping[str, float] = field(default_factory=dict)
    """The accuracy in percent by answer type."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval over questions, in percent; None where their number is not known.

        It is that of Wilson (1927) for a share, which holds near 0 and 100 too. For accuracies between 0 and 1 a
        question, as those of VQA are, it is rather too wide.
        """
        if not self.questions:
            return None
        share, n, z = min(self.value / 100, 1.0), self.questions, NORMAL_95
        middle = share + z**2 / (2 * n)
        reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = ((middle + side * reach) / (1 + z**2 / n) for side in (-1, 1))
        return 100 * max(low, 0.0), 100 * min(high, 1.0)


def model_card(name: str, content: ModelFolder, trained: Mapping[str, Any] | None, scores: Sequence[Score]) -> str:
    """Returns the card of a trained network.

    Args:
        name: What the network is called.
        content: The network with all that it needs.
        trained: What its checkpoint says of its training: data, settings, versions; None where it says nothing.
        scores: What was measured of it.
    """
    _, vocabulary, architecture, reads = content
    data = trained["data"] if trained else None
    sizes = architecture.space.data
    found = "found by architecture search" if architecture.choices else "of a fixed architecture"
    image = "--photo PHOTO" if reads.extractor else "--image FEATURES.npz"
    parts = [
        head(name, architecture, data["name"] if data else None, scores),
        f"# {escaped(name)}\n",
        f"A network that answers questions about images, {found}: {architecture.parameters():,} weights, "
        f"{len(vocabulary.answers):,} answers, {len(vocabulary.words):,} words.\n",
        "## Accuracy\n",
        table_of(scores) if scores else "No accuracy of these weights is recorded.\n",
        "## Architecture\n",
        f"![The architecture]({PICTURE})\n",
        fenced(text(architecture)),
        "## Data\n",
        fenced(as_yaml(data), "yaml") if data else UNKNOWN,
        "## Training\n",
        fenced(as_yaml(trained["settings"]), "yaml") if trained else UNKNOWN,
        *search_of(architecture),
        "## How to use it\n",
        "The folder holds JSON and safetensors: nothing of it is run. In the folder of the package that trained it:\n",
        fenced(
            f"python launch.py --answer FOLDER --settings SETTINGS.yml {image} --question '...'\n"
            "python launch.py --val FOLDER --settings SETTINGS.yml",
            "sh",
        ),
        fenced(USE.format(**reads.model_dump()), "python"),
        "## Versions\n",
        fenced(as_yaml(trained["versions"]), "yaml") if trained else UNKNOWN,
        "## Limits\n",
        f"- It chooses among {len(vocabulary.answers):,} answers, and can give no other one.\n"
        f"- It reads the first {reads.max_tokens} words of a question, and the first {reads.max_regions} regions of an "
        "image. All words that it does not know are one word to it.\n"
        f"- Its images are features of regions, {sizes.feature_size} numbers each, by "
        f"{in_words(reads.extractor) if reads.extractor else 'what extracted those of its training'}; those of another "
        "extractor mean nothing to it.\n"
        "- The accuracy is that of one training, on questions like those it was trained on: it says nothing of others."
        + (
            "\n- The search chose the architecture by the validation questions: on them it looks better than it is."
            if architecture.choices
            else ""
        )
        + "\n- No licence is stated: who gives it away adds `license:` to the head of this file.\n",
    ]
    return "\n".join(parts)


USE = """from pathlib import Path

import torch

from experiment.settings import read_settings
from trainer.data.features.npz import read_npz
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.predict import predict
from trainer.model_folder import load

network = load("FOLDER")
vocabulary = Vocabulary.load(Path("FOLDER/config.json"))
features, boxes, _ = read_npz(Path("FEATURES.npz"), form=read_settings("SETTINGS.yml").data.form)
regions = [torch.from_numpy(each[:{max_regions}]) for each in (features, boxes)]
print(predict(network, vocabulary, *regions, "...", max_tokens={max_tokens}).answers)"""


def search_card(name: str, architecture: Architecture, trials: Sequence[Trial]) -> str:
    """Returns the card of an architecture that a search found, which has no weights yet.

    Args:
        name: What the architecture is called.
        architecture: The architecture; its picture is beside the card, under its name.
        trials: The trials of the experiment.
    """
    data = architecture.provenance.get("data") or {}
    scores = []
    if architecture.score is not None:
        scores = [
            Score("accuracy by soft targets, by which it was chosen", "validation", architecture.score, data.get("val"))
        ]
    rows = [
        [
            str(trial.number),
            ", ".join(f"{key} {value}" for key, value in trial.parameters.items()),
            trial.state.lower(),
            f"{trial.final['default']:.1f}" if trial.final else "–",
        ]
        for trial in trials
    ]
    parts = [
        head(name, architecture, data.get("name"), []),
        f"# {escaped(name)}\n",
        f"An architecture for answering questions about images, of {architecture.parameters():,} weights. It has none "
        "yet: a training gives it some, and the accuracy that counts.\n",
        table_of(scores) if scores else "No score of it is recorded.\n",
        f"![The architecture]({quote(name)}.svg)\n",
        fenced(text(architecture)),
        *search_of(architecture),
        "## Trials\n",
        table(["trial", "parameters", "state", "score, %"], rows),
        "## How to train it\n",
        fenced("python launch.py --train ARCHITECTURE.json --settings SETTINGS.yml", "sh"),
    ]
    return "\n".join(parts)


def head(name: str, architecture: Architecture, dataset: str | None, scores: Sequence[Score]) -> str:
    """Returns the YAML head of a card. It has no licence: that is the user's to give."""
    tags = [TASK, *([SEARCHED] if architecture.choices else []), architecture.space.backbone.name]
    content: dict[str, Any] = {"library_name": "pytorch", "pipeline_tag": TASK, "tags": tags}
    if dataset is not None:
        # The hub's names of data sets have these letters alone.
        content["datasets"] = [re.sub(r"[^\w.-]+", "-", dataset, flags=re.ASCII).strip("-.") or "unnamed"]
    content["metrics"] = ["accuracy"]
    if scores:
        results = [
            {
                "task": {"type": TASK, "name": "Visual question answering"},
                "dataset": {
                    "type": content.get("datasets", ["unnamed"])[0],
                    "name": printable(dataset or "not recorded"),
                    "split": score.split,
                },
                "metrics": [{"type": "accuracy", "name": f"{score.metric}{said(score)}", "value": score.value}],
            }
            for score in scores
        ]
        content["model-index"] = [{"name": printable(name), "results": results}]
    return f"---\n{as_yaml(content)}---\n"


def said(score: Score) -> str:
    """Returns the number of questions and the interval of a score in words, for the head."""
    if score.interval is None:
        return ""
    low, high = score.interval
    return f" ({score.questions} questions, 95 % interval {low:.1f} to {high:.1f})"


def table_of(scores: Sequence[Score]) -> str:
    """Returns scores as a table, and what its interval is of."""
    rows = []
    for score in scores:
        interval = "not known" if score.interval is None else "{:.1f} to {:.1f}".format(*score.interval)
        questions = "not known" if score.questions is None else f"{score.questions:,}"
        kinds = ", ".join(f"{kind} {value:.1f}" for kind, value in score.per_answer_type.items() if kind != UNTYPED)
        rows.append([score.metric, score.split, f"{score.value:.1f}", interval, questions, kinds or "–"])
    header = ["accuracy", "questions of", "%", "95 % interval", "questions", "by answer type, %"]
    note = "The intervals are over questions: another training of the same architecture would move the figures further."
    return f"{table(header, rows)}\n{note}\n"


def search_of(architecture: Architecture) -> list[str]:
    """Returns the section on the search that found an architecture; nothing where none did."""
    if not architecture.choices:
        return []
    score = {} if architecture.score is None else {"score": architecture.score}
    known = score | architecture.provenance
    said = fenced(as_yaml(known), "yaml") if known else "The architecture does not say where it is from.\n"
    return ["## Search\n", said]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown. Its cells are escaped."""
    lines = [[escaped(cell) for cell in header], ["---"] * len(header), *([escaped(c) for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fenced(block: str, language: str = "text") -> str:
    """Returns a block of code, in a fence that is longer than any within it."""
    longest = max(map(len, re.findall("`+", block)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{block.rstrip()}\n{fence}\n"


def escaped(words: str) -> str:
    """Returns text as Markdown that shows it as it is, in one line.

    Example:
        >>> print(escaped("a|b <img> *c*"))
        a\\|b \\<img\\> \\*c\\*
    """
    line = "".join(letter if letter.isprintable() else " " for letter in words)
    return re.sub(r"([\\`*_\[\]<>|#~&$!])", r"\\\1", line)


def as_yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
