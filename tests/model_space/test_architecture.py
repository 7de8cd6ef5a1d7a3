"""The architecture file: it builds its network alone, and a wrong one is refused by name."""

import json
import os
from pathlib import Path

import pytest
import torch

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.operations import RelationalSelfAttention, embedded_geometry
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_batch, tiny_space

SPACE = tiny_space(StackedSettings(edges="one", cells=2, nodes=2))


@pytest.fixture
def architecture() -> Architecture:
    return Architecture(
        space=SPACE, choices=SPACE.random_choices(3), score=61.5, provenance={"strategy": "snas", "seed": 3}
    )


def test_file_round_trip_builds_the_same_network(architecture, tmp_path):
    path = tmp_path / "architecture.json"
    architecture.save(path)
    again = Architecture.load(path)
    assert again == architecture
    networks = [a.network().double().eval() for a in (architecture, again)]
    networks[1].load_state_dict(networks[0].state_dict())
    batch = tiny_batch()
    assert torch.equal(networks[0](*batch), networks[1](*batch))
    assert list(json.loads(path.read_text())) == ["format", "space", "choices", "score", "provenance"]
    assert os.listdir(tmp_path) == ["architecture.json"]


def test_parameters_are_those_of_the_network(architecture):
    assert architecture.parameters() == sum(p.numel() for p in architecture.network().parameters())


def test_a_gain_of_attention_changes_the_new_weights_of_query_and_key_alone():
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=2), attention_gain=4)
    weights = []
    for each in (tiny_space(space.backbone), space):
        torch.manual_seed(0)
        weights.append(Architecture(space=each, choices=space.random_choices(0)).network().state_dict())
    sharpened = {name for name in weights[0] if name.endswith(("query.weight", "key.weight"))}
    assert sharpened
    for name, weight in weights[0].items():
        assert torch.equal(weights[1][name], 4 * weight if name in sharpened else weight), name


LOCAL = EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=2, relation_size=16)
RELATIONAL = {
    "encoder_block1": "feed_forward",
    "decoder_block1": "relational_self_attention",
    "decoder_block2": "guided_attention",
}


def relational_network(**sizes) -> tuple[torch.nn.Module, RelationalSelfAttention]:
    torch.manual_seed(0)
    network = Architecture(space=tiny_space(LOCAL, hidden=64, heads=4, **sizes), choices=RELATIONAL).network()
    (operation,) = (each for each in network.modules() if isinstance(each, RelationalSelfAttention))
    return network, operation


def test_a_local_start_changes_the_map_of_the_geometry_alone_and_leaves_its_scores_as_they_are():
    plain, operation = relational_network()
    local, _ = relational_network(local_relation=True, attention_gain=4)
    (place,) = (name for name, module in plain.named_modules() if module is operation)
    own = {f"{place}.relation.weight", f"{place}.relation.bias"}
    sharpened = {name for name in plain.state_dict() if name.endswith(("query.weight", "key.weight"))}
    sharpened = {name for name in sharpened if not name.startswith(place)}
    assert len(sharpened) == 2  # those of guided attention
    for name, weight in plain.state_dict().items():
        changed = local.state_dict()[name]
        expected = 4 * weight if name in sharpened else weight
        assert torch.equal(changed, expected) == (name not in own), name


def test_a_local_start_looks_at_near_regions_each_head_further_and_not_at_itself():
    network, operation = relational_network(local_relation=True, initialisation="xavier")
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(64, 8, 2, generator=generator) * torch.tensor([300.0, 200.0])
    boxes = torch.cat([corners, corners + 30 + 10 * torch.rand(64, 8, 2, generator=generator)], -1)
    mapped = operation.relation(embedded_geometry(network.backbone.relation, boxes, torch.ones(64, 8).bool()))
    looks = mapped.clamp(min=1e-6) / mapped.clamp(min=1e-6).sum(2, keepdim=True)  # the softmax of the logarithm
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = (centres.unsqueeze(2) - centres.unsqueeze(1)).norm(dim=-1)
    itself = torch.eye(8).bool().expand(64, 8, 8)
    nearest = torch.nn.functional.one_hot(distance.masked_fill(itself, torch.inf).argmin(-1), 8).bool()
    at_nearest, at_itself = (looks[each].mean(0) for each in (nearest, itself))
    assert at_nearest[0] > 2 / 8 and (at_nearest[:-1] > at_nearest[1:]).all() and at_nearest[-1] > 1 / 8
    assert at_itself.max() < 0.6 / 8
    assert ((mapped < 1e-6).float().mean((0, 1, 2)) < 0.25).all()  # nearly everywhere it can learn


