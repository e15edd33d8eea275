"""What everything else stands on: errors, settings, discovery, artifacts, random numbers, collectives."""
