"""What a tab answers to a name of the book's package that it does not have."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from d2lrnn.book.figures import load_pyplot

#: By chapter of the book, names of its package that this library has not: those chapters are not recurrent.
CHAPTERS = {
    "Linear Neural Networks for Regression": "LinearRegressionScratch SGD SyntheticRegressionData linreg "
    "squared_loss synthetic_data",
    "Linear Neural Networks for Classification": "FashionMNIST SoftmaxRegression SoftmaxRegressionScratch "
    "cross_entropy evaluate_accuracy get_dataloader_workers get_fashion_mnist_labels "
    "load_data_fashion_mnist predict_ch3 show_images train_ch3 train_epoch_ch3 updater",
    "Multilayer Perceptrons": "KaggleHouse MLP MLPScratch dropout_layer relu",
    "Convolutional Neural Networks": "LeNet corr2d init_cnn train_ch6 TrainCallback",
    "Modern Convolutional Neural Networks": "AlexNet BatchNorm DenseBlock GoogleNet Inception RegNet ResNeXt "
    "ResNeXtBlock Residual VGG batch_norm resnet18 resnet_block",
    "Attention Mechanisms and Transformers": "AddNorm EncoderBlock MultiHeadAttention PatchEmbedding "
    "PositionWiseFFN PositionalEncoding TransformerEncoder TransformerEncoderBlock ViT transpose_output "
    "transpose_qkv",
    "Optimization Algorithms": "annotate get_data_ch11 show_trace_2d train_2d train_ch11 train_concise_ch11",
    "Computational Performance": "Benchmark HybridNet allreduce split_batch",
    "Computer Vision": "VOCSegDataset bbox_to_rect box_center_to_corner box_corner_to_center box_iou "
    "copyfile copy_valid copy_test hotdog load_data_bananas load_data_voc multibox_detection multibox_prior "
    "multibox_target nms offset_boxes offset_inverse read_csv_labels read_data_bananas read_voc_images "
    "reorg_test reorg_train_valid show_bboxes voc_colormap2label voc_label_indices voc_rand_crop",
    "Natural Language Processing: Pretraining": "BERTEncoder BERTModel MaskLM NextSentencePred "
    "RandomGenerator batchify get_centers_and_contexts get_negatives get_tokens_and_segments load_data_ptb "
    "load_data_wiki read_ptb subsample train_bert",
    "Natural Language Processing: Applications": "SNLIDataset load_data_snli predict_snli read_snli",
    "Reinforcement Learning": "frozen_lake make_env show_Q_function_progress show_value_function_progress",
    "Gaussian Processes": "distance_matrix rbfkernel",
    "Hyperparameter Optimization": "HPOScheduler HPOSearcher HPOTrainer HPOTuner RandomSearcher "
    "SuccessiveHalvingScheduler hpo_objective_lenet",
    "Generative Adversarial Networks": "update_D update_G",
    "Recommender Systems": "CTRDataset read_data_ml100k split_and_load_ml100k split_data_ml100k "
    "train_ranking train_recsys_rating",
}  # fmt: skip


#: Names of releases before 0.16, and what they are called since.
EARLIER = {
    "MLPAttention": "AdditiveAttention",
    "predict_s2s_ch9": "predict_seq2seq",
    "seq_data_iter_consecutive": "seq_data_iter_sequential",
    "train_s2s_ch9": "train_seq2seq",
}


def answer(name: str, tab: Mapping[str, Any]) -> Any:
    """What a tab has under a name that is not among those that it defines: pyplot, and earlier names.

    Args:
        name: what is asked for.
        tab: the tab's variables.

    Raises:
        AttributeError: it has nothing of that name; the message has the chapter of the book that the name
            belongs to, and names that are like it.

    Example:
        >>> answer("MultiHeadAttention", {"__all__": ["AdditiveAttention"]})
        Traceback (most recent call last):
        AttributeError: d2l has no MultiHeadAttention: it is of the chapter "Attention Mechanisms and ...
    """
    if name == "plt":
        return load_pyplot()
    if EARLIER.get(name) in tab["__all__"]:
        return _earlier(name, tab)
    message = f"d2l has no {name}"
    if chapter := next((title for title, its in CHAPTERS.items() if name in its.split()), None):
        message += f': it is of the chapter "{chapter}", which d2lrnn does not cover'
    # Python's own protocols ask for names with underscores.
    near = [] if name.startswith("_") else get_close_matches(name, sorted(tab["__all__"]), n=3)
    # Without a name of its own, as Python adds it together with the object.
    raise AttributeError(message + (f" (there is {', '.join(near)})" if near else ""))


def _earlier(name: str, tab: Mapping[str, Any]) -> Any:
    """What a name of an earlier release stands for: in the first edition, of which they all are."""
    since = EARLIER[name]
    found = tab.get("FIRST_EDITION", {}).get(since, tab[since])
    if name != "predict_s2s_ch9":
        return found

    def predict_s2s_ch9(*args: Any) -> str:
        """As `predict_seq2seq`, whose attention weights came later: the translation alone."""
        translation: str = found(*args)[0]
        return translation

    return predict_s2s_ch9
