"""A closer look at a trained probe or an upsampler: predictions made again, features before and after."""
