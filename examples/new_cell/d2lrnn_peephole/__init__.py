"""The LSTM with peepholes, for d2lrnn."""
