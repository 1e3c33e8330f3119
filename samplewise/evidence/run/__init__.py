"""The work of `samplewise train`: from a run file to a trained model, a comparison and a picture."""
