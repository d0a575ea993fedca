"""One way to take a single step: for a learner, for `predict`, and for the first edition's `predict_ch8`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from d2lrnn_torch import (  # noqa: E402
    GRU,
    RNNLM,
    RNNLMScratch,
    RNNModel,
    RNNModelScratch,
    RNNScratch,
    predict_ch8,
    stepper,
)
from d2lrnn_torch.adapter import TorchBackend  # noqa: E402
from parity.models import KINDS, drawn_parameters, name_of  # noqa: E402
from torch import nn  # noqa: E402

from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.data.vocabulary import Vocab  # noqa: E402
from d2lrnn.generation import generate  # noqa: E402

VOCAB = Vocab(list("abcdefghij"))
CPU = torch.device("cpu")
assert len(VOCAB) == 11


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every single step whether it was the fast one."""
    fast: list[bool] = []
    plain = stepper.Stepper.predict_step

    def recording(self: stepper.Stepper, tokens: Any, state: Any) -> Any:
        step = self.step

        def noting(*arguments: Any) -> Any:
            fast.append(step.__name__ == "next_logits")
            assert not torch.is_grad_enabled()
            assert torch.is_inference_mode_enabled() == fast[-1]
            return step(*arguments)

        self.step = noting
        try:
            return plain(self, tokens, state)
        finally:
            self.step = step

    monkeypatch.setattr(stepper.Stepper, "predict_step", recording)
    return fast


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_the_learner_and_the_model_generate_by_the_same_step(spec: ModelSpec, taken: list[bool]) -> None:
    backend = TorchBackend()
    model = backend.build(spec, drawn_parameters(spec))
    learner = backend.learner(model, TrainingSpec(), device="cpu")
    assert model.predict("abc", 9, VOCAB) == generate(learner, VOCAB, "abc", 9)
    assert taken == [True] * 22
    model.train()
    model.predict("abc", 1, VOCAB)
    assert model.training, "afterwards the model is as it was"


def test_a_model_that_a_chapter_changed_steps_by_what_it_is() -> None:
    class Biased(RNNLMScratch):
        def output_layer(self, hiddens: Any) -> torch.Tensor:
            return super().output_layer(hiddens) + 100 * nn.functional.one_hot(torch.tensor(3), 11)

    class Own(nn.Module):
        num_hiddens = 6

        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNN(11, 6)

        def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[list[torch.Tensor], Any]:
            outputs, state = self.cell(inputs, state)
            return list(outputs), state

    always = VOCAB.to_tokens(3)
    assert Biased(RNNScratch(11, 6), 11).predict("a", 3, VOCAB) == "a" + 3 * always
    model = RNNLM(GRU(11, 6), 11)
    model.linear.bias.data[3] += 100
    model.linear = nn.Sequential(model.linear, nn.Softmax(dim=-1))
    assert model.predict("ab", 3, VOCAB) == "ab" + 3 * always
    model = RNNLMScratch(Own(), 11)
    expected, _ = model.unroll(torch.tensor([VOCAB["a"]])[None])
    logits, _ = model.stepper().predict_step(np.array([VOCAB["a"]], np.int32), None)
    np.testing.assert_allclose(logits, expected[:, 0].detach().numpy(), atol=1e-6)


def test_lazy_layers_can_be_trained_after_prediction(taken: list[bool]) -> None:
    """A chapter predicts before it trains: parameters made then must not be in inference mode."""

    class Lazy(RNNLMScratch):
        def init_params(self) -> None:
            self.linear = nn.LazyLinear(self.vocab_size)

        def output_layer(self, hiddens: torch.Tensor) -> torch.Tensor:
            return self.linear(hiddens).swapaxes(0, 1)

    model = Lazy(GRU(11, 6), 11)
    model.predict("ab", 3, VOCAB)
    assert taken == [False] * 4
    model(torch.zeros(2, 3, dtype=torch.long)).sum().backward()
    assert model.linear.weight.grad is not None


@pytest.mark.parametrize("layer", [nn.RNN(11, 6), nn.GRU(11, 6, 2), nn.LSTM(11, 6)])
def test_the_first_edition_s_model_generates_by_the_fast_step(layer: nn.RNNBase, taken: list[bool]) -> None:
    class Changed(RNNModel):
        """By its call, as a chapter's own network."""

    torch.manual_seed(0)
    model = RNNModel(layer, 11)
    other = Changed(layer, 11)
    other.load_state_dict(model.state_dict())
    assert predict_ch8("abc", 9, model, VOCAB, CPU) == predict_ch8("abc", 9, other, VOCAB, CPU)
    assert taken == [True] * 11 + [False] * 11
    state = model.begin_state(CPU, 2)
    tokens = torch.tensor([3, 4])
    logits, _ = model.next_logits(tokens, state)
    torch.testing.assert_close(logits, model(tokens[:, None], state)[0])


def test_networks_of_another_form_generate_by_their_call(taken: list[bool]) -> None:
    def forward_fn(inputs: torch.Tensor, state: Any, params: list[torch.Tensor]) -> tuple[torch.Tensor, Any]:
        return torch.cat([X @ params[0] for X in inputs]), state

    functions = RNNModelScratch(
        11, 6, CPU, lambda V, h, device: [torch.eye(V).roll(1, 1)], lambda B, h, device: (None,), forward_fn
    )
    following = "".join(VOCAB.to_tokens([VOCAB["a"] + i for i in range(4)]))
    assert predict_ch8("a", 3, functions, VOCAB, CPU) == following
    both_ways = RNNModel(nn.GRU(11, 6, bidirectional=True), 11)
    assert len(predict_ch8("ab", 3, both_ways, VOCAB, CPU)) == 5
    assert taken == [False] * 7
