"""The transformer, its heads, forward passes and weight conversion."""
