"""Files of scans and masks, read and written."""

import logging

# What nibabel says of odd headers goes straight to the terminal, and it reads here what we have looked at before it.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)
