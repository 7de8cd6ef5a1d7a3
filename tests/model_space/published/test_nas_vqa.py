"""NAS-VQA's own figures: its supernet at a sample, and its network of a printed genotype."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from model_space.architecture import Architecture, Space
from model_space.encoders.lstm import LSTMSettings
from model_space.encoders.recurrent import RecurrentSettings
from model_space.errors import InputError
from model_space.published.nas_vqa import ACTIVATIONS, ATTENTION, Genotype
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers import reference
from trainer.strategies.snas import Snas
from trainer.supernet.choices import PARAMETER_SUFFIX, at_sample


def space_like(arrays, config, backbone, encoder) -> Space:
    network = reference.network_settings(config, channel_dropout=config["MASK_DROP_R"])
    data = reference.data_sizes(arrays)
    dropout = {"input_dropout": config["RNN_INP_DR_R"], "hidden_dropout": config["RNN_HID_DR_R"]}
    return Space(backbone=backbone, encoder=encoder.model_copy(update=dropout), network=network, data=data)


def batch_of(arrays) -> list[torch.Tensor]:
    image, question = torch.from_numpy(arrays["image"]), torch.from_numpy(arrays["question"])
    return [image, image.abs().sum(-1) > 0, question, question > 0, image.new_zeros(*image.shape[:2], 4)]


def labels(stream: str, nodes: int) -> list[str]:
    """The edges of a stream in the order of NAS-VQA's architecture parameters."""
    return [f"{stream}_node{node}_from{source}" for node in range(1, nodes + 1) for source in range(node)]


