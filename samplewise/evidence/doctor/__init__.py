"""One examination of a model on a device: is it right, does it wait, what does it cost?

examine       runs all of it, check by check
checks        what a check found, and the verdict over all
shapes        models of known dimensions with random weights
documents     the samples it uses, padded and packed
logits        the same step from logits: what is right, and what plain training does
paths         which way the model's parts take here
agreement     losses, weights and gradients against the logits
kernels       the same for each backend alone, against fp64
waits         how often a step waits for the device
stand_ins     tensors that stand for a device's, where there is none
memory        peak memory above the body
speed         time of a step, and of scoring
machine       versions and dtypes
"""
