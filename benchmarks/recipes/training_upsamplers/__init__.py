"""Training of learned upsamplers, for ``train_upsampler.py``: one module per method, and what they share."""
