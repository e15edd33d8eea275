"""Drop-in: how labelled and unlabelled slices become a loss. A file here is a regime; its name is its id."""
