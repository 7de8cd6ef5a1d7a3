"""The benchmark of the optimiser."""

import re
import sys

from benchmarks import optimiser


def test_the_table_has_both_networks_with_the_ratio_of_their_steps(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["optimiser", "--rounds", "2"])
    optimiser.main()
    rows = dict(re.findall(r"│ (MCAN, 1 layer|supernet of digits) +│ +(\d+) .* [\d.]+ × │", capsys.readouterr().out))
    assert rows.keys() == {"MCAN, 1 layer", "supernet of digits"}
    assert int(rows["supernet of digits"]) > int(rows["MCAN, 1 layer"]) > 0
