"""How Pocket, the bundled model, is trained; bin/train-pocket is its command line."""
