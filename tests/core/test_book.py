"""The book's classes without a framework: a model of one number takes a tab's place."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lrnn.book import current_edition as book
from d2lrnn.book import data_sets
from d2lrnn.data.batches import BOOK_NUM_VAL
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import DivergedError, SpecError, TextError

needs_novel = pytest.mark.skipif("D2LRNN_DATA" not in os.environ, reason="D2LRNN_DATA names no folder")


class Model(book.Module):
    """Its losses are the means of its batches plus a number that it learns."""

    def __init__(self, plotted: str = "ppl") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = 0.0

    def __call__(self, X: Any) -> Any:
        return X + self.weight

    def loss(self, y_hat: Any, y: Any) -> Any:
        return float(np.mean(y_hat))

    def training_step(self, batch: Sequence[Any]) -> float:
        loss: float = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", math.exp(loss), train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> None:
        """Returns nothing, as the book's."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        if self.plotted:
            self.plot(self.plotted, math.exp(loss) if self.plotted == "ppl" else loss, train=False)

    def configure_optimizers(self) -> None: ...


class Trainer(book.Trainer):
    def clip_gradients(self, grad_clip_val: float, model: Any) -> Any:
        return min(1.0, grad_clip_val)

    def update(self, batch: Sequence[Any]) -> float:
        loss: float = self.model.training_step(self.prepare_batch(batch))
        gradient = 1.0
        if self.gradient_clip_val:
            gradient = self.clip_gradients(self.gradient_clip_val, self.model)
        self.model.weight -= 0.1 * gradient
        return loss

    def evaluate(self, batch: Sequence[Any]) -> float | None:
        value: float | None = self.model.validation_step(self.prepare_batch(batch))
        return value

    def copy_parameters(self) -> float:
        return float(self.model.weight)

    def put_back_parameters(self, parameters: float) -> None:
        self.model.weight = parameters


class Data(book.DataModule):
    """Batches of unequal sizes: losses 1, 2 and 3 on 4, 4 and 1 tokens; validation 2 and 5 on 6 and 3."""

    def get_dataloader(self, train: bool) -> Any:
        rows = [(4, 1.0), (4, 2.0), (1, 3.0)] if train else [(6, 2.0), (3, 5.0)]
        return [(np.full(n, loss), np.zeros(n)) for n, loss in rows]


def test_arguments_and_local_variables_become_attributes() -> None:
    class A(book.HyperParameters):
        def __init__(this, units: int, rate: float = 0.1, _hidden: int = 3, **more: int) -> None:  # noqa: N805
            local = units + 1
            this.save_hyperparameters(ignore=["rate"])
            assert local

    a = A(32, depth=2)
    assert a.hparams == {"units": 32, "local": 33, "more": {"depth": 2}}
    assert (a.units, a.local) == (32, 33)  # type: ignore[attr-defined]
    assert not hasattr(a, "rate")
    assert not hasattr(a, "this")


def test_a_method_is_added_and_stays_a_function() -> None:
    class A:
        pass

    @book.add_to_class(A)
    def answer(self: A) -> int:
        return 42

    assert A().answer() == 42  # type: ignore[attr-defined]
    assert callable(answer)


def test_perplexities_are_those_of_all_tokens() -> None:
    model, trainer = Model(), Trainer(max_epochs=1)
    model.plot_train_per_epoch = 1  # type: ignore[attr-defined]
    trainer.fit(model, Data())
    # The weight is 0, -0.1, -0.2 when the three batches come, and -0.3 in validation.
    train = math.exp((4 * 1.0 + 4 * 1.9 + 2.8) / 9)
    validation = math.exp((6 * 1.7 + 3 * 4.7) / 9)
    (record,) = trainer.history
    assert record.train_perplexity == pytest.approx(train)
    assert record.val_perplexity == pytest.approx(validation)
    assert [point.y for point in model.board.data["train_ppl"]] == pytest.approx([train])
    assert [point.y for point in model.board.data["val_ppl"]] == pytest.approx([validation])
    assert [point.x for point in model.board.data["val_ppl"]] == [1]
    assert model.board.xlim == [0, 1]


