"""The papers' ideas on gradients as pure tensor functions: GradMitigator and GradFilter."""
