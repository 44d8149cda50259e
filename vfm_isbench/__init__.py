"""vfm_isbench: how good is my feature upsampler? A benchmark by interactive segmentation."""

__version__ = "0.1.0"
