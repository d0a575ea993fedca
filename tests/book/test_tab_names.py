"""Every name that the book's chapters on sequences ask of ``d2l``, with the signature that they call."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from d2lrnn.registry import BackendEntry

#: By chapter, what its cells use of ``d2l``.
CURRENT_EDITION = {
    "text-sequence": "DataModule download DATA_URL add_to_class Vocab plot",
    "language-model": "TimeMachine add_to_class tensor",
    "rnn": "randn rand matmul concat",
    "rnn-scratch": "Module Classifier RNNScratch RNNLMScratch TimeMachine Trainer add_to_class check_len "
    "check_shape zeros ones tanh matmul stack exp reshape argmax int32 int64 try_gpu",
    "rnn-concise": "Module RNN RNNLM RNNLMScratch TimeMachine Trainer transpose try_gpu",
    "lstm": "Module LSTMScratch LSTM sigmoid tanh RNN RNNLM RNNLMScratch Trainer TimeMachine",
    "gru": "Module GRUScratch GRU sigmoid tanh RNN RNNLM RNNLMScratch Trainer TimeMachine",
    "deep-rnn": "Module RNNScratch RNNLMScratch stack RNN GRU RNNLM Trainer TimeMachine",
    "bi-rnn": "Module RNNScratch concat RNN",
    "sequence": "DataModule LinearRegression Trainer plot add_to_class",
    "machine-translation-and-dataset": "DataModule MTFraEng show_list_len_pair_hist extract download "
    "DATA_URL Vocab",
    "encoder-decoder": "Classifier Encoder Decoder EncoderDecoder",
    "seq2seq": "Encoder Decoder EncoderDecoder Seq2SeqEncoder Seq2Seq GRU MTFraEng Trainer bleu check_shape "
    "init_seq2seq",
    "attention-scoring-functions": "masked_softmax DotProductAttention AdditiveAttention show_heatmaps",
    "bahdanau-attention": "AttentionDecoder AdditiveAttention Decoder Seq2SeqEncoder Seq2Seq MTFraEng "
    "Trainer show_heatmaps bleu",
    "oo-design": "HyperParameters ProgressBoard Module DataModule Trainer num_gpus",
}
FIRST_EDITION = {
    "text-preprocessing": "DATA_HUB DATA_URL download read_time_machine tokenize Vocab count_corpus "
    "load_corpus_time_machine",
    "language-models-and-dataset": "tokenize read_time_machine Vocab plot seq_data_iter_random "
    "seq_data_iter_sequential SeqDataLoader load_data_time_machine tensor reshape",
    "rnn-scratch": "load_data_time_machine reshape arange zeros normal tensor concat size Timer Accumulator "
    "Animator sgd try_gpu RNNModelScratch predict_ch8 grad_clipping train_epoch_ch8 train_ch8",
    "rnn-concise": "load_data_time_machine RNNModel predict_ch8 train_ch8 try_gpu",
    "sequence": "load_array evaluate_loss plot",
    "machine-translation-and-dataset": "read_data_nmt preprocess_nmt tokenize_nmt truncate_pad "
    "build_array_nmt load_data_nmt load_array show_list_len_pair_hist Vocab",
    "seq2seq": "Encoder Decoder EncoderDecoder Seq2SeqEncoder MaskedSoftmaxCELoss sequence_mask "
    "train_seq2seq predict_seq2seq load_data_nmt bleu grad_clipping",
    "attention": "masked_softmax AdditiveAttention DotProductAttention AttentionDecoder show_heatmaps",
    "sentiment": "read_imdb load_data_imdb load_array TokenEmbedding train_batch_ch13 train_ch13 "
    "predict_sentiment accuracy evaluate_accuracy_gpu evaluate_accuracy_gpus split_batch",
    "gru, lstm, deep-rnn": "load_data_time_machine RNNModelScratch RNNModel train_ch8 zeros normal",
}
HELPERS = (
    "ones ones_like zeros zeros_like arange linspace eye meshgrid rand sin sinh cos cosh tanh exp "
    "log abs sigmoid matmul concat stack reshape argmax astype transpose reduce_sum reduce_mean "
    "expand_dims repeat numpy tensor float32 int32 int64"
)

#: What only the tabs have on which the book tells reviews apart.
REVIEWS = (
    "load_data_imdb TokenEmbedding train_batch_ch13 train_ch13 predict_sentiment accuracy "
    "evaluate_accuracy_gpu evaluate_accuracy_gpus split_batch"
)

#: By backend, what its tab of the book does without.
WITHOUT = {
    "torch": "evaluate_accuracy_gpus split_batch",
    "mxnet": "init_seq2seq sequence_mask evaluate_accuracy_gpu",
    # The book has no reviews on it.
    "tensorflow": f"init_seq2seq {REVIEWS}",
    # Random arrays are JAX's own, from a key; of the first edition, it has the recurrent models alone.
    "jax": "randn rand normal init_seq2seq load_array evaluate_loss build_array_nmt load_data_nmt "
    f"sequence_mask MaskedSoftmaxCELoss train_seq2seq predict_seq2seq {REVIEWS}",
}

#: By backend and name, the parameters that a chapter passes, in order.
SIGNATURES = {
    "torch": {
        "RNNScratch": "num_inputs num_hiddens sigma",
        "LSTMScratch": "num_inputs num_hiddens sigma",
        "GRUScratch": "num_inputs num_hiddens sigma",
        "StackedRNNScratch": "num_inputs num_hiddens num_layers sigma",
        "RNN": "num_inputs num_hiddens",
        "GRU": "num_inputs num_hiddens num_layers dropout",
        "LSTM": "num_inputs num_hiddens",
        "RNNLMScratch": "rnn vocab_size lr",
        "RNNLM": "rnn vocab_size lr",
        "RNNLMScratch.predict": "self prefix num_preds vocab device",
        "RNNModelScratch": "vocab_size num_hiddens device get_params init_state forward_fn",
        "RNNModel": "rnn_layer vocab_size",
        "RNNModel.begin_state": "self device batch_size",
        "predict_ch8": "prefix num_preds net vocab device",
        "grad_clipping": "net theta",
        "train_epoch_ch8": "net train_iter loss updater device use_random_iter",
        "train_ch8": "net train_iter vocab lr num_epochs device use_random_iter",
        "sgd": "params lr batch_size",
        "Trainer.clip_gradients": "self grad_clip_val model",
        "EncoderDecoder": "encoder decoder",
        "EncoderDecoder.predict_step": "self batch device num_steps save_attention_weights",
        "Seq2Seq": "encoder decoder tgt_pad lr",
        "AdditiveAttention": "num_hiddens dropout",
        "evaluate_loss": "net data_iter loss",
        "load_array": "data_arrays batch_size is_train",
        "load_data_nmt": "batch_size num_steps num_examples",
        "build_array_nmt": "lines vocab num_steps",
        "train_seq2seq": "net data_iter lr num_epochs tgt_vocab device",
        "predict_seq2seq": "net src_sentence src_vocab tgt_vocab num_steps device save_attention_weights",
        "sequence_mask": "X valid_len value",
        "load_data_imdb": "batch_size num_steps",
        "predict_sentiment": "net vocab sequence",
        "accuracy": "y_hat y",
        "train_batch_ch13": "net X y loss trainer devices",
        "train_ch13": "net train_iter test_iter loss trainer num_epochs devices",
        "evaluate_accuracy_gpu": "net data_iter device",
    },
    "tensorflow": {
        "RNNScratch": "num_inputs num_hiddens sigma",
        "LSTMScratch": "num_inputs num_hiddens sigma",
        "GRUScratch": "num_inputs num_hiddens sigma",
        "StackedRNNScratch": "num_inputs num_hiddens num_layers sigma",
        "RNN": "num_hiddens",
        "GRU": "num_hiddens num_layers dropout",
        "LSTM": "num_hiddens",
        "RNNLMScratch": "rnn vocab_size lr",
        "RNNLM": "rnn vocab_size lr",
        "RNNLMScratch.predict": "self prefix num_preds vocab device",
        "RNNModelScratch": "vocab_size num_hiddens init_state forward_fn get_params",
        "RNNModel": "rnn_layer vocab_size",
        "RNNModel.begin_state": "self batch_size",
        "predict_ch8": "prefix num_preds net vocab",
        "grad_clipping": "grads theta",
        "train_epoch_ch8": "net train_iter loss updater use_random_iter",
        "train_ch8": "net train_iter vocab lr num_epochs strategy use_random_iter",
        "sgd": "params grads lr batch_size",
        "Trainer.clip_gradients": "self grad_clip_val grads",
        "EncoderDecoder": "encoder decoder",
        "EncoderDecoder.predict_step": "self batch device num_steps save_attention_weights",
        "Seq2Seq": "encoder decoder tgt_pad lr",
        "AdditiveAttention": "key_size query_size num_hiddens dropout",
        "evaluate_loss": "net data_iter loss",
        "load_array": "data_arrays batch_size is_train",
        "load_data_nmt": "batch_size num_steps num_examples",
        "build_array_nmt": "lines vocab num_steps",
        "train_seq2seq": "net data_iter lr num_epochs tgt_vocab device",
        "predict_seq2seq": "net src_sentence src_vocab tgt_vocab num_steps save_attention_weights",
        "sequence_mask": "X valid_len value",
        "MaskedSoftmaxCELoss": "valid_len",
    },
    "mxnet": {
        "RNNScratch": "num_inputs num_hiddens sigma",
        "LSTMScratch": "num_inputs num_hiddens sigma",
        "GRUScratch": "num_inputs num_hiddens sigma",
        "StackedRNNScratch": "num_inputs num_hiddens num_layers sigma",
        "RNN": "num_hiddens",
        "GRU": "num_hiddens num_layers dropout",
        "LSTM": "num_hiddens",
        "RNNLMScratch": "rnn vocab_size lr",
        "RNNLM": "rnn vocab_size lr",
        "RNNLMScratch.predict": "self prefix num_preds vocab device",
        "Module.parameters": "self",
        "Module.get_scratch_params": "self",
        "Module.set_scratch_params_device": "self device",
        "SGD": "params lr",
        "RNNModelScratch": "vocab_size num_hiddens device get_params init_state forward_fn",
        "RNNModelScratch.begin_state": "self batch_size ctx",
        "RNNModel": "rnn_layer vocab_size",
        "RNNModel.begin_state": "self batch_size ctx",
        "predict_ch8": "prefix num_preds net vocab device",
        "grad_clipping": "net theta",
        "train_epoch_ch8": "net train_iter loss updater device use_random_iter",
        "train_ch8": "net train_iter vocab lr num_epochs device use_random_iter",
        "sgd": "params lr batch_size",
        "EncoderDecoder": "encoder decoder",
        "EncoderDecoder.predict_step": "self batch device num_steps save_attention_weights",
        "Seq2Seq": "encoder decoder tgt_pad lr",
        "AdditiveAttention": "num_hiddens dropout",
        "evaluate_loss": "net data_iter loss",
        "load_array": "data_arrays batch_size is_train",
        "load_data_nmt": "batch_size num_steps num_examples",
        "build_array_nmt": "lines vocab num_steps",
        "train_seq2seq": "net data_iter lr num_epochs tgt_vocab device",
        "predict_seq2seq": "net src_sentence src_vocab tgt_vocab num_steps device save_attention_weights",
        "load_data_imdb": "batch_size num_steps",
        "predict_sentiment": "net vocab sequence",
        "accuracy": "y_hat y",
        "train_batch_ch13": "net features labels loss trainer devices split_f",
        "train_ch13": "net train_iter test_iter loss trainer num_epochs devices split_f",
        "evaluate_accuracy_gpus": "net data_iter split_f",
        "split_batch": "X y devices",
    },
    "jax": {
        "Module": "",  # its hyperparameters are the fields that a subclass declares
        "Module.training_step": "self params batch state",
        "Classifier.loss": "self params X Y state averaged",
        "Trainer.fit": "self model data key",
        "Trainer.clip_gradients": "self grad_clip_val grads",
        "RNNScratch": "num_inputs num_hiddens sigma",
        "LSTMScratch": "num_inputs num_hiddens sigma",
        "GRUScratch": "num_inputs num_hiddens sigma",
        "StackedRNNScratch": "num_inputs num_hiddens num_layers sigma",
        "RNN": "num_hiddens",
        "GRU": "num_hiddens num_layers dropout",
        "LSTM": "num_hiddens",
        "RNN.__call__": "self inputs state training",
        "RNNLMScratch": "rnn vocab_size lr",
        "RNNLM": "rnn vocab_size lr training",
        "RNNLMScratch.predict": "self prefix num_preds vocab params",
        # The first edition has no such tab: its names, with the parameters apart from the network.
        "RNNModelScratch": "vocab_size num_hiddens get_params init_state forward_fn",
        "RNNModelScratch.begin_state": "self batch_size",
        "RNNModel": "rnn_layer vocab_size",
        "RNNModel.begin_state": "self batch_size",
        "predict_ch8": "prefix num_preds net vocab params",
        "grad_clipping": "grads theta",
        "train_epoch_ch8": "net train_iter loss updater use_random_iter params",
        "train_ch8": "net train_iter vocab lr num_epochs params use_random_iter",
        "sgd": "params grads lr batch_size",
        "LinearRegression.get_w_b": "self state",
        "EncoderDecoder": "encoder decoder training",
        "EncoderDecoder.predict_step": "self params batch num_steps save_attention_weights",
        "Seq2Seq": "encoder decoder training tgt_pad lr",
        "AdditiveAttention": "num_hiddens dropout",
    },
}

#: The same on every backend.
COMMON_SIGNATURES = {
    "HyperParameters.save_hyperparameters": "self ignore",
    "Module": "plot_train_per_epoch plot_valid_per_epoch",
    "DataModule": "root num_workers",
    "DataModule.get_tensorloader": "self tensors train indices",
    "Trainer": "max_epochs num_gpus gradient_clip_val",
    "TimeMachine": "batch_size num_steps num_train num_val",
    "TimeMachine.build": "self raw_text vocab",
    "MTFraEng": "batch_size num_steps num_train num_val",
    "MTFraEng.build": "self src_sentences tgt_sentences",
    "LinearRegression": "lr",
    "Seq2SeqEncoder": "vocab_size embed_size num_hiddens num_layers dropout",
    "Seq2SeqDecoder": "vocab_size embed_size num_hiddens num_layers dropout",
    "DotProductAttention": "dropout",
    "masked_softmax": "X valid_lens",
    "Vocab": "tokens min_freq reserved_tokens",
    "ProgressBoard": "xlabel ylabel xlim ylim xscale yscale ls colors fig axes figsize display",
    "ProgressBoard.draw": "self x y label every_n",
    "Animator": "xlabel ylabel legend xlim ylim xscale yscale fmts nrows ncols figsize",
    "plot": "X Y xlabel ylabel legend xlim ylim xscale yscale fmts figsize axes",
    "tokenize": "lines token",
    "load_corpus_time_machine": "max_tokens",
    "load_data_time_machine": "batch_size num_steps use_random_iter max_tokens",
    "seq_data_iter_random": "corpus batch_size num_steps",
    "seq_data_iter_sequential": "corpus batch_size num_steps",
    "SeqDataLoader": "batch_size num_steps use_random_iter max_tokens",
    "check_len": "a n",
    "check_shape": "a shape",
}


@pytest.fixture
def left_out(entry: BackendEntry) -> set[str]:
    return set(WITHOUT.get(entry.name, "").split())


@pytest.mark.parametrize("chapter", [*CURRENT_EDITION, *(f"{name} (0.17)" for name in FIRST_EDITION)])
def test_the_names_of_a_chapter_are_there(d2l: ModuleType, chapter: str, left_out: set[str]) -> None:
    names = {**CURRENT_EDITION, **{f"{name} (0.17)": used for name, used in FIRST_EDITION.items()}}[chapter]
    assert [name for name in names.split() if not hasattr(d2l, name) and name not in left_out] == []


def test_the_tensor_helpers_are_there(d2l: ModuleType, left_out: set[str]) -> None:
    assert [name for name in HELPERS.split() if not hasattr(d2l, name) and name not in left_out] == []


def test_all_that_is_offered_is_listed(d2l: ModuleType, left_out: set[str]) -> None:
    listed = d2l.__all__
    assert len(set(listed)) == len(listed)
    assert [name for name in listed if not hasattr(d2l, name)] == []
    used = " ".join([*CURRENT_EDITION.values(), *FIRST_EDITION.values(), HELPERS]).split()
    assert set(used) - left_out <= set(listed)
    assert left_out.isdisjoint(listed)


def test_signatures_are_the_books(d2l: ModuleType, entry: BackendEntry, left_out: set[str]) -> None:
    for name, expected in {**COMMON_SIGNATURES, **SIGNATURES.get(entry.name, {})}.items():
        if name in left_out:
            continue
        thing = d2l
        for part in name.split("."):
            thing = getattr(thing, part)
        parameters = [
            p.name
            for p in inspect.signature(thing).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD  # others are ours
        ]
        # More may follow, with defaults.
        assert parameters[: len(expected.split())] == expected.split(), name
        for extra in parameters[len(expected.split()) :]:
            assert inspect.signature(thing).parameters[extra].default is not inspect.Parameter.empty, name


def test_what_is_ours_has_a_docstring(d2l: ModuleType) -> None:
    for name in d2l.__all__:
        thing = getattr(d2l, name)
        if getattr(thing, "__module__", "").startswith("d2lrnn"):
            assert inspect.getdoc(thing), f"{name} has no docstring"
