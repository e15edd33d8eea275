"""Settings: what they are, how words become values, how they are described."""
