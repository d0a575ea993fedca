"""Recurrent layers that move between frameworks, with a proof.

`description` says what a stack of recurrent layers computes and names its parameters in one canonical form;
`reference` computes it in NumPy. `conventions` reads what each framework's layers do, data that lie in the
backends' packages, and says which of them can hold a stack; `layout` moves the arrays between the canonical
form and a layer's own. A backend's `porter` describes modules, builds them and runs them. `proof` compares
what two sides compute, `ported` is what `d2lrnn.port` returns, and `files` saves it with its proof.
"""
