"""The space `stacked` with relational self-attention: who has it, who looks at boxes, and that nothing else changed."""

import torch

from model_space.architecture import Architecture
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import tiny_batch, tiny_space

PLAIN = StackedSettings(edges="one", cells=1, nodes=2)
RELATIONAL = PLAIN.model_copy(update={"relation_size": 4})


def test_only_the_image_has_it():
    plain, relational = (tiny_space(form).candidates() for form in (PLAIN, RELATIONAL))
    assert plain.keys() == relational.keys()
    for label, candidates in relational.items():
        added = ["relational_self_attention"] if label.startswith("image") and label.endswith("operation") else []
        assert candidates == [*plain[label], *added]


def test_the_boxes_matter_where_it_was_chosen():
    batch = tiny_batch()
    moved = [*batch[:4], batch[4] * torch.rand(7, 1, dtype=torch.float64)]
    space = tiny_space(RELATIONAL)
    others = space.random_choices(0) | {"image_node1_operation": "self_attention", "image_node2_input": [1]}
    for operation, matters in (("relational_self_attention", True), ("feed_forward", False)):
        choices = others | {"image_node2_operation": operation}
        network = Architecture(space=space, choices=choices).network().double()
        assert torch.equal(network(*batch), network(*moved)) != matters


def test_without_it_the_network_is_the_same():
    choices = tiny_space(PLAIN).random_choices(1)
    plain, relational = (
        Architecture(space=tiny_space(form), choices=choices).network().double() for form in (PLAIN, RELATIONAL)
    )
    assert not {name for name in plain.state_dict() if "relation" in name}
    missing = relational.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys and all("backbone.relation." in name for name in missing.missing_keys)
    batch = tiny_batch()
    assert torch.equal(plain(*batch), relational(*batch))


def test_a_padded_region_takes_no_part_whatever_its_box():
    space = tiny_space(RELATIONAL)
    choices = space.random_choices(2) | {f"image_node{node}_operation": "relational_self_attention" for node in (1, 2)}
    network = Architecture(space=space, choices=choices).network().double()
    batch = tiny_batch()
    before = network(*batch)
    batch[4][~batch[1]] = torch.tensor([5.0, 5.0, -9.0, float("nan")], dtype=torch.float64)
    assert torch.equal(network(*batch), before)
