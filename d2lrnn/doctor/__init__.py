"""Two sides that should be one and give different numbers: what differs between them.

`explain` is ``d2lrnn.explain_difference``, and `explanation` what it returns. Two described stacks are
compared by their settings and their parameters (`settings`, `matching`). A function that nothing describes is
asked with drawn inputs until a changed stack computes what it does (`search`, over the table `faults`).
`changes` is the table of what befalls parameters, `rearranged` moves whole layers, and `variant` computes a
stack that is used otherwise than it is meant. `updates` does the same for the steps of an optimiser, which
`replay` makes again with the faults of the table `update_faults`.
"""
