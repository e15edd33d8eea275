"""The rules that keep results honest: who trains, who is scored, what is reported."""
