"""The optimisers against those of torch.optim, on the same gradients; and that a plain step stays plain."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from d2lrnn_torch.gradients import clip, clip_scale, global_norm  # noqa: E402
from d2lrnn_torch.optimizers import STEPS, update  # noqa: E402

from d2lrnn.contract.optimizers import (  # noqa: E402
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
)

THETA, RATE = 1.0, 0.05

#: The value of the contract, and torch.optim's class with its options.
PAIRS: dict[str, tuple[Optimizer, Any, dict[str, Any]]] = {
    "sgd": (SGD(), torch.optim.SGD, {}),
    "sgd-decay": (SGD(weight_decay=0.1), torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (
        SGD(momentum=0.8, nesterov=True, weight_decay=0.1),
        torch.optim.SGD,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (Adam(), torch.optim.Adam, {}),
    "adam-decay": (
        Adam(beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.1),
        torch.optim.Adam,
        {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": (AdamW(), torch.optim.AdamW, {}),
    "adamw-decay": (AdamW(weight_decay=0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
    "rmsprop": (RMSprop(), torch.optim.RMSprop, {}),
    "rmsprop-momentum": (
        RMSprop(alpha=0.9, epsilon=1e-3, momentum=0.5, weight_decay=0.1),
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 1e-3, "momentum": 0.5, "weight_decay": 0.1},
    ),
    "adagrad": (Adagrad(), torch.optim.Adagrad, {}),
    "adagrad-decay": (
        Adagrad(epsilon=1e-3, weight_decay=0.1),
        torch.optim.Adagrad,
        {"eps": 1e-3, "weight_decay": 0.1},
    ),
}


def test_every_optimizer_is_compared() -> None:
    assert {optimizer.name for optimizer, _, _ in PAIRS.values()} == set(OPTIMIZERS) == set(STEPS)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_fifty_clipped_steps_are_torch_optim_s(name: str, dtype: torch.dtype, tolerance: float) -> None:
    optimizer, kind, options = PAIRS[name]
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    # One lies in memory column by column, as some weights do.
    own = [drawn(5, 3).t(), drawn(4), drawn(2, 3)]
    theirs = [parameter.clone().requires_grad_() for parameter in own]
    slots = [{slot: torch.zeros_like(p) for slot in optimizer.slots} for p in own]
    reference = kind(theirs, lr=RATE, **options)
    clipped = 0
    for step in range(50):
        rate = RATE / (1 + step % 3)
        gradients = [0.2 * drawn(*parameter.shape) for parameter in own]
        kept = [gradient.clone() for gradient in gradients]
        norm = global_norm(gradients)
        clipped += bool(norm > THETA)
        update(optimizer, own, gradients, slots, scale=clip_scale(norm, THETA), rate=rate, t=step + 1)
        for parameter, gradient in zip(theirs, kept, strict=True):
            parameter.grad = gradient.clone()
        clip(theirs, THETA)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        for one, other in zip(gradients, kept, strict=True):
            assert torch.equal(one, other), "a gradient that was passed in is not changed"
    assert 10 < clipped < 50
    for one, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=tolerance, atol=tolerance)
        assert one.stride() == other.stride()


def test_a_plain_step_writes_nothing_but_the_parameter() -> None:
    p, g = torch.ones(3), torch.full((3,), 2.0)
    update(SGD(), [p], [g], [{}], scale=torch.tensor(0.5), rate=0.1, t=1)
    torch.testing.assert_close(p, torch.full((3,), 0.9))
    assert torch.equal(g, torch.full((3,), 2.0))


def test_the_norm_is_that_of_one_vector() -> None:
    gradients = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])]
    assert global_norm(gradients).item() == 5.0
    assert clip_scale(torch.tensor(5.0), 1.0).item() == pytest.approx(0.2)
    assert clip_scale(torch.tensor(0.5), 1.0).item() == 1.0
    assert clip_scale(torch.tensor(5.0), None).item() == 1.0
    parameters = [torch.zeros_like(g).requires_grad_() for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    clip([*parameters, torch.zeros(2, requires_grad=True)], 1.0)
    assert global_norm(p.grad for p in parameters).item() == pytest.approx(1.0)
