"""``d2lrnn translate train``: a translator learns from pairs of sentences."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from d2lrnn.cli.commands.translate import TranslateTrainRequest
from d2lrnn.cli.output import describe_backend, describe_training
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.progress import ProgressDisplay
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.optimizers import Adam, find_optimizer
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.errors import INTERRUPTED, RunError
from d2lrnn.registry import backend
from d2lrnn.saving.run_folder import hold_folder
from d2lrnn.saving.translator_folder import (
    TranslatorRun,
    check_translator_folder,
    load_translator,
    save_translator,
)
from d2lrnn.training.history import EpochRecord
from d2lrnn.translation.backends import make_translator
from d2lrnn.translation.bleu import bleu
from d2lrnn.translation.pairs import PairCorpus, PairSpec
from d2lrnn.translation.spec import TranslatorSpec, initial_translator
from d2lrnn.translation.trainer import TranslatorTrainer, translations
from d2lrnn.translation.values import Translator

#: Where the number of epochs is not given.
NUM_EPOCHS = 30

#: The longest n-gram of the book's BLEU.
_LONGEST = 2
_NUM_SAMPLES = 3


def translate_train(request: TranslateTrainRequest) -> int:
    """Trains, saves and reports; returns the exit code."""
    check_writable("--json", request.json)
    folder = request.out or request.resume
    if request.resume:
        load_translator(request.resume)  # where there is none, no folder is made for it
    with hold_folder(folder) if folder else nullcontext():
        run, corpus = _resumed(request) if request.resume else _new(request)
        if folder:
            check_translator_folder(Path(folder), run, overwrite=request.overwrite)
        return _train(request, folder, run, corpus)


def _new(request: TranslateTrainRequest) -> tuple[TranslatorRun, PairCorpus]:
    if request.file is None:
        raise RunError("there are no pairs to train on: give a file, or --resume and a saved translator")
    optimizer = find_optimizer(request.optimizer or Adam.name)()
    seed = {} if request.seed is None else {"seed": request.seed}
    training = TrainingSpec(
        **{"learning_rate": optimizer.default_rate, **request.training, **seed}, optimizer=optimizer
    )
    TranslatorSpec(source_size=1, target_size=1, **request.model)  # before a long text is read
    corpus = PairCorpus(PairSpec(request.file, **request.pairs, **seed))
    spec = TranslatorSpec(len(corpus.vocabs[0]), len(corpus.vocabs[1]), **request.model)
    parameters = initial_translator(spec, training.seed)
    num_epochs = request.epochs or NUM_EPOCHS
    return TranslatorRun(
        spec, corpus.spec, training, parameters, {}, corpus.vocabs, corpus.digest, num_epochs
    ), corpus


def _resumed(request: TranslateTrainRequest) -> tuple[TranslatorRun, PairCorpus]:
    assert request.resume is not None
    run = load_translator(request.resume)
    if request.file is not None:
        run = replace(run, pairs=replace(run.pairs, source=request.file))
    corpus = PairCorpus(run.pairs)
    if corpus.digest != run.digest:
        raise RunError(f"{run.pairs.source} has other pairs than the ones that this run was trained on")
    return replace(run, num_epochs=request.epochs or run.num_epochs), corpus


def _train(request: TranslateTrainRequest, folder: str | None, run: TranslatorRun, corpus: PairCorpus) -> int:
    chosen = backend(request.backend)
    device = choose_device(request.device, chosen.devices())
    translator = make_translator(chosen, run.spec, run.parameters, run.training, device=device.name)
    translator.step = run.step
    if run.optimizer_state:
        translator.import_optimizer_state(run.optimizer_state)
    print(describe_backend(chosen, device, asked=request.backend))
    print(f"pairs    {_describe_pairs(corpus)}")
    print(f"model    {describe_translator(run.spec)}")
    print(f"training {describe_training(run.training)}")
    if request.resume:
        print(f"resumed  {request.resume}: {len(run.epochs)} of {run.num_epochs} epochs")
    display = ProgressDisplay(run.num_epochs)

    def epoch_ended(record: EpochRecord) -> None:
        if folder:
            now = replace(
                run, parameters=translator.export_parameters(), step=translator.step,
                optimizer_state=translator.export_optimizer_state(), epochs=tuple(trainer.epochs),
                backend=chosen.name,
            )  # fmt: skip
            save_translator(now, folder, overwrite=request.overwrite)
        display.epoch(record)

    trainer = TranslatorTrainer(translator, corpus, run.epochs, on_step=display.step, on_epoch=epoch_ended)
    try:
        finished = trainer.fit(run.num_epochs)
    finally:
        display.close()
    if not trainer.epochs:
        print("interrupted in the first epoch: nothing was learned")
        return INTERRUPTED
    scores = _report(translator, corpus, trainer.epochs[-1])
    if folder:
        more = "" if finished else f"; to go on: d2lrnn translate train --resume {folder}"
        print(f"saved       {folder}{more}")
    write_json(request.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "model": run.spec.to_json(),
        "pairs": run.pairs.to_json(),
        "training": run.training.to_json(),
        "ended": "finished" if finished else "interrupted",
        "val_perplexity": trainer.epochs[-1].val_perplexity,
        **scores,
    })  # fmt: skip
    return 0 if finished else INTERRUPTED


def _describe_pairs(corpus: PairCorpus) -> str:
    left_out = f"; {corpus.num_left_out:,} lines left out" if corpus.num_left_out else ""
    return (
        f"{corpus.spec.source}: {len(corpus.train):,} to train on, {len(corpus.val):,} to validate with, "
        f"{len(corpus.vocabs[0]):,} and {len(corpus.vocabs[1]):,} words{left_out}"
    )


def describe_translator(spec: TranslatorSpec) -> str:
    """A translator in one line.

    Example:
        >>> describe_translator(TranslatorSpec(20, 30, dropout=0.1))
        'GRU encoder and decoder with attention, embeddings of 64, 2 layers of 64 hidden units, dropout 0.1'
    """
    attention = " with attention" if spec.attention else ""
    plural = "s" if spec.num_layers > 1 else ""
    layers = f"{spec.num_layers} layer{plural} of {spec.num_hiddens:,} hidden units"
    dropout = f", dropout {spec.dropout}" if spec.dropout else ""
    return f"GRU encoder and decoder{attention}, embeddings of {spec.embedding_size:,}, {layers}{dropout}"


def _report(translator: Translator, corpus: PairCorpus, last: EpochRecord) -> dict[str, object]:
    """Prints how well the pairs for validation are translated; the scores."""
    sources = [source for source, _ in corpus.val]
    written = translations(translator, corpus.vocabs, corpus.spec, sources)
    right = [" ".join(target) for _, target in corpus.val]
    mean = sum(bleu(one, other, _LONGEST) for one, other in zip(written, right, strict=True)) / len(right)
    scores: dict[str, object] = {"bleu": mean}
    print(f"train       perplexity {last.train_perplexity:.3f}")
    print(f"validation  perplexity {last.val_perplexity:.3f}, BLEU {mean:.3f} (the book's, k = {_LONGEST})")
    if find_spec("sacrebleu") is not None:
        found = import_module("sacrebleu").corpus_bleu(written, [right], force=True, lowercase=True)
        scores["sacrebleu"] = found.score
        print(f"            BLEU {found.score:.1f} of 100 (sacrebleu, of all sentences)")
    for source, one, other in zip(sources[:_NUM_SAMPLES], written, right, strict=False):
        print(f"sample      {' '.join(source)} → {one}" + (f" (right: {other})" if one != other else ""))
    return scores
