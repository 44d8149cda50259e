"""The built-in upsamplers: interpolations and joint bilateral upsampling."""
