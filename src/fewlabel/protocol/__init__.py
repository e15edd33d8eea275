"""The rules that keep results honest: who trains, who is scored, what is told about it."""
