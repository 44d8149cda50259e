"""From what a user writes or hands in to an upsampler: names, files, modules, repositories, call styles."""
