"""DICOM: series of images as volumes, segmentations and contours as masks, and nothing of who was scanned."""
