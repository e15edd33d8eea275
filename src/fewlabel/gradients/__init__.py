"""How the gradients of several loss terms are reconciled: GradMitigator, and the combiners of other papers."""
