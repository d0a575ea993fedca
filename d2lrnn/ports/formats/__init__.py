"""Files with recurrent layers, of any framework: which formats there are, and a conversion between two.

`table` reads which formats the frameworks have, data beside their conventions, and finds the one of a file.
`protocol` is what a backend offers for its own. `stacks` finds recurrent layers among arrays, by `names` and
`shapes`; `plain` reads and writes such arrays as safetensors. `conversion` reads a file, builds what is in
it, writes another, and proves what lies on the disk then.
"""
