"""What a segmenter needs to predict where this package is not installed; a MONAI bundle carries a copy."""
