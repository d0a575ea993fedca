"""What a trained model does, to look at: how it reads a text, what its hidden units respond to, as a page."""
