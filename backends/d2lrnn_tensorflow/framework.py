"""TensorFlow and Keras, imported together and checked: Keras must compute through TensorFlow.

Keras 3 runs on several frameworks and takes the one that ``KERAS_BACKEND`` or ``~/.keras/keras.json`` names,
once, when it is first imported. Every module of this package may import Keras after this one.
"""

from __future__ import annotations

from d2lrnn.errors import BackendNotInstalledError

_ADVICE = (
    "the backend tensorflow needs Keras on TensorFlow: unset KERAS_BACKEND (or set it to tensorflow, also "
    "in ~/.keras/keras.json) before Python starts"
)

try:
    import keras
except ImportError as error:  # Keras is installed, but not the framework it is set to use
    raise BackendNotInstalledError(f"{_ADVICE}. Keras could not be imported: {error}") from error

if keras.backend.backend() != "tensorflow":
    raise BackendNotInstalledError(f"{_ADVICE}. Keras runs on {keras.backend.backend()} here")
