"""``view``: a page of scans, the masks of a run, and tools to correct them."""
