"""How the architecture is derived from a trained supernet: the most probable one, or the best of samples.

With ``samples`` in the settings, so many architectures are validated with the weights that they have in the supernet.
Half of them are sampled from the distribution of the search, beside the most probable one. The others are their
children: in each of some generations two of the best so far are crossed, or one of them is mutated (Guo et al., 2019,
arXiv 1904.00420, section 3.3). The best ones, the shortlist, are then trained on, each on its own and from those
weights, by successive halving (Jamieson and Talwalkar, 2016, arXiv 1502.07943): after each third of the steps but the
last, the better half goes on. The best of those that are left in the end is derived. A space that has no more
architectures than ``samples`` is looked at whole.

In a supernet all paths share their weights, and no path has them to itself. So its accuracies tell good paths from bad
ones, but hardly good ones from the best. A short training of its own shows what a path can do.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from model_space.architecture import Architecture, Space
from model_space.contracts import Choices
from trainer.data.splits import Data
from trainer.data.vqa import Batch, VQADataset, loader, sampler_of
from trainer.evaluation.evaluate import BATCH, mean_soft_accuracy, move
from trainer.module import VQAModule, answer_logits, soft_accuracy
from trainer.strategy import SearchSettings
from trainer.supernet.choices import at_sample, weights_at

FEW_QUESTIONS, MORE_QUESTIONS = 200, 800
"""Numbers of questions of the validation split on which all samples are compared first, and then the best quarter of
them, and the shortlist in its training: with hundreds of samples, the whole split would take longer than all else."""
GENERATIONS = 4
"""Number of generations of children, which are half of the samples."""
PARENTS = 32
"""Number of the best samples so far that have children."""
RUNGS = 3
"""Number of parts of the steps of a short training."""


def derive(
    supernet: nn.Module,
    most_probable: Choices,
    probabilities: dict[str, dict[str, float]],
    space: Space,
    data: Data,
    settings: SearchSettings,
) -> tuple[Choices, float, list[Choices]]:
    """Derives an architecture by validation.

    Args:
        supernet: The trained supernet.
        most_probable: The most probable candidate of every choice.
        probabilities: The probability of every candidate by label.
        space: What is searched.
        data: Training and validation split.
        settings: Settings of the search.

    Returns:
        The architecture, its accuracy on the validation split in percent after its short training, and the shortlist.
    """
    device = next(supernet.parameters()).device
    few, more = (
        [move(batch, device) for batch in loader(some_questions(data.val, n, settings.seed), BATCH)]
        for n in (FEW_QUESTIONS, MORE_QUESTIONS)
    )
    n = min(settings.samples, space.size())
    sampled = samples(
        space, n if n == space.size() else math.ceil(n / 2), settings.seed, probabilities, [most_probable]
    )
    ranked = evolved(
        space, sampled, n, lambda choices: _supernet_accuracy(supernet, choices, few), probabilities, settings.seed
    )
    quarter = ranked[: max(settings.shortlist, len(ranked) // 4)]
    shortlist = best(quarter, settings.shortlist, lambda choices: _supernet_accuracy(supernet, choices, more))
    running = [ShortTraining(supernet, choices, space, data, settings) for choices in shortlist]
    for rung in range(1, RUNGS + 1):
        for each in running:
            each.run_until(settings.tuning_steps * rung // RUNGS)
        if rung < RUNGS:
            running = best(running, math.ceil(len(running) / 2), lambda each: _accuracy(each.network, more))
    accuracies = [mean_soft_accuracy(each.network, data.val) for each in running]
    winner = max(range(len(running)), key=accuracies.__getitem__)
    return running[winner].choices, accuracies[winner], shortlist


def best(candidates: Sequence[Any], n: int, accuracy: Callable[[Any], float]) -> list[Any]:
    """Returns the n candidates that are most accurate, the best one first."""
    return sorted(candidates, key=accuracy, reverse=True)[:n]


def evolved(
    space: Space,
    sampled: Sequence[Choices],
    n: int,
    accuracy: Callable[[Choices], float],
    probabilities: dict[str, dict[str, float]],
    seed: int,
) -> list[Choices]:
    """Returns sampled architectures and their children, the most accurate first.

    Args:
        space: Where they are from.
        sampled: The first architectures, all different.
        n: Number of architectures in the end. There are fewer where there are no other children.
        accuracy: Tells how accurate an architecture is; it is asked once for each.
        probabilities: The probability of every candidate by label, by which a choice is mutated.
        seed: Random seed.
    """
    found = {repr(choices): (accuracy(choices), choices) for choices in sampled}
    generator = random.Random(seed)
    candidates = space.candidates()

    def best_first() -> list[Choices]:
        return [choices for _, choices in best(list(found.values()), len(found), lambda each: each[0])]

    def child(parents: list[Choices]) -> Choices:
        one, other = generator.choices(parents, k=2)
        if generator.random() < 0.5:
            return {label: generator.choice((one, other))[label] for label in candidates}
        mutated = generator.choice(list(candidates))
        return one | {mutated: generator.choices(candidates[mutated], list(probabilities[mutated].values()))[0]}

    for generation in range(GENERATIONS):
        parents = best_first()[:PARENTS]
        size = len(sampled) + (n - len(sampled)) * (generation + 1) // GENERATIONS
        for _ in range(20 * n):  # there may be fewer different children
            if len(found) >= size:
                break
            choices = child(parents)
            if repr(choices) not in found:
                found[repr(choices)] = accuracy(choices), choices
    return best_first()


def samples(
    space: Space,
    n: int,
    seed: int,
    probabilities: dict[str, dict[str, float]] | None = None,
    first: Sequence[Choices] = (),
) -> list[Choices]:
    """Returns different architectures of a space, sampled from a distribution.

    Args:
        space: Where they are from.
        n: Number of architectures. If the space has no more, all are returned.
        seed: Random seed of the samples.
        probabilities: The probability of every candidate by label; None samples uniformly.
        first: Architectures that come before the sampled ones.
    """
    candidates = space.candidates()
    if math.prod(len(values) for values in candidates.values()) <= n:
        return [dict(zip(candidates, chosen, strict=True)) for chosen in itertools.product(*candidates.values())]
    generator = random.Random(seed)
    weights = {label: list(probabilities[label].values()) if probabilities else None for label in candidates}
    found = {repr(choices): choices for choices in first}
    for _ in range(20 * n):  # a distribution that is nearly decided may not have n different ones
        if len(found) == n:
            break
        sample = {label: generator.choices(values, weights[label])[0] for label, values in candidates.items()}
        found.setdefault(repr(sample), sample)
    return list(found.values())


def shares(architectures: Sequence[Choices], space: Space) -> dict[str, dict[str, float]]:
    """Returns, by label, how large a share of some architectures takes each candidate."""
    return {
        label: {
            str(value[0]) if isinstance(value, list) else str(value): sum(
                architecture[label] == value for architecture in architectures
            )
            / len(architectures)
            for value in values
        }
        for label, values in space.candidates().items()
    }


def some_questions(questions: VQADataset, n: int, seed: int) -> Subset:
    """Returns so many random questions of a split."""
    order = torch.randperm(len(questions), generator=torch.Generator().manual_seed(seed))
    return Subset(questions, order[:n].tolist())


@torch.inference_mode()
def _accuracy(network: nn.Module, batches: Sequence[Batch]) -> float:
    """Returns the accuracy of a network on some questions."""
    training = network.training
    network.eval()
    right = [soft_accuracy(answer_logits(network, batch), batch.targets) for batch in batches]
    network.train(training)
    return torch.cat(right).mean().item()


def _supernet_accuracy(supernet: nn.Module, choices: Choices, batches: Sequence[Batch]) -> float:
    """Returns the accuracy of an architecture with the weights that it has in the supernet."""
    with at_sample(supernet, choices):
        return _accuracy(supernet, batches)


class ShortTraining:
    """A training of an architecture from the weights that it has in the supernet.

    The learning rate is that of the search, and a fifth of it in the last of the parts.

    Args:
        supernet: Where the weights are from; it is left as it is.
        choices: The architecture.
        space: What was searched.
        data: Training and validation split.
        settings: Settings of the search.
    """

    def __init__(self, supernet: nn.Module, choices: Choices, space: Space, data: Data, settings: SearchSettings):
        self.choices = choices
        self.network = Architecture(space=space, choices=choices).network()
        self.network.load_state_dict(weights_at(supernet, choices))
        self._settings = settings
        self._module = VQAModule(settings, steps_per_epoch=settings.tuning_steps)
        self._module.set_model(self.network)
        self._module.to(next(supernet.parameters()).device).train()
        self._optimizer = self._module.configure_optimizers()["optimizer"]
        self._batches = _endless(data.train, settings)
        self._step = 0

    def run_until(self, step: int) -> None:
        """Trains until so many steps are done in all."""
        settings, device = self._settings, self._module.device
        while self._step < step:
            last_part = self._step >= settings.tuning_steps * (RUNGS - 1) // RUNGS
            for group in self._optimizer.param_groups:
                group["lr"] = group["initial_lr"] / 5 if last_part else group["initial_lr"]
            self._optimizer.zero_grad()
            for batch in itertools.islice(self._batches, settings.accumulate):  # the loss is a sum, so gradients add up
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
                    loss = self._module.training_step(move(batch, device), self._step)
                loss.backward()
            self._optimizer.step()
            self._step += 1


def _endless(questions: VQADataset, settings: SearchSettings) -> Iterator[Batch]:
    """Returns micro-batches without an end, in another order than in the search, and again if they are few."""
    batches = loader(questions, settings.batch_size, seed=settings.seed, drop_last=True)
    sampler_of(batches).divide(settings.accumulate)
    return itertools.chain.from_iterable(_epoch(batches, epoch) for epoch in itertools.count(settings.epochs))


def _epoch(batches: DataLoader, epoch: int) -> DataLoader:
    """Returns the batches of an epoch."""
    sampler_of(batches).set_epoch(epoch, 0)
    return batches
