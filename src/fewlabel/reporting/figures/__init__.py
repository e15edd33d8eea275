"""Figures of the report: data in, picture out, nothing read or kept."""