@pytest.mark.parametrize(("plotted", "known"), [("loss", True), ("", False)])
def test_the_validation_loss_is_what_the_step_plots(plotted: str, known: bool) -> None:
    trainer = Trainer(max_epochs=1)
    trainer.fit(Model(plotted), Data())
    perplexity = trainer.history[0].val_perplexity
    assert perplexity == pytest.approx(math.exp((6 * 1.7 + 3 * 4.7) / 9)) if known else math.isnan(perplexity)


def test_data_without_validation() -> None:
    class OnlyTraining(Data):
        def val_dataloader(self) -> None:
            return None

    trainer = Trainer(max_epochs=2)
    trainer.fit(Model(), OnlyTraining())
    assert trainer.num_val_batches == 0
    assert [math.isnan(record.val_perplexity) for record in trainer.history] == [True, True]


def test_hooks_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    for hook in ("prepare_batch", "clip_gradients", "fit_epoch"):
        called = []
        plain = getattr(Trainer, hook)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, hook, lambda *a, p=plain, c=called: c.append(1) or p(*a))
            Trainer(max_epochs=2, gradient_clip_val=0.5).fit(model := Model(), Data())
        assert len(called) == {"prepare_batch": 10, "clip_gradients": 6, "fit_epoch": 2}[hook]
        assert model.weight == pytest.approx(-0.3)


def test_an_epoch_of_a_chapters_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_epoch(self: Trainer) -> None:
        for batch in self.train_dataloader:
            self.update(batch)
            self.train_batch_idx += 1

    monkeypatch.setattr(Trainer, "fit_epoch", fit_epoch)
    trainer = Trainer(max_epochs=3)
    trainer.fit(model := Model(), Data())
    assert trainer.train_batch_idx == 9
    assert model.weight == pytest.approx(-0.9)
    assert model.board.data["train_ppl"]


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    class Bad(Model):
        def training_step(self, batch: Sequence[Any]) -> float:
            return math.nan if self.trainer.train_batch_idx == 4 else super().training_step(batch)

    with pytest.raises(DivergedError, match=r"step 5 \(epoch 2\)"):
        Trainer(max_epochs=3).fit(model := Bad(), Data())
    assert model.weight == pytest.approx(-0.3)  # that of the first epoch


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_ends_the_training() -> None:
    class Interrupted(Model):
        def training_step(self, batch: Sequence[Any]) -> float:
            os.kill(os.getpid(), signal.SIGINT)
            return super().training_step(batch)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Trainer(max_epochs=3).fit(model := Interrupted(), Data())
    finally:
        signal.signal(signal.SIGINT, before)
    assert model.weight == pytest.approx(-0.1)  # the step under way was done


def test_no_batches_and_no_epochs_are_errors() -> None:
    class Nothing(Data):
        def get_dataloader(self, train: bool) -> Any:
            return []

    with pytest.raises(SpecError, match="no batch"):
        Trainer(max_epochs=1).fit(Model(), Nothing())
    with pytest.raises(SpecError, match="max_epochs is 0"):
        Trainer(max_epochs=0)
    with pytest.raises(SpecError, match="needs a trainer"):
        Model().plot("loss", 1.0, train=True)
    with pytest.raises(NotImplementedError, match="Module needs a method loss"):
        book.Module().loss(1, 2)
    with pytest.raises(NotImplementedError, match="DataModule needs a method get_dataloader"):
        book.DataModule().train_dataloader()


class Loader(book.TensorLoader):
    def shuffled(self, rows: book.RowNumbers) -> book.RowNumbers:
        return rows[::-1]


class Rows(book.DataModule):
    tensor_loader = Loader
    batch_size = 2


def test_a_loader_has_whole_batches_and_what_is_left() -> None:
    X, Y = np.arange(7), np.arange(7) * 10
    loader = Rows().get_tensorloader([X, Y], False, slice(1, 6))
    assert len(loader) == 3
    for _ in range(2):
        assert [(x.tolist(), y.tolist()) for x, y in loader] == [
            ([1, 2], [10, 20]),
            ([3, 4], [30, 40]),
            ([5], [50]),
        ]
    shuffled = Rows().get_tensorloader([X], True)
    assert [x.tolist() for (x,) in shuffled] == [[6, 5], [4, 3], [2, 1], [0]]


