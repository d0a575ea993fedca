"""Training: the epoch, the trainer around it, and what is measured."""
