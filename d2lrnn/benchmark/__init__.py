"""The benchmark: what every framework here takes for the same training steps, checked before it is timed.

`settings` says what is measured, `worker` measures in a process of its own, `driver` runs workers in turn,
`statistics` says what the samples allow to be said, `report` shows it. Nothing here knows a framework: a
subject is a backend behind the contract, or a file that offers the same methods (`subject`).
"""
