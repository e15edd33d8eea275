"""GCL: contrast of slices guided by meta labels, and of pixels."""
