"""The candidates of every choice in the order of their probabilities, as the search has learned them."""

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from trainer.supernet.health import Probabilities


def ranking(probabilities: Probabilities) -> Group:
    """Returns tables with a line for each choice: the percentage of every candidate and the lead of the first one.

    The most probable candidate is marked with a star. Choices that have candidates in common share a table.

    Args:
        probabilities: The probability of every candidate of every choice.
    """
    return Group(*map(_table, with_common_candidates(probabilities)))


def with_common_candidates(probabilities: Probabilities) -> list[dict[str, Mapping[str, float]]]:
    """Returns the choices in groups, each of which has candidates in common."""
    groups: list[dict[str, Mapping[str, float]]] = []
    for label, each in probabilities.items():
        group = next((group for group in groups if each.keys() & set().union(*group.values())), None)
        if group is None:
            groups.append(group := {})
        group[label] = each
    return groups


def _table(choices: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("choice, % by candidate", no_wrap=True)
    candidates = list(dict.fromkeys(candidate for each in choices.values() for candidate in each))
    for candidate in candidates:
        table.add_column(Text(candidate.replace("_", " ")), justify="right")
    table.add_column("lead", justify="right")
    for label, each in choices.items():
        best, *others = sorted(each, key=each.__getitem__, reverse=True)
        cells = [
            Text(f"{'*' if candidate == best else ''}{100 * each[candidate]:.1f}", "bold" if candidate == best else "")
            if candidate in each
            else ""
            for candidate in candidates
        ]
        lead = f"{100 * (each[best] - each[others[0]]):.1f}" if others else "–"
        table.add_row(Text(label), *cells, lead)
    return table
