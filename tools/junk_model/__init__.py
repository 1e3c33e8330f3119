"""What makes the junk model, from packages; `tools/train_junk_model.py` runs it."""
