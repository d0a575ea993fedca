"""What is PyTorch's own in ports."""

from __future__ import annotations

import torch
from torch import nn

import d2lrnn


def test_what_is_not_carried_is_noted() -> None:
    first, second = nn.GRU(2, 3, 2, dropout=0.25), nn.GRU(3, 3)
    second.weight_hh_l0.requires_grad_(False)
    assert d2lrnn.port([first, nn.Dropout(0.5), second]).notes == (
        "dropout=0.25 between the layers is not carried",
        "Dropout(0.5) is not carried",
        "requires_grad=False of weight_hh_l0 is not carried",
    )
    assert d2lrnn.port(nn.GRU(2, 3, 2)).notes == ()


def test_layers_that_differ_are_a_module_list() -> None:
    ported = d2lrnn.port([nn.GRU(2, 3), nn.LSTM(3, 4, bidirectional=True)], to="torch")
    assert type(ported.module) is nn.ModuleList
    assert [type(layer) for layer in ported.module] == [nn.GRU, nn.LSTM]
    assert "its layers differ: they are modules of their own, one behind the other" in ported.notes


def test_layers_that_are_alike_become_one_module() -> None:
    layers = [nn.GRU(2, 3), nn.GRU(3, 3)]
    joined = d2lrnn.port(layers, to="torch").module
    assert (type(joined), joined.num_layers) == (nn.GRU, 2)
    torch.testing.assert_close(joined.weight_ih_l1, layers[1].weight_ih_l0)


def test_a_stack_in_training_stays_so() -> None:
    layers = nn.ModuleList([nn.GRU(2, 3, 2, dropout=0.5), nn.GRU(3, 3)])
    assert all(report.passed for report in d2lrnn.port(layers).reports)
    assert all(layer.training for layer in layers)
