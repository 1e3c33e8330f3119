"""Loss-based sample reweighting and selection for language-model training, exact over the whole optimizer step."""