class Windows(book.NovelWindows, book.DataModule):
    """A text instead of the novel, loaders that tell their rows."""

    def __init__(self, num_train: int, num_val: int, num_steps: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = 2
        self.corpus, self.vocab = self.build(self._download())
        windows = np.lib.stride_tricks.sliding_window_view(self.check_windows(self.corpus), num_steps + 1)
        self.X, self.Y = windows[:, :-1], windows[:, 1:]

    def _download(self) -> str:
        return "Abc, ABD!" * 4

    def get_tensorloader(self, tensors: Any, train: bool, indices: slice) -> Any:  # type: ignore[override]
        return tensors[0][indices]


def test_no_character_is_trained_on_and_validated_with() -> None:
    data = Windows(num_train=10, num_val=8)
    assert "".join(data.vocab.to_tokens(data.corpus[:8])) == "abc abd "
    train, validation = data.train_dataloader(), data.val_dataloader()
    assert (len(train), len(validation)) == (10, 8)
    # The last training target is at position 12, the first validation input behind it.
    assert np.array_equal(validation[0], data.corpus[13:16])


def test_pieces_of_the_text_can_be_overridden() -> None:
    class Words(Windows):
        def _tokenize(self, text: str) -> list[str]:
            return text.split()

    data = Words(num_train=1, num_val=1, num_steps=2)
    assert data.vocab == Vocab(["abc", "abd"])
    assert data.build("abd zzz abc", data.vocab)[0] == [2, 0, 1]
    tokens: Any = {"abc": 5, "abd": 6, "zzz": 7}  # a vocabulary of one's own
    assert data.build("abd zzz abc", tokens) == ([6, 7, 5], tokens)


def test_windows_that_are_not_there_are_an_error() -> None:
    with pytest.raises(TextError, match="10,000 training and 5 validation windows of 3 steps do not fit"):
        Windows(num_train=10_000, num_val=5)
    with pytest.raises(SpecError, match="num_val is 0"):
        Windows(num_train=1, num_val=0)
    assert BOOK_NUM_VAL == 5000


@needs_novel
def test_the_novels_file_is_where_it_was_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = data_sets.DATA_URL + "timemachine.txt"
    monkeypatch.chdir(tmp_path)
    for asked in (address, "time_machine"):
        # The book's own folder, which is beside the one that a chapter runs in, is left alone.
        file = Path(data_sets.download(asked, "../data", data_sets.DATA_HUB["time_machine"][1]))
        assert file.parent == Path(os.environ["D2LRNN_DATA"])
        assert file.read_text(encoding="utf-8").startswith("The Time Machine")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SpecError, match="nothing is known of"):
        data_sets.download("http://example.org/other.txt")
    with pytest.raises(TextError, match=r"have the SHA-1 checksum 090b5e7e.*, not 0000000"):
        data_sets.download(address, sha1_hash="0" * 40)


@needs_novel
def test_the_novel_is_copied_to_a_folder_that_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    for _ in range(2):
        file = data_sets.download("time_machine", cache_dir=str(folder))
        assert file == str(folder / "timemachine.txt")
        assert Path(file).read_text(encoding="utf-8").startswith("The Time Machine")
    assert data_sets.download("time_machine", str(folder)) == file
    Path(file).write_text("my notes")
    with pytest.raises(TextError, match=r"is not the file of .*: its 8 bytes .* Name another folder"):
        data_sets.download("time_machine", cache_dir=str(folder))
    assert Path(file).read_text() == "my notes"
    with pytest.raises(TextError, match=r"timemachine.txt cannot be written: "):
        data_sets.download("time_machine", file)


def test_checks_say_what_is_wrong() -> None:
    book.check_len([1, 2], 2)
    book.check_shape(np.ones((2, 3)), (2, 3))
    with pytest.raises(AssertionError, match="length 2, not 3"):
        book.check_len([1, 2], 3)
    with pytest.raises(AssertionError, match=r"shape \(2, 3\), not \(3, 2\)"):
        book.check_shape(np.ones((2, 3)), (3, 2))
