"""Whether the backends of an installation compute what they should, found in a minute: ``d2lrnn verify``.

`models` says what is built and trained, `comparison` how far it is from the reference, `record` whether the
reference itself computes what it did elsewhere, and `products` whether matrix products are right. A `worker`
does all that for one backend in a process of its own, which `processes` starts and watches; `report` has what
came of it.
"""
