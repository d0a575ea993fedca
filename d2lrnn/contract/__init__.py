"""The contract between the core and a backend: all that the author of a backend reads.

`protocols` says what a backend offers, `values` and `specs` what crosses the border; `cells`, `optimizers`,
`parameters`, `dropout`, `clipping` and `devices` are what every backend uses. What this design serves:

- The unit that crosses is the *training step*, not the tensor operation. A backend compiles its own step in
  its own way, and the core's loop never dispatches an operation.
- What the core hands over is NumPy and frozen values; what it gets back is opaque (a state, a native scalar)
  until it asks for NumPy.
- A model is the framework's own kind of object, of use without the rest of the library. A learner wraps one
  for training.
- A framework's random generator decides no number: NumPy draws initial values and dropout masks in the core.

Shapes are written with B = batch size, T = time steps, V = vocabulary size, h = hidden units, L = layers.
"""