def test_a_local_start_is_the_same_wherever_it_lies_in_the_memory():
    network, operation = relational_network(local_relation=True)
    first, between = operation.relation.weight.clone(), []
    for places in range(24):  # each time the factors of the fit lie elsewhere
        between.append(bytearray(1000 + 16 * places))
        operation.begin_local(network.backbone.relation)
        assert torch.equal(operation.relation.weight, first)


def test_xavier_weights_have_the_spread_of_their_two_widths():
    space = tiny_space(MCANSettings(layers=1), hidden=64, initialisation="xavier")
    linear = [m for m in Architecture(space=space, choices={}).network().modules() if isinstance(m, torch.nn.Linear)]
    for layer in linear:
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is None or not layer.bias.any()


def test_labels_and_candidates_of_both_forms():
    one = SPACE.candidates()
    assert one["image_node2_input"] == [[0], [1]]
    assert one["question_node1_operation"] == [
        "none",
        "identity",
        "feed_forward",
        "self_attention",
        "guided_attention",
    ]
    assert len(one) == 2 * 2 * 2
    every = tiny_space(StackedSettings(edges="all", nodes=4)).candidates()
    assert len(every) == 2 * (1 + 2 + 3 + 4) and "image_node4_from3" in every
    assert tiny_space(MCANSettings(layers=1)).candidates() == {}


def test_random_choices_repeat_by_seed_and_reach_every_candidate():
    assert SPACE.random_choices(5) == SPACE.random_choices(5)
    drawn = {SPACE.random_choices(seed)["image_node1_operation"] for seed in range(60)}
    assert drawn == set(SPACE.candidates()["image_node1_operation"])


def change(content: dict, path: list, value) -> dict:
    *way, last = path
    for key in way:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value
    return content


