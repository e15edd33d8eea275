"""Mutated inputs for every reader, kind of file and kind of artifact: ``python tests/fuzz`` says what held."""
