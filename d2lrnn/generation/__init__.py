"""Writing text: the prefix warms the state up, then one token after another is chosen and fed back."""

from d2lrnn.generation.beam import beam_search as beam_search
from d2lrnn.generation.prefixes import UnknownTokenWarning as UnknownTokenWarning
from d2lrnn.generation.sampling import Chooser as Chooser
from d2lrnn.generation.sampling import RowChooser as RowChooser
from d2lrnn.generation.sampling import Sampling as Sampling
from d2lrnn.generation.sampling import chooser as chooser
from d2lrnn.generation.steps import Predictor as Predictor
from d2lrnn.generation.steps import next_tokens as next_tokens
from d2lrnn.generation.writing import continue_prefix as continue_prefix
from d2lrnn.generation.writing import generate as generate
from d2lrnn.generation.writing import stream as stream
