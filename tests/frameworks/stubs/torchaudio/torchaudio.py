"""An empty torchaudio: LLaMA-Factory imports it before it knows that it trains on text, and its builds need CUDA."""

__version__ = "0"
