"""Training: the epoch, the trainer around it, schedules of the rate, and what is measured and recorded."""
