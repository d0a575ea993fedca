"""What is wrong with an installation and what mends it, found without importing a framework."""
