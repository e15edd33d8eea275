"""Networks: a U-Net in two halves, its normalisation, projection heads."""
