"""The upsamplers of this library: interpolations, and joint bilateral upsampling."""
