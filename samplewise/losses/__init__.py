"""From a model to the losses of samples."""
