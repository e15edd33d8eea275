"""Sections of the report: data in, text, tables and figures out; each says in a plain sentence what it lacks."""
