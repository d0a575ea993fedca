"""The language-model head: hidden states to logits, and the cross-entropy with its gradient."""

from __future__ import annotations

from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.contract.values import FloatArray, IntArray, StateArrays
from d2lrnn_numpy.buffers import Buffers
from d2lrnn_numpy.layer import sum_rows_by_token
from d2lrnn_numpy.stack import RecurrentStack


class _Tape(NamedTuple):
    """What `RNNLMScratch.backward` needs of the last `loss`, step by step where it is flat: N = T · B.

    Attributes:
        tokens: (T, B).
        masks: of dropout.
        outputs: of the last layer with dropout (T, B, h).
        targets: (N,).
        valid: which targets are not padding (N,).
        exponentials: exp of the logits, the largest of a row subtracted (N, V).
        sums: those of the rows (N,).
        num_tokens: how many targets are valid, at least 1.
    """

    tokens: IntArray
    masks: DropoutMasks | None
    outputs: FloatArray
    targets: IntArray
    valid: npt.NDArray[np.bool_]
    exponentials: FloatArray
    sums: FloatArray
    num_tokens: int


class RNNLMScratch:
    """A language model: tokens, recurrent layers, one output layer over all steps at once.

    Args:
        rnn: the recurrent layers; their inputs have `vocab_size` entries, or those of the embedding.
        vocab_size: V.
        sigma: standard deviation of the initial output weights.
        seed: decides the initial output weights.

    Attributes:
        embedding: (V, E), a row for each token; None where the inputs are one-hot vectors.
        w: (h, V); if `tied`, a transposed view of the embedding.
        b: (V,).
        tied: whether the head's weight is the embedding, transposed.
        lock: held while its buffers are in use, so that one thread after the other computes with them.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(np.zeros((2, 5), np.int32)).shape
        (2, 5, 28)
    """

    def __init__(self, rnn: RecurrentStack, vocab_size: int, sigma: float = 0.01, seed: int = 0) -> None:
        self.rnn = rnn
        self.vocab_size = vocab_size
        random = np.random.default_rng([seed, vocab_size])
        self.embedding: FloatArray | None = None
        self.tied = False
        self._init_head(random, sigma)
        self._buffers, self.lock = Buffers(), RLock()

    def _init_head(self, random: np.random.Generator, sigma: float) -> None:
        shape = (self.rnn.num_hiddens, self.vocab_size)
        self.w: FloatArray = random.normal(0, sigma, shape).astype(np.float32)
        self.b: FloatArray = np.zeros(self.vocab_size, np.float32)

    def parameters(self) -> dict[str, FloatArray]:
        """All parameters by canonical name: the arrays themselves, not copies."""
        parameters = {} if self.embedding is None else {"embedding.w": self.embedding}
        parameters |= self.rnn.parameters()
        if not self.tied:
            parameters["head.w"] = self.w
        return {**parameters, "head.b": self.b}

    def __call__(self, tokens: IntArray, state: StateArrays | None = None) -> FloatArray:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(
        self, tokens: IntArray, state: StateArrays | None = None, masks: DropoutMasks | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """Logits (B, T, V) for tokens (B, T), and the final state.

        See `RecurrentStack` for the state.
        """
        with self.lock:
            outputs, state = self._outputs(tokens, state, masks)
            return (outputs @ self.w + self.b).swapaxes(0, 1), state

    def loss(
        self,
        inputs: IntArray,
        targets: IntArray,
        state: StateArrays | None = None,
        masks: DropoutMasks | None = None,
    ) -> tuple[float, StateArrays]:
        """Mean cross-entropy over the targets that are not padding (those >= 0), and the final state.

        ``-log softmax(o)[y] = log Σ_j exp(o_j) - o_y``, with the largest logit subtracted first.

        Args:
            inputs: tokens (B, T).
            targets: the tokens that follow them (B, T).
            state: see `RecurrentStack`.
            masks: dropout masks; None drops nothing.
        """
        with self.lock:
            outputs, state = self._outputs(inputs, state, masks)
            hiddens = outputs.reshape(-1, self.rnn.num_hiddens)
            flat = np.ascontiguousarray(targets.T).reshape(-1)
            logits = self._buffers.get("logits", (len(hiddens), self.vocab_size), self.w.dtype)
            np.matmul(hiddens, self.w, out=logits)
            logits += self.b
            logits -= logits.max(axis=1, keepdims=True)
            picked = logits[np.arange(len(logits)), flat]
            exponentials = np.exp(logits, out=logits)
            sums = logits.sum(axis=1)
            losses = np.log(sums) - picked
            valid = flat >= 0
            num_tokens = max(1, int(np.count_nonzero(valid)))
            self._tape = _Tape(inputs.T, masks, outputs, flat, valid, exponentials, sums, num_tokens)
            return float(np.sum(losses * valid, dtype=np.float64)) / num_tokens, state

    def backward(self) -> dict[str, FloatArray]:
        """The gradients of the last `loss` by canonical name; it can be called once for each.

        Whoever shares the model between threads holds `lock` from `loss` to here.

        The gradient at the logits is (softmax(o) - one_hot(y)) / number of tokens, zero where padded.
        """
        tape = self._tape
        hiddens = tape.outputs.reshape(-1, self.rnn.num_hiddens)
        d_logits = tape.exponentials
        d_logits *= (tape.valid / (tape.sums * tape.num_tokens)).astype(d_logits.dtype)[:, None]
        valid = np.flatnonzero(tape.valid)
        d_logits[valid, tape.targets[valid]] -= 1 / tape.num_tokens
        d_hiddens = self._buffers.get("d_hiddens", hiddens.shape, d_logits.dtype)
        np.matmul(d_logits, self.w.T, out=d_hiddens)
        d_outputs = d_hiddens.reshape(tape.outputs.shape)
        masks = tape.masks or DropoutMasks()
        if masks.outputs is not None:
            d_outputs *= masks.outputs
        d_inputs, gradients = self.rnn.backward(d_outputs, want_inputs=self.embedding is not None)
        gradients["head.w"] = hiddens.T @ d_logits
        gradients["head.b"] = np.ones(len(d_logits), d_logits.dtype) @ d_logits
        if d_inputs is not None:
            if masks.inputs is not None:
                d_inputs = d_inputs * masks.inputs
            rows = d_inputs.reshape(-1, d_inputs.shape[-1])
            gradients["embedding.w"] = sum_rows_by_token(tape.tokens.reshape(-1), rows, self.vocab_size)
        if self.tied:
            gradients["embedding.w"] += gradients.pop("head.w").T
        return gradients

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy or a pickle: no scratch memory, and a tied weight once."""
        left_out = {"_buffers", "_tape", "lock", *(["w"] if self.tied else [])}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.tied and self.embedding is not None:
            self.w = self.embedding.T
        self._buffers, self.lock = Buffers(), RLock()

    def _outputs(
        self, tokens: IntArray, state: StateArrays | None, masks: DropoutMasks | None
    ) -> tuple[FloatArray, StateArrays]:
        """The outputs of the last layer (T, B, h) with dropout, and the final state."""
        masks = masks or DropoutMasks()
        inputs = tokens.T if self.embedding is None else self.embedding[tokens.T]
        if masks.inputs is not None:
            inputs = inputs * masks.inputs
        outputs, state = self.rnn(inputs, state, masks.between)
        return outputs if masks.outputs is None else outputs * masks.outputs, state


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with an output layer that starts uniform in ±1/sqrt(h), as a framework's does.

    Example:
        >>> RNNLM(GRU(28, 32, num_layers=2), vocab_size=28)(np.zeros((2, 5), np.int32)).shape
        (2, 5, 28)
    """

    def _init_head(self, random: np.random.Generator, sigma: float) -> None:
        bound = self.rnn.num_hiddens**-0.5
        shape = (self.rnn.num_hiddens, self.vocab_size)
        self.w = random.uniform(-bound, bound, shape).astype(np.float32)
        self.b = random.uniform(-bound, bound, self.vocab_size).astype(np.float32)