def test_supernet_equals_the_reference():
    arrays, config = reference.load("snas_supernet.npz")
    attention = [ATTENTION[name] for name in arrays["img_primitives"]]
    activations = [ACTIVATIONS[name] for name in arrays["rnn_primitives"]]
    rows = {}  # label → key of its stream's arrays, row in them, the order of candidates there
    for stream, key, order, nodes in (
        ("image", "img_onehot", attention, config["ATT_STEP"]),
        ("question", "que_onehot", attention, config["ATT_STEP"]),
        ("recurrent", "rnn_onehot", activations, config["RNN_STEP"]),
    ):
        rows |= {label: (key, row, order) for row, label in enumerate(labels(stream, nodes))}
        assert len(arrays[key]) == len(labels(stream, nodes))
    choices = {label: order[arrays[key][row].argmax()] for label, (key, row, order) in rows.items()}

    space = space_like(
        arrays,
        config,
        StackedSettings(edges="all", cells=config["ATT_LAYER"], nodes=config["ATT_STEP"]),
        RecurrentSettings(edges="all", nodes=config["RNN_STEP"], resample="step"),
    )
    supernet = Snas(architecture_lr=1e-3, temperature=(1.0, 1.0)).mutate_model(space.build()).double().eval()
    absent = supernet.load_state_dict(reference.state(arrays, reference.NAS_VQA_NAMES), strict=False)
    assert not absent.unexpected_keys
    assert all(name.endswith(PARAMETER_SUFFIX) for name in absent.missing_keys)

    with at_sample(supernet, choices) as samples:
        logits = supernet(*batch_of(arrays))
        loss = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(arrays["answer"]), reduction="sum")
        loss.backward()
    torch.testing.assert_close(logits.sigmoid(), torch.from_numpy(arrays["probability"]), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(loss, torch.from_numpy(arrays["loss"]), rtol=1e-10, atol=0)

    gradients = {name: p.grad for name, p in supernet.named_parameters() if not name.endswith(PARAMETER_SUFFIX)}
    expected = reference.state(arrays, reference.NAS_VQA_NAMES, "grad")
    assert gradients.keys() == expected.keys()
    # The norm of a node whose edges are all `none` multiplies gradients by 316, and the noise where they are zero.
    noise = 1e-10 * max(1.0, *(gradient.abs().max().item() for gradient in expected.values()))
    compared = 0
    for name, gradient in expected.items():
        ours = torch.zeros_like(gradient) if gradients[name] is None else gradients[name]
        torch.testing.assert_close(ours, gradient, rtol=1e-8, atol=noise, msg=lambda m, name=name: f"{name}: {m}")
        compared += gradient.abs().max() > 1e-6
    assert compared > 20

    assert samples.keys() == rows.keys()
    for label, (key, row, order) in rows.items():
        gradient = dict(zip(order, arrays[f"grad_{key}"][row], strict=True))
        ours = samples[label].grad
        ours = np.zeros(len(order)) if ours is None else ours.numpy()
        theirs = [gradient[name] for name in space.candidates()[label]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=noise, err_msg=label)


def test_network_of_a_printed_genotype_equals_the_reference():
    arrays, config = reference.load("seed_genotype_net.npz")
    genotype = Genotype.parse(str(arrays["genotype"]))
    space = space_like(arrays, config, *genotype.spaces(cells=config["ATT_LAYER"]))
    network = Architecture(space=space, choices=genotype.choices).network().double().eval()
    network.load_state_dict(reference.state(arrays, reference.NAS_VQA_NAMES))
    answer = network(*batch_of(arrays)).sigmoid()
    torch.testing.assert_close(answer, torch.from_numpy(arrays["probability"]), rtol=1e-8, atol=1e-10)


SEARCHED = (
    "VQAGenotype(img_gene=[[('none', 0)], [('self_attn', 1), ('guided_attn', 0)]], "
    "que_gene=[[('skip_connect', 0)], [('feed_forward', 0), ('none', 1)]], "
    "rnn_gene=[[('tanh', 0)], [('none', 1), ('relu', 0)], [('identity', 2), ('sigmoid', 0), ('tanh', 1)]])"
)
TRAINED = (
    "VQAGenotype(img_gene=[('feed_forward', 0), ('self_attn', 1)], que_gene=[('guided_attn', 0), ('skip_connect', 0)], "
    "rnn_gene=[('relu', 0)])"
)


def test_a_genotype_as_the_search_prints_it():
    log = f"epoch = 1  loss = 2.5\ncurrent gene: {TRAINED}\n\nepoch = 2\nlr = 0.1\ncurrent gene: {SEARCHED}\n\n"
    genotype = Genotype.parse(log)
    assert genotype.edges == "all"
    assert genotype.choices == {
        "image_node1_from0": "none",
        "image_node2_from0": "guided_attention",
        "image_node2_from1": "self_attention",
        "question_node1_from0": "identity",
        "question_node2_from0": "feed_forward",
        "question_node2_from1": "none",
        "recurrent_node1_from0": "tanh",
        "recurrent_node2_from0": "relu",
        "recurrent_node2_from1": "none",
        "recurrent_node3_from0": "sigmoid",
        "recurrent_node3_from1": "tanh",
        "recurrent_node3_from2": "identity",
    }


def test_a_genotype_as_the_training_reads_it():
    genotype = Genotype.parse(TRAINED)
    assert genotype.edges == "one"
    assert genotype.choices["image_node2_input"] == [1]
    assert genotype.choices["question_node2_operation"] == "identity"
    assert genotype.choices["recurrent_node1_activation"] == "relu"
    assert str(genotype) == TRAINED
    # As it stands in NAS-VQA's file of genotypes.
    spread = TRAINED.replace("[", "[\n    ").replace("_gene=", "_gene = ").replace("])", "\n],\n)")
    assert Genotype.parse(f"VQA1 = {spread}") == genotype


@pytest.mark.parametrize("edges", ["all", "one"])
def test_any_architecture_is_written_and_read_again(edges):
    backbone, encoder = StackedSettings(edges=edges, cells=2, nodes=3), RecurrentSettings(edges=edges, nodes=4)
    data = DataSizes(feature_size=4, vocabulary_size=5, answers=3)
    space = Space(backbone=backbone, encoder=encoder, network=NetworkSettings(), data=data)
    for seed in range(5):
        choices = space.random_choices(seed)
        genotype = Genotype.parse(str(Genotype.of(Architecture(space=space, choices=choices))))
        space.check(genotype.choices, "genotype")
        assert genotype.choices == choices
        assert genotype.spaces(cells=2) == (backbone, encoder)


@pytest.mark.parametrize(
    "backbone, encoder, message",
    [
        (StackedSettings(), LSTMSettings(), "only 'stacked'"),
        (StackedSettings(graph="cnn"), RecurrentSettings(), "only 'stacked'"),
        (MCANSettings(), RecurrentSettings(), "only 'stacked'"),
        (StackedSettings(edges="one"), RecurrentSettings(edges="all"), "one form"),
    ],
)
def test_other_architectures_have_no_genotype(backbone, encoder, message):
    data = DataSizes(feature_size=4, vocabulary_size=5, answers=3)
    space = Space(backbone=backbone, encoder=encoder, network=NetworkSettings(), data=data)
    with pytest.raises(InputError, match=message):
        Genotype.of(Architecture(space=space, choices=space.random_choices(0)))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no whole 'VQAGenotype"),
        (TRAINED[:60], "no whole 'VQAGenotype"),
        (f"{TRAINED}\n{TRAINED[:-9]}", "no whole 'VQAGenotype"),
        (TRAINED.replace("'relu'", "open('x')"), "cannot be read"),
        (TRAINED.replace("relu", "gelu"), r"rnn_gene, node 1: \('gelu', 0\) is no edge"),
        (TRAINED.replace("('self_attn', 1)", "('self_attn', 2)"), "img_gene, node 2.* from 0 to 1"),
        (TRAINED.replace("('relu', 0)", "7"), "rnn_gene, node 1: 7 is no edge"),
        (TRAINED.replace("('relu', 0)", ""), "0 in rnn_gene"),
        (TRAINED.replace(", ('skip_connect', 0)", ""), "1 in que_gene"),
        (TRAINED.replace("('relu', 0)", "[('relu', 0)]"), "one edge in every node"),
        (TRAINED.replace("rnn_gene", "cnn_gene"), "expected the lists img_gene, que_gene, rnn_gene"),
        (SEARCHED.replace("('none', 1), ('relu', 0)", "('relu', 0)"), "rnn_gene, node 2: expected one edge from each"),
        (SEARCHED.replace("('none', 1), ('relu', 0)", "('none', 0), ('relu', 0)"), "expected one edge from each"),
    ],
)
def test_what_is_no_genotype_is_refused(text, message):
    with pytest.raises(InputError, match=message) as refused:
        Genotype.parse(text, "log.txt")
    assert str(refused.value).startswith("log.txt: ")
    assert "\n" not in str(refused.value)