@pytest.mark.parametrize(
    "path, value, said",
    [
        (["format"], 3, ["format 3", "reads the formats 1 and 2"]),
        (["format"], None, ["'format'"]),
        (["choices"], None, ["'choices' is missing"]),
        (["extra"], 1, ["unknown key 'extra'"]),
        (
            ["choices", "image_node1_operation"],
            "convolution",
            ["image_node1_operation", "'convolution'", "self_attention"],
        ),
        (["choices", "image_node2_input"], [2], ["image_node2_input", "[2]", "[0], [1]"]),
        (["choices", "image_node2_operation"], None, ["'image_node2_operation' is missing"]),
        (["choices", "image_node9_operation"], "none", ["no choice 'image_node9_operation'", "did you mean"]),
        (["space", "backbone", "name"], "pared", ["space.backbone.name is 'pared'", "paired"]),
        (["space", "backbone", "nodes"], "many", ["space.backbone.nodes is 'many'"]),
        (["space", "network"], None, ["'space.network' is missing"]),
        (["space", "data", "vocabulary_size"], None, ["'space.data.vocabulary_size' is missing"]),
        (["space", "wings"], 2, ["unknown key 'space.wings'"]),
        (["space", "backbone", "wings"], 2, ["unknown key 'space.backbone.wings'", "graph, edges, cells, nodes"]),
        (["space", "network", "inner"], 2, ["unknown key 'space.network.inner'", "called 'feed_forward_size' now"]),
        (["score"], "good", ["score is 'good'", "number"]),
        (["score"], float("nan"), ["score is nan", "finite"]),
        (["score"], True, ["score is True", "number"]),
        (["provenance"], [1], ["provenance is [1]", "dictionary"]),
        (["space"], 3, ["space is 3", "section with keys"]),
        (["space", "network"], [1], ["space.network is [1]", "section with keys"]),
        (["space", "network", "hidden"], 10**30, ["space.network.hidden is 1000", "less than or equal to 1000000"]),
        (["space", "data", "answers"], 10**400, ["space.data.answers is 1000", "less than or equal to"]),
        (["space", "backbone", "cells"], 10**9, ["space.backbone.cells is 1000000000", "less than or equal to"]),
        (["space", "backbone", "nodes"], 10**9, ["space.backbone.nodes is 1000000000", "less than or equal to"]),
        (["space", "wings\n\x1b[2J"], 2, [r"unknown key 'space.wings\n\x1b[2J'"]),
        (["space", "w" * 5000], 2, ["unknown key 'space.www", "...www"]),
        (["choices", "image_node9\n_input"], [0], [r"no choice 'image_node9\n_input'"]),
        (["choices", "image_node1_operation"], "none" * 5000, ["unknown candidate 'none", "...", "expected one of"]),
        (["choices", "image_node1_input"], [False], ["image_node1_input", "[False]", "[0]"]),
        (["choices", "image_node1_input"], {"0": [[0]]}, ["image_node1_input", "{'0': [[0]]}"]),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(architecture, tmp_path, path, value, said):
    content = json.loads(architecture.to_json())
    change(content, path, value)
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        Architecture.load(file)
    message = str(error.value)
    assert message.startswith(str(file)) and "\n" not in message and len(message) < 1000
    for words in said:
        assert words in message


def test_a_file_cut_short_or_absent_is_refused(architecture, tmp_path):
    file = tmp_path / "short.json"
    text = architecture.to_json()
    file.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"short\.json, line \d+"):
        Architecture.load(file)
    with pytest.raises(InputError, match="No such file"):
        Architecture.load(tmp_path / "absent.json")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        Architecture.load(file)


def test_format_1_is_still_read():
    """The file that `make search` wrote before sections were nested."""
    architecture = Architecture.load(Path(__file__).with_name("architecture_format1.json"))
    assert architecture.format == 2
    assert architecture.space.backbone == StackedSettings(edges="one", cells=1, nodes=3)
    network = architecture.space.network
    assert (network.hidden, network.embedding_dim, network.feed_forward_size) == (64, 64, None)
    assert (network.flat_mlp_size, network.flat_out_size, network.region_norm) == (64, 128, True)
    assert architecture.space.data.vocabulary_size > 2
    assert Architecture.from_json(architecture.to_json(), "again") == architecture


@pytest.mark.parametrize(
    "path, value, said",
    [
        (["space", "nodes"], "many", "space.backbone.nodes is 'many'"),
        (["space", "hidden"], None, "'space.hidden' is missing"),
        (["space", "wings"], 2, "unknown key 'space.backbone.wings'"),
        (["space"], [1], "space is [1], expected an object"),
        (["choices"], None, "'choices' is missing"),
        (["choices", "image_node2_input"], [7], "choices.image_node2_input: unknown candidate [7]"),
    ],
)
def test_a_wrong_file_of_format_1_is_refused_in_one_line(path, value, said):
    content = json.loads(Path(__file__).with_name("architecture_format1.json").read_text())
    change(content, path, value)
    with pytest.raises(InputError) as error:
        Architecture.from_json(json.dumps(content), "old.json")
    assert str(error.value).startswith("old.json: ") and said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_nested_too_deeply_is_refused():
    with pytest.raises(InputError, match="JSON that cannot be read"):
        Architecture.from_json("[" * 200_000, "deep.json")


def test_provenance_that_could_not_be_written_again_is_refused(architecture):
    """JSON is read to a greater depth than it is written."""
    deep = '{"a": ' * 600 + "1" + "}" * 600
    text = architecture.to_json().replace('"provenance": {', f'"provenance": {{"deep": {deep},')
    with pytest.raises(InputError, match=r"^deep\.json: provenance is nested too deeply$"):
        Architecture.from_json(text, "deep.json")


def test_a_number_of_too_many_digits_is_refused(architecture):
    with pytest.raises(InputError, match="JSON that cannot be read"):
        Architecture.from_json(architecture.to_json().replace("61.5", "9" * 5000), "long.json")


def test_a_choice_that_is_made_twice_is_refused(architecture):
    label, chosen = next(iter(architecture.choices.items()))
    once = json.dumps(label) + ": "
    text = architecture.to_json().replace(once, f"{once}{json.dumps(chosen)},\n{once}", 1)
    with pytest.raises(InputError, match=rf"^it, line \d+: the key '{label}' is in line \d+ already$"):
        Architecture.from_json(text, "it")
