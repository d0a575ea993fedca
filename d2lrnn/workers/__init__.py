"""One run on several processes: which rows each of them computes, and how they stand together.

`parts` cuts a batch, `learner` is a worker's learner, `protocols` says what a backend offers for it. `engine`
describes how a framework's own engine is started, and `supervisor` and `link` watch over the processes of one
machine. Nothing here moves a gradient: the framework's engine does.
"""
