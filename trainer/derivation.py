"""How the architecture is derived from a trained supernet: the most probable one, or the best of samples.

With ``samples`` in the settings, architectures are sampled from the distribution of the search, beside the most
probable one, and validated with the weights that they have in the supernet. The best ones, the shortlist, are then
trained on for some steps, each on its own and from those weights. The best of them in the end is derived. A space that
has no more architectures than ``samples`` is looked at whole.

In a supernet all paths share their weights, and no path has them to itself. So its accuracies tell good paths from bad
ones, but hardly good ones from the best. A short training of its own shows what a path can do.
"""

import itertools
import math
import random
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from model_space.architecture import Architecture, Space
from model_space.contracts import Choices
from trainer.data.splits import Data
from trainer.data.vqa import Batch, loader, sampler_of
from trainer.evaluation.evaluate import BATCH, mean_soft_accuracy, move
from trainer.module import VQAModule, answer_logits, soft_accuracy
from trainer.strategy import SearchSettings
from trainer.supernet.choices import at_sample, weights_at

RANKING_QUESTIONS = 800
"""Number of questions of the validation split on which the samples are compared: with hundreds of samples, the whole
split would take longer than the shortlist."""


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
    sampled = samples(space, settings.samples, settings.seed, probabilities, [most_probable])
    device = next(supernet.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed)
    questions = torch.randperm(len(data.val), generator=generator)[:RANKING_QUESTIONS].tolist()
    batches = [move(batch, device) for batch in loader(Subset(data.val, questions), BATCH)]
    accuracies = [_accuracy(supernet, choices, batches) for choices in sampled]
    best_first = sorted(range(len(sampled)), key=lambda i: -accuracies[i])
    shortlist = [sampled[i] for i in best_first[: settings.shortlist]]
    tuned = [_tuned_accuracy(supernet, choices, space, data, settings) for choices in shortlist]
    best = max(range(len(shortlist)), key=tuned.__getitem__)
    return shortlist[best], tuned[best], shortlist


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


@torch.inference_mode()
def _accuracy(supernet: nn.Module, choices: Choices, batches: Sequence[Batch]) -> float:
    """Returns the accuracy of an architecture with the weights that it has in the supernet."""
    training = supernet.training
    supernet.eval()
    with at_sample(supernet, choices):
        right = [soft_accuracy(answer_logits(supernet, batch), batch.targets) for batch in batches]
    supernet.train(training)
    return torch.cat(right).mean().item()


def _tuned_accuracy(supernet: nn.Module, choices: Choices, space: Space, data: Data, settings: SearchSettings) -> float:
    """Returns the accuracy of an architecture after a short training from the weights that it has in the supernet.

    The learning rate is that of the search, and a fifth of it in the last third of the steps.
    """
    device = next(supernet.parameters()).device
    network = Architecture(space=space, choices=choices).network()
    network.load_state_dict(weights_at(supernet, choices))
    module = VQAModule(settings, steps_per_epoch=settings.tuning_steps)
    module.set_model(network)
    module.to(device).train()
    optimizer = module.configure_optimizers()["optimizer"]
    batches = loader(data.train, settings.batch_size, seed=settings.seed, drop_last=True)
    # The training questions come in another order than in the search, and more than once if they are few.
    endless = itertools.chain.from_iterable(_epoch(batches, epoch) for epoch in itertools.count(settings.epochs))
    for step, batch in enumerate(itertools.islice(endless, settings.tuning_steps)):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr if step < settings.tuning_steps * 2 / 3 else settings.lr / 5
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
            loss = module.training_step(move(batch, device), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return mean_soft_accuracy(network, data.val)


def _epoch(batches: DataLoader, epoch: int) -> DataLoader:
    """Returns the batches of an epoch."""
    sampler_of(batches).set_epoch(epoch, 0)
    return batches
