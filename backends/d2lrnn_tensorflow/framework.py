"""TensorFlow and Keras, imported together and checked: Keras must compute through TensorFlow.

Keras 3 runs on several frameworks and takes the one that ``KERAS_BACKEND`` or ``~/.keras/keras.json`` names,
once, when it is first imported. Every module of this package may import Keras after this one.
"""

from __future__ import annotations

import keras

from d2lrnn.errors import BackendNotInstalledError

if keras.backend.backend() != "tensorflow":
    raise BackendNotInstalledError(
        f"Keras runs on {keras.backend.backend()} here, and the backend tensorflow needs it on TensorFlow: "
        "unset KERAS_BACKEND (or set it to tensorflow, also in ~/.keras/keras.json) before Python starts"
    )
