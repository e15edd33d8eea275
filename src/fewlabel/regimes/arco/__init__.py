"""ARCO: contrast of pixels in stratified groups, and what it shares with its relatives."""
