"""A module for each command: its request, a frozen value that says what is asked for, and its options.

`TABLE` has them in the order of the help. A new command is a line there, a module here of the same name with
a subclass of `d2lrnn.cli.commands.request.Request` and a function ``add_options``, and a module in
`d2lrnn.cli` that does it. Nothing here imports NumPy, and a module is imported where argv has its command.
"""

from __future__ import annotations

#: The commands by group, and what the help says of them.
TABLE: dict[str, dict[str, str]] = {
    "train a model": {
        "train": "train a language model on a text",
        "lr-find": "find a learning rate for train",
        "config": "print the specification of a run, as a file for train --config",
        "encode": "encode a text of any size into a file to train on",
    },
    "use a saved model": {
        "generate": "continue a text with a saved model",
        "chat": "type beginnings, and see a saved model continue them",
        "evaluate": "measure a saved model on its validation text, or on another one",
        "export": "export a saved model to a format that runs without d2lrnn",
    },
    "look at saved runs": {
        "compare": "compare saved runs: what differs, best perplexity, speed",
        "plot": "draw the perplexity of saved runs by epoch",
        "report": "show a saved run on a page: curves, samples, losses, hidden units",
    },
    "move layers between frameworks": {
        "convert": "convert a file with recurrent layers to the format of another framework",
        "check": "build layers of another framework, and prove that they compute the same",
        "doctor": "say what differs between layers that should compute the same",
    },
    "translate": {
        "translate": "train a translator on pairs of sentences, or translate with one",
    },
    "the book": {
        "chapter": "run a chapter of the book, cell by cell",
        "run": "run a script that imports the book's package, with d2lrnn in its place",
    },
    "this installation": {
        "backends": "list the backends, what they compute on, and what mends them",
        "verify": "compare every backend, on every device, with the float64 reference",
        "bench": "time training steps in every backend that is installed",
        "completion": "print what lets a shell complete these commands",
    },
}
