"""An example of a package that extends vfm_isbench; what it measures means nothing."""
